"""A model whose upstream reports more than its bound is not believed from the third time on, by any process, until its declaration changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.decisions import model
from tests.support.sidecar import model_of, snapshot_of, upstream_of

from foresail_api.snapshot import Snapshot, SnapshotModel, SnapshotTokenizer
from foresail_sidecar.flow.trust import MOST_EXCESSES, Trust, declaration_of


def declared(name: str = "small", **changes: Any) -> SnapshotModel:
    return model_of(name, upstream_of("http://127.0.0.1:1/v1"), **changes)


SMALL, LARGE = declared("small"), declared("large")
SERVED = snapshot_of(SMALL, LARGE)


def exceeded(trust: Trust, times: int, model: SnapshotModel = SMALL) -> Trust:
    for _ in range(times):
        trust.exceeded(model)
    return trust


def test_a_model_is_distrusted_from_the_third_excess_on() -> None:
    trust = exceeded(Trust(), 2)
    assert trust.distrusted(SERVED) == frozenset()
    trust.exceeded(SMALL)
    assert trust.distrusted(SERVED) == {"small"}


@pytest.mark.parametrize(
    "changes",
    [
        {"dollars_in": 3},
        {"price": None},
        {"max_tokens_per_byte": 2},
        {"overhead_tokens": 11},
        {"max_tokens_per_image": 100},
        {"max_tokens_per_audio": 100},
        {"max_output_tokens": 999},
    ],
)
def test_what_the_bound_rests_on_is_the_operators_hand(changes: dict[str, Any]) -> None:
    trust = exceeded(Trust(), 3)
    assert trust.distrusted(snapshot_of(declared(**changes))) == frozenset()


def test_no_other_change_restores_the_trust() -> None:
    changed = declared(context_window_tokens=5, min_output_tokens=7, default_max_output_tokens=3)
    elsewhere = model_of("small", upstream_of("http://127.0.0.1:2/v1", "another"))
    trust = exceeded(Trust(), 3)
    assert trust.distrusted(snapshot_of(changed)) == trust.distrusted(snapshot_of(elsewhere)) == {"small"}


def test_what_releases_without_tokenizers_kept_of_a_model_stays_valid() -> None:
    kept = "3961953f523245b8188b798213923b9758b99e3d2231aa4ec5fe9ae89ca77959"
    assert declaration_of(model("m")) == kept


def test_where_a_tokenizer_lies_is_no_matter_of_trust_and_what_it_is_is() -> None:
    here, there, other = (
        declaration_of(model("m", tokenizer=SnapshotTokenizer(claim=claim, path="t.json", digest=digest)))
        for claim, digest in (("here", "sha256:a"), ("there", "sha256:a"), ("here", "sha256:b"))
    )
    assert here == there != other
    assert here != declaration_of(model("m"))


def test_a_model_of_the_same_declaration_under_another_name_is_another() -> None:
    assert declaration_of(SMALL) != declaration_of(LARGE)


def test_a_declaration_that_was_changed_and_changed_back_begins_anew() -> None:
    trust = exceeded(Trust(), 3)
    other = snapshot_of(declared(overhead_tokens=11))
    kept = trust.merge(None, SERVED)
    kept = trust.merge(kept, other)
    assert json.loads(kept or "") == {}
    assert trust.merge(kept, SERVED) is None
    assert trust.distrusted(SERVED) == frozenset()


def test_what_is_kept_is_known_after_a_restart() -> None:
    kept = exceeded(Trust(), 2).merge(None, SERVED)
    again = Trust()
    assert again.merge(kept, SERVED) is None
    assert exceeded(again, 1).distrusted(SERVED) == {"small"}


def test_nothing_is_kept_where_nothing_was_exceeded() -> None:
    assert Trust().merge(None, SERVED) is None


@pytest.mark.parametrize("kept", ["", "no JSON", "[]", '{"a": 1}', '{"a": {"b": -1}}', '{"a": {"b": 1e9}}'])
def test_a_note_that_nobody_can_read_is_written_anew(kept: str) -> None:
    trust = exceeded(Trust("me"), 1)
    assert json.loads(trust.merge(kept, SERVED) or "") == {declaration_of(SMALL): {"me": 1}}
    assert Trust().merge(kept, SERVED) is None


@given(
    excesses=st.lists(st.integers(0, 2), max_size=12),
    rounds=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=20),
)
def test_several_processes_agree_whoever_overwrites_whom(excesses: list[int], rounds: list[tuple[int, bool]]) -> None:
    processes = [Trust() for _ in range(3)]
    note: str | None = None
    for process in excesses:
        processes[process].exceeded(SMALL)
    for process, lost in rounds:
        written = processes[process].merge(note, SERVED)
        note = written if written is not None and not lost else note
    for _ in range(2):
        for trust in processes:
            note = trust.merge(note, SERVED) or note
    expected = {"small"} if len(excesses) >= MOST_EXCESSES else set()
    assert [trust.distrusted(SERVED) for trust in processes] == [expected] * 3


def test_replicas_with_different_configurations_do_not_forget_what_concerns_them() -> None:
    old, new = exceeded(Trust(), 3), Trust()
    renewed: Snapshot = snapshot_of(declared(overhead_tokens=11))
    note = None
    for _ in range(3):
        note = old.merge(note, SERVED) or note
        note = new.merge(note, renewed) or note
    assert old.distrusted(SERVED) == {"small"}
    assert new.distrusted(renewed) == frozenset()
