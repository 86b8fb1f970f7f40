"""Embeds descriptions of prompts' tasks, so that discovery can compare what is asked for instead of the words it is asked in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foresail_router.features.encoder import Encoder
from foresail_router.strategies.base import DescriptionEmbeddings


def embed_descriptions(descriptions: Sequence[str | None], encoder: Encoder) -> DescriptionEmbeddings | None:
    """Return the embeddings of descriptions, one row for each prompt, or None where no prompt is described."""
    known = np.array([description is not None for description in descriptions], dtype=np.bool_)
    if not known.any():
        return None
    encoded = encoder.encode([description for description in descriptions if description is not None])
    vectors = np.zeros((len(descriptions), encoded.shape[1]), dtype=np.float16)
    vectors[known] = encoded
    return DescriptionEmbeddings(vectors, known)
