"""`foresail serve` as a process of its own, as a user or a pod starts it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from openai import AsyncOpenAI
from tests.support.processes import running

FORESAIL = str(Path(sys.executable).with_name("foresail"))
_START_SECONDS = 30.0


@dataclass
class Served:
    """A running process: its base URL for OpenAI clients, its log (stdout and stderr), and a plain HTTP client."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    http: httpx.AsyncClient

    def openai(self, **options: object) -> AsyncOpenAI:
        """OpenAI's own client, which retries nothing unless told."""
        return AsyncOpenAI(**{"base_url": self.url, "api_key": "unused", "max_retries": 0, "timeout": 20, **options})

    async def ask(self, model: str = "auto") -> httpx.Response:
        """Send one short chat completion."""
        body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}
        return await self.http.post("/v1/chat/completions", json=body)

    async def ended(self, number: int = signal.SIGTERM, seconds: float = 15) -> int:
        """Send a signal, wait for the end and return the exit status."""
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, seconds)


@contextlib.asynccontextmanager
async def serving(folder: Path, *arguments: str | Path) -> AsyncIterator[Served]:
    """Run `foresail serve ARGUMENTS` on a free port until the block ends; its log is `folder/serve.log`.

    What it keeps without `--state` lies in `folder` too: one test must not learn from another.
    """
    log = folder / "serve.log"
    own = {"NO_PROXY": "*", "XDG_STATE_HOME": str(folder / "state-home")}
    command = [FORESAIL, "serve", "--port", "0", *map(str, arguments)]
    with running(command, log, environment=os.environ | own) as process:
        url = await _announced(process, log)
        async with httpx.AsyncClient(base_url=url.removesuffix("/v1"), timeout=20, trust_env=False) as http:
            yield Served(process, url, log, http)


def refused(*arguments: str | Path) -> str:
    """Return what `foresail ARGUMENTS` says when it refuses: status 2, one message, no traceback."""
    done = subprocess.run([FORESAIL, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


def done(*arguments: str | Path) -> str:
    """Return what `foresail ARGUMENTS` prints; it must succeed."""
    command = [FORESAIL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


async def eventually(check: Callable[[], Awaitable[bool]], what: str, seconds: float = 20) -> None:
    """Poll until `check` holds; AssertionError after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not await check():  # noqa: ASYNC110  what is waited for happens in another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


async def _announced(process: subprocess.Popen[bytes], log: Path) -> str:
    found: list[str] = []

    async def announced() -> bool:
        text = log.read_text()  # noqa: ASYNC240  a small local file
        assert process.poll() is None, text
        found.extend(re.findall(r"^  URL +(http\S+)$", text, re.MULTILINE))
        return bool(found) and text.count("/v1/route") > 0

    await eventually(announced, "the announcement of foresail serve", _START_SECONDS)
    return found[0]
