"""The README's two replicas on one Redis: its commands as they stand, and what it says that they print."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.processes import is_taken, wait_until

ROOT = Path(__file__).resolve().parents[2]
HEADING = "## Several replicas, one budget\n"
PORTS = range(18121, 18125)
MARK = "-- next --"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def commands_and_outputs() -> list[tuple[str, str]]:
    """The commands of the section, and what each prints; the installation is that of the tests."""
    section = (ROOT / "README.md").read_text().partition(HEADING)[2].partition("\n## ")[0]
    blocks = "".join(re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    steps = re.findall(r"^\$ ((?:.*\\\n)*.*\n)((?:(?!\$ ).*\n)*)", blocks, re.MULTILINE)
    assert steps[0][0].startswith("pip install ")
    return steps[1:]


@pytest.fixture(autouse=True)
def _ports_are_free() -> Iterator[None]:
    """The example has fixed ports."""
    wait_until(lambda: not any(map(is_taken, PORTS)), "free ports", seconds=100)
    yield
    wait_until(lambda: not any(map(is_taken, PORTS)), "free ports", seconds=60)


@pytest.mark.timeout(300)
def test_the_commands_do_what_the_readme_says() -> None:
    steps = commands_and_outputs()
    script = "".join(f"{command}echo '{MARK}'\n" for command, _ in steps)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_PROXY": "*"}
    with subprocess.Popen(
        ["bash", "-c", script + "wait\n"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=200)
        finally:
            # What the commands left in the background, too, if they were cut short.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    outputs = printed.split(f"{MARK}\n")
    assert len(outputs) == len(steps) + 1
    for (command, expected), output in zip(steps, outputs, strict=False):
        assert MOMENT.sub("MOMENT", output).rstrip() == MOMENT.sub("MOMENT", expected).rstrip(), command
