"""`foresail lookahead` on tiny backbones: train, go on, test, predict, compare, and two processes under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tests.support.tiny_backbones import make_material, save_backbone, tiny_recipe

from foresail_api.console import main
from foresail_router.data.records import Outcome, write_outcomes, write_prompts

DEADLINE_SECONDS = 200


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    outcomes, answers = make_material(100)
    write_prompts(directory / "prompts.jsonl", outcomes.prompts)
    records = [
        Outcome(
            prompt.id, model, float(outcomes.score[row, column]), 5, 5, 0.1, answers.texts[answers.index[row, column]]
        )
        for row, prompt in enumerate(outcomes.prompts)
        for column, model in enumerate(outcomes.models)
    ]
    write_outcomes(directory / "outcomes.jsonl", records)
    return directory


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with tiny recipes and an experiment that compares them."""
    directory = tmp_path_factory.mktemp("recipes")
    for variant, kind in (("causal", "llama"), ("masked", "bert")):
        recipe = tiny_recipe(save_backbone(directory / kind, kind), variant, batch=16)
        if variant == "causal":
            recipe = recipe.model_copy(update={"frozen_layers": 1})
        (directory / f"{variant}.json").write_text(recipe.model_dump_json())
    experiment = {
        "recipes": {"causal": "causal.json", "masked": "masked.json"},
        "learning_rates": {"causal": [5e-3, 1e-3], "masked": [5e-3]},
        "seeds": [0, 1],
        "without": {"response_weight": 0.0, "curriculum": {"kind": "none"}},
    }
    (directory / "experiment.json").write_text(json.dumps(experiment))
    return directory


def test_a_model_is_trained_tested_and_applied(
    data: Path, recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = ["--states-dir", str(tmp_path / "states"), "--threads", "1"]
    model = tmp_path / "model"
    command = ["lookahead", "train", str(recipes / "causal.json"), str(data), "-o", str(model), "--test-fold", "0"]
    assert main([*command, *states]) == 0
    said = capsys.readouterr().out
    assert "validation" in said
    assert "fold 0: score" in said
    assert sorted(path.suffix for path in model.iterdir()) == [".json"] * 3 + [".safetensors"] * 2
    assert main([*command, *states, "--seed", "1"]) == 2
    assert "another recipe" in capsys.readouterr().err
    output = tmp_path / "quality.parquet"
    assert main(["lookahead", "predict", str(model), str(data / "prompts.jsonl"), "-o", str(output), *states]) == 0
    table = pq.read_table(output)
    assert table.column_names == ["id", "model", "quality", "logit"]
    assert table.num_rows == 300
    assert 0 <= min(table["quality"].to_pylist()) <= max(table["quality"].to_pylist()) <= 1


def test_an_experiment_compares_arms_and_skips_what_is_done(
    data: Path, recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "experiment"
    command = ["lookahead", "experiment", str(recipes / "experiment.json"), str(data), "-o", str(output)]
    command += ["--states-dir", str(tmp_path / "states"), "--threads", "1"]
    assert main(command) == 0
    results = json.loads((output / "results.json").read_text())
    assert len(results["runs"]) == 2 * 2 + 2 + 2 * 2
    for variant in ("causal", "masked"):
        found = results["comparisons"][variant]
        assert found["seeds"] == [0, 1]
        assert found["interval_points"][0] <= found["with_minus_without_points"] <= found["interval_points"][1]
        difference = found["score_points"]["with"] - found["score_points"]["without"]
        assert difference == pytest.approx(found["with_minus_without_points"])
    for run in results["runs"]:
        assert run["steps"] == 2 * -(-run["prompts"]["training"] // 16)
    pairs = {(run["variant"], run["trained_parameters"]) for run in results["runs"]}
    assert len(pairs) == 2
    before = {path: path.stat().st_mtime_ns for path in output.glob("*/training.json")}
    capsys.readouterr()
    assert main(command) == 0
    assert "step" not in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in output.glob("*/training.json")} == before
    assert json.loads((output / "results.json").read_text()) == results


def test_results_hold_no_text_of_the_data(data: Path, recipes: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    command = ["lookahead", "train", str(recipes / "masked.json"), str(data), "-o", str(model), "--test-fold", "1"]
    assert main([*command, "--states-dir", str(tmp_path), "--threads", "1"]) == 0
    written = b"".join(path.read_bytes() for path in model.iterdir())
    assert b"yes yes" not in written
    assert b"odd" not in written.replace(b"odder", b"")


# Three interpreters that load torch: a busy machine takes a while.
@pytest.mark.timeout(DEADLINE_SECONDS + 40)
def test_two_processes_learn_what_one_learns(data: Path, recipes: Path, tmp_path: Path) -> None:
    train = ["lookahead", "train", str(recipes / "masked.json"), str(data), "--threads", "1"]
    train += ["--states-dir", str(tmp_path / "states")]
    assert main([*train, "-o", str(tmp_path / "one")]) == 0
    foresail = Path(sysconfig.get_path("scripts")) / "foresail"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(foresail)]
    done = subprocess.run(
        [*torchrun, *train, "-o", str(tmp_path / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=2e-4, rtol=1e-3, msg=name)
    evaluations = [
        json.loads((tmp_path / name / "training.json").read_text())["evaluations"] for name in ("one", "two")
    ]
    for first, second in zip(*evaluations, strict=True):
        np.testing.assert_allclose(list(first.values()), list(second.values()), rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["train", "{recipes}/nothing.yaml", "{data}", "-o", "{out}"], "cannot be read"),
        (["predict", "{out}", "{data}/prompts.jsonl", "-o", "{out}.parquet"], "model.json: is missing or damaged"),
        (["predict", "{out}", "{data}/prompts.jsonl", "-o", "{out}.csv"], "name it .parquet"),
    ],
)
def test_a_fault_is_named_without_a_traceback(
    data: Path, recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], fault: str
) -> None:
    filled = [part.format(recipes=recipes, data=data, out=tmp_path / "out") for part in arguments]
    assert main(["lookahead", *filled]) == 2
    assert fault in capsys.readouterr().err
