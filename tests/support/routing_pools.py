"""A pool of models in which the right one depends on what a prompt is about, for tests of strategies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.records import Prompt
from foresail_router.strategies.base import AnswerEmbeddings, Features, TrainingSet

WIDTH = 16
MODELS = ("a", "b", "c", "d")
# By topic (rows) and model: no model is good at every topic, and the third is fair at all.
QUALITY = np.array([[0.9, 0.1, 0.6, 0.3], [0.1, 0.9, 0.6, 0.3], [0.3, 0.1, 0.6, 0.9]])
LENGTH = np.array([[50.0, 400.0, 100.0, 80.0], [200.0, 40.0, 100.0, 80.0], [50.0, 50.0, 100.0, 800.0]])
COST = np.array([3.0, 2.0, 1.0, 4.0]) * 1e-3
WORDS = (
    ["simmer", "onions", "butter", "roast", "carrots", "bread", "flour", "yeast", "soup"],
    ["engine", "oil", "brake", "wheel", "bolt", "filter", "piston", "clutch", "tyre"],
    ["verse", "rhyme", "sonnet", "stanza", "metre", "poem", "ballad", "lyric", "ode"],
)


def routing_pool(
    count: int = 360, *, seed: int = 0, missing: float = 0.0, answered: bool = False
) -> tuple[TrainingSet, NDArray[np.int64]]:
    """Return prompts on three topics with noisy outcomes, and their topics; a share of outcomes is missing."""
    generator = np.random.default_rng(seed)
    topics = generator.integers(len(QUALITY), size=count)
    texts = [f"{' '.join(generator.choice(WORDS[topic], 6))} {number}" for number, topic in enumerate(topics)]
    vectors = generator.normal(0, 0.2, (count, WIDTH))
    vectors[np.arange(count), topics] += 1.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    score = (generator.random((count, len(MODELS))) < QUALITY[topics]).astype(float)
    tokens = np.round(LENGTH[topics] * generator.lognormal(0, 0.4, score.shape)) + 1
    unknown = generator.random(score.shape) < missing
    for part in (score, tokens):
        part[unknown] = np.nan
    prompts = tuple(Prompt(f"p{number}", text, task=f"topic {topics[number]}") for number, text in enumerate(texts))
    cost = np.where(unknown, np.nan, COST)
    outcomes = OutcomeMatrix(prompts, MODELS, score, np.full_like(score, 10.0), tokens, cost)
    answers = _answers(generator, topics, unknown) if answered else None
    features = Features(texts, vectors.astype(np.float32))
    return TrainingSet(features, outcomes, np.arange(count) % 5, answers), topics


def _answers(generator: np.random.Generator, topics: NDArray[np.int64], unknown: NDArray[np.bool_]) -> AnswerEmbeddings:
    """Return answers that lie the nearer to the truth the better the model is at the topic."""
    count = len(topics)
    truth = generator.normal(0, 1, (count, 1, WIDTH))
    noise = generator.normal(0, 1, (count, len(MODELS), WIDTH))
    vectors = truth + 2 * (1 - QUALITY[topics])[:, :, None] * noise
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    vectors[unknown] = 0
    return AnswerEmbeddings(vectors.astype(np.float16), ~unknown)
