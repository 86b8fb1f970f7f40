"""What a change means: its place in the order, whether it revokes, what a user is warned of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.configurations import Object, learned, model, policy, pool, write

from foresail_api.errors import UserError
from foresail_api.snapshot import Snapshot
from foresail_sidecar.configuration.changes import next_sequence, takes_away, warnings
from foresail_sidecar.configuration.sources import ManifestSource
from foresail_sidecar.configuration.state import CERTIFICATE, ArtifactFacts, ServingHolder, ServingState
from foresail_sidecar.tenants.directory import TenantDirectory
from foresail_sidecar.tenants.keys import ApiKey

DIGEST = "sha256:" + "a" * 64
CHEAP, DEAR = model("cheap"), model("dear", price="10")


@pytest.mark.parametrize(
    ("offered", "content", "expected"),
    [(None, "same", 5), (None, "new", 6), (5, "same", 5), (6, "same", 6), (9, "new", 9)],
)
def test_the_order_of_snapshots(offered: int | None, content: str, expected: int) -> None:
    assert next_sequence(offered, content, 5, "same") == expected


@pytest.mark.parametrize(("offered", "content"), [(4, "same"), (4, "new"), (5, "new")])
def test_an_older_or_contradicting_snapshot_is_refused(offered: int, content: str) -> None:
    with pytest.raises(UserError, match=f"has the sequence number {offered}, but 5 is being served"):
        next_sequence(offered, content, 5, "same")


def snapshot(tmp_path: Path, *models: Object, **spec: Any) -> Snapshot:
    file = write(tmp_path / "all.yaml", pool(models or (CHEAP, DEAR)), policy(**spec))
    return ManifestSource([file], None).load().snapshot


def state(tmp_path: Path, *models: Object, **spec: Any) -> ServingState:
    made = snapshot(tmp_path, *models, **spec)
    return ServingState(made, made.content_hash(), 1, {})


@pytest.mark.parametrize(
    ("after", "revokes"),
    [
        ({}, False),
        ({"models": (CHEAP,)}, True),
        ({"models": (CHEAP, DEAR, model("third"))}, False),
        ({"models": (CHEAP, model("dear", "http://elsewhere.example/v1"))}, True),
        ({"models": (CHEAP, model("dear", secret=("keys", "other")))}, True),
        ({"models": (CHEAP, model("dear", price="20"))}, False),
        ({"tenants": {"anonymous": "Deny"}}, True),
        ({"aliases": ["smart"]}, False),
    ],
)
def test_what_counts_as_a_revocation(tmp_path: Path, after: dict[str, Any], revokes: bool) -> None:
    before = snapshot(tmp_path)
    assert takes_away(before, snapshot(tmp_path, *after.pop("models", ()), **after)) is revokes


def rights(secret: str, **models: list[str]) -> Object:
    rules = [{"name": tenant, "models": allowed} for tenant, allowed in models.items()]
    return {"apiKeys": {"secretRef": {"name": secret}}, "rules": rules}


@pytest.mark.parametrize(
    ("before", "after", "revokes"),
    [
        (rights("a"), rights("a"), False),
        (rights("a"), rights("b"), True),
        (rights("a"), {"anonymous": "Deny"}, True),
        ({"anonymous": "Deny"}, rights("a"), False),
        (rights("a"), rights("a", team=["cheap"]), True),
        (rights("a", team=["cheap", "dear"]), rights("a", team=["dear"]), True),
        (rights("a", team=["cheap"]), rights("a", team=["cheap", "dear"]), False),
        (rights("a", team=["cheap"]), rights("a"), False),
    ],
)
def test_a_tenant_that_may_do_less_is_a_revocation(
    tmp_path: Path, before: Object, after: Object, revokes: bool
) -> None:
    assert takes_away(snapshot(tmp_path, tenants=before), snapshot(tmp_path, tenants=after)) is revokes


def test_keys_that_nobody_has_are_a_warning_with_its_remedy(tmp_path: Path) -> None:
    served = state(tmp_path, tenants=rights("callers"))
    assert "Secret 'callers' has no usable entry; `foresail key create` prints one" in told(served)
    keyed = replace(served, tenants=TenantDirectory({"sha256:0": ApiKey("team-a")}))
    assert "API key" not in told(keyed)


def test_a_lower_cap_is_a_revocation(tmp_path: Path) -> None:
    bounded = [each | {"tokenCount": {"overheadTokens": 10}} for each in (CHEAP, DEAR)]
    free, high, low = (
        snapshot(tmp_path, *bounded, **({"costLimits": {"perRequest": cap}} if cap else {}))
        for cap in (None, "0.2", "0.1")
    )
    assert takes_away(free, high)
    assert takes_away(high, low)
    assert not takes_away(low, high)
    assert not takes_away(high, free)


FIVE: Object = {"name": "team", "amount": "5", "window": {"calendar": {"unit": "Day"}}}
OF_TENANTS: Object = FIVE | {"scope": "Tenant", "overrides": [{"tenant": "ann", "amount": "9"}]}


@pytest.mark.parametrize(
    ("before", "after", "revokes"),
    [
        ([FIVE], [FIVE], False),
        ([FIVE], [FIVE | {"amount": "6"}], False),
        ([FIVE], [], False),
        ([FIVE], [FIVE | {"mode": "Observe"}], False),
        ([], [FIVE | {"mode": "Observe"}], False),
        ([], [FIVE], True),
        ([FIVE | {"mode": "Observe"}], [FIVE], True),
        ([FIVE], [FIVE | {"amount": "4"}], True),
        ([FIVE], [FIVE | {"window": {"calendar": {"unit": "Week"}}}], True),
        ([OF_TENANTS], [OF_TENANTS | {"overrides": []}], True),
        ([OF_TENANTS], [OF_TENANTS | {"overrides": [{"tenant": "ann", "amount": "10"}]}], False),
    ],
)
def test_less_money_is_a_revocation(tmp_path: Path, before: list[Object], after: list[Object], revokes: bool) -> None:
    bounded = [each | {"tokenCount": {"overheadTokens": 10}} for each in (CHEAP, DEAR)]
    first, second = (snapshot(tmp_path, *bounded, costLimits={"budgets": budgets}) for budgets in (before, after))
    assert takes_away(first, second) is revokes


def test_a_ledger_without_its_password_is_a_warning_with_its_remedy(tmp_path: Path) -> None:
    reference = {"url": "redis://127.0.0.1:1", "secretRef": {"name": "ledger", "key": "password"}}
    bounded = CHEAP | {"tokenCount": {"overheadTokens": 10}}
    costs = {"budgets": [FIVE], "ledger": {"type": "Redis", "redis": reference}}
    served = state(tmp_path, bounded, costLimits=costs)
    assert "no credential ledger/password" in told(served)
    assert "ledger/password" not in told(replace(served, credentials={("ledger", "password"): "x"}))


def test_a_ledger_without_its_authorities_is_a_warning_with_its_remedy(tmp_path: Path) -> None:
    reference = {"url": "rediss://127.0.0.1:1", "caSecretRef": {"name": "redis-tls", "key": "ca.crt"}}
    bounded = CHEAP | {"tokenCount": {"overheadTokens": 10}}
    costs = {"budgets": [FIVE], "ledger": {"type": "Redis", "redis": reference}}
    served = state(tmp_path, bounded, costLimits=costs)
    assert "it is not asked: no certificates redis-tls/ca.crt; put them into" in told(served)
    assert "no certificates redis-tls/ca.crt" in told(replace(served, credentials={("redis-tls", "ca.crt"): "x"}))
    assert "redis-tls/ca.crt" not in told(replace(served, credentials={("redis-tls", "ca.crt"): CERTIFICATE}))


def told(state: ServingState) -> str:
    return "\n".join(warnings(state))


def test_a_missing_credential_names_model_file_and_remedy(tmp_path: Path) -> None:
    served = state(tmp_path, CHEAP, model("dear", secret=("keys", "a")))
    assert "model 'dear' is left out: no credential keys/a" in told(served)
    assert "--secrets" in told(served)
    assert "keys/a" not in told(replace(served, credentials={("keys", "a"): "sk"}))


def test_unpriced_models_are_named_unless_the_cap_said_so(tmp_path: Path) -> None:
    assert "they rank last: free" in told(state(tmp_path, CHEAP, model("free", price=None)))


def test_a_strategy_without_an_artifact_is_told(tmp_path: Path) -> None:
    assert "the strategy is Cheapest, which does not read prompts" in told(state(tmp_path))


def test_a_router_that_does_not_fit_the_pool_is_told(tmp_path: Path) -> None:
    served = state(tmp_path, router=learned(DIGEST))
    facts = ArtifactFacts(DIGEST, "knn", ("cheap", "gone"), "cheap", 1, 1)
    text = told(replace(served, artifact=facts))
    assert "not trained on dear: never chosen by it" in text
    assert "models that the pool has not: gone" in text
    assert told(replace(served, artifact=replace(facts, models=("cheap", "dear")))) == ""


@pytest.mark.parametrize(
    ("mode", "then"),
    [("FailOpen", "every decision falls back"), ("FailClose", "nothing is answered until it is there")],
)
def test_a_missing_artifact_says_what_follows(tmp_path: Path, mode: str, then: str) -> None:
    served = replace(state(tmp_path, router=learned(DIGEST, failureMode=mode)), artifact_error="it is not there")
    assert told(served) == f"it is not there; {then}" + (" and says so" if mode == "FailOpen" else "")


async def test_a_scorer_is_in_use_until_the_last_block_is_left(tmp_path: Path) -> None:
    scorer: Any = object()
    holder = ServingHolder(replace(state(tmp_path), scorer=scorer))
    with holder.in_use() as first:
        with holder.in_use():
            assert first is not None
            assert not await holder.wait_until_unused(scorer, 0.001)
        assert not await holder.wait_until_unused(scorer, 0.001)
    assert await holder.wait_until_unused(scorer, 5)
    holder.withdraw("the pool is gone")
    with holder.in_use() as nothing:
        assert nothing is None
    assert holder.configuration_errors == 1
