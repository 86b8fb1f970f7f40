"""What was learned of input lengths is kept, and several processes learn from one another."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresail_sidecar.flow.learned import Calibrator


def learned(calibrator: Calibrator, times: int, tokens: int = 1000, model: str = "m") -> Calibrator:
    for _ in range(times):
        calibrator.observe(model, 1000, tokens)
    return calibrator


def test_a_new_process_goes_on_with_what_was_kept() -> None:
    first = learned(Calibrator(), 50)
    kept = first.merge(None, ["m"])
    second = Calibrator()
    assert second.merge(kept, ["m"]) is None
    assert second.ratios == first.ratios
    assert second.ratios.estimate("m", 1000) > 800


def test_only_what_was_observed_is_written() -> None:
    calibrator = learned(Calibrator(), 1)
    kept = calibrator.merge(None, ["m"])
    assert kept is not None
    assert calibrator.merge(kept, ["m"]) is None


@given(parts=st.lists(st.lists(st.integers(1, 5000), max_size=5), min_size=1, max_size=6))
def test_turns_of_two_processes_are_as_if_one_had_observed_everything(parts: list[list[int]]) -> None:
    one, two, alone = Calibrator(), Calibrator(), Calibrator()
    note = None
    for turn, reports in enumerate(parts):
        calibrator = (one, two)[turn % 2]
        for tokens in reports:
            calibrator.observe("m", 1000, tokens)
            alone.observe("m", 1000, tokens)
        note = calibrator.merge(note, ["m"]) or note
    one.merge(note, ["m"])
    assert one.ratios.tokens_per_byte("m") == pytest.approx(alone.ratios.tokens_per_byte("m"))


def test_a_process_that_could_not_read_for_long_destroys_nothing() -> None:
    note = learned(Calibrator(), 200, tokens=500).merge(None, ["m"])
    note = learned(Calibrator(), 1, tokens=4000).merge(note, ["m"])
    reader = Calibrator()
    reader.merge(note, ["m"])
    assert 500 < reader.ratios.estimate("m", 1000) < 650


def test_a_model_that_the_note_lacks_keeps_what_is_known_here() -> None:
    calibrator = learned(learned(Calibrator(), 30), 1, model="other")
    calibrator.merge("{}", ["m", "other"])
    assert calibrator.ratios.estimate("m", 1000) > 500


def test_only_models_that_are_served_are_kept() -> None:
    calibrator = learned(learned(Calibrator(), 1), 1, model="gone")
    assert json.loads(calibrator.merge(None, ["m"]) or "").keys() == {"m"}
    assert calibrator.ratios.reported.keys() == {"m"}


@pytest.mark.parametrize(
    "kept", ["", "[]", '{"m": [1, 2]}', '{"m": [1, 0, 0]}', '{"m": [NaN, 1, 1]}', '{"m": [1e30, 1, 1]}']
)
def test_a_note_that_makes_no_sense_is_passed_over(kept: str) -> None:
    calibrator = Calibrator()
    assert calibrator.merge(kept, ["m"]) is None
    assert calibrator.ratios.estimate("m", 1000) == 250
