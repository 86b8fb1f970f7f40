"""`foresail tasks`: prints the tasks that a router discovered: names, sizes, candidates with their scores, examples, purity.

Owns what is printed. It must not know how tasks are found.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import foresail_router.commands.shared as shared
from foresail_api.console import Command
from foresail_api.errors import UserError

if TYPE_CHECKING:
    from foresail_router.artifact.store import Artifact
    from foresail_router.strategies.fused.strategy import FusedStrategy
    from foresail_router.strategies.task_aware.strategy import TaskAwareStrategy
    from foresail_router.strategies.task_aware.tasks import TaskFacts

    TaskStrategy = FusedStrategy | TaskAwareStrategy

_SHOWN_CANDIDATES = 3


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="ARTIFACT", type=Path, help="directory that `foresail train` wrote")
    parser.add_argument(
        "--data",
        metavar="DATA",
        type=Path,
        help="assign the prompts of this data set to the tasks, too, and compare with its labels",
    )
    parser.add_argument("--source", metavar="NAME", help="which long-form source of DATA: NAME.parquet")
    parser.add_argument("--pool", metavar="NAME", default="default", help="which pool of DATA (default: %(default)s)")
    parser.add_argument(
        "--limit", metavar="N", type=shared.whole_number(1, 1_000_000), help="print the N largest tasks only"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with all candidates, labels and examples")
    shared.add_encoder_arguments(parser)


def _run(arguments: argparse.Namespace) -> int:
    from foresail_router.artifact.router import open_strategy
    from foresail_router.artifact.store import read_artifact
    from foresail_router.strategies.fused.strategy import FusedStrategy
    from foresail_router.strategies.task_aware.strategy import TaskAwareStrategy

    if arguments.source is not None and arguments.data is None:
        raise UserError(f"--source {arguments.source}: is a source of a data set; name the data set with --data")
    artifact = read_artifact(arguments.artifact)
    strategy = open_strategy(artifact)
    if not isinstance(strategy, FusedStrategy | TaskAwareStrategy):
        raise UserError(
            f"artifact {arguments.artifact}: its strategy {artifact.manifest.strategy!r} discovers no tasks; "
            "train one with --strategy fused or --strategy task-aware"
        )
    report = _report(artifact, strategy)
    if arguments.data is not None:
        _add_assignments(report, arguments, artifact, strategy)
    report["all_tasks"] = len(report["tasks"])
    report["tasks"] = sorted(report["tasks"], key=lambda task: -task["prompts"])[: arguments.limit]
    print(json.dumps(report, indent=2) if arguments.json else _text(report))
    return 0


def _report(artifact: Artifact, strategy: TaskStrategy) -> dict[str, Any]:
    models = artifact.manifest.model_names
    scores = strategy.task_scores
    tasks = [_entry(task, models, scores[number]) for number, task in enumerate(strategy.tasks)]
    return {
        "artifact": artifact.digest,
        "training_prompts": artifact.manifest.training.prompts,
        "models": len(models),
        "purity": _overall_purity(strategy.tasks),
        "tasks": tasks,
    }


def _entry(task: TaskFacts, models: tuple[str, ...], scores: Any) -> dict[str, Any]:
    best = sorted(task.candidates, key=lambda column: (-scores[column], models[column]))
    return {
        "name": task.name,
        "prompts": task.prompts,
        "candidates": [{"model": models[column], "score": round(float(scores[column]), 4)} for column in best],
        "alpha": task.alpha,
        "examples": list(task.examples),
        "labels": [{"label": label, "share": share} for label, share in task.labels],
        "purity": task.purity,
    }


def _overall_purity(tasks: tuple[TaskFacts, ...]) -> float | None:
    """Return the share of labelled prompts whose label is the most common one of their task."""
    labelled = [(task.prompts, task.purity) for task in tasks if task.purity is not None]
    total = sum(prompts for prompts, _ in labelled)
    return round(sum(prompts * purity for prompts, purity in labelled) / total, 4) if total else None


def _add_assignments(
    report: dict[str, Any], arguments: argparse.Namespace, artifact: Artifact, strategy: TaskStrategy
) -> None:
    """Add how many prompts of a data set each task takes, as the classifier assigns them, and how pure those are."""
    import numpy as np

    from foresail_router.artifact.router import open_encoder
    from foresail_router.strategies.base import Features

    data = shared.load(arguments)
    encoder = shared.cached(open_encoder(artifact, threads=arguments.threads), arguments)
    members = strategy.memberships(Features(data.texts, encoder.encode(data.texts)))
    fits = members.any(axis=1)
    task = np.where(fits, members.argmax(axis=1) if members.shape[1] else 0, -1)
    for number, entry in enumerate(report["tasks"]):
        labels = [data.prompts[index].task for index in np.flatnonzero(task == number)]
        known = [label for label in labels if label is not None]
        most = max((known.count(label) for label in set(known)), default=0)
        entry["assigned"] = {"prompts": len(labels), "purity": round(most / len(known), 4) if known else None}
    report["assigned_prompts"], report["abstained"] = int(fits.sum()), int((~fits).sum())


def _text(report: dict[str, Any]) -> str:
    if not report["tasks"]:
        return "No tasks were discovered: the router does without them."
    assigned = "assigned" in report["tasks"][0]
    lines = [
        _head(report),
        "",
        "| task | prompts | purity | labels | candidates, best first | examples |",
        "|---|---|---|---|---|---|",
    ]
    if assigned:
        lines[-2:] = [line + part for line, part in zip(lines[-2:], (" assigned (purity) |", "---|"), strict=True)]
    lines.extend(_row(task) for task in report["tasks"])
    return "\n".join(lines)


def _head(report: dict[str, Any]) -> str:
    shown = f"{report['all_tasks']} tasks"
    if len(report["tasks"]) < report["all_tasks"]:
        shown = f"The {len(report['tasks'])} largest of {shown}"
    candidates = [len(task["candidates"]) for task in report["tasks"]]
    purity = "" if report["purity"] is None else f"; purity against the known labels {report['purity']:.2f}"
    abstained = f"; of the data given, {report['abstained']} prompts fit none" if "abstained" in report else ""
    return (
        f"{shown} of {report['training_prompts']} prompts, on average {sum(candidates) / len(candidates):.1f} candidates "
        f"of {report['models']} models{purity}{abstained}"
    )


def _row(task: dict[str, Any]) -> str:
    shown = [f"{entry['model']} {entry['score']:.2f}" for entry in task["candidates"][:_SHOWN_CANDIDATES]]
    more = len(task["candidates"]) - len(shown)
    cells = [
        task["name"],
        str(task["prompts"]),
        "" if task["purity"] is None else f"{task['purity']:.2f}",
        ", ".join(f"{entry['label']} {entry['share']:.0%}" for entry in task["labels"]),
        ", ".join(shown) + (f" and {more} more" if more > 0 else ""),
        ", ".join(task["examples"]),
    ]
    if "assigned" in task:
        found = task["assigned"]
        cells.append(str(found["prompts"]) + ("" if found["purity"] is None else f" ({found['purity']:.2f})"))
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


command = Command(help="print the tasks that a router discovered", configure=_configure, run=_run)
