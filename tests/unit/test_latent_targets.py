"""What is learned of answers: how they differ between models, with whatever nobody recorded left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import AnswerEmbeddings
from foresail_router.strategies.lookahead.targets import answer_targets


def embeddings(known: NDArray[np.bool_], seed: int = 0) -> AnswerEmbeddings:
    random = np.random.default_rng(seed)
    subject = random.normal(size=(len(known), 1, 6)) * 5
    vectors = (subject + random.normal(size=(*known.shape, 6))) * known[:, :, None]
    return AnswerEmbeddings(vectors.astype(np.float16), known)


def test_figures_are_standardised_per_model_and_unknown_ones_are_zero() -> None:
    known = np.random.default_rng(1).random((400, 4)) < 0.8
    known[:, 2] = False
    targets = answer_targets(embeddings(known), "answer", 3)
    assert targets.figures.shape == (400, 4, 3)
    assert targets.models == 3
    np.testing.assert_array_equal(targets.known, known)
    assert not targets.figures[~known].any()
    own = targets.figures[known[:, 0], 0]
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(own.std(axis=0), 1, atol=1e-4)


def test_a_difference_leaves_out_what_all_answers_to_a_prompt_share() -> None:
    known = np.ones((300, 3), dtype=np.bool_)
    answers = embeddings(known)
    moved = AnswerEmbeddings((answers.vectors + np.float16(3)).astype(np.float16), known)
    first, second = answer_targets(answers, "difference", 4), answer_targets(moved, "difference", 4)
    # The sign of a direction is arbitrary.
    np.testing.assert_allclose(np.abs(first.figures), np.abs(second.figures), atol=0.05)


def test_a_difference_takes_two_answers() -> None:
    known = np.ones((50, 3), dtype=np.bool_)
    known[:10, 1:] = False
    targets = answer_targets(embeddings(known), "difference", 2)
    assert not targets.known[:10].any()
    assert targets.known[10:].all()
    assert answer_targets(embeddings(known), "answer", 2).known[:10, 0].all()


def test_what_an_unknown_answers_place_holds_does_not_matter() -> None:
    known = np.random.default_rng(3).random((200, 4)) < 0.6
    clean = embeddings(known)
    dirty = AnswerEmbeddings(np.where(known[:, :, None], clean.vectors, np.float16(9)).astype(np.float16), known)
    for target in ("difference", "answer"):
        np.testing.assert_array_equal(
            answer_targets(clean, target, 3).figures,  # type: ignore[arg-type]
            answer_targets(dirty, target, 3).figures,  # type: ignore[arg-type]
        )


def test_more_prompts_than_one_block_are_all_transformed() -> None:
    targets = answer_targets(embeddings(np.ones((2500, 2), dtype=np.bool_)), "difference", 2)
    assert np.abs(targets.figures).sum(axis=(1, 2)).min() > 0
