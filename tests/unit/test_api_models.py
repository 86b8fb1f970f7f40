"""What the models of both kinds accept, refuse and fill in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from foresail_api.common import micro_dollars, nano_dollars
from foresail_api.manifests import describe
from foresail_api.policy import FailureMode, RoutingPolicy
from foresail_api.pool import ModelPool, OutputLimitField
from foresail_api.tenants import Anonymous

Object = dict[str, Any]
KEYED: Object = {"apiKeys": {"secretRef": {"name": "keys"}}}


def model(**changes: Any) -> Object:
    return {
        "name": "small",
        "upstreams": [{"name": "main", "url": "https://models.example/v1"}],
        "contextWindowTokens": 8192,
        "maxOutputTokens": 1024,
    } | changes


def pool(*models: Object) -> Object:
    return {
        "apiVersion": "foresail.dev/v1alpha1",
        "kind": "ModelPool",
        "metadata": {"name": "pool"},
        "spec": {"models": list(models) or [model()]},
    }


def policy(**spec: Any) -> Object:
    return {
        "apiVersion": "foresail.dev/v1alpha1",
        "kind": "RoutingPolicy",
        "metadata": {"name": "policy"},
        "spec": {"poolRef": {"name": "pool"}, "router": {"strategy": "Cheapest"}} | spec,
    }


def faults(kind: type[ModelPool] | type[RoutingPolicy], document: Object) -> str:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(document)
    return "\n".join(describe(caught.value))


def upstream(**changes: Any) -> Object:
    return model(upstreams=[{"name": "main", "url": "https://models.example/v1"} | changes])


def test_a_minimal_pool_gets_the_documented_defaults() -> None:
    read = ModelPool.model_validate(pool()).spec.models[0]
    assert read.token_count.max_tokens_per_byte == 1
    assert read.token_count.overhead_tokens is None
    assert read.min_output_tokens == 1
    assert read.upstreams[0].output_limit_field is OutputLimitField.MAX_TOKENS
    assert read.upstreams[0].auth is None
    assert read.price is None


def test_a_minimal_policy_gets_the_documented_defaults() -> None:
    read = RoutingPolicy.model_validate(policy())
    assert read.metadata.namespace == "default"
    assert read.spec.aliases == ["auto"]
    assert read.spec.objective.tradeoff is not None
    assert read.spec.objective.tradeoff.cost_weight_percent == 30
    assert read.spec.router.deadline_milliseconds == 250
    assert read.spec.router.failure_mode is FailureMode.FAIL_OPEN
    assert read.spec.tenants.anonymous is Anonymous.DENY
    assert read.spec.tenants.api_keys is None
    assert read.spec.tenants.rules == []


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"contextWindowToken": 1}, "spec.models[0].contextWindowToken", "unknown field"),
        ({"name": "-small"}, "spec.models[0].name", "should match pattern"),
        ({"contextWindowTokens": "8192"}, "spec.models[0].contextWindowTokens", "valid integer"),
        ({"contextWindowTokens": 0}, "spec.models[0].contextWindowTokens", "greater than or equal to 1"),
        ({"maxOutputTokens": 9000}, "spec.models[0]", "`maxOutputTokens` must be less than or equal to `contextWindow"),
        ({"minOutputTokens": 2000}, "spec.models[0]", "`minOutputTokens` must be less than or equal to `maxOutput"),
        ({"defaultMaxOutputTokens": 2000}, "spec.models[0]", "`defaultMaxOutputTokens` must be less than"),
        ({"capabilities": ["Tools", "Tools"]}, "spec.models[0].capabilities", "same value twice"),
        ({"capabilities": ["Telepathy"]}, "spec.models[0].capabilities[0]", "Input should be 'Tools'"),
        ({"upstreams": []}, "spec.models[0].upstreams", "at least 1 item"),
        ({"price": {"inputPerMillionTokens": "0.25"}}, "price.outputPerMillionTokens", "Field required"),
    ],
)
def test_a_broken_model_is_refused_by_field_with_what_must_hold(changes: Object, field: str, words: str) -> None:
    line = faults(ModelPool, pool(model(**changes)))
    assert field in line
    assert words in line


@pytest.mark.parametrize("amount", ["0", "0.000001", "999999999.999999", "12"])
def test_amounts_are_exact(amount: str) -> None:
    price = {"inputPerMillionTokens": amount, "outputPerMillionTokens": amount}
    ModelPool.model_validate(pool(model(price=price)))
    assert nano_dollars(amount) == 1000 * micro_dollars(amount)
    assert micro_dollars(amount) == int(amount.replace(".", "").ljust(len(amount.split(".")[0]) + 6, "0"))


@pytest.mark.parametrize("amount", [0.25, "0.0000001", "-1", "1e3", "1,5", ".5", "1.", "$1", ""])
def test_amounts_are_decimal_strings(amount: object) -> None:
    price = {"inputPerMillionTokens": amount, "outputPerMillionTokens": "1"}
    assert "inputPerMillionTokens" in faults(ModelPool, pool(model(price=price)))


@pytest.mark.parametrize(
    "url", ["https://models.example/v1", "http://127.0.0.1:8000/v1", "https://[::1]:443", "https://a.b/x/v1beta/openai"]
)
def test_base_urls_are_accepted(url: str) -> None:
    ModelPool.model_validate(pool(upstream(url=url)))


@pytest.mark.parametrize(
    "url",
    ["models.example/v1", "ftp://models.example", "https://models.example/v1/", "https://a/v1?x=1", "https://a b"],
)
def test_what_is_no_base_url_is_refused(url: str) -> None:
    assert "upstreams[0].url" in faults(ModelPool, pool(upstream(url=url)))


def test_exactly_one_of_url_and_backend_ref() -> None:
    both = upstream(backendRef={"name": "vllm", "port": 8000})
    neither = model(upstreams=[{"name": "main"}])
    for broken in (both, neither):
        assert "exactly one of `url` and `backendRef` must be set" in faults(ModelPool, pool(broken))


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        ({}, "`secretRef` must be set, unless `scheme` is `None`"),
        ({"scheme": "None", "secretRef": {"name": "a", "key": "b"}}, "`secretRef` must be set, unless"),
        ({"scheme": "Header", "secretRef": {"name": "a", "key": "b"}}, "`headerName` must be set if, and only if"),
        ({"headerName": "api-key", "secretRef": {"name": "a", "key": "b"}}, "`headerName` must be set if, and only if"),
    ],
)
def test_a_credential_that_cannot_be_sent_is_refused(auth: Object, words: str) -> None:
    assert words in faults(ModelPool, pool(upstream(auth=auth)))


@pytest.mark.parametrize(
    "changes",
    [
        {"apiKey": "sk-secret"},
        {"auth": "sk-secret"},
        {"auth": {"secretRef": "sk-secret"}},
        {"auth": {"secretRef": {"name": "sk-secret_", "key": "k"}}},
        {"url": "https://user:sk-secret@models.example/v1"},
        {"url": "https://models.example/v1?key=sk-secret"},
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated_in_the_error(changes: Object) -> None:
    assert "sk-secret" not in faults(ModelPool, pool(upstream(**changes)))


def test_names_are_unique_within_their_list() -> None:
    assert "small appears more than once" in faults(ModelPool, pool(model(), model()))
    twice = model(upstreams=[{"name": "main", "url": "http://a/v1"}, {"name": "main", "url": "http://b/v1"}])
    assert "main appears more than once" in faults(ModelPool, pool(twice))


ARTIFACT = {"uri": "file:///routers/a", "digest": "sha256:" + "0" * 64}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"router": {"strategy": "Learned"}}, "`artifact` must be set if, and only if, `strategy` is `Learned`"),
        ({"router": {"strategy": "Cheapest", "artifact": ARTIFACT}}, "`artifact` must be set if, and only if"),
        ({"router": {"strategy": "Default"}}, "`defaultModel` must be set if `strategy` is `Default`"),
        ({"router": {"strategy": "Learned", "artifact": {"digest": ARTIFACT["digest"]}}}, "exactly one of `uri` and"),
        ({"router": {"strategy": "Learned", "artifact": ARTIFACT | {"digest": "sha256:1"}}}, "digest"),
        ({"router": {"strategy": "Learned", "artifact": ARTIFACT | {"uri": "file://relative"}}}, "uri"),
        ({"router": {"strategy": "Learned", "artifact": ARTIFACT | {"uri": "https://example/a"}}}, "uri"),
        ({"objective": {}}, "exactly one of `tradeoff` and `cheapestWithinPercentOfBest` must be set"),
        ({"objective": {"tradeoff": {"costWeightPercent": 101}}}, "less than or equal to 100"),
        ({"aliases": []}, "at least 1 item"),
        ({"aliases": ["auto", "auto"]}, "same value twice"),
        ({"tenants": {"anonymous": "Maybe"}}, "'Allow' or 'Deny'"),
        ({"tenants": {"rules": [{"name": "a", "models": ["small"]}]}}, "`apiKeys` must be set if there are `rules`"),
        (
            {"tenants": KEYED | {"rules": [{"name": "anonymous", "models": ["small"]}]}},
            "must be another word than `anonymous`",
        ),
        ({"tenants": KEYED | {"rules": [{"name": "Team", "models": ["small"]}]}}, "rules[0].name"),
        ({"tenants": KEYED | {"rules": [{"name": "a", "models": []}]}}, "at least 1 item"),
        ({"tenants": KEYED | {"rules": [{"name": "a", "models": ["small"]}] * 2}}, "`name` must be unique"),
        ({"tenants": {"apiKeys": {"secretRef": {"name": "keys", "key": "a"}}}}, "unknown field"),
        ({"serving": {"mode": "Sidecar"}}, "'Gateway'"),
        ({"poolRef": "pool"}, "spec.poolRef"),
        ({"costLimits": {"perRequest": 0.01}}, "write it in quotes"),
    ],
)
def test_a_broken_policy_is_refused(spec: Object, words: str) -> None:
    assert words in faults(RoutingPolicy, policy(**spec))


@pytest.mark.parametrize("path", ["../other", "/absolute", "a/../b", "a//b", "a/", ".hidden"])
def test_an_artifact_stays_inside_of_its_volume(path: str) -> None:
    artifact = {"volumeClaim": {"name": "routers", "path": path}, "digest": ARTIFACT["digest"]}
    assert "path" in faults(RoutingPolicy, policy(router={"strategy": "Learned", "artifact": artifact}))


def test_what_the_api_server_adds_is_no_fault() -> None:
    metadata = {
        "name": "pool",
        "namespace": "team",
        "uid": "u",
        "generation": 3,
        "managedFields": [],
        "labels": {"a": "b"},
    }
    read = ModelPool.model_validate(pool() | {"metadata": metadata, "status": {"models": 1}})
    assert (read.metadata.namespace, read.metadata.generation) == ("team", 3)
