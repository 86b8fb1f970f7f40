"""From recorded answers to their embeddings, the form in which a strategy may learn from them.

It must not know which encoder it is given, nor keep a text.
"""

from __future__ import annotations

import numpy as np

from foresail_router.data.answers import Answers
from foresail_router.features.encoder import Encoder, Progress
from foresail_router.strategies.base import AnswerEmbeddings

# How much of an answer is embedded, in tokens: what its author sets out to do shows early.
OPENING_TOKENS = 64


def embed_answers(answers: Answers, encoder: Encoder, progress: Progress | None = None) -> AnswerEmbeddings | None:
    """Return the embedding of every recorded answer (prompts x models x width), or None where there is none at all.

    `encoder` is an `answer_encoder(opening_tokens=OPENING_TOKENS)`, behind a cache where answers are embedded again and again.
    """
    known = answers.known
    if not known.any():
        return None
    embedded = encoder.encode(answers.texts, progress).astype(np.float16)
    vectors = np.zeros((*known.shape, embedded.shape[1]), dtype=np.float16)
    vectors[known] = embedded[answers.index[known]]
    return AnswerEmbeddings(vectors, known)
