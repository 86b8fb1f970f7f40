"""Every limit of `foresail serve` over several workers and replicas: upstreams never see more than what was declared, and not less either."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from tests.support.configurations import Object, model, policy, pool, write
from tests.support.redis_server import redis_server
from tests.support.serving import Served, eventually, serving
from tests.support.upstream import Asked, Upstream, answers, completion, running_upstream, usage

pytestmark = pytest.mark.timeout(300)

# A prompt of 34 bytes and the overhead are 1,000 tokens, and all that an answer may have is 4,000: what is billed is what was reserved.
ANSWER = answers(counted=usage(1000, 4000))
BUDGET = {"name": "team", "amount": "0.05", "window": {"calendar": {"unit": "Month"}}}
TEN_OF: dict[str, dict[str, int]] = {
    "by-money": {},
    "by-requests": {"requestsPerMinute": 10},
    "by-tokens": {"tokensPerMinute": 50_000},
}
AT_ONCE = 3
CLIENTS = 40
# Without its answer limits do not hold, and a busy machine is no reason.
PATIENT = {"timeoutMilliseconds": 5000}
PATIENCE_SECONDS = 60


class Counting:
    """Answers after a moment, and knows how many it answered at once at most."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    async def script(self, asked: Asked, request: web.Request) -> web.StreamResponse:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.2)
            return web.Response(body=completion("Hello.", usage(3, 2)), content_type="application/json")
        finally:
            self.now -= 1


def limited(name: str, url: str, limits: dict[str, int], *, price: str) -> Object:
    upstream: Object = {"name": "main", "url": url} | ({"limits": limits} if limits else {})
    sizes = {"contextWindowTokens": 100_000, "maxOutputTokens": 4000, "minOutputTokens": 4000}
    return model(name, price=price, upstreams=[upstream], tokenCount={"overheadTokens": 966}, **sizes)


@contextlib.asynccontextmanager
async def replicas(directory: Path, count: int) -> AsyncIterator[Sequence[Served]]:
    """So many `foresail serve --workers 2` on the same files, once their ledger is open."""
    async with contextlib.AsyncExitStack() as stack:
        running = []
        for number in range(count):
            folder = directory / f"replica-{number}"
            folder.mkdir()
            arguments = ("-f", directory / "all.yaml", "--workers", "2", "--state", folder)
            running.append(
                await stack.enter_async_context(serving(folder, *arguments, "--decision-log", folder / "log"))
            )

        async def open_everywhere() -> bool:
            said = [await one.http.get("/v1/budgets", headers={"Connection": "close"}) for one in running]
            return all(one.status_code == 200 for one in said)

        await eventually(open_everywhere, "the ledger is open", PATIENCE_SECONDS)
        yield running


async def asked_at_once(served: Sequence[Served], name: str, requests: int) -> list[httpx.Response]:
    """Ask all replicas in turn, each time on a connection of its own, so that all workers answer."""
    body = {"model": name, "messages": [{"role": "user", "content": "x"}], "max_tokens": 4000}
    asking = [
        served[number % len(served)].http.post("/v1/chat/completions", json=body, headers={"Connection": "close"})
        for number in range(requests)
    ]
    return await asyncio.gather(*asking)


async def every_limit_holds(directory: Path, ledger: Object, count: int) -> None:
    counting = Counting()
    async with contextlib.AsyncExitStack() as stack:
        upstreams: dict[str, Upstream] = {
            name: await stack.enter_async_context(running_upstream(ANSWER)) for name in TEN_OF
        }
        crowded = await stack.enter_async_context(running_upstream(counting.script))
        models = [
            *(limited(name, upstreams[name].url, limits, price="0") for name, limits in TEN_OF.items() if limits),
            limited("by-money", upstreams["by-money"].url, {}, price="1"),
            limited("at-once", crowded.url, {"concurrentRequests": AT_ONCE}, price="0"),
        ]
        costs: dict[str, Any] = {"budgets": [BUDGET], "ledger": ledger | PATIENT}
        write(directory / "all.yaml", pool(models), policy(costLimits=costs))
        served = await stack.enter_async_context(replicas(directory, count))
        for name, upstream in upstreams.items():
            said = await asked_at_once(served, name, CLIENTS)
            assert sum(one.status_code == 200 for one in said) == len(upstream.asked) == 10, name
            assert_refused([one for one in said if one.status_code != 200], name)
        said = await asked_at_once(served, "at-once", CLIENTS)
        assert counting.most == AT_ONCE
        assert sum(one.status_code == 200 for one in said) == len(crowded.asked) >= AT_ONCE
        assert_refused([one for one in said if one.status_code != 200], "at-once")
        # Nothing is held by those that have ended.
        again = await asked_at_once(served, "at-once", AT_ONCE)
        assert [one.status_code for one in again] == [200] * AT_ONCE


def assert_refused(answers: Sequence[httpx.Response], name: str) -> None:
    assert answers
    for answer in answers:
        assert answer.status_code == 429, answer.text
        code = answer.json()["error"]["code"]
        assert code in (("budget_reserved", "budget_exhausted") if name == "by-money" else ("upstream_limit",))
        assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_two_replicas_of_two_workers_share_every_limit_on_a_redis(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as port:
        ledger = {"type": "Redis", "redis": {"url": f"redis://127.0.0.1:{port}"}}
        await every_limit_holds(tmp_path, ledger, 2)


async def test_two_workers_share_every_limit_in_a_file(tmp_path: Path) -> None:
    await every_limit_holds(tmp_path, {"type": "Embedded"}, 1)
