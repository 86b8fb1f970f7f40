"""The pods that the operator asks for work: the template's command, run with its arguments, environment and files, routes."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from tests.support import configurations
from tests.support.control_plane import ControlPlane
from tests.support.learning import MODELS, PRICES, write_data
from tests.support.operated import FORESAIL, Cluster, cluster_of, operating
from tests.support.pods import Pod
from tests.support.redis_server import DURABLE, running_redis
from tests.support.routing import Object, model, policy, pool
from tests.support.upstream import Upstream, answers, running_upstream

SUM = "Work out 512 + 4096 and give only the number, please (7)."


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_of(control_plane) as found, operating(found, tmp_path_factory.mktemp("operator")):
        yield found


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream(answers("Forty-two.")) as running:
        yield running


def secret(name: str, value: str) -> Object:
    encoded = base64.b64encode(value.encode()).decode()
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"api-key": encoded}}


async def ask(client: httpx.AsyncClient, content: str = "Say hello.") -> httpx.Response:
    return await client.post("/v1/chat/completions", json=chat(content))


def chat(content: str) -> Object:
    return {"model": "auto", "messages": [{"role": "user", "content": content}]}


async def test_the_pod_routes_follows_changes_and_rotated_keys(
    cluster: Cluster, upstream: Upstream, tmp_path: Path
) -> None:
    cheap = model("cheap", url=upstream.url, price="1", secret="keys")
    dear = model("dear", url=upstream.url, price="5", secret="keys")
    cluster.apply(secret("keys", "first"), pool("models", cheap, dear), policy("chat"))
    cluster.wait_programmed("chat")
    pod = Pod(cluster, "chat-foresail", tmp_path, {})
    async with pod.running() as client:
        answer = await ask(client)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == "Forty-two."
        assert answer.headers["x-foresail-model"] == "cheap"
        assert upstream.asked[-1].headers["Authorization"] == "Bearer first"

        cluster.apply(secret("keys", "second"), pool("models", {**cheap, "price": dear["price"]}, _priced(dear, "1")))
        cluster.wait_for(lambda: cluster.status("chat")["snapshotSequence"] == 2, "the new snapshot")
        pod.sync()
        async with asyncio.timeout(20):
            while (await ask(client)).headers["x-foresail-model"] != "dear":
                pass
            while upstream.asked[-1].headers["Authorization"] != "Bearer second":
                await ask(client)


async def test_a_budget_holds_in_the_pod_and_a_new_amount_keeps_what_was_spent(
    cluster: Cluster, upstream: Upstream, tmp_path: Path
) -> None:
    def limited(amount: str) -> Object:
        budget = {"name": "daily", "amount": amount, "window": {"calendar": {"unit": "Day", "timeZone": "Asia/Tokyo"}}}
        return policy("limited", pool="limited", costLimits={"budgets": [budget]})

    cluster.apply(pool("limited", model("only", url=upstream.url, tokenCount={"overheadTokens": 10})), limited("1"))
    cluster.wait_programmed("limited")
    pod = Pod(cluster, "limited-foresail", tmp_path, {})
    async with pod.running() as client, asyncio.timeout(60):
        assert (await ask(client)).status_code == 200
        spent = 0.0
        while not spent:
            spent = await _spent(client)

        cluster.apply(limited("0"))
        cluster.wait_for(lambda: cluster.status("limited")["snapshotSequence"] == 2, "the new amount")
        pod.sync()
        while (refused := await ask(client)).status_code == 200:
            pass
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert (error["code"], error["budget"]) == ("budget_exhausted", "daily")
        assert refused.headers["x-should-retry"] == "false"

        cluster.apply(limited("2"))
        cluster.wait_for(lambda: cluster.status("limited")["snapshotSequence"] == 3, "the amount after that")
        pod.sync()
        while (await ask(client)).status_code != 200:
            pass
        assert await _spent(client) >= spent


async def test_two_pods_keep_one_sum_on_a_redis_whose_password_is_in_a_secret(
    cluster: Cluster, upstream: Upstream, tmp_path: Path
) -> None:
    with running_redis(tmp_path / "redis", (*DURABLE, "--requirepass", "open-sesame")) as redis:
        server = {"url": f"redis://127.0.0.1:{redis.port}", "secretRef": {"name": "redis", "key": "api-key"}}
        budget = {"name": "hourly", "amount": "1", "window": {"calendar": {"unit": "Hour"}}}
        limits = {"budgets": [budget], "ledger": {"type": "Redis", "redis": server}}
        cluster.apply(
            secret("redis", "open-sesame"),
            pool("shared", model("only", url=upstream.url, tokenCount={"overheadTokens": 10})),
            policy("shared", pool="shared", costLimits=limits, serving={"replicas": 2}),
        )
        cluster.wait_programmed("shared")
        pods = [Pod(cluster, "shared-foresail", tmp_path / name, {}) for name in ("first", "second")]
        async with pods[0].running() as first, pods[1].running() as second, asyncio.timeout(60):
            # A new ledger takes reservations only when everybody had time to say what it should know.
            while (answer := await ask(first)).status_code == 503:
                assert answer.json()["error"]["code"] == "ledger_restoring"
            assert answer.status_code == 200, answer.text
            while not await _spent(second):
                pass
            assert await _spent(first) == await _spent(second)


async def _spent(client: httpx.AsyncClient) -> float:
    (budget,) = (await client.get("/v1/budgets")).json()["data"]
    return float(budget["spent_usd"])


async def test_a_pod_starts_without_its_secret_and_says_what_is_missing(
    cluster: Cluster, upstream: Upstream, tmp_path: Path
) -> None:
    keyed = model("keyed", url=upstream.url, secret="absent")
    cluster.apply(pool("half", keyed, model("open", url=upstream.url, price="5")), policy("half", pool="half"))
    cluster.wait_programmed("half")
    async with Pod(cluster, "half-foresail", tmp_path, {}).running() as client:
        assert (await ask(client)).headers["x-foresail-model"] == "open"
        route = (await client.post("/v1/route", json=chat("Say hello."))).json()
        reasons = {candidate["model"]: candidate["eliminated"] for candidate in route["candidates"]}
        assert reasons == {"keyed": "CredentialMissing", "open": None}


async def test_the_pod_asks_the_trained_router_on_its_volume(
    cluster: Cluster, upstream: Upstream, tmp_path: Path
) -> None:
    artifact, digest = _trained(tmp_path)
    models = [model(name, url=upstream.url, price=None) | {"price": _dollars(*PRICES[name])} for name in MODELS]
    learned = configurations.learned(digest, claim="routers.v1", path=artifact.name, deadlineMilliseconds=20_000)
    cluster.apply(pool("learned", *models), policy("learned", pool="learned", router=learned))
    cluster.wait_programmed("learned")
    pod = Pod(cluster, "learned-foresail", tmp_path / "root", {"routers.v1": artifact.parent})
    async with pod.running() as client:
        answer = await ask(client, SUM)
        assert answer.status_code == 200, answer.text
        assert (answer.headers["x-foresail-model"], answer.headers["x-foresail-basis"]) == ("specialist", "Learned")


def _trained(folder: Path) -> tuple[Path, str]:
    data, artifact = write_data(folder / "data", 60), folder / "volume" / "support"
    artifact.parent.mkdir()
    options = ["-o", artifact, "--json", "--threads", "1", "--cache-dir", folder / "cache"]
    done = subprocess.run([FORESAIL, "train", data, *options], capture_output=True, text=True, timeout=100, check=True)
    digest: str = json.loads(done.stdout)["digest"]
    return artifact, digest


def _dollars(read: float, written: float) -> Object:
    return {"inputPerMillionTokens": f"{read:g}", "outputPerMillionTokens": f"{written:g}"}


def _priced(found: Object, dollars: str) -> Object:
    return {**found, "price": {"inputPerMillionTokens": dollars, "outputPerMillionTokens": dollars}}
