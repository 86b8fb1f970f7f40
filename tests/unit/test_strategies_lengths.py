"""Output lengths without regard to the prompt."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.records import Prompt
from foresail_router.strategies.lengths import MarginalLengths


def outcomes(tokens: NDArray[np.float64]) -> OutcomeMatrix:
    prompts = tuple(Prompt(f"p{number}", f"prompt {number}") for number in range(len(tokens)))
    models = tuple(f"m{number}" for number in range(tokens.shape[1]))
    empty = np.full_like(tokens, np.nan)
    return OutcomeMatrix(prompts, models, np.zeros_like(tokens), empty, tokens, empty)


def test_every_prompt_gets_its_models_mean_and_quantiles() -> None:
    tokens = np.stack([np.arange(100.0), np.arange(100.0) * 10], axis=1)
    mean, p05, p50, p90, p95 = MarginalLengths.fit(outcomes(tokens)).predict(3)
    for part, expected in ((mean, 49.5), (p05, 4.95), (p50, 49.5), (p90, 89.1), (p95, 94.05)):
        np.testing.assert_allclose(part, np.tile([expected, expected * 10], (3, 1)), rtol=1e-6)


def test_unknown_lengths_are_left_out() -> None:
    tokens = np.full((60, 1), 70.0)
    tokens[::2] = np.nan
    assert MarginalLengths.fit(outcomes(tokens)).predict(1)[0] == pytest.approx(70.0)


def test_a_model_with_few_lengths_lies_between_them_and_the_pool() -> None:
    tokens = np.full((100, 3), np.nan)
    tokens[:, 0] = np.linspace(50, 150, 100)
    tokens[:6, 1] = 1000.0
    mean, p05, _, _, p95 = MarginalLengths.fit(outcomes(tokens)).predict(1)
    assert 100 < mean[0, 1] < 1000
    assert p05[0, 1] < mean[0, 1] < p95[0, 1]
    # Nothing is known of the third: it is taken for a model like the others.
    assert 100 < mean[0, 2] < 200


def test_without_any_length_a_wide_assumption_stands_in() -> None:
    mean, p05, p50, p90, p95 = MarginalLengths.fit(outcomes(np.full((30, 2), np.nan))).predict(1)
    np.testing.assert_allclose(mean, 250.0)
    assert (p95 > 10 * p05).all()
    assert (p05 < p50).all()
    assert (p50 < p90).all()


def test_no_prompt_gives_no_length() -> None:
    assert [part.shape for part in MarginalLengths.fit(outcomes(np.ones((30, 2)))).predict(0)] == [(0, 2)] * 5


def test_the_arrays_are_all_there_is() -> None:
    fitted = MarginalLengths.fit(outcomes(np.random.default_rng(0).gamma(2, 100, (80, 4))))
    rebuilt = MarginalLengths.from_arrays(fitted.arrays(), models=4)
    for one, other in zip(fitted.predict(2), rebuilt.predict(2), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: {}, "lacks 'lengths'"),
        (lambda figures: {"lengths": figures[:, 1:]}, "do not fit"),
        (lambda figures: {"lengths": figures[1:]}, "do not fit"),
        (lambda figures: {"lengths": figures * np.nan}, "do not fit"),
        (lambda figures: {"lengths": -figures}, "do not fit"),
    ],
)
def test_other_arrays_are_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    figures = MarginalLengths.fit(outcomes(np.ones((30, 2)))).figures
    with pytest.raises(ValueError, match=message):
        MarginalLengths.from_arrays(change(figures), models=2)
