"""From headers to a caller: whose key it is, what that tenant may use, and what the headers narrow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from tests.support.sidecar import model_of, snapshot_of, state_of, upstream_of

from foresail_api.snapshot import SnapshotTenants
from foresail_router.decision.conditions import RequestLimits
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.fronts.http.callers import Caller, caller_of
from foresail_sidecar.fronts.http.errors import Problem, Refused
from foresail_sidecar.tenants.directory import read_keys
from foresail_sidecar.tenants.keys import hash_of_key, new_key

LASTING, EXPIRED, RESTRICTED, STRANGE = (new_key() for _ in range(4))
DIRECTORY, _ = read_keys(
    {
        "a": f"{hash_of_key(LASTING)} tenant=team-a",
        "b": f"{hash_of_key(EXPIRED)} tenant=team-a expires=2001-01-01T00:00:00Z",
        "c": f"{hash_of_key(RESTRICTED)} tenant=team-c",
    }
)
TENANTS = SnapshotTenants(secret_name="tenants", models={"team-c": ("small",)})


def state(*, anonymous: bool = False, keys: bool = True) -> ServingState:
    tenants = TENANTS if keys else SnapshotTenants()
    models = [model_of(name, upstream_of("http://127.0.0.1:9/v1")) for name in ("small", "large")]
    return replace(state_of(snapshot_of(*models, anonymous_allowed=anonymous, tenants=tenants)), tenants=DIRECTORY)


def called(*fields: tuple[str, str], **served: Any) -> Caller:
    return caller_of(CIMultiDictProxy(CIMultiDict(fields)), state(**served))


def refused(*fields: tuple[str, str], **served: Any) -> Problem:
    with pytest.raises(Refused) as raised:
        called(*fields, **served)
    return raised.value.problem


@pytest.mark.parametrize(
    "field",
    [
        ("Authorization", f"Bearer {LASTING}"),
        ("authorization", f"bearer  {LASTING} "),
        ("X-Api-Key", LASTING),
        ("api-key", LASTING),
    ],
)
def test_a_key_may_stand_where_clients_send_keys(field: tuple[str, str]) -> None:
    assert called(field) == Caller("team-a", None, RequestLimits())


def test_a_tenant_with_a_rule_may_use_its_models_alone() -> None:
    caller = called(("Authorization", f"Bearer {RESTRICTED}"))
    assert caller.allowed_models == {"small"}
    snapshot = state().snapshot
    assert [caller.may_name(name, snapshot) for name in ("auto", "small", "large", "unheard-of")] == [
        True,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize(
    "field",
    [
        ("Authorization", f"Bearer {STRANGE}"),
        ("Authorization", f"Bearer {EXPIRED}"),
        ("Authorization", f"Bearer {hash_of_key(LASTING)}"),
        ("Authorization", "Bearer "),
        ("Authorization", f"Basic {LASTING}"),
        ("Authorization", LASTING),
        ("X-Api-Key", ""),
    ],
)
def test_a_key_that_is_not_valid_is_refused_also_where_anonymous_callers_are_not(
    field: tuple[str, str], anonymous: bool
) -> None:
    problem = refused(field, anonymous=anonymous)
    assert (problem.status, problem.type, problem.code) == (401, "authentication_error", "invalid_api_key")
    assert problem.headers["WWW-Authenticate"].startswith("Bearer")
    assert "fsk_" not in problem.message


def test_nobody_is_anonymous_unless_the_policy_says_so() -> None:
    assert called(anonymous=True).tenant == ""
    assert "Authorization: Bearer <key>" in refused().message
    assert refused().code == "authentication_required"
    assert "`spec.tenants.anonymous: Allow`" in refused(keys=False).message


def test_any_key_passes_where_there_are_none() -> None:
    assert called(("Authorization", "Bearer unused"), anonymous=True, keys=False).tenant == ""
    assert refused(("Authorization", f"Bearer {LASTING}"), keys=False).code == "authentication_required"


@pytest.mark.parametrize(
    ("fields", "limits"),
    [
        ([("x-foresail-max-cost-usd", "0.01")], RequestLimits(max_cost=10_000_000)),
        ([("X-Foresail-Max-Cost-USD", " 0.000000001 ")], RequestLimits(max_cost=1)),
        ([("x-foresail-max-cost-usd", "0")], RequestLimits(max_cost=0)),
        (
            [("x-foresail-models", "small, openai/gpt:free")],
            RequestLimits(models=frozenset({"small", "openai/gpt:free"})),
        ),
        ([("x-foresail-routing", "none")], RequestLimits(routed=False)),
        (
            [("x-foresail-max-cost-usd", "2"), ("x-foresail-models", "small"), ("x-foresail-routing", "none")],
            RequestLimits(2_000_000_000, frozenset({"small"}), False),
        ),
    ],
)
def test_headers_narrow(fields: list[tuple[str, str]], limits: RequestLimits) -> None:
    assert called(*fields, anonymous=True).limits == limits


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("x-foresail-max-cost-usd", text)
            for text in ("", "-1", "1e3", "0.0000000001", "٣", "1,5", "nan", "$1", "1" * 10)
        ),
        *(("x-foresail-models", text) for text in ("", ",", "small,", "small,,large", ",".join(["m"] * 65))),
        *(("x-foresail-routing", text) for text in ("", "None", "auto", "off")),
    ],
)
def test_a_malformed_header_is_refused_by_its_name(name: str, value: str) -> None:
    problem = refused((name, value), anonymous=True)
    assert (problem.status, problem.code, problem.param) == (400, "invalid_header", name)
    assert f"`{name}`" in problem.message


def test_a_header_that_is_there_twice_is_refused() -> None:
    problem = refused(("x-foresail-models", "small"), ("x-foresail-models", "large"), anonymous=True)
    assert (problem.status, problem.code) == (400, "invalid_header")
    assert "send it once" in problem.message


def test_who_is_not_known_learns_nothing_about_headers() -> None:
    assert refused(("x-foresail-routing", "auto")).status == 401


@pytest.mark.parametrize(
    "name",
    [
        "x-foresail-max-cost",
        "X-Foresail-Model",
        "x-foresail-max_cost-usd",
        "x_foresail_models",
        "x-foresail",
        "x-foresail-tenant",
    ],
)
def test_a_misspelt_header_is_refused_and_the_known_ones_are_named(name: str) -> None:
    problem = refused(("x-foresail-routing", "none"), (name, "0.01"), anonymous=True)
    assert (problem.status, problem.code, problem.param) == (400, "invalid_header", name)
    for known in ("x-foresail-max-cost-usd", "x-foresail-models", "x-foresail-routing"):
        assert f"`{known}`" in problem.message
    assert "0.01" not in problem.message


def test_headers_of_others_are_none_of_ours() -> None:
    others = [("x-foresight", "1"), ("x-forwarded-for", "1"), ("foresail-max-cost-usd", "1")]
    assert called(*others, anonymous=True).limits == RequestLimits()


def test_what_a_tenant_may_use_is_looked_up_and_not_built_for_each_request() -> None:
    served, headers = state(), CIMultiDictProxy(CIMultiDict([("Authorization", f"Bearer {RESTRICTED}")]))
    assert caller_of(headers, served).allowed_models is caller_of(headers, served).allowed_models
