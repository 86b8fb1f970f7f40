"""What `foresail serve` learns of models and upstreams: shared by its workers, and kept over restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.configurations import model, policy, pool, write
from tests.support.redis_server import redis_server
from tests.support.serving import Served, eventually, serving
from tests.support.upstream import answers, running_upstream, usage

pytestmark = pytest.mark.timeout(300)

BODY = {"model": "auto", "messages": [{"role": "user", "content": "x" * 1000}], "max_tokens": 100}
CAP = {"perRequest": "0.1"}


def written(directory: Path, url: str, **changes: Any) -> None:
    declared = {"tokenCount": {"overheadTokens": 10}, **changes}
    write(directory / "all.yaml", pool([model("m", url, price="1", **declared)]), policy(costLimits=CAP))


async def statuses(served: Served, requests: int) -> set[int]:
    """The statuses of requests over connections of their own, which the system gives to any worker."""
    sent = [
        await served.http.post("/v1/chat/completions", json=BODY, headers={"Connection": "close"})
        for _ in range(requests)
    ]
    return {answer.status_code for answer in sent}


async def eliminations(served: Served, decisions: int) -> set[str | None]:
    """Why the model is out, as decisions of any worker show it. Nothing is forwarded."""
    shown = [
        (await served.http.post("/v1/route", json=BODY, headers={"Connection": "close"})).json()
        for _ in range(decisions)
    ]
    return {each["candidates"][0]["eliminated"] for each in shown}


async def test_workers_agree_on_whom_to_distrust_and_the_next_start_knows_it(tmp_path: Path) -> None:
    arguments = ("-f", tmp_path / "all.yaml", "--state", tmp_path / "state", "--decision-log", tmp_path / "log")
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    async with running_upstream(answers(counted=usage(5, 101))) as upstream:
        written(tmp_path, upstream.url)
        async with serving(one, *arguments, "--workers", "2") as served:
            assert await statuses(served, 3) == {200}

            async def all_refuse() -> bool:
                return await eliminations(served, 20) == {"BoundExceeded"}

            await eventually(all_refuse, "every worker distrusts the model", 30)

            async def both_say_so() -> bool:
                return served.log.read_text().count('"model distrusted"') == 2

            await eventually(both_say_so, "both workers log it", 30)
            assert len(upstream.asked) == 3
            assert await served.ended(seconds=60) == 0
        async with serving(two, *arguments) as served:
            answer = await served.http.post("/v1/chat/completions", json=BODY)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_eligible_model")
            assert "m: BoundExceeded" in answer.json()["error"]["message"]
            written(tmp_path, upstream.url, maxOutputTokens=101)

            async def answers_again() -> bool:
                return await statuses(served, 1) == {200}

            await eventually(answers_again, "the model is trusted after its declaration changed", 30)


async def test_replicas_on_one_redis_agree_on_whom_to_distrust(tmp_path: Path) -> None:
    for name in ("redis", "one", "two"):
        (tmp_path / name).mkdir()
    async with running_upstream(answers(counted=usage(5, 101))) as upstream:
        with redis_server(tmp_path / "redis") as port:
            ledger = {"type": "Redis", "redis": {"url": f"redis://127.0.0.1:{port}"}}
            declared = pool([model("m", upstream.url, price="1", tokenCount={"overheadTokens": 10})])
            write(tmp_path / "all.yaml", declared, policy(costLimits={**CAP, "ledger": ledger}))
            arguments = ("-f", tmp_path / "all.yaml", "--decision-log", tmp_path / "log", "--state")
            async with (
                serving(tmp_path / "one", *arguments, tmp_path / "one") as one,
                serving(tmp_path / "two", *arguments, tmp_path / "two") as two,
            ):
                assert await statuses(one, 2) | await statuses(two, 1) == {200}

                async def both_refuse() -> bool:
                    return await eliminations(one, 1) | await eliminations(two, 1) == {"BoundExceeded"}

                await eventually(both_refuse, "both replicas distrust the model", 30)


async def test_the_calibration_is_there_after_a_restart(tmp_path: Path) -> None:
    arguments = ("-f", tmp_path / "all.yaml", "--state", tmp_path / "state", "--decision-log", tmp_path / "log")

    async def estimated(served: Served) -> int:
        shown = (await served.http.post("/v1/route", json=BODY)).json()
        return int(shown["candidates"][0]["input_tokens"])

    async with running_upstream(answers(counted=usage(500, 2))) as upstream:
        written(tmp_path, upstream.url)
        folders = tmp_path / "one", tmp_path / "two"
        for folder in folders:
            folder.mkdir()
        async with serving(folders[0], *arguments) as served:
            assert await estimated(served) < 300
            assert await statuses(served, 20) == {200}
            learned = await estimated(served)
            assert await served.ended(seconds=60) == 0
        async with serving(folders[1], *arguments) as served:
            assert await estimated(served) == learned > 400
