"""`foresail evaluate`: what a router would have earned on recorded outcomes, beside simple baselines.

It must not know how figures are worked out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import foresail_router.commands.shared as shared
from foresail_api.console import Command
from foresail_api.errors import UserError


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="ARTIFACT", type=Path, help="directory that `foresail train` wrote")
    shared.add_data_arguments(parser)
    parser.add_argument(
        "--side",
        choices=["held-out", "all"],
        default="held-out",
        help="which prompts: those that training leaves out, or all, for data that the router was not trained on (default: %(default)s)",
    )
    shared.add_encoder_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        help="also write the report there: report.json, report.csv and report.html",
    )


def _run(arguments: argparse.Namespace) -> int:
    import numpy as np

    from foresail_router.artifact.build import HELD_OUT_SIDE, TRAINING_SIDES
    from foresail_router.artifact.costs import artifact_prices, cost_model
    from foresail_router.artifact.router import open_encoder, open_strategy
    from foresail_router.artifact.store import read_artifact
    from foresail_router.evaluation.held_out import Expectations, expectations
    from foresail_router.evaluation.presentation.router import write_report
    from foresail_router.evaluation.render import render_table, report_data
    from foresail_router.evaluation.report import evaluate
    from foresail_router.strategies.base import Features

    started = time.monotonic()
    artifact = read_artifact(arguments.artifact)
    manifest = artifact.manifest
    strategy = open_strategy(artifact)
    data = shared.load(arguments)
    for model in sorted(set(data.models) - set(manifest.model_names)):
        shared.say(f"left out: {model}, which the artifact does not know")
    if missing := sorted(set(manifest.model_names) - set(data.models)):
        raise UserError(
            f"{arguments.data}: has no outcome of {missing[0]!r}, which the artifact chooses from; evaluate on data of the same pool"
        )
    data = data.columns(manifest.model_names)
    side = data.rows(data.side(*TRAINING_SIDES))
    its_own = side.prompts and side.fingerprint() == manifest.training.fingerprint
    if arguments.side == "all" and its_own:
        raise UserError("--side all: the router was trained on these very prompts; leave the option out")
    chosen = data.rows(data.side(HELD_OUT_SIDE)) if arguments.side == "held-out" else data
    complete = chosen.rows(chosen.complete)
    if not complete.prompts:
        raise UserError(
            f"{arguments.data}: none of {len(chosen.prompts)} prompts has an outcome of every model; use --pool, or add outcomes"
        )
    encoder = shared.cached(open_encoder(artifact, threads=arguments.threads), arguments)
    predictions = strategy.predict(Features(complete.texts, encoder.encode(complete.texts)))
    costs = cost_model(manifest, artifact_prices(manifest), complete.texts, predictions.output_tokens)
    known = Expectations(
        np.array([model.mean_quality for model in manifest.models]), np.full(len(manifest.models), np.nan)
    )
    if its_own:
        known = expectations(side)
    report = evaluate(complete, predictions, costs, reference=manifest.reference.model, known=known)
    if arguments.output is not None:
        write_report(arguments.output, report)
    if arguments.json:
        print(json.dumps(report_data(report)))
        return 0
    left_out = len(chosen.prompts) - len(complete.prompts)
    print(
        f"{report.prompts} {arguments.side} prompts ({left_out} without all outcomes left out), {report.models} models\n"
    )
    print(render_table(report))
    shared.say(f"done in {time.monotonic() - started:.1f} s")
    return 0


command = Command(help="compare a router with simple baselines on recorded outcomes", configure=_configure, run=_run)
