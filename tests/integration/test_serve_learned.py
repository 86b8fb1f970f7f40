"""`foresail serve` with routers that were really trained: in its own process and behind a socket, replaced and damaged."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.configurations import Object, learned, model, policy, pool, write
from tests.support.learning import MODELS, PRICES, write_data
from tests.support.processes import running, wait_until
from tests.support.serving import Served, done, eventually, serving
from tests.support.upstream import answers, running_upstream

SUM = "Work out 4711 + 815 and give only the number, please (7)."
TRIP = "I spend day 3 in Oslo. Which sight should I visit with my family, and why?"


@dataclass(frozen=True)
class Trained:
    """A volume with two routers, by their digests."""

    volume: Path
    first: str
    second: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    digests = []
    for name, count in (("first", 150), ("second", 165)):
        data = write_data(folder / f"data-{name}", count=count)
        said = done("train", data, "-o", folder / "volume" / name, "--threads", "1")
        (digest,) = set(re.findall(r"sha256:[0-9a-f]{64}", said))
        digests.append(digest)
    return Trained(folder / "volume", *digests)


@pytest.fixture
async def upstream_url() -> AsyncIterator[str]:
    async with running_upstream(answers()) as upstream:
        yield upstream.url


def manifests(url: str, digest: str, path: str, **router: Any) -> tuple[Object, Object]:
    models = []
    for name in MODELS:
        read, written = PRICES[name]
        price = {"inputPerMillionTokens": f"{read:.2f}", "outputPerMillionTokens": f"{written:.2f}"}
        models.append(model(name, url, price=None) | {"price": price})
    usual = {"deadlineMilliseconds": 10_000}
    return pool(models), policy(
        router=learned(digest, path=path, **usual, **router), objective={"tradeoff": {"costWeightPercent": 0}}
    )


async def route(served: Served, prompt: str) -> dict[str, Any]:
    body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
    return dict((await served.http.post("/v1/route", json=body)).json())


async def test_each_prompt_goes_to_the_model_that_is_good_at_it(
    tmp_path: Path, trained: Trained, upstream_url: str
) -> None:
    write(tmp_path / "all.yaml", *manifests(upstream_url, trained.first, "first"))
    async with serving(tmp_path, "-f", tmp_path, "--volume-claim", f"routers={trained.volume}") as served:
        decision = await route(served, SUM)
        assert decision["model"] == "specialist"
        assert (decision["basis"], decision["scoring_error"]) == ("Learned", None)
        assert decision["artifact_digest"] == trained.first
        assert (await route(served, TRIP))["model"] == "generalist"
        candidates = {candidate["model"]: candidate for candidate in decision["candidates"]}
        assert candidates["specialist"]["quality"] > candidates["generalist"]["quality"]
        assert candidates["generalist"]["output_tokens"] > candidates["specialist"]["output_tokens"]
        answer = await served.http.post(
            "/v1/chat/completions", json={"model": "auto", "messages": [{"role": "user", "content": SUM}]}
        )
        assert answer.headers["x-foresail-model"] == "specialist"
        text = served.log.read_text()
        assert f"Learned (fused, {trained.first[:19]}" in text
        assert "no artifact" not in text


async def test_a_new_artifact_replaces_the_old_one_and_drops_no_request(
    tmp_path: Path, trained: Trained, upstream_url: str
) -> None:
    write(tmp_path / "all.yaml", *manifests(upstream_url, trained.first, "first"))
    digests: list[tuple[str, str]] = []
    ending = asyncio.Event()

    async def keep_asking(served: Served) -> None:
        number = 0
        while not ending.is_set():
            number += 1
            decision = await route(served, f"Work out {number} + 815.")
            digests.append((decision["artifact_digest"], decision["basis"]))

    async with (
        serving(tmp_path, "-f", tmp_path, "--volume-claim", f"routers={trained.volume}") as served,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(2):
            group.create_task(keep_asking(served))
        write(tmp_path / "all.yaml", *manifests(upstream_url, trained.second, "second"))

        async def replaced() -> bool:
            return bool(digests) and digests[-1][0] == trained.second

        await eventually(replaced, "the second artifact scores")
        ending.set()
    assert {basis for _, basis in digests} == {"Learned"}
    assert digests[0][0] == trained.first


async def test_a_damaged_or_foreign_artifact_is_told_and_never_used(
    tmp_path: Path, trained: Trained, upstream_url: str
) -> None:
    volume = tmp_path / "volume"
    shutil.copytree(trained.volume, volume)
    weights = volume / "first" / "router.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    write(tmp_path / "all.yaml", *manifests(upstream_url, trained.first, "first"))
    flags = ("-f", tmp_path / "all.yaml", "--volume-claim", f"routers={volume}")
    async with serving(tmp_path, *flags) as served:
        assert "router.safetensors is damaged" in served.log.read_text()
        assert (await route(served, SUM))["scoring_error"] == "ArtifactNotLoaded"
        write(tmp_path / "all.yaml", *manifests(upstream_url, trained.first, "second"))
        pinned = f"its digest is {trained.second}, but {trained.first} is pinned"

        async def told() -> bool:
            return pinned in served.log.read_text()

        await eventually(told, "the wrong digest is told")
        shutil.copytree(trained.volume / "first", volume / "mended")
        write(tmp_path / "all.yaml", *manifests(upstream_url, trained.first, "mended"))

        async def learns() -> bool:
            return (await route(served, SUM))["basis"] == "Learned"

        await eventually(learns, "the right artifact scores")


@contextlib.contextmanager
def scoring_process(socket: Path, log: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "foresail_router.engine.process", "--socket", str(socket), "--threads", "1"]
    with running(command, log) as process:
        wait_until(socket.exists, "the scoring process", process=process, log=log)
        yield


async def test_a_scoring_process_may_come_late_and_come_back(
    tmp_path: Path, trained: Trained, upstream_url: str
) -> None:
    socket = tmp_path / "scorer.sock"
    write(tmp_path / "all.yaml", *manifests(upstream_url, trained.first, "first"))
    flags = ("-f", tmp_path, "--volume-claim", f"routers={trained.volume}", "--scorer-socket", socket)

    async with serving(tmp_path, *flags) as served:

        async def learns() -> bool:
            return (await route(served, SUM))["model"] == "specialist"

        async def fails_open() -> bool:
            return (await route(served, SUM))["basis"] == "FailOpenCheapest"

        assert await fails_open()
        with scoring_process(socket, tmp_path / "scorer.log"):
            await eventually(learns, "the scoring process is used as soon as it is there")
            modules = (Path("/proc") / str(served.process.pid) / "maps").read_text()
            assert "onnxruntime" not in modules, "scoring happens in the other process"
        await eventually(fails_open, "a scoring process that is gone costs no answer")
        with scoring_process(socket, tmp_path / "scorer.log"):
            await eventually(learns, "a restarted scoring process is given the artifact again")
