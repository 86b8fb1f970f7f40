"""`foresail serve --workers 2`: one port, one set of metrics, and what dies comes back while the rest answers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections import Counter
from pathlib import Path

import pytest
from tests.support.configurations import model, policy, pool, write
from tests.support.processes import children_of
from tests.support.serving import Served, eventually, refused, serving
from tests.support.upstream import answers, running_upstream

pytestmark = pytest.mark.timeout(300)


def workers_of(served: Served) -> list[int]:
    return children_of(served.process.pid, "foresail_sidecar.serving.worker")


async def ask_anew(served: Served) -> int:
    """Ask over a connection of its own, which the system gives to any worker; return the status."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
    url = served.url.removesuffix("/v1") + "/v1/chat/completions"
    answer = await served.http.post(url, json=body, headers={"Connection": "close"})
    return answer.status_code


async def sample(served: Served, name: str) -> float:
    lines = (await served.http.get("/metrics", headers={"Connection": "close"})).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


async def test_workers_share_a_port_and_show_one_set_of_metrics_and_come_back(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    async with running_upstream(answers()) as upstream:
        write(tmp_path / "all.yaml", pool([model("cheap", upstream.url)]), policy())
        async with serving(tmp_path, "-f", tmp_path, "--workers", "2", "--decision-log", log) as served:
            first = workers_of(served)
            statuses = Counter([await ask_anew(served) for _ in range(40)])
            counted = {await sample(served, "foresail_requests_total") for _ in range(6)}
            assert (len(first), statuses, counted) == (2, {200: 40}, {40.0})
            assert served.log.read_text().count("is serving") == 1

            async def all_are_counted(number: int = 2) -> bool:
                return await sample(served, "foresail_workers") == number

            await eventually(all_are_counted, "both workers are counted", 60)
            # A killed process loses the lines of its last 50 ms.
            await eventually(lambda: _written(log, 40), "all lines are written", 60)
            os.kill(first[0], signal.SIGKILL)
            # Those that the dead one had accepted are lost, and no other.
            await eventually(lambda: _differs(served, first), "another worker takes the place", 120)
            await eventually(all_are_counted, "both workers are counted again", 60)
            assert {await ask_anew(served) for _ in range(20)} == {200}
            assert await sample(served, "foresail_requests_total") == 60
            assert await served.ended(seconds=60) == 0
    assert len([json.loads(line) for line in log.read_text().splitlines()]) == 60


async def _written(log: Path, lines: int) -> bool:
    return log.read_bytes().count(b"\n") == lines  # noqa: ASYNC240  a small local file


async def _differs(served: Served, before: list[int]) -> bool:
    now = workers_of(served)
    return len(now) == 2 and now != before


async def test_requests_under_way_end_before_the_workers_do(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    answer = answers()

    async def slow(asked, request):
        await goes_on.wait()
        return await answer(asked, request)

    async with running_upstream(slow) as upstream:
        write(tmp_path / "all.yaml", pool([model("cheap", upstream.url)]), policy())
        async with serving(tmp_path, "-f", tmp_path, "--workers", "2") as served:
            asking = [asyncio.create_task(ask_anew(served)) for _ in range(8)]
            await eventually(lambda: _asked(upstream.asked, 8), "all requests are under way", 60)
            ending = asyncio.create_task(served.ended(seconds=60))
            await asyncio.sleep(0.2)
            goes_on.set()
            assert await asyncio.gather(*asking) == [200] * 8
            assert await ending == 0
            assert workers_of(served) == []


async def _asked(asked: list[object], number: int) -> bool:
    return len(asked) == number


async def test_no_worker_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    write(tmp_path / "all.yaml", pool([model("cheap")]), policy())
    async with serving(tmp_path, "-f", tmp_path, "--workers", "2") as served:
        workers = workers_of(served)
        await served.ended(signal.SIGKILL)

        async def all_are_gone() -> bool:
            return not any(_alive(pid) for pid in workers)

        assert len(workers) == 2
        await eventually(all_are_gone, "the workers end", 60)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_cannot_be_served_is_told_once(tmp_path: Path) -> None:
    write(tmp_path / "all.yaml", pool([model("cheap")]), policy(), policy("other"))
    message = refused("serve", "-f", tmp_path, "--workers", "2", "--port", "0")
    assert message.count("--policy") == 1
    write(tmp_path / "all.yaml", pool([model("cheap")]), policy())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        message = refused("serve", "-f", tmp_path, "--workers", "2", "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}: another process does" in message
