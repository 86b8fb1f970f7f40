"""Budgets of `foresail serve`: what was spent outlives the process, and is one sum over all workers and replicas."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.support.configurations import Object, model, policy, pool, write
from tests.support.redis_server import DURABLE, FORGETFUL, redis_server, running_redis
from tests.support.serving import Served, eventually, refused, serving
from tests.support.upstream import answers, event, piece, running_upstream, streams, usage

pytestmark = pytest.mark.timeout(300)

# An answer costs 0.005 USD, which is its worst case, too (34 bytes of prompt and the overhead): ten answers are five cents.
ANSWER = answers(counted=usage(1000, 4000))
FIVE_CENTS = {"name": "team", "amount": "0.05", "window": {"calendar": {"unit": "Month"}}}
PATIENCE_SECONDS = 60
MESSAGES = [{"role": "user", "content": "x"}]


def models(url: str) -> list[Object]:
    limits = {"contextWindowTokens": 100_000, "maxOutputTokens": 4000, "minOutputTokens": 4000}
    return [model("m", url, price="1", tokenCount={"overheadTokens": 966}, **limits)]


def limited(directory: Path, url: str, **costs: Any) -> None:
    write(directory / "all.yaml", pool(models(url)), policy(costLimits={"budgets": [FIVE_CENTS], **costs}))


async def first_budget(served: Served) -> dict[str, Any]:
    answer = await served.http.get("/v1/budgets", headers={"Connection": "close"})
    return dict(answer.json()["data"][0]) if answer.status_code == 200 else {}


async def spent(served: Served, answered: int) -> None:
    """Wait until nothing is reserved and so many answers are spent."""

    async def settled() -> bool:
        budget = await first_budget(served)
        return (budget.get("spent_usd"), budget.get("reserved_usd")) == (f"{0.005 * answered:g}", "0")

    await eventually(settled, f"{answered} answers are spent", PATIENCE_SECONDS)


async def ready(served: Served) -> None:
    async def answers_yes() -> bool:
        return (await served.http.get("/readyz", headers={"Connection": "close"})).status_code == 200

    await eventually(answers_yes, "readiness", PATIENCE_SECONDS)


async def statuses_of(served: Served, requests: int) -> Counter[int]:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}], "max_tokens": 4000}
    asked = [
        served.http.post("/v1/chat/completions", json=body, headers={"Connection": "close"}) for _ in range(requests)
    ]
    return Counter(answer.status_code for answer in await asyncio.gather(*asked))


async def test_what_was_spent_outlives_a_killed_process_and_a_new_amount_keeps_it(tmp_path: Path) -> None:
    arguments = ("-f", tmp_path / "all.yaml", "--state", tmp_path / "state", "--decision-log", tmp_path / "log")
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with running_upstream(ANSWER) as upstream:
        limited(tmp_path, upstream.url)
        async with serving(first, *arguments) as served:
            assert await statuses_of(served, 1) == {200: 1}
            await spent(served, 1)
            await served.ended(signal.SIGKILL)
        async with serving(second, *arguments) as served:
            await spent(served, 1)
            lower = {**FIVE_CENTS, "amount": "0.005"}
            write(tmp_path / "all.yaml", pool(models(upstream.url)), policy(costLimits={"budgets": [lower]}))

            async def amount_is_lower() -> bool:
                return (await first_budget(served)).get("amount_usd") == "0.005"

            await eventually(amount_is_lower, "the lower amount", PATIENCE_SECONDS)
            assert await statuses_of(served, 1) == {429: 1}
            await spent(served, 1)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


async def test_workers_show_no_budget_that_was_taken_away(tmp_path: Path) -> None:
    arguments = ("-f", tmp_path / "all.yaml", "--state", tmp_path / "state", "--workers", "2")
    async with running_upstream(ANSWER) as upstream:
        declared = [FIVE_CENTS | {"name": name} for name in ("stays", "goes")]
        write(tmp_path / "all.yaml", pool(models(upstream.url)), policy(costLimits={"budgets": declared}))
        async with serving(tmp_path, *arguments, "--decision-log", tmp_path / "log") as served:

            async def shown(*expected: str) -> bool:
                exposed = (await served.http.get("/metrics", headers={"Connection": "close"})).text
                samples = [line for line in exposed.splitlines() if line.startswith("foresail_budget_dollars{")]
                return sorted(samples) == sorted(
                    f'foresail_budget_dollars{{budget="{name}",part="{part}",policy="policy"}} {value}'
                    for name in expected
                    for part, value in (("amount", 0.05), ("spent", 0.0), ("reserved", 0.0))
                )

            await eventually(lambda: shown("stays", "goes"), "both budgets are shown", PATIENCE_SECONDS)
            write(tmp_path / "all.yaml", pool(models(upstream.url)), policy(costLimits={"budgets": declared[:1]}))
            await eventually(lambda: shown("stays"), "one budget is gone", PATIENCE_SECONDS)
            write(tmp_path / "all.yaml", pool(models(upstream.url)), policy())
            await eventually(shown, "no budget is left", PATIENCE_SECONDS)


async def test_workers_share_one_budget(tmp_path: Path) -> None:
    arguments = ("-f", tmp_path / "all.yaml", "--state", tmp_path / "state", "--workers", "2")
    async with running_upstream(ANSWER) as upstream:
        limited(tmp_path, upstream.url)
        async with serving(tmp_path, *arguments, "--decision-log", tmp_path / "log") as served:
            statuses = await statuses_of(served, 40)
            await spent(served, statuses[200])
    assert set(statuses) == {200, 429}
    assert statuses[200] == len(upstream.asked) == 10


async def test_streams_that_outlast_the_grace_period_are_told_and_settled(tmp_path: Path) -> None:
    first, second, log = tmp_path / "first", tmp_path / "second", tmp_path / "log"
    first.mkdir()
    second.mkdir()
    arguments = ("-f", tmp_path / "all.yaml", "--state", tmp_path / "state", "--decision-log", log, "--workers", "2")
    async with running_upstream(streams(event(piece("one")), then="hang")) as upstream:
        limited(tmp_path, upstream.url)
        async with serving(first, *arguments, "--drain-seconds", "1") as served:
            clients = [served.openai() for _ in range(6)]
            asked = [client.chat.completions.create(model="auto", messages=MESSAGES, stream=True) for client in clients]
            begun = await asyncio.gather(*asked)
            await asyncio.gather(*(anext(stream) for stream in begun))
            ending = asyncio.create_task(served.ended(seconds=60))
            ends = await asyncio.gather(*(anext(stream) for stream in begun), return_exceptions=True)
            assert [type(end) for end in ends] == [openai.APIError] * 6
            assert all("shutting down" in str(end) for end in ends)
            assert await ending == 0
            await asyncio.gather(*(client.close() for client in clients))
        cost = sum(json.loads(line)["cost_nano_dollars"] for line in log.read_text().splitlines())
        async with serving(second, *arguments) as served:
            await ready(served)
            budget = await first_budget(served)
    assert (budget["spent_usd"], budget["reserved_usd"]) == (f"{cost / 1e9:g}", "0")
    assert 0 < cost < 6 * 5_000_000


async def test_replicas_share_one_budget_on_a_redis(tmp_path: Path) -> None:
    for name in ("redis", "one", "two"):
        (tmp_path / name).mkdir()
    async with running_upstream(ANSWER) as upstream:
        with redis_server(tmp_path / "redis") as port:
            # A busy machine is no reason to refuse.
            ledger = {"type": "Redis", "redis": {"url": f"redis://127.0.0.1:{port}"}, "timeoutMilliseconds": 5000}
            limited(tmp_path, upstream.url, ledger=ledger)
            arguments = ("-f", tmp_path / "all.yaml", "--decision-log", tmp_path / "log", "--state")
            async with (
                serving(tmp_path / "one", *arguments, tmp_path / "one") as one,
                serving(tmp_path / "two", *arguments, tmp_path / "two") as two,
            ):
                await asyncio.gather(ready(one), ready(two))
                halves = await asyncio.gather(statuses_of(one, 20), statuses_of(two, 20))
                statuses = halves[0] + halves[1]
                await spent(one, statuses[200])
                await spent(two, statuses[200])
    assert set(statuses) == {200, 429}
    assert statuses[200] == len(upstream.asked) == 10


@pytest.mark.parametrize(
    ("arguments", "event", "words"),
    [
        ((*DURABLE, "--requirepass", "right-one"), "ledger does not answer", "AuthenticationError"),
        (FORGETFUL, "ledger is not durable", "LedgerNotDurable: `appendonly` is not `yes`"),
    ],
)
async def test_what_is_wrong_with_a_redis_is_in_the_log(
    tmp_path: Path, arguments: tuple[str, ...], event: str, words: str
) -> None:
    with running_redis(tmp_path / "redis", arguments) as server:
        ledger = {"type": "Redis", "redis": {"url": f"redis://127.0.0.1:{server.port}"}}
        limited(tmp_path, "http://127.0.0.1:1/v1", ledger=ledger)
        flags = ("-f", tmp_path / "all.yaml", "--state", tmp_path / "state", "--decision-log", tmp_path / "log")
        async with serving(tmp_path, *flags) as served:

            async def told() -> bool:
                return event in served.log.read_text()

            await eventually(told, event, PATIENCE_SECONDS)
            (line,) = [line for line in served.log.read_text().splitlines() if event in line]
            assert words in line


def test_a_state_directory_that_cannot_be_used_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    limited(tmp_path, "http://127.0.0.1:1/v1")
    said = refused("serve", "-f", tmp_path / "all.yaml", "--state", tmp_path / "file")
    assert "cannot use the state directory" in said
    assert "--state" in said


async def test_without_budgets_nothing_of_a_request_is_kept(tmp_path: Path) -> None:
    async with running_upstream(ANSWER) as upstream:
        write(tmp_path / "all.yaml", pool(models(upstream.url)), policy())
        async with serving(tmp_path, "-f", tmp_path / "all.yaml", "--state", tmp_path / "state") as served:
            assert await statuses_of(served, 1) == {200: 1}
    (kept,) = (tmp_path / "state").glob("ledger-*.sqlite3")
    with contextlib.closing(sqlite3.connect(kept)) as ledger:
        attempts = ledger.execute("SELECT count(*) FROM attempt").fetchone()
        usages = ledger.execute("SELECT count(*) FROM usage").fetchone()
    assert (attempts, usages) == ((0,), (0,))


async def test_without_budgets_a_directory_that_cannot_be_used_is_told_and_requests_are_answered(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    async with running_upstream(ANSWER) as upstream:
        write(tmp_path / "all.yaml", pool(models(upstream.url)), policy())
        async with serving(tmp_path, "-f", tmp_path / "all.yaml", "--state", tmp_path / "file") as served:
            assert await statuses_of(served, 1) == {200: 1}
            assert "what is learned is not kept" in served.log.read_text()
