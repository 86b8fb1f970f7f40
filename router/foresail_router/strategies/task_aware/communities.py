"""From neighbours and model rankings to communities of prompts: a weighted graph and its Leiden communities. For training alone.

It must not know which tasks come of them, nor what they are good for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.task_aware.neighbours import Neighbours
from foresail_router.strategies.task_aware.rankings import Ranks, rank_biased_overlap

Array = NDArray[np.float64]
NONE = -1


@dataclass(frozen=True, slots=True)
class Edges:
    """Undirected edges between prompts, each pair once with the smaller index first."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weight: Array


def mutual_edges(neighbours: Neighbours, count: int) -> Edges:
    """Return the pairs that are among each other's `count` nearest, weighted by cosine."""
    count = min(count, neighbours.index.shape[1])
    prompts = len(neighbours.index)
    source = np.repeat(np.arange(prompts), count)
    target = neighbours.index[:, :count].ravel()
    cosine = neighbours.cosine[:, :count].ravel().astype(np.float64)
    pair = np.minimum(source, target) * prompts + np.maximum(source, target)
    found, place, times = np.unique(pair, return_index=True, return_counts=True)
    both = times == 2
    return Edges(found[both] // prompts, found[both] % prompts, np.maximum(cosine[place[both]], 0.0))


def weigh_edges(edges: Edges, ranks: Ranks, flat: NDArray[np.bool_], beta: float) -> Edges:
    """Return the edges with weight beta * cosine + (1 - beta) * overlap of the two prompts' model rankings (prompts x models).

    Prompts on which all models are equal (`flat`) rank nothing: their edges keep the share of the cosine. Edges of no weight go.
    """
    weight = beta * edges.weight
    if beta < 1.0:
        ranked = ~(flat[edges.first] | flat[edges.second])
        overlap = rank_biased_overlap(ranks[edges.first[ranked]], ranks[edges.second[ranked]])
        weight[ranked] += (1.0 - beta) * overlap
    kept = weight > 0
    return Edges(edges.first[kept], edges.second[kept], weight[kept])


def leiden_communities(edges: Edges, prompts: int, *, resolution: float, seed: int) -> NDArray[np.int64]:
    """Return the community of every prompt by Leiden on modularity; `NONE` for prompts without an edge."""
    import graspologic_native
    from scipy.sparse import coo_matrix

    community = np.full(prompts, NONE, dtype=np.int64)
    if not len(edges.weight):
        return community
    nodes = np.unique(np.concatenate([edges.first, edges.second]))
    first, second = np.searchsorted(nodes, edges.first), np.searchsorted(nodes, edges.second)
    both = (np.concatenate([first, second]), np.concatenate([second, first]))
    graph = coo_matrix((np.tile(edges.weight, 2), both), shape=(len(nodes), len(nodes))).tocsr()
    _, found = graspologic_native.leiden_csr(
        graph.indptr.astype(np.int64),
        graph.indices.astype(np.int32),
        graph.data.astype(np.float64),
        len(nodes),
        resolution=resolution,
        seed=seed,
    )
    community[nodes] = [found[node] for node in range(len(nodes))]
    return community


def kmeans_communities(vectors: NDArray[np.floating[Any]], communities: int, *, seed: int) -> NDArray[np.int64]:
    """Return k-means clusters of the vectors, as the ablation that knows no graph and no ranking."""
    from sklearn.cluster import KMeans

    count = min(communities, len(vectors))
    labels: NDArray[np.int64] = KMeans(count, n_init=1, random_state=seed).fit_predict(vectors).astype(np.int64)
    return labels


def settle_small(
    community: NDArray[np.int64], vectors: NDArray[np.floating[Any]], *, smallest: int, nearest_cosine: float
) -> NDArray[np.int64]:
    """Return communities numbered by falling size, in which those below `smallest` prompts have joined the nearest one, or none.

    A prompt of a small community, or of none, joins the community whose centre is nearest if its cosine is at least `nearest_cosine`.
    """
    numbers, sizes = np.unique(community[community != NONE], return_counts=True)
    large = numbers[np.argsort(-sizes, kind="stable")][: int((sizes >= smallest).sum())]
    settled = np.full(len(community), NONE, dtype=np.int64)
    for place, number in enumerate(large):
        settled[community == number] = place
    homeless = np.flatnonzero(settled == NONE)
    if not len(large) or not len(homeless):
        return settled
    centres = community_centres(settled, vectors, len(large))
    cosine = np.asarray(vectors, dtype=np.float64)[homeless] @ centres.T
    nearest = cosine.argmax(axis=1)
    joins = cosine.max(axis=1) >= nearest_cosine
    settled[homeless[joins]] = nearest[joins]
    return settled


def community_centres(community: NDArray[np.int64], vectors: NDArray[np.floating[Any]], count: int) -> Array:
    """Return the mean direction of each community's vectors (communities x width, unit length; 0 for an empty one)."""
    member = community != NONE
    sums = np.zeros((count, vectors.shape[1]))
    np.add.at(sums, community[member], np.asarray(vectors, dtype=np.float64)[member])
    norm = np.linalg.norm(sums, axis=1, keepdims=True)
    return sums / np.where(norm > 0, norm, 1.0)
