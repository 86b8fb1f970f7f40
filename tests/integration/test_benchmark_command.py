"""`foresail benchmark` and `foresail evaluate -o` as a user calls them, with the real encoder; ended in the middle and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.learning import write_data, write_trained

from foresail_api.console import main

DEADLINE = 100.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), 150)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def arguments(data: Path, cache: Path, output: Path, *more: str) -> list[str]:
    common = ["--cache-dir", str(cache), "--threads", "1", "--processes", "1", "--folds", "3"]
    return ["benchmark", str(data), "-o", str(output), *common, *more]


def test_a_benchmark_prints_and_writes_its_report(
    data: Path, cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    variants = tmp_path / "variants.json"
    variants.write_text(json.dumps({"plain mean": {"strategy": "best-single", "settings": {}}}))
    chosen = ["--strategies", "knn", "best-single", "--variants", str(variants), "--focus", "knn"]
    status = main(arguments(data, cache, tmp_path / "out", *chosen))
    output, progress = capfd.readouterr()
    assert status == 0, progress
    assert "default: 150 prompts, 3 models, best single generalist" in output
    assert "[met] peak memory" in output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (pool,) = report["pools"]
    knn, best, mean = pool["variants"]
    assert knn["figures"]["gain"]["low"] > 0
    assert best["figures"]["gain"]["value"] == mean["figures"]["gain"]["value"] == 0
    assert knn["figures"]["match_cost_ratio"]["value"] < 0.9
    assert knn["figures"]["latency_p50_ms"]["value"] > 0
    assert pool["comparisons"][0]["p_holm"] < 0.05
    assert report["run"]["cells"] == len([*(tmp_path / "out" / "cells").rglob("*.safetensors")])
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    # Neither prompts nor anything else is left behind but cells and reports.
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "cells", "report.json", "report.csv", "report.txt", "report.html",
    }  # fmt: skip


def test_a_run_that_was_killed_goes_on_where_it_was(data: Path, cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-c", "from foresail_api.console import main; raise SystemExit(main())"]
    call = [*command, *arguments(data, cache, output, "--strategies", "knn", "ridge")]
    process = subprocess.Popen(call, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        until = time.monotonic() + DEADLINE
        while not (done := [*output.glob("cells/*/*/[!.]*.safetensors")]):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        # The parent alone: its workers must find out for themselves.
        process.kill()
        process.wait(10)
    _wait_until_alone(process.pid)
    before = {path: path.stat().st_mtime_ns for path in [*output.glob("cells/*/*/[!.]*.safetensors")]}
    assert set(done) <= set(before)
    again = subprocess.run(call, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert again.returncode == 0, again.stderr
    assert f"({len(before)} found done)" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not [*output.glob(".pools-*")]


def test_evaluate_writes_its_report_too(
    data: Path, cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_trained(tmp_path / "router", 150)
    call = ["evaluate", str(tmp_path / "router"), str(data), "--cache-dir", str(cache), "--threads", "1"]
    assert main([*call, "-o", str(tmp_path / "report")]) == 0
    assert "ECE: " in capfd.readouterr().out
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    figures = report["pool"]["variants"][0]["figures"]
    assert {"ece", "brier_gain", "chosen_error", "coverage", "pinball_gain"} <= figures.keys()
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "router,ece," in (tmp_path / "report" / "report.csv").read_text()
    card = (tmp_path / "router" / "README.md").read_text()
    assert "calibration error of quality (ECE" in card
    assert "fingerprint `sha256:" in card


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--strategies", "nope"], "--strategies: unknown strategy 'nope'; choose among knn"),
        (["--strategies", "knn", "--focus", "ridge"], "--focus ridge: is not run; choose one of: knn"),
        (["--pools", "nope:default", "--strategies", "knn"], "--source nope:"),
        (["--strategies", "knn", "--folds-by", "task", "--folds", "20"], "--pools default: fold 0 of 20 is empty"),
        (["--variants", "missing.json"], "missing.json: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_run_is_named(
    data: Path, cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(arguments(data, cache, tmp_path / "out", *more)) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"strategy": "mlp", "settings": {"epoch": 2}}, "variant 'short': unknown setting 'epoch'; mlp knows: decay, "),
        ({"strategy": "mlp", "against": "mlp"}, "variant 'short' is to be compared with 'mlp', which is not run; name one of: short"),
    ],
)  # fmt: skip
def test_a_variant_that_says_nothing_known_is_named(
    data: Path, cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], entry: dict[str, object], message: str
) -> None:
    (tmp_path / "ablation.json").write_text(json.dumps({"short": entry}))
    call = arguments(data, cache, tmp_path / "out", "--variants", str(tmp_path / "ablation.json"))
    assert main(call) == 2
    assert f"{tmp_path / 'ablation.json'}: {message}" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_report_shows_answers_counterparts_and_what_the_run_took(
    data: Path, cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    variants = {
        "with": {"strategy": "latent-lookahead", "settings": {"epochs": 1}},
        "without": {"strategy": "latent-lookahead", "settings": {"epochs": 1, "response": False}, "against": "with"},
    }
    (tmp_path / "ablation.json").write_text(json.dumps(variants))
    call = arguments(data, cache, tmp_path / "out", "--variants", str(tmp_path / "ablation.json"))
    assert main(call) == 0
    assert "without minus with: " in capfd.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (pool,) = report["pools"]
    assert [(pair["focus"], pair["other"]) for pair in pool["pairs"]] == [("without", "with")]
    assert (pool["answered_models"], pool["answered_outcomes"]) == (1, 1)
    run = report["run"]
    assert run["memory_watched"]
    assert run["peak_total_mib"] > 10
    assert run["peak_process_mib"] > 10
    assert run["cpu_seconds"] > 1
    lines = (tmp_path / "out" / "report.csv").read_text().splitlines()
    assert "default,,pool,answered_outcomes,1.0,," in lines
    assert any(line.startswith("default,without - with,pair,points,") for line in lines)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "answers recorded of 100% of the models" in page
    assert "without minus with" in page


def _wait_until_alone(session: int) -> None:
    until = time.monotonic() + 20
    while _members(session):
        if time.monotonic() > until:
            os.killpg(session, signal.SIGKILL)
            pytest.fail("a worker outlived its parent")
        time.sleep(0.05)


def _members(session: int) -> list[str]:
    listed = subprocess.run(
        ["ps", "-o", "stat=", "--sid", str(session)], capture_output=True, text=True, timeout=10, check=False
    )
    return [line for line in listed.stdout.splitlines() if line.strip() and not line.startswith("Z")]
