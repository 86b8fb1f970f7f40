"""The demo as a stranger runs it: real models, the example files served, what it prints, and that it leaves nothing behind."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.demo.ports import BASE_PORT
from examples.demo.processes import FOLDER
from examples.demo.wrapping import POOL_MODELS
from tests.support.processes import is_taken, running, wait_until

ROOT = FOLDER.parents[1]
DEMO = [sys.executable, "-m", "examples.demo.run"]
PORTS = range(BASE_PORT, BASE_PORT + len(POOL_MODELS))


@pytest.fixture(autouse=True)
def _ports_are_free() -> Iterator[None]:
    """The example pool has fixed ports; another run of the demo on this machine has them for half a minute."""
    wait_until(lambda: not any(map(is_taken, PORTS)), "free ports", seconds=100)
    yield
    assert not any(map(is_taken, PORTS))


@pytest.mark.timeout(300)
def test_the_demo_shows_decisions_real_answers_totals_and_refusals() -> None:
    done = subprocess.run([*DEMO, "--seed", "5"], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    out = done.stdout
    assert max(map(len, out.splitlines())) <= 120
    assert "two sets of weights" in out
    assert "prices are invented" in out
    assert len(re.findall(r"^\d\. \[", out, re.MULTILINE)) == 8
    for model in POOL_MODELS:
        foreseen = rf"^   [> ] {model.name} +foreseen quality [01]\.\d\d \+- \d\.\d\d, foreseen cost \$0\.\d{{7}}$"
        assert len(re.findall(foreseen, out, re.MULTILINE)) == 8
    assert len(re.findall(r"^   > ", out, re.MULTILINE)) == 8
    answers = re.findall(r"^   (auto|best single), (\S+) .* (right|wrong)  \$(0\.\d{7})$", out, re.MULTILINE)
    assert len(answers) == 16
    assert all(float(cost) > 0 for *_, cost in answers)
    chosen = re.findall(r"^   > (\S+)", out, re.MULTILINE)
    assert [model for who, model, *_ in answers if who == "auto"] == chosen
    right = sum(grade == "right" for who, _, grade, _ in answers if who == "auto")
    assert f"{right} of 8 right" in out
    for refusal in ("NotFoundError, status 404", "status 413", "BadRequestError, status 400", "cap of 0.00025 USD"):
        assert refusal in out
    assert re.search(r"^Done in \d+\.\d s; everything that was started has ended\.$", out, re.MULTILINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.timeout(300)
def test_the_demo_ends_what_it_started_when_it_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "demo.log"
    with running(DEMO, log, folder=ROOT, grace_seconds=20) as process:
        wait_until(lambda: "\n1. [" in log.read_text(), "the first prompt", seconds=90, process=process, log=log)
        assert all(map(is_taken, PORTS))
        process.send_signal(number)
        assert process.wait(timeout=30) == 130
    assert log.read_text().endswith("stopped; everything that was started has ended\n")
    assert "Traceback" not in log.read_text()


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", BASE_PORT))
        taken.listen()
        done = subprocess.run(DEMO, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"demo: port {BASE_PORT} of 127.0.0.1 is taken" in done.stderr
