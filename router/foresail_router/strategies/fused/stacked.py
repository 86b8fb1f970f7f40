"""What the parts of a fused strategy ask of one prompt, side by side: one product for all linear maps, one softmax for all groups.

In service a prompt comes here right after the encoder, which leaves nothing else in the near caches: there the number of calls takes time, not
their arithmetic. It must not know how what is foreseen becomes quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.fused.labels import LabelClassifier
from foresail_router.strategies.fused.memberships import Level
from foresail_router.strategies.fused.parts import Parts
from foresail_router.strategies.lookahead.network import INPUT_SCALE, Networks

Array = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Maps:
    """Linear maps of one prompt's features side by side (`weights` features x columns, `bias`), and the columns of each.

    Those of a component that was left out are empty.
    """

    weights: Floats
    bias: Floats
    linear: slice
    groups: slice
    reduced: slice
    hidden: slice
    lengths: slice
    loss: int
    precision: slice

    def apply(self, row: Floats) -> Floats:
        """Return the columns of all maps."""
        return np.asarray(row @ self.weights + self.bias, dtype=np.float32)


def stack_maps(parts: Parts) -> Maps:
    """Return the maps of all parts. Labels read the embedding and networks the view: both follow from the features that the others read."""
    centre, size = parts.centre, np.float32(parts.size)
    nothing = (np.empty((len(centre), 0), dtype=np.float32), np.empty(0, dtype=np.float32))
    groups = [(level.weights, level.bias) for level in parts.levels.values()]
    if parts.labels is not None:
        groups.insert(0, _of_embedding(parts.labels, centre, size))
    maps = {
        "linear": nothing if parts.linear is None else (parts.linear.weights, parts.linear.bias),
        "groups": _beside(groups) if groups else nothing,
        "reduced": nothing if parts.smoother is None else _unbiased(parts.smoother.directions),
        "hidden": nothing if parts.networks is None else _of_view(parts.networks, centre, size),
        "lengths": (parts.lengths.weights, parts.lengths.bias),
        "loss": (parts.joint.loss_weights[:, None], np.array([parts.joint.loss_bias], dtype=np.float32)),
        "precision": _unbiased(parts.doubt.precision),
    }
    weights, bias = _beside(list(maps.values()))
    ends = accumulate((len(part) for _, part in maps.values()), initial=0)
    spans = {name: slice(*span) for name, span in zip(maps, pairwise(ends), strict=True)}
    return Maps(np.ascontiguousarray(weights), bias, loss=spans.pop("loss").start, **spans)


@dataclass(frozen=True, slots=True)
class Groups:
    """Labels and all levels of tasks: which groups compete with one another, how sharply, and what they add.

    Groups of one kind lie together: `starts` is where each kind begins, `kind` the number of each group's. `table` (groups x 2 x columns)
    holds what a group adds to labels, and to tasks.
    """

    starts: NDArray[np.int64]
    kind: NDArray[np.int64]
    sharpness: Array
    table: Array

    def foresee(self, margins: Floats) -> tuple[Array, Array]:
        """Return what labels and what tasks add (columns each), by the margins of all groups."""
        scores = margins * self.sharpness
        scores -= np.maximum.reduceat(scores, self.starts).take(self.kind)
        raised = np.exp(scores)
        raised /= np.add.reduceat(raised, self.starts).take(self.kind)
        added = (raised @ self.table).reshape(2, -1)
        return added[0], added[1]


def stack_groups(labels: LabelClassifier | None, levels: Sequence[Level]) -> Groups | None:
    """Return the groups in the order of the maps' columns; None where there are none. What labels add, tasks add as well."""
    kinds = [(level.sharpness, np.concatenate([np.zeros_like(level.table), level.table], axis=1)) for level in levels]
    if labels is not None:
        kinds.insert(0, (labels.sharpness, np.concatenate([labels.table, labels.table], axis=1)))
    if not kinds:
        return None
    sizes = [len(table) for _, table in kinds]
    return Groups(
        starts=np.cumsum([0, *sizes[:-1]]),
        kind=np.repeat(np.arange(len(sizes)), sizes),
        sharpness=np.repeat([sharpness for sharpness, _ in kinds], sizes),
        table=np.concatenate([table for _, table in kinds]).astype(np.float64),
    )


def _of_embedding(labels: LabelClassifier, centre: Floats, size: np.float32) -> tuple[Floats, Floats]:
    weights = np.zeros((len(centre), len(labels.bias)), dtype=np.float32)
    width = len(labels.embedding)
    weights[:width] = labels.embedding / size
    return weights, centre[:width] @ labels.embedding + labels.bias


def _of_view(networks: Networks, centre: Floats, size: np.float32) -> tuple[Floats, Floats]:
    trunk = np.concatenate(list(networks.trunk), axis=1)
    return trunk * (INPUT_SCALE / size), (
        (centre - networks.centre) * INPUT_SCALE
    ) @ trunk + networks.trunk_bias.ravel()


def _unbiased(weights: Floats) -> tuple[Floats, Floats]:
    return weights, np.zeros(weights.shape[1], dtype=np.float32)


def _beside(maps: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> tuple[Floats, Floats]:
    weights, bias = (np.concatenate(side, axis=-1, dtype=np.float32) for side in zip(*maps, strict=True))
    return weights, bias
