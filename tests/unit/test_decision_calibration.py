"""The expected number of input tokens follows what upstreams report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresail_router.decision.ratios import InputMeans
from foresail_sidecar.flow.learned import Calibrator


def test_an_unknown_model_counts_a_quarter_token_per_byte() -> None:
    calibration = Calibrator()
    assert calibration.ratios.estimate("m", 1000) == 250
    assert calibration.ratios.estimate("m", 0) == 1


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_it_approaches_what_is_reported(ratio: float) -> None:
    calibration = Calibrator()
    for _ in range(300):
        calibration.observe("m", 2000, round(2000 * ratio))
    assert calibration.ratios.estimate("m", 10_000) == pytest.approx(10_000 * ratio, rel=0.02)
    assert calibration.ratios.estimate("other", 10_000) == 2500


def test_one_report_moves_it_a_little() -> None:
    calibration = Calibrator()
    calibration.observe("m", 100, 100)
    assert 250 < calibration.ratios.estimate("m", 1000) < 350


def test_it_forgets() -> None:
    calibration = Calibrator()
    for tokens in [4000] * 500 + [400] * 500:
        calibration.observe("m", 4000, tokens)
    assert calibration.ratios.estimate("m", 1000) == pytest.approx(100, rel=0.05)


def test_absurd_reports_keep_it_within_bounds() -> None:
    calibration = Calibrator()
    calibration.observe("high", 1, 10**12)
    calibration.observe("low", 10**12, 1)
    calibration.observe("none", 0, 5)
    calibration.observe("none", 5, 0)
    calibration.observe("none", -1, -1)
    assert calibration.ratios.estimate("high", 100) == 1600
    assert calibration.ratios.estimate("low", 100) == 1
    assert calibration.ratios.estimate("none", 100) == 25


def test_at_first_the_means_of_the_recorded_outcomes_hold() -> None:
    few_shot = InputMeans(tokens=138.0, text_bytes=47.0)
    calibration = Calibrator()
    assert calibration.ratios.estimate("m", 80, few_shot.expected_tokens(47, 80)) == pytest.approx(138 + 33 / 4, abs=1)
    # A longer prompt has the same system prompt once, not in proportion.
    assert calibration.ratios.estimate("m", 733, few_shot.expected_tokens(700, 733)) == pytest.approx(
        138 + 686 / 4, abs=1
    )


def test_what_is_settled_here_comes_to_outweigh_the_means() -> None:
    wrong = InputMeans(tokens=1000.0, text_bytes=100.0).expected_tokens(100, 100)
    calibration = Calibrator()
    for _ in range(300):
        calibration.observe("m", 100, 30)
    assert calibration.ratios.estimate("m", 100, wrong) == pytest.approx(30, rel=0.1)


@given(st.floats(0.1, 1e6), st.floats(0.1, 1e6), st.integers(0, 10**7), st.integers(0, 10**7))
def test_an_expectation_is_never_negative_and_grows_with_the_text(
    tokens: float, text_bytes: float, length: int, more: int
) -> None:
    means = InputMeans(tokens, text_bytes)
    assert 0 <= means.expected_tokens(length, length) <= means.expected_tokens(length + more, length + more) + 1e-6
