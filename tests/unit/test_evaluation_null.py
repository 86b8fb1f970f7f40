"""What no router can know it must not seem to know: outcomes dealt out anew over the prompts leave nothing to gain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.routing_pools import routing_pool

from foresail_router.evaluation.metrics.resampling import Resamples, mean_estimate
from foresail_router.evaluation.metrics.singles import best_single
from foresail_router.evaluation.metrics.utility import choose, realised
from foresail_router.strategies.base import TrainingSet, find_strategy, strategy_names, uses_answers

COUNT, FOLDS = 240, 4
# Equally good on average, so that chance, too, gains nothing and loses nothing.
QUALITY = np.array([[0.9, 0.5, 0.1, 0.5], [0.1, 0.9, 0.5, 0.5], [0.5, 0.1, 0.9, 0.5]])
# Half a width of an interval that one in a thousand strategies misses by chance.
_WIDTHS = 3.3 / 1.96


def training(*, permuted: bool) -> TrainingSet:
    """Return a pool on which routing pays; `permuted` deals the outcomes and answers of whole prompts out anew."""
    pool, topics = routing_pool(COUNT, seed=5, answered=True)
    generator = np.random.default_rng(11)
    score = (generator.random((COUNT, 4)) < QUALITY[topics]).astype(float)
    outcomes, answers = replace(pool.outcomes, score=score), pool.answers
    if permuted:
        order = generator.permutation(COUNT)
        parts = {
            name: getattr(outcomes, name)[order] for name in ("score", "output_tokens", "cost_usd", "input_tokens")
        }
        outcomes = replace(outcomes, **parts)
        answers = None if answers is None else answers.rows(order)
    return replace(pool, outcomes=outcomes, answers=answers, folds=np.arange(COUNT) % FOLDS)


def gain(name: str, data: TrainingSet) -> tuple[float, float]:
    """Return a strategy's gain over the best single model of its training side, in points on the other side, and half of its interval."""
    strategy = find_strategy(name)
    if not uses_answers(strategy):
        data = replace(data, answers=None)
    side = data.folds < FOLDS // 2
    fitted = strategy.fit(data.rows(side), seed=0, progress=lambda _: None, settings=strategy.configurations[0])
    held_out = data.rows(~side)
    score = held_out.outcomes.score
    chosen = choose(fitted.predict(held_out.features).quality, None, 1.0)
    difference = realised(score, chosen)[0] - score[:, best_single(data.outcomes.score[side])]
    found = mean_estimate(100 * difference, Resamples(held_out.features.texts))
    assert found.low is not None
    assert found.high is not None
    return found.value, (found.high - found.low) / 2


@pytest.mark.parametrize("name", strategy_names())
def test_permuted_outcomes_leave_nothing_to_gain(name: str) -> None:
    value, half = gain(name, training(permuted=True))
    assert abs(value) <= max(_WIDTHS * half, 1e-9)


def test_the_same_pool_as_it_is_pays() -> None:
    value, half = gain("knn", training(permuted=False))
    assert value > 2 * half
