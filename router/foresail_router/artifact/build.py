"""From a data set to an artifact: split, encode, fit, measure on what was held out, describe.

Owns the order of training. It must not know where data comes from or where the artifact goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foresail_api.errors import UserError
from foresail_router.artifact.card import model_card
from foresail_router.artifact.facts import model_facts, reference_of, six_digits
from foresail_router.artifact.manifest import Manifest, ModelFacts, Training
from foresail_router.artifact.router import ROUTER_FILE, contain_encoder, describe_package, strategy_file
from foresail_router.artifact.store import file_facts
from foresail_router.data.answers import Answers
from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.splits import fold_of
from foresail_router.evaluation.held_out import CARD_MONEY, ROUTER, expectations
from foresail_router.evaluation.report import Report, evaluate, router_line
from foresail_router.features.encoder import Encoder
from foresail_router.features.weights import EncoderSource, Precision
from foresail_router.strategies.base import (
    AnswerEmbeddings,
    DescriptionEmbeddings,
    Features,
    Strategy,
    TrainingSet,
    find_strategy,
)
from foresail_router.strategies.lookahead.answers import embed_answers
from foresail_router.strategies.task_aware.descriptions import embed_descriptions

FEWEST_PROMPTS = 20
# Of the benchmark's figures, those that a fitted router can show on held-out prompts.
CALIBRATION_FIGURES = ("gap_closed", "ece", "brier_gain", "chosen_error", "coverage", "pinball_gain")
CARD_FILE = "README.md"
TRAINING_SIDES = ("train", "val")
HELD_OUT_SIDE = "test"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: `serving_precision` is what prompts will be encoded with later, `reproducible` fixes the training's own."""

    strategy: str
    serving_precision: Precision
    reproducible: bool = False
    self_contained: bool = False
    seed: int = 0

    @property
    def training_precision(self) -> Precision:
        """The precision at which the training prompts are encoded."""
        return "reference" if self.reproducible else self.serving_precision


