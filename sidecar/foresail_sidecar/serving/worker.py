"""One of several processes that answer: `python -m foresail_sidecar.serving.worker SLOT`, started by the supervisor alone.

Owns the conversation with the supervisor on standard input, which is a socket: a plan comes in, what the supervisor has to know goes
out, and its end means that the supervisor is gone. It must not know how other workers fare.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvloop

from foresail_api.errors import UserError
from foresail_sidecar.configuration.artifacts import LoadedRouter, Routers
from foresail_sidecar.configuration.routers import EngineRouters
from foresail_sidecar.serving.plan import Plan
from foresail_sidecar.serving.process import run
from foresail_sidecar.serving.scoring import SHARED_SOCKET
from foresail_sidecar.telemetry.logs import logging_to_stderr
from foresail_sidecar.telemetry.merged import keep_in_files_as

PLAN_BYTES = 1 << 20

_SCORER_SECONDS = 30.0
_SCORER_LOOK_SECONDS = 0.1
# Within this time, every worker has seen a change of the files that one of them has seen.
_OTHERS_FOLLOW_SECONDS = 10.0


def main() -> int:
    """Serve until told to end; return the exit status: 0 after a signal, 2 when it cannot start."""
    keep_in_files_as(sys.argv[1])
    try:
        with logging_to_stderr(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_work())
    except UserError as error:
        print(f"foresail serve: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


async def _work() -> None:
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=0), limit=PLAN_BYTES)
    plan = Plan.model_validate_json(await reader.readline())
    ending = asyncio.Event()

    def tell(event: str, text: str = "") -> None:
        writer.write(json.dumps({"event": event, "text": text}).encode() + b"\n")

    orphaned = asyncio.create_task(_ended_with_supervisor(reader, ending))
    try:
        await run(plan, _routers(plan, tell, ending), announce=partial(tell, "listening"), ending=ending)
    finally:
        orphaned.cancel()


async def _ended_with_supervisor(reader: asyncio.StreamReader, ending: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()
    ending.set()


def _routers(plan: Plan, tell: Callable[[str], None], ending: asyncio.Event) -> Routers:
    if plan.scorer_socket is not None or plan.shared is None:
        return EngineRouters(plan.scorer_socket)
    return _SharedRouters(plan.shared / SHARED_SOCKET, partial(tell, "scorer wanted"), ending)


class _SharedRouters:
    """Loads artifacts into the scoring process that all workers share, and that is there once one of them has wanted it."""

    def __init__(self, path: Path, want: Callable[[], None], ending: asyncio.Event) -> None:
        self._routers = EngineRouters(path)
        self._want = want
        self._ending = ending

    async def load(self, directory: Path, digest: str) -> LoadedRouter:
        self._want()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SCORER_SECONDS):
                while not await self._routers.available():  # noqa: ASYNC110  it happens in another process
                    await asyncio.sleep(_SCORER_LOOK_SECONDS)
        loaded = await self._routers.load(directory, digest)
        return replace(loaded, close=partial(self._retire, loaded.close))

    async def available(self) -> bool:
        return await self._routers.available()

    async def close(self) -> None:
        await self._routers.close()

    async def _retire(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have the artifact unloaded when no other worker can be using it any more; not at all when this worker ends."""
        try:
            async with asyncio.timeout(_OTHERS_FOLLOW_SECONDS):
                await self._ending.wait()
        except TimeoutError:
            await close()


if __name__ == "__main__":
    sys.exit(main())
