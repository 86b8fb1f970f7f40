"""Runs a coroutine while nobody searches for garbage, so that what is in a circle stays and shows."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

Result = TypeVar("Result")


def run_without_search(main: Coroutine[Any, Any, Result]) -> Result:
    """Run it on the loop that serves: asyncio's own keeps what cancelled timers know until they are due."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)
    finally:
        gc.enable()
