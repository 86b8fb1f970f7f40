"""Rank-biased overlap with ties: its laws, and worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from foresail_router.strategies.task_aware.rankings import PERSISTENCE, rank_biased_overlap, tied_ranks

MODELS = 6
qualities = arrays(np.float64, (8, MODELS), elements=st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]))


def ranks(*rows: list[float]) -> NDArray[np.int16]:
    return tied_ranks(np.array(rows), 0.01)


def plain_overlap(first: NDArray[np.int16], second: NDArray[np.int16]) -> float:
    """The definition, written with sets."""
    total = weights = 0.0
    for depth in range(1, len(first) + 1):
        a, b = set(np.flatnonzero(first <= depth)), set(np.flatnonzero(second <= depth))
        total += PERSISTENCE ** (depth - 1) * 2 * len(a & b) / (len(a) + len(b))
        weights += PERSISTENCE ** (depth - 1)
    return total / weights


def test_tied_models_share_the_best_rank_of_their_group() -> None:
    assert ranks([0.9, 0.5, 0.5, 0.1]).tolist() == [[1, 2, 2, 4]]
    assert tied_ranks(np.array([[0.500, 0.504, 0.9]]), 0.02).tolist() == [[2, 2, 1]]


@given(qualities, qualities)
def test_overlap_is_what_the_definition_says(first: NDArray[np.float64], second: NDArray[np.float64]) -> None:
    a, b = tied_ranks(first, 0.01), tied_ranks(second, 0.01)
    expected = [plain_overlap(*pair) for pair in zip(a, b, strict=True)]
    assert rank_biased_overlap(a, b) == pytest.approx(expected)


@given(qualities, qualities)
def test_overlap_is_symmetric_bounded_and_1_for_equal_rankings(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> None:
    a, b = tied_ranks(first, 0.01), tied_ranks(second, 0.01)
    overlap = rank_biased_overlap(a, b)
    assert (overlap == rank_biased_overlap(b, a)).all()
    assert ((overlap >= 0) & (overlap <= 1)).all()
    assert rank_biased_overlap(a, a) == pytest.approx(1.0)


@given(qualities, st.permutations(range(MODELS)))
def test_the_order_of_columns_does_not_matter(quality: NDArray[np.float64], order: list[int]) -> None:
    a, b = tied_ranks(quality, 0.01), tied_ranks(quality[::-1], 0.01)
    assert rank_biased_overlap(a[:, order], b[:, order]) == pytest.approx(rank_biased_overlap(a, b))


def test_agreement_at_the_top_counts_more_than_at_the_bottom() -> None:
    usual = ranks([0.9, 0.8, 0.7, 0.6])
    top_swapped, bottom_swapped = ranks([0.8, 0.9, 0.7, 0.6]), ranks([0.9, 0.8, 0.6, 0.7])
    assert rank_biased_overlap(usual, bottom_swapped) > rank_biased_overlap(usual, top_swapped)


def test_a_tie_lies_between_agreement_and_disagreement() -> None:
    usual, tied, swapped = ranks([0.9, 0.5, 0.1]), ranks([0.7, 0.7, 0.1]), ranks([0.5, 0.9, 0.1])
    assert rank_biased_overlap(usual, swapped) < rank_biased_overlap(usual, tied) < 1.0


def test_many_pairs_are_worked_out_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    a, b = (tied_ranks(generator.random((50, 5)), 0.1) for _ in range(2))
    whole = rank_biased_overlap(a, b)
    monkeypatch.setattr("foresail_router.strategies.task_aware.rankings._BLOCK_CELLS", 35)
    assert rank_biased_overlap(a, b) == pytest.approx(whole)
