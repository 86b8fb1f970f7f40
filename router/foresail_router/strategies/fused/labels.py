"""Foresees a prompt's source label from its words and its embedding; labels are seen in training alone, as weak supervision.

Single words tell labels apart that a dense view confuses, so their hashed counts are read as they are. Applying it is numpy alone. It
must not know what models score.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.features.lexical import BUCKETS, LexicalCounts
from foresail_router.strategies.base import Features
from foresail_router.strategies.bucket_rows import pack_rows, unpack_rows

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
# The first half of the buckets holds words and pairs of words.
WORD_BUCKETS = BUCKETS // 2
NO_LABEL = -1
_FEWEST_OF_LABEL = 10
_ITERATIONS, _TOLERANCE = 40, 0.05
_FAR = -4.0


@dataclass(frozen=True, slots=True)
class LabelClassifier:
    """Linear margins: `rarity` (word buckets) weighs words, `words` (word buckets x labels) and `embedding` (width x labels) are added.

    `table` (labels x columns) is what belongs to each label; `sharpness` turns margins into memberships.
    """

    rarity: Floats
    words: NDArray[np.float16]
    embedding: Floats
    bias: Floats
    table: Floats
    sharpness: float

    def margins_of_words(self, counts: LexicalCounts, row: int) -> Floats:
        """Return what the words of one prompt add to the margins (labels) that its embedding gives."""
        start, end = int(counts.offsets[row]), int(counts.offsets[row + 1])
        # A prompt's buckets are in order, and those of words come first.
        end = start + int(counts.columns[start:end].searchsorted(WORD_BUCKETS))
        columns = counts.columns[start:end]
        values = counts.values[start:end] * self.rarity.take(columns)
        length = max(math.sqrt(values @ values), 1e-9)
        words = self.words.take(columns, axis=0).astype(np.float32)
        return np.asarray((values / np.float32(length)) @ words, dtype=np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` needs, under names of their own."""
        dense = {f"labels.{name}": getattr(self, name) for name in ("rarity", "embedding", "bias", "table")}
        return dense | pack_rows("labels.words", self.words)

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], *, sharpness: float, columns: int, width: int
    ) -> LabelClassifier:
        """Rebuild from a state's arrays; raises `KeyError` when one is missing and `ValueError` when they do not fit."""
        labels = len(arrays["labels.bias"])
        shapes = {
            "rarity": (WORD_BUCKETS,),
            "words": (WORD_BUCKETS, labels),
            "embedding": (width, labels),
            "bias": (labels,),
            "table": (labels, columns),
        }
        found: dict[str, NDArray[Any]] = {name: arrays[f"labels.{name}"] for name in shapes}
        found["words"] = unpack_rows(arrays, "labels.words", WORD_BUCKETS)
        if any(found[name].shape != shape for name, shape in shapes.items()):
            raise ValueError("its labels do not fit the encoder or the models")
        return cls(**found, sharpness=sharpness)


@dataclass(frozen=True, slots=True)
class Margins:
    """Fitted margins without a table, and cross-fitted margins of the training prompts (prompts x labels)."""

    rarity: Floats
    words: NDArray[np.float16]
    embedding: Floats
    bias: Floats
    cross_fitted: Array


def label_groups(labels: list[str | None]) -> NDArray[np.int64]:
    """Return the number of each prompt's source label, `NO_LABEL` where it has none or one of very few prompts."""
    counts = Counter(label for label in labels if label is not None)
    usual = sorted(label for label, count in counts.items() if count >= _FEWEST_OF_LABEL)
    numbers = {label: number for number, label in enumerate(usual)}
    return np.array([NO_LABEL if label is None else numbers.get(label, NO_LABEL) for label in labels], dtype=np.int64)


def fit_margins(features: Features, group: NDArray[np.int64], folds: NDArray[np.int64]) -> Margins | None:
    """Return margins for labels (`NO_LABEL` is learned from by none); None with fewer than two labels."""
    labels = int(group.max()) + 1 if len(group) else 0
    if labels < 2:
        return None
    rarity, inputs = _inputs(features)
    known = group != NO_LABEL
    cross_fitted = np.full((len(group), labels), _FAR)
    for fold in np.unique(folds):
        rest, held_out = known & (folds != fold), folds == fold
        if len(np.unique(group[rest])) < 2:
            continue
        weights, bias = _fit(inputs[rest], group[rest], labels)
        cross_fitted[held_out] = inputs[held_out] @ weights + bias
    weights, bias = _fit(inputs[known], group[known], labels)
    words, embedding = np.split(weights, [WORD_BUCKETS])
    return Margins(rarity, words.astype(np.float16), _floats(embedding), _floats(bias), cross_fitted)


def _inputs(features: Features) -> tuple[Floats, Any]:
    """Return the words' rarity, and words (rows of unit length) beside embeddings as a sparse matrix."""
    from scipy.sparse import csr_matrix, diags, hstack

    counts = features.lexical.csr()[:, :WORD_BUCKETS]
    in_prompts = np.bincount(counts.indices, minlength=WORD_BUCKETS)
    rarity = (1.0 + np.log((1.0 + counts.shape[0]) / (1.0 + in_prompts))).astype(np.float32)
    weighted = counts @ diags(rarity)
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    scaled = diags(1.0 / np.maximum(lengths, 1e-9)) @ weighted
    return rarity, hstack([scaled, csr_matrix(np.asarray(features.embeddings, dtype=np.float64))]).tocsr()


def _fit(inputs: Any, group: NDArray[np.int64], labels: int) -> tuple[Array, Array]:
    """Return weights (inputs x labels) and biases of one support vector machine per label against the rest."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    with warnings.catch_warnings():
        # Iterations are bounded on purpose: the margins are calibrated by their sharpness anyway.
        warnings.simplefilter("ignore", ConvergenceWarning)
        machine = LinearSVC(C=1.0, dual=True, max_iter=_ITERATIONS, tol=_TOLERANCE, random_state=0).fit(inputs, group)
    weights, bias = np.zeros((inputs.shape[1], labels)), np.full(labels, _FAR)
    if len(machine.classes_) == 2:
        first, second = machine.classes_
        weights[:, first], weights[:, second] = -machine.coef_[0], machine.coef_[0]
        bias[first], bias[second] = -machine.intercept_[0], machine.intercept_[0]
        return weights, bias
    weights[:, machine.classes_], bias[machine.classes_] = machine.coef_.T, machine.intercept_
    return weights, bias


def _floats(array: NDArray[Any]) -> Floats:
    return np.asarray(array, dtype=np.float32)
