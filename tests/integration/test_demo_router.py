"""The committed outcomes and router of the demo: retraining gives the same bytes, and routing is worth it on the held-out side."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from examples.demo.processes import FOLDER
from examples.demo.wrapping import POOL_MODELS

from foresail_api.manifests import load_manifests
from foresail_router.data.grading import grade
from foresail_router.data.records import Outcome, Prompt, read_outcomes, read_prompts
from foresail_router.decision.price import cost_nano
from foresail_sidecar.collecting.plan import models_to_ask

FORESAIL = str(Path(sys.executable).with_name("foresail"))
DATA, ARTIFACT = FOLDER / "data", FOLDER / "artifact"


@pytest.fixture(scope="module")
def prompts() -> dict[str, Prompt]:
    return {prompt.id: prompt for prompt in read_prompts(DATA / "prompts.jsonl")}


@pytest.fixture(scope="module")
def held_out(prompts: dict[str, Prompt]) -> list[dict[str, Outcome]]:
    """The outcomes of each held-out prompt, by model."""
    found: dict[str, dict[str, Outcome]] = defaultdict(dict)
    for outcome in read_outcomes(DATA / "outcomes.jsonl"):
        if prompts[outcome.id].split == "test":
            found[outcome.id][outcome.model] = outcome
    return list(found.values())


def foresail(*arguments: str | Path) -> dict[str, Any]:
    """Run a command that prints JSON."""
    command = [FORESAIL, *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(320)
def test_retraining_from_the_committed_outcomes_gives_the_committed_digest(tmp_path: Path) -> None:
    arguments = ("--strategy", "knn", "--reproducible", "--cache-dir", tmp_path / "cache", "--threads", "2")
    digest = foresail("train", DATA, "-o", tmp_path / "artifact", *arguments)["digest"]
    policy = yaml.safe_load((FOLDER / "policy.yaml").read_text())
    assert digest == policy["spec"]["router"]["artifact"]["digest"], "retrain the demo's router; docs/demo.md says how"
    for file in ARTIFACT.iterdir():
        assert (tmp_path / "artifact" / file.name).read_bytes() == file.read_bytes(), file.name


def test_every_model_answered_every_prompt_and_was_graded_and_priced_as_the_pool_says(
    prompts: dict[str, Prompt],
) -> None:
    manifests = load_manifests([FOLDER / "pool.yaml"])
    pool = manifests.pools["default", "demo"]
    prices = {asked.model.name: asked.model.price for asked in models_to_ask(pool, manifests, None, None, None)}
    outcomes = list(read_outcomes(DATA / "outcomes.jsonl", prompt_ids=prompts))
    assert {(outcome.id, outcome.model) for outcome in outcomes} == {
        (prompt, model.name) for prompt in prompts for model in POOL_MODELS
    }
    for outcome in outcomes:
        prompt, price = prompts[outcome.id], prices[outcome.model]
        assert outcome.score == grade(prompt.grader or "", prompt.reference or "", outcome.answer or "")
        assert price is not None
        assert outcome.input_tokens is not None
        assert outcome.output_tokens is not None
        assert outcome.cost_usd == cost_nano(price, outcome.input_tokens, outcome.output_tokens) / 1e9


def test_the_best_answers_are_at_least_15_points_above_the_best_single_model(
    held_out: list[dict[str, Outcome]],
) -> None:
    assert len(held_out) >= 150
    oracle = sum(max(outcome.score for outcome in row.values()) for row in held_out) / len(held_out)
    singles = {name: sum(row[name].score for row in held_out) / len(held_out) for name in held_out[0]}
    assert oracle - max(singles.values()) >= 0.15


def test_three_models_are_each_the_best_choice_for_a_tenth_of_the_prompts(held_out: list[dict[str, Outcome]]) -> None:
    """The best choice is the cheapest of the models that answer best; prompts that no model answers are left out here."""
    choices = Counter(
        max(row.values(), key=lambda outcome: (outcome.score, -(outcome.cost_usd or 0.0))).model
        for row in held_out
        if any(outcome.score for outcome in row.values())
    )
    assert sum(count >= 0.1 * len(held_out) for count in choices.values()) >= 3


def test_the_router_is_above_the_best_single_model_beyond_chance() -> None:
    policy = yaml.safe_load((FOLDER / "policy.yaml").read_text())
    weight = policy["spec"]["objective"]["tradeoff"]["costWeightPercent"]
    report = foresail("evaluate", ARTIFACT, DATA)
    assert report["prompts"] >= 150
    lines = {line["name"]: line for line in report["lines"]}
    for name in ("router, cost weight 0", f"router, cost weight {weight}"):
        assert lines[name]["points_low"] > 0, lines[name]
