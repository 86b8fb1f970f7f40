"""`foresail train`, `evaluate` and `predict` as a user calls them, with the real encoder."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.learning import MODELS, PRICES, make_prompts, write_data, write_trained

from foresail_api.console import main
from foresail_router.artifact.store import read_artifact

COLUMNS = [
    "id",
    "model",
    "quality",
    "quality_std",
    "output_tokens",
    "output_tokens_p05",
    "output_tokens_p50",
    "output_tokens_p90",
    "output_tokens_p95",
    "cost_usd",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), 150)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("artifacts") / "router"
    write_trained(directory, 150)
    return directory


@pytest.fixture
def foresail(tmp_path: Path, capfd: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run a command with a cache and a thread of its own; return status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        cache = [] if arguments[0] == "predict" else ["--cache-dir", str(tmp_path / "cache")]
        status = main([*map(str, arguments), *cache, "--threads", "1"])
        return status, *capfd.readouterr()

    return run


def test_train_evaluate_and_predict(foresail, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, output, progress = foresail("train", data, "-o", tmp_path / "router", "--strategy", "knn")
    assert status == 0, progress
    digest = read_artifact(tmp_path / "router").digest
    assert output.splitlines()[-2:] == [str(tmp_path / "router"), digest]
    assert "150 prompts, 3 models" in progress
    assert "encoding prompts: done" in progress
    assert "router, cost weight 0" in output

    status, output, progress = foresail("evaluate", tmp_path / "router", data)
    assert status == 0, progress
    lines = {line.split("  ")[0]: line for line in output.splitlines()}
    assert {
        "random",
        "cheapest",
        "best single",
        "router, cost weight 0",
        "router, cost weight 60",
        "oracle",
    } <= lines.keys()
    # On this data routing is worth something, and the table says so: the whole interval lies above the best single model.
    assert "+" in lines["router, cost weight 0"].split("[")[1].split(",")[0]

    prompts = tmp_path / "prompts.parquet"
    fresh = make_prompts(7, seed=77)
    pq.write_table(
        pa.table({"other": [1] * 7, "prompt": [p.prompt for p in fresh], "id": [f"x{n}" for n in range(7)]}), prompts
    )
    status, output, progress = foresail("predict", tmp_path / "router", prompts, "-o", tmp_path / "out.parquet")
    assert status == 0, progress
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == COLUMNS
    rows = table.to_pylist()
    assert [(row["id"], row["model"]) for row in rows] == [(f"x{n}", model) for n in range(7) for model in MODELS]
    for row in rows:
        assert 0 <= row["quality"] <= 1
        assert 0 < row["quality_std"] < 0.5
        assert row["output_tokens_p05"] <= row["output_tokens"] <= row["output_tokens_p95"]
        prompt = fresh[int(row["id"][1:])].prompt
        read = len(prompt) / 4 + 8
        expected = (read * PRICES[row["model"]][0] + row["output_tokens"] * PRICES[row["model"]][1]) / 1e6
        assert row["cost_usd"] == pytest.approx(expected, rel=0.25)
    best = {
        row["id"]: max((r for r in rows if r["id"] == row["id"]), key=lambda r: r["quality"])["model"] for row in rows
    }
    assert [best[f"x{n}"] for n in range(6)] == ["specialist", "generalist", "generalist"] * 2


def test_prompts_may_be_jsonl_and_prices_a_pools(foresail, artifact: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "prompts.jsonl").write_text('{"id": "a", "prompt": "Work out 7 + 8.", "note": 1}\n')
    (tmp_path / "pool.yaml").write_text("""
apiVersion: foresail.dev/v1alpha1
kind: ModelPool
metadata: {name: pool}
spec:
  models:
    - name: specialist
      upstreams: [{name: main, url: "http://127.0.0.1:1/v1", model: m}]
      price: {inputPerMillionTokens: "0", outputPerMillionTokens: "1000", perRequest: "0.5"}
      contextWindowTokens: 4096
      maxOutputTokens: 512
