"""The data plane in this process, on a socket, in front of scripted upstreams: what most of its tests start with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from blockbuster import blockbuster_ctx
from openai import AsyncOpenAI

from foresail_api.policy import FailureMode, Strategy
from foresail_api.pool import AuthScheme, Capability, OutputLimitField, Protocol
from foresail_api.snapshot import (
    Snapshot,
    SnapshotArtifact,
    SnapshotAuth,
    SnapshotModel,
    SnapshotObjective,
    SnapshotPrice,
    SnapshotRouter,
    SnapshotUpstream,
)
from foresail_router.engine.interface import Scorer
from foresail_sidecar.configuration.state import ArtifactFacts, ServingHolder, ServingState
from foresail_sidecar.fronts.http.application import create_application
from foresail_sidecar.fronts.http.context import CONTEXT, LedgerSource
from foresail_sidecar.fronts.http.server import drain, listening
from foresail_sidecar.fronts.http.settings import HttpSettings
from foresail_sidecar.telemetry.decision_log import DecisionLog

DIGEST = "sha256:" + "a" * 64


def upstream_of(url: str, name: str = "first", **changes: Any) -> SnapshotUpstream:
    return SnapshotUpstream(
        **{
            "name": name,
            "protocol": Protocol.OPENAI,
            "url": url,
            "model": "upstream-name",
            "output_limit_field": OutputLimitField.MAX_TOKENS,
            "auth": None,
            **changes,
        }
    )


def bearer(name: str = "keys", key: str = "token", **changes: Any) -> SnapshotAuth:
    return SnapshotAuth(
        **{
            "scheme": AuthScheme.BEARER,
            "header_name": "Authorization",
            "secret_name": name,
            "secret_key": key,
            **changes,
        }
    )


def model_of(
    name: str, *upstreams: SnapshotUpstream, dollars_in: int = 1, dollars_out: int = 2, **changes: Any
) -> SnapshotModel:
    """A model whose prices are US dollars per million tokens."""
    price = SnapshotPrice(
        input_micro_dollars=dollars_in * 10**6, output_micro_dollars=dollars_out * 10**6, request_micro_dollars=0
    )
    return SnapshotModel(
        **{
            "name": name,
            "upstreams": upstreams,
            "price": price,
            "max_tokens_per_byte": 1,
            "overhead_tokens": 10,
            "context_window_tokens": 100_000,
            "max_output_tokens": 1000,
            "default_max_output_tokens": 500,
            "min_output_tokens": 1,
            "capabilities": frozenset[Capability](),
            **changes,
        }
    )


def snapshot_of(
    *models: SnapshotModel,
    strategy: Strategy = Strategy.CHEAPEST,
    failure_mode: FailureMode = FailureMode.FAIL_OPEN,
    default_model: str | None = None,
    deadline_milliseconds: int = 1000,
    **changes: Any,
) -> Snapshot:
    learned = strategy == Strategy.LEARNED
    router = SnapshotRouter(
        strategy=strategy,
        artifact=SnapshotArtifact(claim=None, path="/artifact", digest=DIGEST) if learned else None,
        deadline_milliseconds=deadline_milliseconds,
        default_model=default_model,
        failure_mode=failure_mode,
    )
    return Snapshot(
        **{
            "namespace": "default",
            "policy": "chat",
            "pool": "pool",
            "aliases": ("auto",),
            "models": models,
            "router": router,
            "objective": SnapshotObjective(kind="Tradeoff", percent=0),
            "per_request_nano_dollars": None,
            "anonymous_allowed": True,
            **changes,
        }
    )


def state_of(
    snapshot: Snapshot,
    *,
    credentials: Mapping[tuple[str, str], str] | None = None,
    scorer: Scorer | None = None,
    known: Iterable[str] | None = None,
) -> ServingState:
    """A serving state; with a scorer, its artifact knows the models `known`, all of the pool's if absent."""
    names = tuple(model.name for model in snapshot.models) if known is None else tuple(known)
    facts = ArtifactFacts(DIGEST, "knn", names, names[0] if names else "", 100, 100)
    return ServingState(
        snapshot=snapshot,
        snapshot_hash=snapshot.content_hash(),
        sequence=1,
        credentials=credentials or {},
        scorer=scorer,
        artifact=None if scorer is None else facts,
    )


@dataclass
class Sidecar:
    """A running data plane and a client that speaks plain HTTP to it."""

    url: str
    serving: ServingHolder
    http: httpx.AsyncClient
    application: Any
    closing: contextlib.AsyncExitStack

    def openai(self, **options: Any) -> AsyncOpenAI:
        """OpenAI's own client, which retries nothing unless told."""
        options = {"base_url": f"{self.url}/v1", "api_key": "the-clients-key", "max_retries": 0, **options}
        client = AsyncOpenAI(**options)
        self.closing.push_async_callback(client.close)
        return client

    async def ask(self, content: str = "Say hello.", **body: Any) -> httpx.Response:
        """Send one chat completion, for `model: auto` unless told."""
        message = {"role": "user", "content": content}
        return await self.http.post("/v1/chat/completions", json={"model": "auto", "messages": [message], **body})

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels, 0 if there is none."""
        lines = (await self.http.get("/metrics")).text.splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = [line for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in samples if all(label in line for label in wanted))

    def sample(self, name: str, **labels: str) -> float:
        """The value of a metric's sample with exactly these labels, also when nobody listens any more; 0 if there is none."""
        return self.application[CONTEXT].memory.metrics.registry.get_sample_value(name, labels) or 0.0

    async def drain(self, seconds: float) -> bool:
        return await drain(self.application, seconds)


@contextlib.asynccontextmanager
async def running_sidecar(
    served: ServingState | Snapshot | None,
    settings: HttpSettings | None = None,
    decision_log: DecisionLog | None = None,
    ledgers: LedgerSource | None = None,
) -> AsyncIterator[Sidecar]:
    """Serve a state, or a snapshot without credentials and router, on a free port of loopback.

    While it runs, a call that blocks the event loop raises; when it ends, a task that is left over fails the test.
    """
    serving = ServingHolder(state_of(served) if isinstance(served, Snapshot) else served)
    application = create_application(serving, settings=settings, decision_log=decision_log, ledgers=ledgers)
    before = asyncio.all_tasks()
    with blockbuster_ctx(scanned_modules=["foresail_sidecar", "foresail_router"]):
        async with listening(application, "127.0.0.1", 0) as port:
            url = f"http://127.0.0.1:{port}"
            async with contextlib.AsyncExitStack() as closing:
                http = await closing.enter_async_context(httpx.AsyncClient(base_url=url, timeout=20, trust_env=False))
                yield Sidecar(url, serving, http, application, closing)
    await _no_task_is_left(before)


async def _no_task_is_left(before: set[asyncio.Task[Any]]) -> None:
    left = asyncio.all_tasks() - before
    if left:
        await asyncio.wait(left, timeout=5)
    names = [str(task.get_coro()) for task in asyncio.all_tasks() - before]
    assert not names, f"tasks are left over: {names}"
