"""Starts the demo's two processes, the models and `foresail serve`, waits until they answer, and ends them whatever happens.

It must not know prompts or answers.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from examples.demo.ports import BASE_PORT, READY
from examples.demo.wrapping import POOL_MODELS

FOLDER: Final = Path(__file__).resolve().parent
_ROOT: Final = FOLDER.parents[1]
_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 10.0


class CannotStart(Exception):
    """A process that did not come up; the text says what to do."""


@contextlib.contextmanager
def models() -> Iterator[None]:
    """Serve the pool models on their fixed ports for the time of the block."""
    for offset in range(len(POOL_MODELS)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", BASE_PORT + offset)) == 0:
                raise CannotStart(
                    f"port {BASE_PORT + offset} of 127.0.0.1 is taken; end what listens there, perhaps an earlier demo"
                )
    with _running([sys.executable, "-m", "examples.demo.models"], re.escape(READY)):
        yield


@contextlib.contextmanager
def policy() -> Iterator[str]:
    """Serve the example pool and policy on a free port for the time of the block; yields the base URL for clients."""
    command = [
        str(Path(sys.executable).with_name("foresail")), "serve", "--port", "0", "-f", str(FOLDER / "pool.yaml"),
        str(FOLDER / "policy.yaml"), "--volume-claim", f"foresail-demo={FOLDER}",
    ]  # fmt: skip
    with _running(command, r"^  URL +(http\S+)$") as found:
        yield found[1]


@contextlib.contextmanager
def _running(command: list[str], ready: str) -> Iterator[re.Match[str]]:
    """Run a command until the block ends; yields the match of `ready` in its output.

    The output is opened for appending, because parent and child share the place in it at which they read and write.
    """
    with tempfile.TemporaryFile("a+", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield _wait(process, command, output, re.compile(ready, re.MULTILINE))
        finally:
            _end(process)


def _wait(
    process: subprocess.Popen[bytes], command: list[str], output: IO[str], ready: re.Pattern[str]
) -> re.Match[str]:
    deadline = time.monotonic() + _START_SECONDS
    name = " ".join(command[1:3])
    while True:
        output.seek(0)
        written = output.read()
        found = ready.search(written)
        if found:
            return found
        if process.poll() is not None:
            raise CannotStart(f"{name} ended with status {process.returncode}:\n{written[-2000:]}")
        if time.monotonic() > deadline:
            raise CannotStart(f"{name} was not ready within {_START_SECONDS:.0f} s:\n{written[-2000:]}")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
