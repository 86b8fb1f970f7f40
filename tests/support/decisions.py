"""Snapshots, requests and estimates for tests of the decision: sensible everywhere, each field open to change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from foresail_api.common import micro_dollars, nano_dollars
from foresail_api.policy import FailureMode, Strategy
from foresail_api.pool import Capability, OutputLimitField, Protocol
from foresail_api.snapshot import (
    Snapshot,
    SnapshotArtifact,
    SnapshotModel,
    SnapshotObjective,
    SnapshotPrice,
    SnapshotRouter,
    SnapshotUpstream,
)
from foresail_router.decision.conditions import NO_LIMITS, Conditions, RequestLimits
from foresail_router.decision.decide import decide
from foresail_router.decision.eliminate import eliminate
from foresail_router.decision.types import Candidate, Decision, NeutralRequest
from foresail_router.engine.interface import Estimate

ARTIFACT = SnapshotArtifact(claim=None, path="/artifact", digest="sha256:" + "a" * 64)


def price(input_dollars: str, output_dollars: str, request_dollars: str = "0") -> SnapshotPrice:
    """Prices as users write them: dollars per million tokens, and per request."""
    return SnapshotPrice(
        input_micro_dollars=micro_dollars(input_dollars),
        output_micro_dollars=micro_dollars(output_dollars),
        request_micro_dollars=micro_dollars(request_dollars),
    )


def model(name: str, *, limit_field: OutputLimitField = OutputLimitField.MAX_TOKENS, **changes: Any) -> SnapshotModel:
    upstream = SnapshotUpstream(
        name="first",
        protocol=Protocol.OPENAI,
        url="http://127.0.0.1/v1",
        model=name,
        output_limit_field=limit_field,
        auth=None,
    )
    values: dict[str, Any] = {
        "name": name,
        "upstreams": (upstream,),
        "price": price("1", "2"),
        "max_tokens_per_byte": 1,
        "overhead_tokens": 10,
        "context_window_tokens": 100_000,
        "max_output_tokens": 1000,
        "default_max_output_tokens": 500,
        "min_output_tokens": 1,
        "capabilities": frozenset[Capability](),
    }
    return SnapshotModel(**(values | changes))


def snapshot(
    *models: SnapshotModel,
    strategy: Strategy = Strategy.LEARNED,
    cap: str | None = None,
    objective: tuple[str, int] = ("Tradeoff", 30),
    default_model: str | None = None,
    failure_mode: FailureMode = FailureMode.FAIL_OPEN,
) -> Snapshot:
    """A snapshot that answers `auto`; `cap` is in dollars per request."""
    return Snapshot(
        namespace="default",
        policy="chat",
        pool="pool",
        aliases=("auto",),
        models=models,
        router=SnapshotRouter(
            strategy=strategy,
            artifact=ARTIFACT if strategy == Strategy.LEARNED else None,
            deadline_milliseconds=250,
            default_model=default_model,
            failure_mode=failure_mode,
        ),
        objective=SnapshotObjective.model_validate({"kind": objective[0], "percent": objective[1]}),
        per_request_nano_dollars=None if cap is None else nano_dollars(cap),
        anonymous_allowed=True,
    )


def request(**changes: Any) -> NeutralRequest:
    values: dict[str, Any] = {
        "model": "auto",
        "text": "hello",
        "input_bytes": 1000,
        "required": frozenset[Capability](),
        "output_limit": None,
        "choices": 1,
        "stream": False,
        "unpriceable": None,
    }
    return NeutralRequest(**(values | changes))


def estimate(name: str, quality: float, output_tokens: float = 100, **changes: Any) -> Estimate:
    values: dict[str, Any] = {
        "model": name,
        "quality": quality,
        "quality_std": 0.1,
        "output_tokens": output_tokens,
        "output_tokens_p05": output_tokens / 2,
        "output_tokens_p95": output_tokens * 2,
        "output_tokens_p50": output_tokens,
    }
    return Estimate(**(values | changes))


def candidates_of(
    asked: NeutralRequest,
    served: Snapshot,
    *,
    input_tokens: int | Mapping[str, int] = 250,
    missing: Iterable[str] = (),
    **conditions: Any,
) -> tuple[Candidate, ...]:
    tokens = {one.name: input_tokens for one in served.models} if isinstance(input_tokens, int) else dict(input_tokens)
    conditions = Conditions(tokens, missing_credentials=frozenset(missing), **conditions)
    return eliminate(asked, served, conditions)


def decision_of(
    asked: NeutralRequest,
    served: Snapshot,
    estimates: Iterable[Estimate] | None = None,
    *,
    input_tokens: int | Mapping[str, int] = 250,
    cost_reference: int | None = 1_000_000,
    scoring_error: str | None = None,
    limits: RequestLimits = NO_LIMITS,
    pressure_percent: int = 0,
    **conditions: Any,
) -> Decision:
    return decide(
        asked,
        served,
        candidates_of(asked, served, input_tokens=input_tokens, limits=limits, **conditions),
        None if estimates is None else {one.model: one for one in estimates},
        cost_reference=cost_reference,
        scoring_error=scoring_error,
        snapshot_hash="sha256:0",
        limits=limits,
        pressure_percent=pressure_percent,
    )
