"""Discovery of tasks on prompts whose tasks are known: graph, communities, names."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from foresail_router.strategies.task_aware.communities import (
    NONE,
    Edges,
    kmeans_communities,
    leiden_communities,
    mutual_edges,
    settle_small,
    weigh_edges,
)
from foresail_router.strategies.task_aware.names import task_names
from foresail_router.strategies.task_aware.neighbours import find_neighbours, smoothed_quality
from foresail_router.strategies.task_aware.rankings import tied_ranks
from foresail_router.strategies.task_aware.ridge import FoldedRidge


def around(topics: NDArray[np.int64], width: int = 12, noise: float = 0.1, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors around one direction for each topic."""
    vectors = np.random.default_rng(seed).normal(0, noise, (len(topics), width))
    vectors[np.arange(len(topics)), topics] += 1.0
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


TOPICS = np.arange(120) % 3
VECTORS = around(TOPICS)


def purity(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    return sum(np.bincount(truth[found == number]).max() for number in np.unique(found)) / len(truth)


def test_neighbours_are_the_nearest_others_nearest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foresail_router.strategies.task_aware.neighbours._BLOCK_ROWS", 50)
    found = find_neighbours(VECTORS, 10)
    similarity = VECTORS @ VECTORS.T
    np.fill_diagonal(similarity, -1)
    for row in (0, 49, 50, 119):
        expected = np.argsort(-similarity[row])[:10]
        assert found.cosine[row] == pytest.approx(similarity[row, expected], abs=1e-6)
        assert set(found.index[row]) == set(expected)
    assert find_neighbours(VECTORS[:4], 10).index.shape == (4, 3)


def test_smoothed_quality_ignores_the_prompt_itself_its_fold_and_what_is_unknown() -> None:
    score = np.zeros((120, 2))
    score[TOPICS == 0, 0] = 1.0
    score[5] = np.nan
    folds = np.arange(120) % 5
    neighbours = find_neighbours(VECTORS, 30)
    smoothed = smoothed_quality(neighbours, score, folds, prior_prompts=1.0)
    assert smoothed[TOPICS == 0, 0].min() > 0.7 > 0.3 > smoothed[TOPICS == 1, 0].max()
    changed = score.copy()
    changed[folds == 2] = 1.0 - changed[folds == 2]
    changed_mean = np.nanmean(changed, axis=0) - np.nanmean(score, axis=0)
    again = smoothed_quality(neighbours, changed, folds, prior_prompts=1e-9)
    before = smoothed_quality(neighbours, score, folds, prior_prompts=1e-9)
    # Of a prompt's own fold only the models' overall means could have changed, and those cancel in deviations from them.
    assert again[folds == 2] == pytest.approx(before[folds == 2], abs=1e-5)
    assert np.abs(changed_mean).max() > 0


def test_edges_join_only_those_who_are_near_to_each_other() -> None:
    edges = mutual_edges(find_neighbours(VECTORS, 10), 10)
    assert (edges.first < edges.second).all()
    assert len(set(zip(edges.first, edges.second, strict=True))) == len(edges.weight)
    assert (TOPICS[edges.first] == TOPICS[edges.second]).all()
    assert edges.weight == pytest.approx((VECTORS[edges.first] * VECTORS[edges.second]).sum(axis=1), abs=1e-6)


def test_ranking_agreement_is_mixed_in_and_flat_prompts_have_none() -> None:
    edges = Edges(np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([0.8, 0.8, 0.8]))
    ranks = tied_ranks(np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]), 0.01)
    flat = np.array([False, False, False])
    assert weigh_edges(edges, ranks, flat, 1.0).weight.tolist() == [0.8, 0.8, 0.8]
    mixed = weigh_edges(edges, ranks, flat, 0.5).weight
    assert mixed[0] == pytest.approx(0.9)
    assert mixed[1] == mixed[2] < mixed[0]
    without = weigh_edges(edges, ranks, np.array([False, True, False]), 0.5).weight
    assert without == pytest.approx([0.4, mixed[1], 0.4])
    only = weigh_edges(edges, ranks, np.array([False, True, False]), 0.0)
    assert (only.first.tolist(), only.second.tolist()) == ([0], [2])


