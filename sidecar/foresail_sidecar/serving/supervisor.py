"""Several processes that answer on one port: starts them, starts again what dies, ends them together.

Owns the workers, the scoring process that they share, and the directory that they have in common. It answers no request itself and
must not know how that is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from asyncio import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from foresail_sidecar.serving.kept import Kept
from foresail_sidecar.serving.plan import Plan
from foresail_sidecar.serving.process import not_listening
from foresail_sidecar.serving.scoring import scoring_command
from foresail_sidecar.telemetry.logs import logging_to_stderr
from foresail_sidecar.telemetry.merged import DIRECTORY_VARIABLE, forget_gauges_of

# A large artifact takes most of it.
_FIRST_START_SECONDS = 300.0
_OTHERS_START_SECONDS = 60.0
# On top of what the plan allows: open answers are told the end, the ledger and the log are written.
_END_SECONDS = 20.0
_MESSAGE_BYTES = 1 << 20
# The status of what is not usable as called.
_CANNOT_START = 2


def supervise(plan: Plan, workers: int) -> int:
    """Serve with so many workers until SIGTERM or SIGINT; return the exit status. Raise `UserError` if the address cannot be had."""
    with logging_to_stderr(), tempfile.TemporaryDirectory(prefix="foresail-") as directory, _reserved(plan) as port:
        shared = plan.model_copy(update={"port": port, "shared": Path(directory)})
        return asyncio.run(_Supervisor(shared, workers).run())


class _Supervisor:
    def __init__(self, plan: Plan, workers: int) -> None:
        assert plan.shared is not None  # noqa: S101  a plan of several workers
        self._plan = plan
        self._directory = plan.shared
        self._workers = [_Worker(number, plan, self._heard) for number in range(workers)]
        self._scorer = Kept("scorer", self._start_scorer)
        self._scorer_wanted = asyncio.Event()
        self._ending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        scoring = asyncio.create_task(self._score_when_wanted())
        try:
            if await self._started():
                await self._ending.wait()
                return 0
            return _CANNOT_START if self._workers[0].kept.status == _CANNOT_START else 1
        finally:
            await self._end_workers()
            self._scorer.end()
            self._scorer_wanted.set()
            if (await asyncio.wait([scoring], timeout=_END_SECONDS))[1]:
                self._scorer.kill()
                await scoring

    async def _started(self) -> bool:
        """Start the first worker alone, so that what cannot be served is told once; then the others. Announce them when all listen."""
        first, *others = self._workers
        keeping = self._keep(first)
        events = [asyncio.create_task(event.wait()) for event in (first.listening, self._ending)]
        await asyncio.wait([*events, keeping], timeout=_FIRST_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in events:
            task.cancel()
        if not first.listening.is_set():
            return self._ending.is_set()
        for worker in others:
            self._keep(worker)
        all_listening = asyncio.gather(*(worker.listening.wait() for worker in others))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(all_listening, _OTHERS_START_SECONDS)
        print(first.announcement, flush=True)  # noqa: T201
        return True

    def _keep(self, worker: _Worker) -> asyncio.Task[None]:
        task = asyncio.create_task(worker.kept.run(), name=worker.kept.name)
        self._tasks.append(task)
        return task

    async def _end_workers(self) -> None:
        for worker in self._workers:
            worker.kept.end()
        allowed = self._plan.delay_seconds + self._plan.drain_seconds + _END_SECONDS
        if (await asyncio.wait(self._tasks, timeout=allowed))[1]:
            for worker in self._workers:
                worker.kept.kill()
        await asyncio.gather(*self._tasks)

    def _signalled(self, number: int) -> None:
        if self._ending.is_set():
            for kept in (*(worker.kept for worker in self._workers), self._scorer):
                kept.kill()
            os._exit(128 + number)
        self._ending.set()

    def _heard(self, event: str) -> None:
        if event == "scorer wanted":
            self._scorer_wanted.set()

    async def _score_when_wanted(self) -> None:
        await self._scorer_wanted.wait()
        await self._scorer.run()

    async def _start_scorer(self) -> subprocess.Process:
        # Its standard input ends when this process does, whatever happened.
        return await subprocess.create_subprocess_exec(
            *scoring_command(self._directory), stdin=subprocess.PIPE, stdout=sys.stderr, process_group=0
        )


class _Worker:
    """One worker and what it has said. The first one is not started again if it ends before it ever listened."""

    def __init__(self, number: int, plan: Plan, heard: Callable[[str], None]) -> None:
        self.kept = Kept(f"worker {number}", self._start, self._forget)
        self.listening = asyncio.Event()
        self.announcement = ""
        self._first = number == 0
        self._slot = str(number)
        self._plan = plan
        self._heard = heard
        self._hearing: asyncio.Task[None] | None = None

    async def _start(self) -> subprocess.Process:
        ours, theirs = socket.socketpair()
        with theirs:
            # In a group of its own: an interrupt from the terminal goes to the supervisor, which tells every worker once.
            process = await subprocess.create_subprocess_exec(
                sys.executable,
                "-m",
                "foresail_sidecar.serving.worker",
                self._slot,
                stdin=theirs.fileno(),
                env=os.environ | {DIRECTORY_VARIABLE: str(self._plan.shared)},
                process_group=0,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_MESSAGE_BYTES)
        writer.write(self._plan.model_dump_json().encode() + b"\n")
        self._hearing = asyncio.create_task(self._hear(reader, writer))
        return process

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            async for line in reader:
                said = json.loads(line)
                if said["event"] == "listening":
                    self.announcement = said["text"]
                    self.listening.set()
                else:
                    self._heard(said["event"])

    def _forget(self) -> bool:
        if self._plan.shared is not None:
            forget_gauges_of(self._slot, self._plan.shared)
        return self.listening.is_set() or not self._first


@contextlib.contextmanager
def _reserved(plan: Plan) -> Iterator[int]:
    """Hold the port while the block runs, so that every worker can listen on it; yield it. Raise `UserError` if it cannot be had."""
    with contextlib.ExitStack() as stack:
        port = plan.port
        try:
            found = socket.getaddrinfo(plan.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, _, _, _, address in found:
                if port:
                    # Who shares a port is not told that another run shares it, too, and would take half of its requests.
                    _bound(family, address, port, shared=False).close()
                held = stack.enter_context(_bound(family, address, port, shared=True))
                port = int(held.getsockname()[1])
        except OSError as error:
            raise not_listening(plan, error) from None
        yield port


def _bound(family: int, address: tuple[Any, ...], port: int, *, shared: bool) -> socket.socket:
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.bind((address[0], port, *address[2:]))
    except OSError:
        held.close()
        raise
    return held
