"""The load of the measurement of routed decisions, as a process: asks one after the other, or at random times at a given rate.

Reads `{"address", "bodies", "rate", "seed"}` from standard input, `rate` null for one at a time, and writes a list of what each request
took. A request is sent when it is due, whatever became of those before. It must not know what is compared.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

import uvloop

_ANSWER_SECONDS = 30.0
Answer = dict[str, Any]


class _Connections:
    """Kept connections; one more is opened where all are waiting for answers."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.partition(":")
        self._port = int(port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, body: bytes) -> tuple[int, dict[str, str]]:
        """Return the status and the headers of one answer."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await reader.readexactly(int(headers["content-length"]))
        self._idle.append((reader, writer))
        return int(start.split()[1]), headers

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def asked(address: str, bodies: Sequence[bytes], rate: float | None, seed: int) -> list[Answer]:
    """Return one answer per body, in order: milliseconds late, of the answer, of the decision; basis and scoring error."""
    connections = _Connections(address)
    if rate is None:
        now = time.perf_counter
        answers = [await _asked_once(connections, body, now()) for body in bodies]
    else:
        draw = random.Random(seed)
        due, waiting = time.perf_counter() + 0.1, []
        for body in bodies:
            waiting.append(asyncio.create_task(_asked_at(connections, body, due)))
            due += draw.expovariate(rate)
        answers = list(await asyncio.gather(*waiting))
    connections.close()
    return answers


async def _asked_at(connections: _Connections, body: bytes, due: float) -> Answer:
    await asyncio.sleep(due - time.perf_counter())
    return await _asked_once(connections, body, due)


async def _asked_once(connections: _Connections, body: bytes, due: float) -> Answer:
    started = time.perf_counter()
    async with asyncio.timeout(_ANSWER_SECONDS):
        status, headers = await connections.ask(body)
    return {
        "late": 1000 * (started - due),
        "latency": 1000 * (time.perf_counter() - started),
        "status": status,
        "decision": float(headers["x-foresail-overhead-ms"]),
        "basis": headers["x-foresail-basis"],
        "error": headers.get("x-foresail-scoring-error"),
    }


def main() -> None:
    wanted = json.load(sys.stdin)
    bodies = [body.encode() for body in wanted["bodies"]]
    json.dump(uvloop.run(asked(wanted["address"], bodies, wanted["rate"], wanted["seed"])), sys.stdout)


if __name__ == "__main__":
    main()
