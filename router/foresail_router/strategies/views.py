"""A dense view of prompts for strategies that take a feature vector: embedding, latent semantic analysis of the hashed counts, structure.

The projection is fitted on the training side without its outcomes. Applying it is numpy alone, one prompt at a time, so that a text
has the same view at fitting and at predicting, however it is batched. It must not know what is learned from a view.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from foresail_router.features.lexical import BUCKETS, STRUCTURE, LexicalCounts
from foresail_router.strategies.base import Features, TrainingSet
from foresail_router.strategies.bucket_rows import pack_rows, unpack_rows

LSA_WIDTH = 96
Dense = NDArray[np.float32]
# More rows and iterations find little more of the counts' energy, at several times the cost.
_MOST_ROWS = 4000
_ITERATIONS = 2
_OVERSAMPLES = 8
_MOST_DEVIATIONS = np.float32(3.0)
_STRUCTURE_LENGTH = np.float32(np.sqrt(STRUCTURE))
_PROJECTION, _STRUCTURE = "view.projection", "view.structure"


class View:
    """A fitted view: `projection` (BUCKETS x lsa width, float16, inverse document frequency included), `structure` (mean and spread)."""

    def __init__(self, projection: NDArray[np.float16], structure: NDArray[np.float32]) -> None:
        self._stored_projection = projection
        self._projection = projection.astype(np.float32)
        self._structure = structure
        # The same features are seen by many strategies and settings in one benchmark: what was worked out lasts as long as they do.
        self._seen: WeakKeyDictionary[Features, tuple[Dense, Dense]] = WeakKeyDictionary()

    @property
    def lsa_width(self) -> int:
        """How many dimensions the counts are reduced to."""
        return int(self._projection.shape[1])

    @property
    def width_beside_embedding(self) -> int:
        """How many columns `apply` puts beside the embedding's."""
        return self.lsa_width + STRUCTURE

    def lsa(self, features: Features) -> Dense:
        """Return the counts' projection (prompts x lsa width), rows of unit length, or 0 where no count is in the projection."""
        return self._reduced(features)[0]

    def structure(self, features: Features) -> Dense:
        """Return the standardised figures of structure (prompts x STRUCTURE), within three deviations."""
        return self._reduced(features)[1]

    def apply(self, features: Features) -> Dense:
        """Return embedding, lsa and structure side by side: three blocks, the rows of each about 1 in length."""
        lsa, structure = self._reduced(features)
        embeddings = np.asarray(features.embeddings, dtype=np.float32)
        return np.concatenate([embeddings, lsa, structure / _STRUCTURE_LENGTH], axis=1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` needs, under names of their own."""
        return {**pack_rows(_PROJECTION, self._stored_projection), _STRUCTURE: self._structure}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> View:
        """Rebuild from a state's arrays; raises `ValueError` when they are not a view's."""
        try:
            projection, structure = unpack_rows(arrays, _PROJECTION, BUCKETS), arrays[_STRUCTURE]
        except KeyError as error:
            raise ValueError(f"the state of the strategy lacks {error}") from error
        if structure.shape != (2, STRUCTURE):
            raise ValueError("its view does not fit the lexical features")
        if not np.isfinite(projection).all() or not np.isfinite(structure).all() or (structure[1] <= 0).any():
            raise ValueError("its view holds numbers that are not finite or spreads that are not positive")
        return cls(projection, structure.astype(np.float32, copy=False))

    def _reduced(self, features: Features) -> tuple[Dense, Dense]:
        found = self._seen.get(features)
        if found is None:
            counts = features.lexical
            figures = (counts.structure - self._structure[0]) / self._structure[1]
            structure = np.minimum(np.maximum(figures, -_MOST_DEVIATIONS), _MOST_DEVIATIONS)
            found = self._seen[features] = self._project(counts), structure
        return found

    def _project(self, counts: LexicalCounts) -> Dense:
        projected = np.zeros((len(counts.offsets) - 1, self.lsa_width), dtype=np.float32)
        # Row by row: a product with the whole batch may add in an order that depends on the batch.
        for row, (start, end) in enumerate(zip(counts.offsets[:-1], counts.offsets[1:], strict=True)):
            # Buckets are within the table: to have `take` check each of them again costs as much as the product.
            rows = self._projection.take(counts.columns[start:end], axis=0, mode="clip")
            vector = counts.values[start:end] @ rows
            length = math.sqrt(vector @ vector)
            if length > 0:
                projected[row] = vector / np.float32(length)
        return projected


_fitted: WeakKeyDictionary[Features, dict[int, View]] = WeakKeyDictionary()


def fit_view(training: TrainingSet, lsa_width: int = LSA_WIDTH) -> View:
    """Fit a view on the training side's texts; of the same features the same view is returned again, not fitted anew.

    Raises `ValueError` when there are too few prompts to project anything.
    """
    views = _fitted.setdefault(training.features, {})
    if lsa_width not in views:
        views[lsa_width] = View(_fit_projection(training, lsa_width), _fit_structure(training))
    return views[lsa_width]


def _fit_projection(training: TrainingSet, lsa_width: int) -> NDArray[np.float16]:
    from scipy.sparse import diags
    from sklearn.utils.extmath import randomized_svd

    counts = training.features.lexical.csr()
    prompts = counts.shape[0]
    if prompts < 2:
        raise ValueError("lexical features cannot be learned from fewer than two prompts")
    in_prompts = np.bincount(counts.indices, minlength=BUCKETS)
    rarity = (1.0 + np.log((1.0 + prompts) / (1.0 + in_prompts))).astype(np.float32)
    if prompts > _MOST_ROWS:
        counts = counts[np.sort(np.random.default_rng(0).permutation(prompts)[:_MOST_ROWS])]
    weighted = counts @ diags(rarity)
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    scaled = (diags((1.0 / np.maximum(lengths, 1e-12)).astype(np.float32)) @ weighted).tocsr()
    width = min(lsa_width, scaled.shape[0] - 1)
    _, _, directions = randomized_svd(scaled, width, n_oversamples=_OVERSAMPLES, n_iter=_ITERATIONS, random_state=0)
    projection: NDArray[np.float16] = (directions.T * rarity[:, None]).astype(np.float16)
    return projection


def _fit_structure(training: TrainingSet) -> NDArray[np.float32]:
    structure = training.features.lexical.structure.astype(np.float64)
    spread = structure.std(axis=0)
    return np.stack([structure.mean(axis=0), np.where(spread > 0, spread, 1.0)]).astype(np.float32)
