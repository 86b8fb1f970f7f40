"""One run of `foresail serve`, from the first look at its files to the last answer.

Owns the event loop, signals and the order of starting and ending. It must not know flags.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import importlib.metadata
import os
import signal
from collections.abc import Callable, Iterator

import uvloop
from aiohttp import web

from foresail_api.errors import UserError
from foresail_sidecar.configuration.artifacts import Routers
from foresail_sidecar.configuration.reload import Reloader
from foresail_sidecar.configuration.routers import EngineRouters
from foresail_sidecar.configuration.state import ServingHolder
from foresail_sidecar.fronts.http.application import create_application
from foresail_sidecar.fronts.http.context import CONTEXT
from foresail_sidecar.fronts.http.server import drain, listening
from foresail_sidecar.serving.announcement import announcement
from foresail_sidecar.serving.keeping import Keeper
from foresail_sidecar.serving.ledgers import Ledgers
from foresail_sidecar.serving.plan import Plan
from foresail_sidecar.serving.trimming import Trimmer, trim_heap
from foresail_sidecar.telemetry.decision_log import STDOUT, DecisionLog
from foresail_sidecar.telemetry.logs import logging_to_stderr
from foresail_sidecar.telemetry.metrics import Metrics

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_READINGS_SECONDS = 1.0
_OBJECTS_BEFORE_COLLECTION = 10_000


def serve(plan: Plan) -> int:
    """Serve until SIGTERM or SIGINT, then let requests under way end. Raise `UserError` if it cannot start."""
    with logging_to_stderr(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(plan, EngineRouters(plan.scorer_socket), announce=_print, ending=asyncio.Event()))
    return 0


async def run(plan: Plan, routers: Routers, *, announce: Callable[[str], None], ending: asyncio.Event) -> None:
    """Serve until a signal, or whoever else has it, sets `ending`. `announce` is told the announcement once requests are answered."""
    holder = ServingHolder()
    metrics = Metrics(shared=plan.shared)
    ledgers = Ledgers(plan.state, metrics)
    reloader = Reloader(holder, plan.inputs(routers), prepare=ledgers.prepare)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(ledgers.aclose)
        stack.push_async_callback(reloader.close)
        stack.callback(ending.set)
        state = await reloader.start()
        decision_log = _opened_log(plan)
        stack.push_async_callback(asyncio.to_thread, decision_log.close)
        application = create_application(
            holder, settings=plan.settings, metrics=metrics, decision_log=decision_log, ledgers=ledgers
        )
        keeper = Keeper(holder, ledgers, application[CONTEXT].memory)
        await keeper.start()
        stack.push_async_callback(keeper.end)
        shared = plan.shared is not None
        try:
            port = await stack.enter_async_context(listening(application, plan.host, plan.port, shared=shared))
        except OSError as error:
            raise not_listening(plan, error) from None
        stack.enter_context(_ended_by_signals(ending))
        announce(announcement(importlib.metadata.version("foresail"), state, plan.host, port, reloader.warnings))
        # What was made until now stays for good. Looking through it again in every full collection held up requests for 25 ms.
        gc.collect()
        gc.freeze()
        # Reading modules and manifests leaves up to 16 MB free.
        trim_heap()
        # What a request makes is gone with it, almost all without this search; at the usual 700 it took a twentieth of the CPU.
        gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
        trimmer = Trimmer(application[CONTEXT].buffered, trim_heap)
        for task in [
            *(reloader.run(), keeper.run(), trimmer.run()),
            *([_show_readings(application)] if shared else []),
        ]:
            stack.callback(asyncio.create_task(task).cancel)
        await ending.wait()
        holder.draining = True
        await asyncio.sleep(plan.delay_seconds)
        await drain(application, plan.drain_seconds)


async def _show_readings(application: web.Application) -> None:
    """Keep what another worker shows of this one up to date."""
    while True:
        application[CONTEXT].take_readings()
        await asyncio.sleep(_READINGS_SECONDS)


@contextlib.contextmanager
def _ended_by_signals(ending: asyncio.Event) -> Iterator[None]:
    """Have the first signal set `ending`; the second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def received(number: int) -> None:
        if ending.is_set():
            os._exit(128 + number)
        ending.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, received, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _opened_log(plan: Plan) -> DecisionLog:
    path = plan.decision_log
    lock = None if plan.shared is None or path != STDOUT else plan.shared / "decision-log.lock"
    try:
        return DecisionLog(path, lock=lock)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write the decision log {path}: {reason}; choose another --decision-log") from None


def not_listening(plan: Plan, error: OSError) -> UserError:
    """Return what to tell of an address that cannot be had."""
    where = f"{plan.host}:{plan.port}"
    if error.errno == errno.EADDRINUSE:
        return UserError(f"cannot listen on {where}: another process does; end it, or choose another port with --port")
    return UserError(f"cannot listen on {where}: {error.strerror or error}; choose another --host or --port")