def test_leiden_finds_the_topics_and_the_same_seed_the_same_communities() -> None:
    edges = mutual_edges(find_neighbours(VECTORS, 10), 10)
    found = leiden_communities(edges, 120, resolution=0.5, seed=3)
    member = found != NONE
    assert member.mean() > 0.95
    assert purity(found[member], TOPICS[member]) == 1.0
    assert (found == leiden_communities(edges, 120, resolution=0.5, seed=3)).all()
    assert len(np.unique(leiden_communities(edges, 120, resolution=8.0, seed=3))) > len(np.unique(found))
    assert purity(kmeans_communities(VECTORS, 3, seed=0), TOPICS) == 1.0


def test_a_prompt_without_edges_is_of_no_community() -> None:
    edges = Edges(np.array([0]), np.array([1]), np.array([1.0]))
    assert leiden_communities(edges, 3, resolution=1.0, seed=0).tolist() == [0, 0, NONE]
    empty = Edges(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))
    assert leiden_communities(empty, 2, resolution=1.0, seed=0).tolist() == [NONE, NONE]


def test_small_communities_join_the_nearest_or_none() -> None:
    community = np.where(TOPICS == 0, 4, 7)
    community[TOPICS == 2] = 9
    community[[0, 3]] = 1
    settled = settle_small(community, VECTORS, smallest=20, nearest_cosine=0.5)
    assert settled.max() == 2
    assert settled[0] == settled[3] == settled[6]
    far = VECTORS.copy()
    far[[0, 3]] = 0.0
    far[[0, 3], -1] = -1.0
    assert settle_small(community, far, smallest=20, nearest_cosine=0.5)[[0, 3]].tolist() == [NONE, NONE]
    assert (settle_small(community, VECTORS, smallest=1000, nearest_cosine=0.0) == NONE).all()


def test_names_are_the_words_of_the_task_and_not_those_of_all() -> None:
    texts = [f"Please compute the integral of x number {n}" for n in range(10)]
    texts += [f"Please translate the sentence into French number {n}" for n in range(10)]
    names = task_names(texts, np.repeat([0, 1], 10), 2)
    assert "integral" in names[0]
    assert "french" in names[1]
    assert not any(word in name for name in names for word in ("please", "number"))


def test_tasks_of_the_same_words_have_different_names_and_one_without_words_has_a_name() -> None:
    names = task_names(["alpha beta"] * 6 + ["12 + 3"] * 3, np.array([0, 0, 0, 1, 1, 1, 2, 2, 2]), 3)
    assert len(set(names)) == 3
    assert all(names)


def test_ridge_foresees_each_row_from_other_folds_alone() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 4)).astype(np.float32)
    targets = features @ np.array([[1.0], [2.0], [0.0], [-1.0]]) + 3.0
    folds = np.arange(60) % 3
    ridge = FoldedRidge(features, folds)
    assert ridge.cross_fit(targets, 1e-6) == pytest.approx(targets, abs=1e-3)
    changed = targets.copy()
    changed[folds == 1] = 100.0
    rows = folds == 1
    assert ridge.cross_fit(changed, 1.0)[rows] == pytest.approx(ridge.cross_fit(targets, 1.0)[rows])
    weights, bias = ridge.fit(changed, 1.0, without=1)
    assert features[rows] @ weights + bias == pytest.approx(ridge.cross_fit(changed, 1.0)[rows])
    assert ridge.best_penalty(targets, (0.01, 1000.0)) == 0.01
    with pytest.raises(ValueError, match="one fold"):
        FoldedRidge(features, np.zeros(60, dtype=np.int64))
