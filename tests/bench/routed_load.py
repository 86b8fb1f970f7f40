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

import aiohttp
import uvloop

_ANSWER_SECONDS = 30.0
_JSON = {"Content-Type": "application/json"}
Answer = dict[str, Any]


async def asked(address: str, bodies: Sequence[bytes], rate: float | None, seed: int) -> list[Answer]:
    """Return one answer per body, in order: milliseconds late, of the answer, of the decision; basis and scoring error."""
    timeout, unlimited = aiohttp.ClientTimeout(total=_ANSWER_SECONDS), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://{address}", connector=unlimited, timeout=timeout) as session:
        if rate is None:
            return [await _asked_once(session, body, time.perf_counter()) for body in bodies]
        draw = random.Random(seed)
        due, waiting = time.perf_counter() + 0.1, []
        for body in bodies:
            waiting.append(asyncio.create_task(_asked_at(session, body, due)))
            due += draw.expovariate(rate)
        return list(await asyncio.gather(*waiting))


async def _asked_at(session: aiohttp.ClientSession, body: bytes, due: float) -> Answer:
    await asyncio.sleep(due - time.perf_counter())
    return await _asked_once(session, body, due)


async def _asked_once(session: aiohttp.ClientSession, body: bytes, due: float) -> Answer:
    started = time.perf_counter()
    async with session.post("/v1/chat/completions", data=body, headers=_JSON) as response:
        await response.read()
        headers = response.headers
    return {
        "late": 1000 * (started - due),
        "latency": 1000 * (time.perf_counter() - started),
        "status": response.status,
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
