"""Budgets and their ledger: what users may write, what becomes of it, and what is left of it when a change is broken."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.api_objects import EXAMPLES
from tests.support.routing import Object, model, policy, pool

from foresail_api.budgets import BudgetMode, BudgetScope, CalendarUnit, HardAction
from foresail_api.compile import Compilation, Target, compile_policy
from foresail_api.ledgers import LedgerType, OnLedgerUnavailable
from foresail_api.manifests import describe
from foresail_api.policy import RoutingPolicy
from foresail_api.pool import ModelPool
from foresail_api.reasons import Reason
from foresail_api.revocation import without_revoked
from foresail_api.snapshot import Snapshot, SnapshotEnvelope, read_envelope
from foresail_api.snapshot_budgets import SnapshotBudget, SnapshotLedger

DAY: Object = {"name": "daily", "amount": "10", "window": {"calendar": {"unit": "Day"}}}
ROLLING: Object = {"name": "recent", "amount": "1", "window": {"rolling": {"seconds": 3600}}}
REDIS: Object = {"type": "Redis", "redis": {"url": "redis://redis.example:6379"}}
OPEN: Object = {"anonymous": "Allow"}
PRICED = model("small", tokenCount={"overheadTokens": 10})


def limited(*budgets: Object, **limits: Any) -> Object:
    return policy(tenants=OPEN, costLimits={"budgets": list(budgets)} | limits)


def compiled(document: Object, *models: Object, target: Target = Target.CLUSTER) -> Compilation:
    pool_ = ModelPool.model_validate(pool("models", *(models or (PRICED,))))
    return compile_policy(RoutingPolicy.model_validate(document), pool_, target)


def served(document: Object) -> Snapshot:
    snapshot = compiled(document).snapshot
    assert snapshot is not None
    return snapshot


def faults(document: Object) -> str:
    with pytest.raises(ValidationError) as caught:
        RoutingPolicy.model_validate(document)
    return "\n".join(describe(caught.value))


def test_a_budget_is_whole_nano_dollars() -> None:
    document = EXAMPLES["full policy"]["spec"]["costLimits"]
    snapshot = served(policy(tenants=OPEN, costLimits=document))
    assert snapshot.budgets == (
        SnapshotBudget(
            name="monthly",
            amount_nano_dollars=100_500_000_000,
            overrides_nano_dollars={"team-a": 25_000_000_000},
            calendar=CalendarUnit.MONTH,
            time_zone="Europe/Berlin",
            rolling_seconds=None,
            scope=BudgetScope.TENANT,
            soft_threshold_percent=80,
            hard_action=HardAction.CHEAPEST,
            overdraft_nano_dollars=5_000_000_000,
            mode=BudgetMode.ENFORCE,
        ),
    )
    assert snapshot.ledger == SnapshotLedger(
        type=LedgerType.REDIS,
        url="rediss://redis.example.test:6380/1",
        username="foresail",
        secret_name="redis",
        secret_key="password",
        ca_secret_name="redis-tls",
        ca_secret_key="ca.crt",
        timeout_milliseconds=200,
    )
    assert snapshot.on_ledger_unavailable is OnLedgerUnavailable.FAIL_OPEN


def test_what_is_absent_of_a_budget_is_filled_in() -> None:
    snapshot = served(limited(DAY, ROLLING))
    day, recent = snapshot.budgets
    assert (day.time_zone, day.scope, day.hard_action, day.mode) == ("UTC", "Policy", "Reject", "Enforce")
    assert (day.overdraft_nano_dollars, day.soft_threshold_percent, day.rolling_seconds) == (0, None, None)
    assert (recent.calendar, recent.rolling_seconds) == (None, 3600)
    assert snapshot.ledger == SnapshotLedger()
    assert snapshot.on_ledger_unavailable is OnLedgerUnavailable.FAIL_CLOSE


def test_a_snapshot_keeps_budgets_on_its_way() -> None:
    sealed = SnapshotEnvelope.seal(served(limited(DAY, ROLLING)), sequence=3)
    assert read_envelope(sealed.to_json(), "the file") == sealed


def test_a_tenant_without_an_amount_of_its_own_has_the_budget_s() -> None:
    overrides = [{"tenant": "team-a", "amount": "25"}, {"tenant": "anonymous", "amount": "0"}]
    (budget,) = served(limited(DAY | {"scope": "Tenant", "overrides": overrides})).budgets
    limits = {tenant: budget.limit_of(tenant) for tenant in ("team-a", "team-b", "")}
    assert limits == {"team-a": 25_000_000_000, "team-b": 10_000_000_000, "": 0}


def test_spend_is_kept_under_the_policy_s_uid_or_its_name_where_it_has_none() -> None:
    document = limited(DAY)
    assert (
        served(document).ledger_namespace
        == f"{document['metadata'].get('namespace', 'default')}/{document['metadata']['name']}"
    )
    document["metadata"] = document["metadata"] | {"uid": "u-1"}
    assert served(document).ledger_namespace == "u-1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"amount": "1000000"}, "amount"),
        ({"amount": "0.0000001"}, "amount"),
        ({"amount": "-1"}, "amount"),
        (
            {"window": {"calendar": {"unit": "Day", "timeZone": "Europe/Atlantis"}}},
            "must be a time zone of the IANA data base, for example `Europe/Berlin` (it is 'Europe/Atlantis')",
        ),
        ({"window": {"calendar": {"unit": "Day", "timeZone": "Europe"}}}, "must be a time zone"),
        ({"window": {"calendar": {"unit": "Day", "timeZone": "../etc/passwd"}}}, "timeZone"),
        ({"window": {"rolling": {"seconds": 59}}}, "seconds"),
        ({"window": {"rolling": {"seconds": 2_678_401}}}, "seconds"),
        ({"softThresholdPercent": 100}, "softThresholdPercent"),
        ({"overrides": [{"tenant": "a", "amount": "1"}]}, "`scope` must be `Tenant`"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(changes: Object, words: str) -> None:
    assert words in faults(limited(DAY | changes))


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@redis:6379",
        "redis://redis:6379/?password=secret",
        "http://redis:6379",
        "redis://",
        "redis://redis/0/1",
    ],
)
def test_the_address_of_a_redis_holds_nothing_else(url: str) -> None:
    assert "url" in faults(limited(DAY, ledger={"type": "Redis", "redis": {"url": url}}))


def test_only_a_redis_counts_for_several_pods() -> None:
    several = {"replicas": 2}
    refused = faults(limited(DAY) | {"spec": limited(DAY)["spec"] | {"serving": several}})
    assert "`serving.replicas` must be at most 1 with an enforced budget" in refused
    shared = limited(DAY, ledger=REDIS)
    shared["spec"]["serving"] = several
    assert compiled(shared).warnings == ()
    observed = limited(DAY | {"mode": "Observe"})
    observed["spec"]["serving"] = several
    (warning,) = compiled(observed).warnings
    assert "every pod counts its own requests only" in warning


def test_a_ledger_that_a_pod_takes_with_it_is_a_warning() -> None:
    (warning,) = compiled(limited(DAY)).warnings
    assert "LedgerNotDurable" in warning
    assert "`spec.costLimits.ledger.storage`" in warning
    assert compiled(limited(DAY, ledger={"storage": {"volumeClaimName": "ledger"}})).warnings == ()
    assert compiled(limited(DAY, ledger=REDIS)).warnings == ()
    assert compiled(limited(DAY), target=Target.LOCAL).warnings == ()


def test_an_enforced_budget_needs_a_model_whose_worst_case_is_known() -> None:
    unpriced = model("unpriced", price=None)
    (problem,) = compiled(limited(DAY), unpriced).problems
    assert problem.reason == Reason.NO_PRICEABLE_MODEL
    assert "an enforced budget of `spec.costLimits.budgets` needs a model with `price`" in problem.message
    assert compiled(limited(DAY | {"mode": "Observe"}), unpriced).problems == ()
    warnings = compiled(limited(DAY), PRICED, unpriced).warnings
    assert any("'unpriced' is never chosen under an enforced budget" in warning for warning in warnings)


def left(before: Object, now: Object) -> Snapshot:
    broken = RoutingPolicy.model_validate(now)
    kept = without_revoked(served(before), broken, ModelPool.model_validate(pool("models", PRICED)))
    assert kept is not None
    return kept


def test_of_a_broken_change_the_lower_amounts_hold_at_once() -> None:
    cheapest: Object = {"hardAction": "Cheapest", "overdraft": "5", "scope": "Tenant"}
    before = limited(DAY | cheapest | {"overrides": [{"tenant": "a", "amount": "20"}]}, ROLLING, perRequest="0.5")
    lower: Object = {"amount": "4", "overdraft": "1", "overrides": [{"tenant": "b", "amount": "3"}]}
    kept = left(before, limited(DAY | cheapest | lower, ROLLING | {"amount": "9"}, perRequest="0.1"))
    day, recent = kept.budgets
    assert [day.limit_of(tenant) for tenant in ("a", "b", "c")] == [4 * 10**9, 3 * 10**9, 4 * 10**9]
    assert day.overdraft_nano_dollars == 10**9
    assert recent.amount_nano_dollars == 10**9
    assert kept.per_request_nano_dollars == 100_000_000


def test_of_a_broken_change_no_budget_is_lifted() -> None:
    before = limited(DAY, ROLLING, perRequest="0.5", ledger=REDIS)
    hourly = DAY | {"window": {"calendar": {"unit": "Hour"}}, "amount": "1"}
    kept = left(before, limited(hourly))
    assert kept.budgets == served(before).budgets
    assert kept.ledger == served(before).ledger
    assert kept.per_request_nano_dollars == 500_000_000
