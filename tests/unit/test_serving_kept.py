"""A child process that is kept running: started again when it ends, and also where the machine could not start it."""

from __future__ import annotations

import asyncio
import errno
import sys
from asyncio import subprocess

from foresail_sidecar.serving.kept import Kept


async def test_a_process_that_cannot_be_started_is_tried_again() -> None:
    failures = iter([OSError(errno.ENOMEM, "Cannot allocate memory")])
    lives = asyncio.Event()

    async def start() -> subprocess.Process:
        if (failure := next(failures, None)) is not None:
            raise failure
        lives.set()
        return await subprocess.create_subprocess_exec(sys.executable, "-c", "input()", stdin=subprocess.PIPE)

    kept = Kept("worker", start)
    running = asyncio.create_task(kept.run())
    async with asyncio.timeout(30):
        await lives.wait()
        kept.end()
        await running
    assert kept.status is not None
    assert kept.status != 0


async def test_the_one_who_keeps_it_says_whether_a_failed_start_is_followed_by_another() -> None:
    async def start() -> subprocess.Process:
        raise OSError(errno.EMFILE, "Too many open files")

    kept = Kept("worker", start, ended=lambda: False)
    async with asyncio.timeout(30):
        await kept.run()
    assert kept.status is None