""")
    output = tmp_path / "out.parquet"
    status, _, progress = foresail(
        "predict", artifact, tmp_path / "prompts.jsonl", "-o", output, "--pool-file", tmp_path / "pool.yaml"
    )
    assert status == 0, progress
    assert "no price: cost_usd of generalist is null" in progress
    rows = {row["model"]: row for row in pq.read_table(output).to_pylist()}
    assert rows["generalist"]["cost_usd"] is None
    assert rows["specialist"]["cost_usd"] == pytest.approx(0.5 + rows["specialist"]["output_tokens"] / 1000)


def test_a_reproducible_training_gives_the_same_bytes_on_other_cpus(tmp_path: Path) -> None:
    """The second training uses the instructions of a CPU of 2008, and more threads."""
    import subprocess

    data = write_data(tmp_path / "data", 40)
    digests = []
    for number, environment in enumerate(
        ({}, {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"})
    ):
        options = ("--strategy", "knn", "--reproducible", "--json", "--threads", str(number + 1))
        places = ("-o", tmp_path / f"router{number}", "--cache-dir", tmp_path / f"cache{number}")
        command = [Path(sys.executable).with_name("foresail"), "train", data, *options, *places]
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=os.environ | environment,
        )
        assert done.returncode == 0, done.stderr
        digests.append(json.loads(done.stdout)["digest"])
    assert digests[0] == digests[1]
    files = [{path.name: path.read_bytes() for path in (tmp_path / f"router{number}").iterdir()} for number in range(2)]
    assert files[0] == files[1]
    assert read_artifact(tmp_path / "router0").manifest.training.reproducible


@pytest.mark.parametrize("strategy", ["fused", "task-aware", "latent-lookahead", "ridge"])
def test_a_strategy_that_cannot_promise_the_same_bytes_does_not(
    foresail, strategy: str, data: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    status, _, errors = foresail("train", data, "-o", tmp_path / "router", "--reproducible", "--strategy", strategy)
    assert status == 2
    assert f"--reproducible: what --strategy {strategy} learns differs" in errors
    assert "leave --reproducible out, or choose --strategy knn" in errors
    assert not (tmp_path / "router").exists()


def test_a_self_contained_artifact_brings_its_encoder(foresail, artifact: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_trained(tmp_path / "contained", 150, self_contained=True)
    assert {path.name for path in (tmp_path / "contained").iterdir()} == {
        "README.md",
        "encoder.onnx",
        "manifest.json",
        "router.safetensors",
        "tokenizer.json",
    }
    (tmp_path / "prompts.jsonl").write_text('{"id": "a", "prompt": "Which sight of Oslo should I visit?"}\n')
    tables = []
    for directory in (artifact, tmp_path / "contained"):
        status, _, progress = foresail("predict", directory, tmp_path / "prompts.jsonl", "-o", tmp_path / "out.parquet")
        assert status == 0, progress
        tables.append(pq.read_table(tmp_path / "out.parquet"))
    assert tables[0].equals(tables[1])


def test_evaluation_as_data_and_on_data_without_costs(foresail, artifact: Path, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, output, _ = foresail("evaluate", artifact, data, "--json")
    assert status == 0
    assert json.loads(output)["lines"][0]["name"] == "random"
    free = tmp_path / "free"
    free.mkdir()
    (free / "prompts.jsonl").write_bytes((data / "prompts.jsonl").read_bytes())
    with (data / "outcomes.jsonl").open() as lines, (free / "outcomes.jsonl").open("w") as out:
        for line in lines:
            row = json.loads(line)
            del row["cost_usd"]
            out.write(json.dumps(row) + "\n")
    status, output, _ = foresail("evaluate", artifact, free)
    assert status == 0
    assert "Costs are left out: no prompt has a cost of every model." in output


def test_mistakes_are_told_without_a_traceback(foresail, artifact: Path, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")
    (tmp_path / "bad.jsonl").write_text('{"id": 5, "prompt": "my secret"}\n')
    small = write_data(tmp_path / "small", 9)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "prompts.jsonl").write_text('{"id": "a", "prompt": "Hi"}\n')
    (foreign / "outcomes.jsonl").write_text('{"id": "a", "model": "m", "score": 1}\n')
    out = tmp_path / "out.parquet"
    for arguments, message in (
        (("train", tmp_path / "none", "-o", tmp_path / "r"), "no such directory"),
        (("train", data, "-o", tmp_path / "file"), "is a file; give a directory"),
        (("train", small, "-o", tmp_path / "r"), "at least 20 are needed"),
        (("train", data, "--source", "x", "-o", tmp_path / "r"), "has no x.parquet"),
        (("evaluate", tmp_path / "none", data), "there is no such directory; train an artifact"),
        (("evaluate", artifact, foreign), "has no outcome of 'generalist', which the artifact chooses from"),
        (("evaluate", artifact, data, "--side", "all"), "the router was trained on these very prompts"),
        (
            ("predict", artifact, tmp_path / "bad.jsonl", "-o", out),
            'line 1, column "id": is a number; expected a string',
        ),
        (("predict", artifact, tmp_path / "none.parquet", "-o", out), "no such file"),
        (("predict", artifact, data / "prompts.jsonl", "-o", tmp_path / "out.csv"), "name it .parquet"),
        (
            ("predict", artifact, data / "prompts.jsonl", "-o", out, "--pool-file", data / "prompts.jsonl"),
            "line 2 is not YAML",
        ),
    ):
        status, output, errors = foresail(*arguments)
        assert status == 2, arguments
        assert message in errors
        assert "secret" not in errors
        assert "Traceback" not in errors + output
    assert not out.exists()
    assert not (tmp_path / "r").exists()


def test_the_scoring_path_imports_no_tools_of_training(artifact: Path, tmp_path: Path) -> None:
    """A sidecar that scores with a self-contained artifact loads neither torch nor pyarrow nor onnx."""
    import subprocess

    write_trained(tmp_path / "contained", 60, self_contained=True)
    program = """
import asyncio, sys
from pathlib import Path
from foresail_router.engine.interface import ScoreRequest
from foresail_router.engine.local import EngineSettings, LocalScorer
async def main():
    scorer = LocalScorer(EngineSettings(threads=1))
    digest = await scorer.load(Path(sys.argv[1]))
    await scorer.score(ScoreRequest(digest, ("Hello",), ("guesser",), 30.0))
    await scorer.close()
asyncio.run(main())
heavy = {"torch", "transformers", "pyarrow", "pandas", "tqdm", "aiohttp", "kopf", "onnx", "onnxruntime.quantization"}
print(sorted(heavy & sys.modules.keys()))
"""
    for directory, expected in ((tmp_path / "contained", "[]"), (artifact, "['onnx']")):
        ran = subprocess.run(
            [sys.executable, "-c", program, str(directory)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env=dict(os.environ),
        )
        assert ran.stdout.strip() == expected
