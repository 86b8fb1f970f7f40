"""The processes of the proof: replicas of `foresail serve`, upstreams and Redis, each at an address that outlives it.

Owns how they are started, killed, ended and started again, and what memory they use. It must not know when that happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Final

from tests.proof.setting import Setting, write_manifests
from tests.proof.wire import Broken, Connection
from tests.support.processes import children_of, free_port, running
from tests.support.redis_server import RedisServer
from tests.support.serving import FORESAIL

# With `everysec`, what Redis acknowledges while a sync is under way is not even written for up to 2 s: killed then, it forgets attempts, and
# only the sums come back from those who saw them.
_DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always")
_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 15.0
_WORKER: Final = "foresail_sidecar.serving.worker"
_ROOT: Final = Path(__file__).resolve().parents[2]


class Child:
    """A process that can be killed and started again with the same command."""

    def __init__(self, name: str, command: Sequence[str], log: Path, port: int) -> None:
        self.name = name
        self.port = port
        self.process: Popen[bytes] | None = None
        self.started = 0.0
        self._command = command
        self._log = log
        self._stack = ExitStack()

    def start(self) -> None:
        """Start it, without waiting until it answers."""
        environment = os.environ | {"NO_PROXY": "*", "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
        self._stack = ExitStack()
        self.process = self._stack.enter_context(
            running(self._command, self._log, environment=environment, folder=_ROOT, grace_seconds=_END_SECONDS)
        )
        self.started = time.time()

    def kill(self) -> None:
        """End it with all its workers, as a fall of its machine does."""
        if self.process is not None:
            for pid in self.workers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait(timeout=_END_SECONDS)
        self.end()

    def end(self) -> None:
        """End it in order."""
        self.process = None
        self._stack.close()

    def workers(self) -> list[int]:
        """Return the ids of its workers."""
        return [] if self.process is None else children_of(self.process.pid, _WORKER)

    def processes(self) -> list[int]:
        """Return the ids of the process and its workers."""
        return [] if self.process is None else [self.process.pid, *self.workers()]


@dataclass
class Stand:
    """Everything that runs in one part of the proof. `redis` is None where the ledger is a file."""

    folder: Path
    setting: Setting
    upstreams: Sequence[Child]
    replicas: Sequence[Child]
    redis: RedisServer | None
    journals: Sequence[Path] = field(default_factory=tuple)

    @property
    def ports(self) -> list[int]:
        """The ports of the replicas."""
        return [replica.port for replica in self.replicas]

    @property
    def decision_logs(self) -> list[Path]:
        """The decision logs of the replicas."""
        return [self.folder / replica.name / "decisions.jsonl" for replica in self.replicas]

    @property
    def ledger_directory(self) -> Path:
        """Where a ledger that is a file lies."""
        return self.folder / self.replicas[0].name / "state"


@contextlib.asynccontextmanager
async def standing(
    folder: Path, setting: Setting, *, replicas: int, workers: int, shared: bool, delay_milliseconds: float = 50
) -> AsyncIterator[Stand]:
    """Run everything until the block ends; replicas are ready when it begins. `shared`: the ledger is a Redis."""
    folder.mkdir(parents=True)  # noqa: ASYNC240  a local directory
    redis = RedisServer(folder / "redis", _DURABLE) if shared else None
    upstreams, journals = [], []
    for each in setting.upstreams:
        journal, port = folder / f"{each.name}.journal", free_port()
        price = [str(part) for part in (each.price.input, each.price.cached, each.price.output)]
        command = [sys.executable, "-m", "tests.proof.upstream", "--port", str(port), "--journal", str(journal)]
        command += ["--price", *price, "--delay-milliseconds", str(delay_milliseconds)]
        upstreams.append(Child(each.name, command, folder / f"{each.name}.log", port))
        journals.append(journal)
    manifests = folder / "all.yaml"
    ports = {child.name: child.port for child in upstreams}
    write_manifests(manifests, setting, ports, None if redis is None else redis.port)
    serving = [_replica(folder, f"replica-{number}", manifests, workers) for number in range(replicas)]
    stand = Stand(folder, setting, upstreams, serving, redis, journals)
    try:
        if redis is not None:
            await asyncio.to_thread(redis.start)
        for child in (*upstreams, *serving):
            await asyncio.to_thread(child.start)
        await asyncio.gather(*(ready(child) for child in serving))
        yield stand
    finally:
        for child in (*serving, *upstreams):
            await asyncio.to_thread(child.end)
        if redis is not None:
            await asyncio.to_thread(redis.stop)


async def ready(replica: Child) -> None:
    """Wait until a replica says that it is ready and its ledger is available."""
    deadline = time.monotonic() + _START_SECONDS
    connection = Connection()
    while True:
        with contextlib.suppress(Broken):
            await connection.connect(replica.port)
            answer = await connection.ask("/readyz", seconds=2.0)
            if answer is not None and answer.status == 200 and b'"Available"' in answer.body:
                connection.close()
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{replica.name} was not ready within {_START_SECONDS:g} s")
        await asyncio.sleep(0.1)


def resident_kibibytes(pid: int) -> int:
    """Return the resident memory of a process; 0 if it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def _replica(folder: Path, name: str, manifests: Path, workers: int) -> Child:
    own, port = folder / name, free_port()
    own.mkdir()
    command = [FORESAIL, "serve", "-f", str(manifests), "--port", str(port), "--workers", str(workers)]
    command += ["--state", str(own / "state"), "--decision-log", str(own / "decisions.jsonl"), "--drain-seconds", "5"]
    return Child(name, command, own / "serve.log", port)
