"""Files change under `foresail serve`: no request is dropped, what is revoked is gone, what is broken is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.support.configurations import model, policy, pool, secret, write
from tests.support.serving import Served, done, eventually, serving
from tests.support.upstream import Upstream, answers, running_upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream(answers()) as running:
        yield running


def answered_by(served: Served, wanted: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return (await served.ask()).headers.get("x-foresail-model") == wanted

    return check


async def test_changes_under_load_drop_no_request(tmp_path: Path, upstream: Upstream) -> None:
    first = pool([model("small", upstream.url, price="1"), model("large", upstream.url, price="2")])
    second = pool([model("small", upstream.url, price="2"), model("large", upstream.url, price="1")])
    file = write(tmp_path / "all.yaml", first, policy())
    asked: Counter[tuple[int, str]] = Counter()
    ending = asyncio.Event()

    async def keep_asking(served: Served) -> None:
        while not ending.is_set():
            answer = await served.ask()
            asked[answer.status_code, answer.headers["x-foresail-model"]] += 1

    async with serving(tmp_path, "-f", tmp_path) as served, asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(keep_asking(served))
        for models, cheapest in [(second, "large"), (first, "small"), (second, "large")]:
            write(file, models, policy())
            await eventually(answered_by(served, cheapest), f"{cheapest} answers")
        ending.set()
    assert {status for status, _ in asked} == {200}
    assert {name for _, name in asked} == {"small", "large"}


async def test_a_broken_change_is_told_and_what_was_served_goes_on(tmp_path: Path, upstream: Upstream) -> None:
    file = write(tmp_path / "all.yaml", pool([model("small", upstream.url)]), policy())
    async with serving(tmp_path, "-f", tmp_path) as served:
        file.write_text("kind: [")

        async def counted() -> bool:
            return "foresail_configuration_errors_total 1.0" in (await served.http.get("/metrics")).text

        await eventually(counted, "the broken change is counted")
        assert "line 1 is not YAML" in served.log.read_text()
        assert (await served.http.get("/readyz")).status_code == 200
        assert (await served.ask()).status_code == 200


async def test_credentials_are_rotated_and_revoked(tmp_path: Path, upstream: Upstream) -> None:
    secured = pool([model("small", upstream.url, secret=("keys", "main"))])
    write(tmp_path / "all.yaml", secured, policy(), secret({"main": "sk-from-manifest"}))
    key = tmp_path / "secrets" / "keys" / "main"
    key.parent.mkdir(parents=True)
    key.write_text("sk-first\n")

    def sent(value: str) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            await served.ask()
            return upstream.asked[-1].headers["Authorization"] == f"Bearer {value}"

        return check

    async with serving(tmp_path, "-f", tmp_path, "--secrets", tmp_path / "secrets") as served:
        await eventually(sent("sk-first"), "the file wins over the manifest")
        key.write_text("sk-second\n")
        await eventually(sent("sk-second"), "the rotated credential is sent")
        key.unlink()
        await eventually(sent("sk-from-manifest"), "the manifest is used once the file is gone")
        write(tmp_path / "all.yaml", secured, policy())

        async def refused() -> bool:
            return "CredentialMissing" in (await served.ask()).text

        await eventually(refused, "a revoked credential leaves the model out")
        assert "sk-" not in served.log.read_text()


async def test_a_mounted_snapshot_is_followed_through_its_link(tmp_path: Path, upstream: Upstream) -> None:
    """As Kubernetes does: files are links into `..data`, itself a link that is swapped to another directory."""
    mounted = tmp_path / "mounted"

    def mount(number: int, *models: str) -> None:
        priced = [model(name, upstream.url, price=str(price + 1)) for price, name in enumerate(models)]
        file = write(tmp_path / "all.yaml", pool(priced), policy())
        target = mounted / f"..2026_{number}"
        target.mkdir(parents=True)
        text = done("compile", "-f", file).replace('"sequence": 1', f'"sequence": {number}', 1)
        (target / "snapshot.json").write_text(text)
        link = mounted / "..data_tmp"
        link.symlink_to(target.name)
        link.rename(mounted / "..data")

    mount(5, "small", "large")
    (mounted / "snapshot.json").symlink_to("..data/snapshot.json")
    async with serving(tmp_path, "--snapshot", mounted / "snapshot.json") as served:
        await eventually(answered_by(served, "small"), "small answers")
        mount(6, "large", "small")
        await eventually(answered_by(served, "large"), "large answers")
        mount(4, "small", "large")

        async def refused() -> bool:
            return "an older one never replaces a newer one" in served.log.read_text()

        await eventually(refused, "the older snapshot is refused")
        assert await answered_by(served, "large")()


async def test_a_pool_that_was_taken_away_answers_no_longer(tmp_path: Path, upstream: Upstream) -> None:
    write(tmp_path / "pool.yaml", pool([model("small", upstream.url)]))
    write(tmp_path / "policy.yaml", policy())
    async with serving(tmp_path, "-f", tmp_path) as served:
        assert (await served.ask()).status_code == 200
        (tmp_path / "pool.yaml").unlink()

        async def gone() -> bool:
            return (await served.ask()).status_code == 503

        await eventually(gone, "the pool is gone")
        assert (await served.http.get("/readyz")).status_code == 503
        write(tmp_path / "pool.yaml", pool([model("small", upstream.url)]))
        await eventually(answered_by(served, "small"), "the pool is back")
