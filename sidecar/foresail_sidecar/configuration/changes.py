"""What a new configuration means beside the one before it: pure rules.

Owns the order of snapshots, what counts as a revocation, and what a user should be warned of. It must not know files or loading.
"""

from __future__ import annotations

from foresail_api.errors import UserError
from foresail_api.policy import FailureMode, Strategy
from foresail_api.snapshot import Snapshot, SnapshotAuth, SnapshotTenants
from foresail_api.snapshot_budgets import SnapshotBudget
from foresail_sidecar.configuration.state import CERTIFICATE, ServingState


def next_sequence(offered: int | None, content: str, served: int, served_content: str) -> int:
    """Return the sequence number under which `content` is served; raise `UserError` if it is older than what is served.

    Where the source counts none (`offered` is None), ours rises with each new content.
    """
    if offered is None:
        return served if content == served_content else served + 1
    if offered < served or (offered == served and content != served_content):
        raise UserError(
            f"the snapshot has the sequence number {offered}, but {served} is being served; an older one never replaces a newer one"
        )
    return offered


def takes_away(before: Snapshot, after: Snapshot) -> bool:
    """Return whether `after` forbids what `before` allowed, so that it must take effect even if it serves worse."""
    lost_models = {model.name for model in before.models} - {model.name for model in after.models}
    lost_upstreams = _addresses(before) - _addresses(after)
    lower_cap = after.per_request_nano_dollars is not None and (
        before.per_request_nano_dollars is None or after.per_request_nano_dollars < before.per_request_nano_dollars
    )
    lost_access = before.anonymous_allowed and not after.anonymous_allowed
    lost_rights = before.tenants != after.tenants and _takes_rights_away(before.tenants, after.tenants)
    less_money = before.budgets != after.budgets and _takes_money_away(before, after)
    return bool(lost_models or lost_upstreams or lower_cap or lost_access or lost_rights or less_money)


def _takes_money_away(before: Snapshot, after: Snapshot) -> bool:
    """Return whether some budget is new, counts otherwise than before, or leaves somebody less."""
    known = {budget.name: budget for budget in before.budgets if budget.enforced}
    return any(_is_stricter(known.get(budget.name), budget) for budget in after.budgets if budget.enforced)


def _is_stricter(before: SnapshotBudget | None, after: SnapshotBudget) -> bool:
    if before is None or _measured(before) != _measured(after):
        return True
    named = {*before.overrides_nano_dollars, *after.overrides_nano_dollars}
    lower = any(after.limit_of(tenant) < before.limit_of(tenant) for tenant in named)
    return (
        lower
        or after.amount_nano_dollars < before.amount_nano_dollars
        or after.overdraft_nano_dollars < before.overdraft_nano_dollars
    )


def _measured(budget: SnapshotBudget) -> tuple[object, ...]:
    return budget.scope, budget.calendar, budget.time_zone, budget.rolling_seconds


def _takes_rights_away(before: SnapshotTenants, after: SnapshotTenants) -> bool:
    """Return whether keys are looked for elsewhere, or a tenant may use less; None stands for every model."""
    if before.secret_name is not None and before.secret_name != after.secret_name:
        return True
    for tenant, allowed in after.models.items():
        allowed_before = before.models.get(tenant)
        if allowed_before is None or set(allowed_before) - set(allowed):
            return True
    return False


def _addresses(snapshot: Snapshot) -> set[tuple[str, str, SnapshotAuth | None]]:
    """Return what requests may be sent to, and with which credential."""
    return {(model.name, upstream.url, upstream.auth) for model in snapshot.models for upstream in model.upstreams}


def warnings(state: ServingState) -> tuple[str, ...]:
    """Return what a user should know of a state that is served all the same, each with its remedy."""
    return (
        *_credential_warnings(state),
        *_ledger_warnings(state),
        *_key_warnings(state),
        *_price_warnings(state),
        *_router_warnings(state),
    )


def _credential_warnings(state: ServingState) -> list[str]:
    unusable = state.models_without_credentials()
    return [
        f"model {model.name!r} {'is left out' if model.name in unusable else 'has an upstream that is left out'}: "
        f"no credential {secret}/{key}; put it into a file {secret}/{key} in the directory of --secrets, or into a Secret manifest"
        for model in state.snapshot.models
        for secret, key in state.missing_credentials(model)
    ]


def _ledger_warnings(state: ServingState) -> list[str]:
    ledger = state.snapshot.ledger
    authorities = (ledger.ca_secret_name, ledger.ca_secret_key)
    usable = {key for key, value in state.credentials.items() if key != authorities or CERTIFICATE in value}
    wanted = {
        "the ledger is asked without a password: no credential": (ledger.secret_name, ledger.secret_key),
        "the ledger's certificate cannot be checked, so it is not asked: no certificates": (
            ledger.ca_secret_name,
            ledger.ca_secret_key,
        ),
    }
    return [
        f"{words} {secret}/{key}; put them into a file {secret}/{key} in the directory of --secrets, or into a Secret manifest"
        for words, (secret, key) in wanted.items()
        if state.snapshot.needs_ledger and secret is not None and key is not None
        if (secret, key) not in usable
    ]


def _key_warnings(state: ServingState) -> list[str]:
    secret = state.snapshot.tenants.secret_name
    if secret is None or state.tenants.by_hash:
        return []
    return [f"no API key is valid: Secret {secret!r} has no usable entry; `foresail key create` prints one"]


def _price_warnings(state: ServingState) -> list[str]:
    unpriced = [model.name for model in state.snapshot.models if model.price is None]
    if not unpriced or state.snapshot.per_request_nano_dollars is not None:
        return []
    return [f"no price, so no cost is known and they rank last: {', '.join(unpriced)}; set `price`"]


def _router_warnings(state: ServingState) -> list[str]:
    router = state.snapshot.router
    if state.artifact_error is not None:
        then = (
            "every decision falls back and says so"
            if router.failure_mode == FailureMode.FAIL_OPEN
            else "nothing is answered until it is there"
        )
        return [f"{state.artifact_error}; {then}"]
    if router.strategy != Strategy.LEARNED:
        return [f"no artifact: the strategy is {router.strategy}, which does not read prompts; every decision says so"]
    known = set(state.artifact.models) if state.artifact else set()
    unknown = [model.name for model in state.snapshot.models if model.name not in known]
    absent = sorted(known - {model.name for model in state.snapshot.models})
    found = []
    if unknown:
        found.append(
            f"the artifact was not trained on {', '.join(unknown)}: never chosen by it; train again to include them"
        )
    if absent:
        found.append(f"the artifact knows models that the pool has not: {', '.join(absent)}; they are ignored")
    return found
