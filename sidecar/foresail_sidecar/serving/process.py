"""One run of `foresail serve`, from the first look at its files to the last answer.

Owns the event loop, signals and the order of starting and ending. It must not know flags.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.metadata
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

from foresail_api.errors import UserError
from foresail_sidecar.configuration.reload import Inputs, Reloader
from foresail_sidecar.configuration.state import ServingHolder
from foresail_sidecar.fronts.http.application import create_application
from foresail_sidecar.fronts.http.server import drain, listening
from foresail_sidecar.fronts.http.settings import HttpSettings
from foresail_sidecar.serving.announcement import announcement
from foresail_sidecar.serving.ledgers import Ledgers
from foresail_sidecar.telemetry.decision_log import DecisionLog
from foresail_sidecar.telemetry.logs import logging_to_stderr
from foresail_sidecar.telemetry.metrics import Metrics

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve. `delay_seconds` passes between the signal to end and the refusal of new connections, so that load balancers notice;
    `drain_seconds` is the longest wait for requests under way after that. Requests leave their lines in `decision_log`, or on stdout.
    `state` is where embedded ledgers lie, None for a directory of the user's own.
    """

    host: str
    port: int
    settings: HttpSettings
    delay_seconds: float
    drain_seconds: float
    decision_log: Path
    state: Path | None


def serve(inputs: Inputs, options: Options) -> int:
    """Serve until SIGTERM or SIGINT, then let requests under way end. Raise `UserError` if it cannot start."""
    with logging_to_stderr(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(inputs, options))
    return 0


async def _serve(inputs: Inputs, options: Options) -> None:
    holder = ServingHolder()
    metrics = Metrics()
    ledgers = Ledgers(options.state, metrics)
    reloader = Reloader(holder, inputs, prepare=ledgers.prepare)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(ledgers.aclose)
        stack.push_async_callback(reloader.close)
        state = await reloader.start()
        decision_log = _opened_log(options.decision_log)
        stack.push_async_callback(asyncio.to_thread, decision_log.close)
        application = create_application(
            holder, settings=options.settings, metrics=metrics, decision_log=decision_log, ledgers=ledgers
        )
        try:
            port = await stack.enter_async_context(listening(application, options.host, options.port))
        except OSError as error:
            raise UserError(_not_listening(options, error)) from None
        ending = stack.enter_context(_ending_on_signals())
        version = importlib.metadata.version("foresail")
        print(announcement(version, state, options.host, port, reloader.warnings), flush=True)  # noqa: T201
        # What was made until now stays for good. Looking through it again in every full collection held up requests for 25 ms.
        gc.collect()
        gc.freeze()
        watching = asyncio.create_task(reloader.run(), name="follow-configuration")
        stack.callback(watching.cancel)
        await ending.wait()
        holder.draining = True
        await asyncio.sleep(options.delay_seconds)
        await drain(application, options.drain_seconds)


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[asyncio.Event]:
    """Yield an event that the first signal sets; the second one ends the process at once."""
    loop, ending = asyncio.get_running_loop(), asyncio.Event()

    def received(number: int) -> None:
        if ending.is_set():
            os._exit(128 + number)
        ending.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, received, number)
    try:
        yield ending
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _opened_log(path: Path) -> DecisionLog:
    try:
        return DecisionLog(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write the decision log {path}: {reason}; choose another --decision-log") from None


def _not_listening(options: Options, error: OSError) -> str:
    where = f"{options.host}:{options.port}"
    if isinstance(error, OSError) and error.errno == 98:
        return f"cannot listen on {where}: another process does; end it, or choose another port with --port"
    return f"cannot listen on {where}: {error.strerror or error}; choose another --host or --port"
