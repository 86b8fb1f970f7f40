"""`foresail serve --workers 2` with the demo's router: one scoring process for all, and what dies of it costs no answer of the rest."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest
import yaml
from tests.support.configurations import write
from tests.support.processes import children_of
from tests.support.serving import Served, eventually, serving
from tests.support.upstream import answers, running_upstream

pytestmark = pytest.mark.timeout(300)

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
PATIENCE_SECONDS = 90
LEARNED = (200, "Learned", "")


def demo(path: Path, url: str, failure_mode: str) -> Path:
    """Write the demo's pool and policy, with all models behind one upstream and time for a busy machine."""
    pool, policy = (yaml.safe_load((DEMO / f"{name}.yaml").read_text()) for name in ("pool", "policy"))
    for model in pool["spec"]["models"]:
        model["upstreams"] = [{"name": "main", "url": url}]
    policy["spec"]["router"] |= {"failureMode": failure_mode, "deadlineMilliseconds": 10_000}
    return write(path, pool, policy)


async def ask(served: Served) -> httpx.Response:
    """Ask over a connection of its own, which the system gives to any worker, and what no cache knows."""
    content = f"What is {os.urandom(4).hex()} in words?"
    body = {"model": "auto", "messages": [{"role": "user", "content": content}]}
    return await served.http.post("/v1/chat/completions", json=body, headers={"Connection": "close"})


async def said(served: Served) -> tuple[int, str, str]:
    """The status of one request, what its decision rests on, and why there were no estimates."""
    answer = await ask(served)
    return answer.status_code, *(answer.headers.get(f"x-foresail-{name}", "") for name in ("basis", "scoring-error"))


def workers_of(served: Served) -> list[int]:
    return children_of(served.process.pid, "foresail_sidecar.serving.worker")


def scorers_of(served: Served) -> list[int]:
    return children_of(served.process.pid, "foresail_router.engine.process")


async def all_are(served: Served, expected: tuple[int, str, str], what: str) -> None:
    """Wait until so many requests in a row are answered alike that both workers were among those who answered."""

    async def alike() -> bool:
        return {await said(served) for _ in range(12)} == {expected}

    await eventually(alike, what, PATIENCE_SECONDS)


@pytest.mark.parametrize("failure_mode", ["FailOpen", "FailClose"])
async def test_without_its_scoring_process_the_failure_mode_holds_until_it_is_back(
    tmp_path: Path, failure_mode: str
) -> None:
    async with running_upstream(answers()) as upstream:
        demo(tmp_path / "all.yaml", upstream.url, failure_mode)
        flags = ("-f", tmp_path / "all.yaml", "--volume-claim", f"foresail-demo={DEMO}", "--workers", "2")
        async with serving(tmp_path, *flags, "--decision-log", tmp_path / "log") as served:
            await all_are(served, LEARNED, "both workers score")
            workers, scorers = workers_of(served), scorers_of(served)
            assert (len(workers), len(scorers)) == (2, 1)
            loaded = [(Path("/proc") / str(pid) / "maps").read_text() for pid in workers]
            assert not any("onnxruntime" in maps for maps in loaded), "scoring happens in the other process"

            os.kill(scorers[0], signal.SIGKILL)
            seen: list[tuple[int, str, str]] = []

            async def failed() -> bool:
                seen.append(await said(served))
                return seen[-1] != LEARNED

            await eventually(failed, "the failure mode", PATIENCE_SECONDS)
            status, basis, error = seen[-1]
            assert error in ("ArtifactNotLoaded", "ScoringFailed")
            if failure_mode == "FailOpen":
                assert (status, basis) == (200, "FailOpenCheapest")
            else:
                assert (status, basis) == (503, "")
                refused = await ask(served)
                if refused.status_code == 503:
                    assert refused.json()["error"]["code"] in ("scoring_failed", "not_ready")
            await all_are(served, LEARNED, "both workers score again")
            assert workers_of(served) == workers
            assert len(scorers_of(served)) == 1
            assert scorers_of(served) != scorers


async def test_without_one_worker_the_other_answers_with_the_same_scoring_process(tmp_path: Path) -> None:
    async with running_upstream(answers()) as upstream:
        demo(tmp_path / "all.yaml", upstream.url, "FailOpen")
        flags = ("-f", tmp_path / "all.yaml", "--volume-claim", f"foresail-demo={DEMO}", "--workers", "2")
        async with serving(tmp_path, *flags, "--decision-log", tmp_path / "log") as served:
            await all_are(served, LEARNED, "both workers score")
            workers, scorers = workers_of(served), scorers_of(served)
            os.kill(workers[0], signal.SIGKILL)

            async def is_gone() -> bool:
                # Until it was waited for, some thread of it may still hold the socket.
                return not Path(f"/proc/{workers[0]}").exists()  # noqa: ASYNC240

            await eventually(is_gone, "the end of a worker", PATIENCE_SECONDS)
            # What was handed to the dead one is lost; it gets nothing new.
            alone = await asyncio.gather(*(said(served) for _ in range(8)))
            assert Counter(alone) == {LEARNED: 8}

            async def is_replaced() -> bool:
                return len(workers_of(served)) == 2

            await eventually(is_replaced, "another worker", PATIENCE_SECONDS)
            await all_are(served, LEARNED, "both workers score again")
            assert workers[1] in workers_of(served)
            assert scorers_of(served) == scorers