@dataclass(frozen=True, slots=True)
class AnswerData:
    """Recorded answers, with the rows and columns of the data, and the encoder that embeds them."""

    answers: Answers
    encoder: Encoder

    def embed(self, rows: NDArray[np.bool_], columns: list[int]) -> AnswerEmbeddings | None:
        """Embed the answers of some models to some prompts, or return None where none is recorded."""
        return embed_answers(self.answers.rows(rows).columns(columns), self.encoder)


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished artifact in memory; `report` is None when no held-out prompt has an outcome of every model."""

    manifest: Manifest
    files: dict[str, bytes]
    report: Report | None


def train(
    data: OutcomeMatrix,
    recipe: Recipe,
    *,
    encoder: Encoder,
    source: EncoderSource,
    say: Callable[[str], object],
    answers: AnswerData | None = None,
    descriptions: Sequence[str | None] = (),
) -> Trained:
    """Train an artifact on the training sides of `data`; raises `UserError` when there is too little of it.

    `encoder` runs at the recipe's training precision on the weights of `source`; `say` is told what is being done. `answers`, for a
    strategy that learns from them, are read on the training sides alone; so are `descriptions`, one for each prompt of `data`, or none.
    """
    known = data.columns(_models_with_outcomes(data))
    side, held_out = known.rows(known.side(*TRAINING_SIDES)), known.rows(known.side(HELD_OUT_SIDE) & known.complete)
    if len(side.prompts) < FEWEST_PROMPTS:
        raise UserError(
            f"the training side has {len(side.prompts)} prompts; at least {FEWEST_PROMPTS} are needed: add prompts and outcomes"
        )
    vectors = encoder.encode([*side.texts, *held_out.texts])
    training, rest = np.split(vectors, [len(side.prompts)])
    embedded = None
    if answers is not None:
        embedded = answers.embed(data.side(*TRAINING_SIDES), [data.models.index(model) for model in side.models])
    of_side = [descriptions[int(row)] for row in np.flatnonzero(data.side(*TRAINING_SIDES))] if descriptions else []
    described = embed_descriptions(of_side, encoder)
    strategy = _fit(recipe, side, training, embedded, described, say)
    say("measuring on held-out prompts")
    facts = model_facts(side)
    report = None
    if held_out.prompts:
        predictions = strategy.predict(Features(held_out.texts, rest))
        reference = reference_of(facts).model
        report = evaluate(held_out, predictions, None, reference=reference, known=expectations(side))
    return _assemble(recipe, side, facts, strategy, report, source, vectors.shape[1])


def _models_with_outcomes(data: OutcomeMatrix) -> list[str]:
    side = data.rows(data.side(*TRAINING_SIDES))
    scored = np.isfinite(side.score).sum(axis=0)
    models = [model for model, outcomes in zip(data.models, scored, strict=True) if outcomes]
    if not models:
        raise UserError("the training side has no outcome at all; check the prompts' split column")
    return models


def _fit(
    recipe: Recipe,
    side: OutcomeMatrix,
    embeddings: NDArray[np.float32],
    answers: AnswerEmbeddings | None,
    descriptions: DescriptionEmbeddings | None,
    say: Callable[[str], object],
) -> Strategy:
    folds = np.array([fold_of(text) for text in side.texts], dtype=np.int64)
    try:
        return find_strategy(recipe.strategy).fit(
            TrainingSet(Features(side.texts, embeddings), side, folds, answers, descriptions),
            seed=recipe.seed,
            progress=say,
        )
    except ValueError as error:
        raise UserError(f"the data cannot be learned from: {error}; add different prompts") from error


def _assemble(
    recipe: Recipe,
    side: OutcomeMatrix,
    facts: tuple[ModelFacts, ...],
    strategy: Strategy,
    report: Report | None,
    source: EncoderSource,
    width: int,
) -> Trained:
    files = {ROUTER_FILE: strategy_file(strategy)}
    if recipe.self_contained:
        encoder, encoder_files = contain_encoder(source, recipe.serving_precision, width)
        files |= encoder_files
    manifest = Manifest(
        strategy=recipe.strategy,
        strategy_config=dict(strategy.state().config),
        models=facts,
        reference=reference_of(facts),
        encoder=encoder if recipe.self_contained else describe_package(source, recipe.serving_precision, width),
        training=Training(
            fingerprint=side.fingerprint(),
            prompts=len(side.prompts),
            held_out_prompts=0 if report is None else report.prompts,
            encoder_precision=recipe.training_precision,
            reproducible=recipe.reproducible,
            seed=recipe.seed,
            output_tokens="reported" if np.isfinite(side.output_tokens).any() else "assumed",
        ),
        calibration=_calibration(report),
        metrics=_metrics(report),
        costs=_four_digits(_router_figures(report, CARD_MONEY)),
        files=file_facts(files),
    )
    files[CARD_FILE] = model_card(manifest).encode()
    return Trained(manifest.model_copy(update={"files": file_facts(files)}), files, report)


def _metrics(report: Report | None) -> dict[str, float]:
    if report is None:
        return {}
    router, best, oracle = (report.line(name) for name in (router_line(0), "best single", "oracle"))
    if router is None or best is None or oracle is None:
        return {}
    values = {
        "prompts": float(report.prompts),
        "router_quality": router.quality,
        "best_single_quality": best.quality,
        "oracle_quality": oracle.quality,
        "points": router.points,
        "points_low": router.points_low,
        "points_high": router.points_high,
    }
    return {name: six_digits(value) for name, value in values.items() if value is not None}


def _calibration(report: Report | None) -> dict[str, float]:
    if report is None:
        return {}
    # Four digits: these rest on float32 sums, whose last bits depend on the CPU.
    values = {
        "quality_squared_error": report.quality_error,
        "prior_squared_error": report.prior_error,
        "length_interval_coverage": report.length_coverage,
    }
    return _four_digits(values | _router_figures(report, CALIBRATION_FIGURES))


def _router_figures(report: Report | None, names: Sequence[str]) -> dict[str, float | None]:
    """Return figures of the router on held-out prompts, each with the ends of its interval."""
    variant = None if report is None else report.pool.variant(ROUTER)
    values: dict[str, float | None] = {}
    for name in names:
        if variant is not None and (found := variant.figures.get(name)) is not None:
            values |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return values


def _four_digits(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in values.items() if value is not None}
