"""Who calls and how the caller narrows the decision: from a request's headers to a tenant, its rights and its limits.

Owns the names of the headers that requests may carry. It must not know what is decided, nor where keys are kept.
"""

from __future__ import annotations

import re
import time
from typing import Final

from multidict import CIMultiDictProxy

from foresail_api.common import nano_dollars
from foresail_api.snapshot import Snapshot
from foresail_api.values import value
from foresail_router.decision.conditions import RequestLimits
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.errors import Refused
from foresail_sidecar.tenants.directory import ANONYMOUS

MAX_COST: Final = "x-foresail-max-cost-usd"
MODELS: Final = "x-foresail-models"
ROUTING: Final = "x-foresail-routing"

_KNOWN: Final = (MAX_COST, MODELS, ROUTING)
_WORD: Final = "foresail"
_OWN: Final = f"x-{_WORD}"

_DOLLARS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_MOST_MODELS: Final = 64
_LONGEST_SHOWN: Final = 80
_UNROUTED: Final = "none"
_UNLIMITED: Final = RequestLimits()

Headers = CIMultiDictProxy[str]


@value
class Caller:
    """Who sent a request: `tenant` is empty for anonymous callers, `allowed_models` None for who may use every model."""

    tenant: str
    allowed_models: frozenset[str] | None
    limits: RequestLimits

    def may_name(self, model: str, snapshot: Snapshot) -> bool:
        """Return whether the caller may ask for that name: an alias, whatever it comes to, or a model that the tenant may use."""
        if self.allowed_models is None or model in snapshot.aliases or snapshot.model(model) is None:
            return True
        return model in self.allowed_models


def caller_of(headers: Headers, state: ServingState) -> Caller:
    """Return who calls; raise `Refused` for one who is not known, or whose limits cannot be read."""
    tenant = _tenant(headers, state)
    return Caller(tenant, state.snapshot.tenants.allowed.get(tenant), _limits(headers))


def _tenant(headers: Headers, state: ServingState) -> str:
    snapshot = state.snapshot
    has_keys = snapshot.tenants.secret_name is not None
    # OpenAI's SDKs always send some key: where no tenant has one, it says nothing.
    key = _key(headers) if has_keys else None
    if key is None:
        if snapshot.anonymous_allowed:
            return ANONYMOUS
        raise Refused(errors.unauthenticated(has_keys=has_keys))
    tenant = state.tenants.tenant_of(key, int(time.time() * 1000))
    if tenant is None:
        raise Refused(errors.unknown_key())
    return tenant


def _key(headers: Headers) -> str | None:
    """Return the key that a request carries, or None. Another credential is one that is not valid, and not the lack of one."""
    authorization = headers.get("Authorization")
    if authorization is None:
        return headers.get("X-Api-Key", headers.get("Api-Key"))
    scheme, _, value = authorization.partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _limits(headers: Headers) -> RequestLimits:
    # Most requests have none, which one search through all names together tells.
    if _WORD not in "".join(headers).lower():
        return _UNLIMITED
    ours = [name for name in headers if name[: len(_OWN)].lower().replace("_", "-") == _OWN]
    if not ours:
        return _UNLIMITED
    for name in ours:
        # A limit that is not understood must not be passed over in silence.
        if name.lower() not in _KNOWN:
            known = ", ".join(f"`{each}`" for each in _KNOWN)
            shown = name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..."
            raise _malformed(shown, f"does not exist; there are {known}", None)
    max_cost, models, routing = (_only(headers, name) for name in _KNOWN)
    if routing not in (None, _UNROUTED):
        raise _malformed(ROUTING, f"can only be `{_UNROUTED}`", routing)
    return RequestLimits(
        max_cost=None if max_cost is None else _max_cost(max_cost),
        models=None if models is None else _models(models),
        routed=routing is None,
    )


def _only(headers: Headers, name: str) -> str | None:
    """Return a header's value. One that is there twice is refused: whether both or either should hold, nobody can tell."""
    if name not in headers:
        return None
    first, *others = headers.getall(name)
    if others:
        raise _malformed(name, "is there more than once; send it once", None)
    return first.strip()


def _max_cost(value: str) -> int:
    if _DOLLARS.fullmatch(value) is None:
        raise _malformed(MAX_COST, "must be an amount of US dollars with at most 9 decimals, for example 0.01", value)
    return nano_dollars(value)


def _models(value: str) -> frozenset[str]:
    names = [name.strip() for name in value.split(",")]
    if not all(names) or len(names) > _MOST_MODELS:
        raise _malformed(MODELS, f"must be 1 to {_MOST_MODELS} names of models of the pool with commas between", value)
    return frozenset(names)


def _malformed(name: str, words: str, value: str | None) -> Refused:
    shown = "" if value is None or len(value) > _LONGEST_SHOWN else f" (it is {value!r})"
    return Refused(errors.invalid(f"the header `{name}` {words}{shown}", name, "invalid_header"))
