"""`foresail lookahead`: train, compare and apply language models that foresee answers.

It must not know how any of it is done.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import foresail_router.commands.shared as shared
from foresail_api.console import Command
from foresail_api.errors import UserError

if TYPE_CHECKING:
    import torch

    from foresail_router.lookahead.parallel import Parallel
    from foresail_router.lookahead.recipe import Recipe
    from foresail_router.lookahead.runs import Material


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    train = actions.add_parser("train", help="train one model by a recipe; goes on where it was interrupted")
    train.add_argument("recipe", metavar="RECIPE", type=Path, help="YAML or JSON file with the recipe")
    shared.add_data_arguments(train)
    train.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="directory to write the model to"
    )
    train.add_argument(
        "--test-fold", metavar="N", type=int, choices=range(5), help="leave this fold (0 to 4) out and test on it"
    )
    train.add_argument("--learning-rate", metavar="RATE", type=float, help="instead of the recipe's")
    train.add_argument("--seed", metavar="N", type=int, help="instead of the recipe's")
    _add_machine_arguments(train)
    experiment = actions.add_parser(
        "experiment", help="compare with and without response modelling; goes on where it was interrupted"
    )
    experiment.add_argument("experiment", metavar="EXPERIMENT", type=Path, help="YAML or JSON file with the experiment")
    shared.add_data_arguments(experiment)
    experiment.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="directory for trainings and results.json"
    )
    _add_machine_arguments(experiment)
    predict = actions.add_parser("predict", help="write a trained model's expected qualities for a file of prompts")
    predict.add_argument("model", metavar="MODEL", type=Path, help="directory that `foresail lookahead train` wrote")
    predict.add_argument(
        "prompts", metavar="PROMPTS", type=Path, help="parquet or JSONL with string columns id and prompt"
    )
    predict.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="parquet file to write")
    _add_machine_arguments(predict)


def _add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="where to compute (default: %(default)s)"
    )
    shared.add_threads_argument(parser)
    parser.add_argument(
        "--states-dir",
        metavar="DIR",
        type=Path,
        help="where the output of frozen layers is kept (default: foresail/lookahead in the user's cache directory)",
    )


def _run(arguments: argparse.Namespace) -> int:
    import torch
    from transformers.utils import logging

    from foresail_router.lookahead.parallel import open_parallel

    # Its report on new heads and bars for single files would drown what is said here.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no GPU that torch can use; leave the option out")
    actions = {"train": _train, "experiment": _experiment, "predict": _predict}
    started = time.monotonic()
    with open_parallel(arguments.device) as (parallel, device):
        actions[arguments.action](arguments, parallel, device)
    if parallel.leads:
        shared.say(f"done in {time.monotonic() - started:.1f} s")
    return 0


def _train(arguments: argparse.Namespace, parallel: Parallel, device: torch.device) -> None:
    from foresail_router.lookahead.recipe import load_recipe
    from foresail_router.lookahead.runs import measure_once, train_once

    shared.check_artifact_argument(arguments.output)
    recipe = _changed(load_recipe(arguments.recipe), arguments)
    material = _material(arguments, parallel, device, arguments.test_fold)
    done = train_once(material, recipe, arguments.output, shared.say if parallel.leads else _quiet)
    if not parallel.leads:
        return
    print(
        f"{arguments.output}: validation {done['validation_score']:.4f} at step {done['best_step']} of {done['steps']}"
    )
    if arguments.test_fold is not None:
        figures = measure_once(material, arguments.output, shared.say)
        print(
            f"fold {arguments.test_fold}: score {figures['score']:.4f}, "
            f"{figures['gain_over_best_single_points']:+.2f} points over the best single model, gap closed {figures['gap_closed']:.3f}"
        )


def _experiment(arguments: argparse.Namespace, parallel: Parallel, device: torch.device) -> None:
    from foresail_router.lookahead.experiment import load_plan, run_experiment

    if parallel.processes > 1:
        raise UserError(
            "experiment: runs in one process; start its trainings with `torchrun` and `foresail lookahead train`"
        )
    plan = load_plan(arguments.experiment)
    shared.check_artifact_argument(arguments.output)
    material = _material(arguments, parallel, device, plan.experiment.test_fold)
    results = run_experiment(plan, material, arguments.output, shared.say)
    for variant, found in results["comparisons"].items():
        if found is not None:
            low, high = found["interval_points"]
            print(
                f"{variant}: with minus without response modelling {found['with_minus_without_points']:+.2f} points "
                f"[{low:+.2f}, {high:+.2f}], {len(found['seeds'])} seeds"
            )
    print(arguments.output / "results.json")


def _predict(arguments: argparse.Namespace, parallel: Parallel, device: torch.device) -> None:
    from foresail_router.data.records import read_prompts
    from foresail_router.data.rows import write_rows
    from foresail_router.lookahead.model_files import open_model

    if arguments.output.suffix != ".parquet":
        raise UserError(f"-o {arguments.output}: is written as parquet; name it .parquet")
    prompts = list(read_prompts(arguments.prompts, other_columns=True))
    model = open_model(arguments.model, device=device, states=_states(arguments))
    with shared.ticking(len(prompts), "predicting") as tick:
        logits, quality = model.predict([prompt.prompt for prompt in prompts], tick)
    rows = (
        {"id": prompt.id, "model": name, "quality": float(quality[row, column]), "logit": float(logits[row, column])}
        for row, prompt in enumerate(prompts)
        for column, name in enumerate(model.models)
    )
    write_rows(arguments.output, rows, {"id": "string", "model": "string", "quality": "float64", "logit": "float64"})
    print(f"{arguments.output}: {len(prompts)} prompts x {len(model.models)} models")


def _material(arguments: argparse.Namespace, parallel: Parallel, device: torch.device, fold: int | None) -> Material:
    from foresail_router.data.answers import load_answers
    from foresail_router.lookahead.runs import Material

    outcomes = shared.load(arguments)
    answers = load_answers(arguments.data, arguments.source, outcomes)
    return Material(outcomes, answers, fold, device, _states(arguments), parallel)


def _states(arguments: argparse.Namespace) -> Path:
    if arguments.states_dir is not None:
        return Path(arguments.states_dir)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foresail" / "lookahead"


def _changed(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    from foresail_router.lookahead.recipe import parse_recipe

    changes = {"learning_rate": arguments.learning_rate, "seed": arguments.seed}
    content = recipe.model_dump(mode="json") | {key: value for key, value in changes.items() if value is not None}
    return parse_recipe(content, "the command line")


def _quiet(message: str) -> None:
    """Say nothing: another process does."""


command = Command(
    help="train and compare language models that foresee answers (causal and masked lookahead)",
    configure=_configure,
    run=_run,
)
