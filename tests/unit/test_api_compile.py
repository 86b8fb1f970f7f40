"""From both kinds to a snapshot, or to every reason why not."""

from __future__ import annotations

from typing import Any

import pytest

from foresail_api.compile import Compilation, Target, compile_policy
from foresail_api.policy import RoutingPolicy
from foresail_api.pool import AuthScheme, Capability, ModelPool, OutputLimitField
from foresail_api.reasons import ConditionType, Reason
from foresail_api.snapshot import SnapshotTokenizer

Object = dict[str, Any]
DIGEST = "sha256:" + "ab" * 32


def pool(*models: Object, namespace: str = "team") -> ModelPool:
    return ModelPool.model_validate(
        {"metadata": {"name": "pool", "namespace": namespace}, "spec": {"models": list(models) or [model()]}}
    )


def model(name: str = "small", **changes: Any) -> Object:
    return {
        "name": name,
        "upstreams": [{"name": "main", "url": "https://models.example/v1"}],
        "contextWindowTokens": 8192,
        "maxOutputTokens": 1024,
    } | changes


def policy(**spec: Any) -> RoutingPolicy:
    spec = {"poolRef": {"name": "pool"}, "router": {"strategy": "Cheapest"}} | spec
    return RoutingPolicy.model_validate({"metadata": {"name": "policy", "namespace": "team"}, "spec": spec})


def compiled(policy: RoutingPolicy, pool: ModelPool | None, target: Target = Target.CLUSTER) -> Compilation:
    result = compile_policy(policy, pool, target)
    assert (result.snapshot is None) == bool(result.problems)
    return result


def only_problem(result: Compilation) -> tuple[ConditionType, Reason, str]:
    (problem,) = result.problems
    return problem.condition, problem.reason, problem.message


def test_a_snapshot_holds_everything_in_whole_numbers() -> None:
    full = model(
        price={"inputPerMillionTokens": "0.25", "outputPerMillionTokens": "2", "perRequest": "0.000001"},
        tokenCount={"maxTokensPerByte": 2, "overheadTokens": 50},
        defaultMaxOutputTokens=256,
        minOutputTokens=16,
        capabilities=["Vision", "Tools"],
        upstreams=[
            {
                "name": "main",
                "url": "https://models.example/v1",
                "model": "small-2026",
                "outputLimitField": "MaxCompletionTokens",
                "auth": {"scheme": "Header", "headerName": "api-key", "secretRef": {"name": "keys", "key": "main"}},
            }
        ],
    )
    snapshot = compiled(policy(costLimits={"perRequest": "0.01"}, tenants={"anonymous": "Allow"}), pool(full)).snapshot
    assert snapshot is not None
    assert (snapshot.namespace, snapshot.policy, snapshot.pool) == ("team", "policy", "pool")
    assert snapshot.per_request_nano_dollars == 10_000_000
    assert snapshot.anonymous_allowed
    (read,) = snapshot.models
    assert read.price is not None
    assert (read.price.input_micro_dollars, read.price.output_micro_dollars) == (250_000, 2_000_000)
    assert read.price.request_micro_dollars == 1
    assert (read.max_tokens_per_byte, read.overhead_tokens) == (2, 50)
    assert (read.min_output_tokens, read.default_max_output_tokens, read.max_output_tokens) == (16, 256, 1024)
    assert read.capabilities == {Capability.TOOLS, Capability.VISION}
    (upstream,) = read.upstreams
    assert upstream.auth is not None
    assert (upstream.model, upstream.output_limit_field) == ("small-2026", OutputLimitField.MAX_COMPLETION_TOKENS)
    assert (upstream.auth.scheme, upstream.auth.header_name) == (AuthScheme.HEADER, "api-key")
    assert (upstream.auth.secret_name, upstream.auth.secret_key) == ("keys", "main")


def test_what_is_absent_is_filled_in() -> None:
    snapshot = compiled(policy(), pool()).snapshot
    assert snapshot is not None
    read = snapshot.models[0]
    assert read.price is None
    assert read.overhead_tokens is None
    assert read.default_max_output_tokens == read.max_output_tokens == 1024
    assert (read.upstreams[0].model, read.upstreams[0].auth) == ("small", None)
    assert (snapshot.objective.kind, snapshot.objective.percent) == ("Tradeoff", 30)
    assert snapshot.per_request_nano_dollars is None
    assert not snapshot.anonymous_allowed


def test_a_service_is_reached_by_its_cluster_name() -> None:
    backend = {"name": "vllm", "port": 8000, "scheme": "https", "pathPrefix": "/openai/v1"}
    referring = pool(model(upstreams=[{"name": "main", "backendRef": backend}]))
    snapshot = compiled(policy(), referring).snapshot
    assert snapshot is not None
    assert snapshot.models[0].upstreams[0].url == "https://vllm.team.svc:8000/openai/v1"
    condition, reason, message = only_problem(compiled(policy(), referring, Target.LOCAL))
    assert (condition, reason) == (ConditionType.RESOLVED_REFS, Reason.BACKEND_NOT_REACHABLE)
    assert "upstreams[main].backendRef" in message
    assert "use `url`" in message


def test_a_missing_pool_is_named() -> None:
    condition, reason, message = only_problem(compiled(policy(), None))
    assert (condition, reason) == (ConditionType.RESOLVED_REFS, Reason.POOL_NOT_FOUND)
    assert "ModelPool 'pool' does not exist in namespace 'team'" in message


def test_a_default_model_that_the_pool_lacks_is_named_with_what_it_has() -> None:
    wanted = policy(router={"strategy": "Default", "defaultModel": "large"})
    condition, reason, message = only_problem(compiled(wanted, pool(model("small"), model("medium"))))
    assert (condition, reason) == (ConditionType.RESOLVED_REFS, Reason.MODEL_NOT_FOUND)
    assert "no model 'large'; it has small, medium" in message


def test_an_alias_is_no_model_name() -> None:
    condition, reason, message = only_problem(compiled(policy(aliases=["auto", "small"]), pool()))
    assert (condition, reason) == (ConditionType.ACCEPTED, Reason.ALIAS_CONFLICT)
    assert "small is the name of a model" in message


def learned(artifact: Object) -> RoutingPolicy:
    return policy(router={"strategy": "Learned", "artifact": artifact | {"digest": DIGEST}})


def test_an_artifact_on_a_volume_serves_everywhere_and_a_file_only_locally() -> None:
    on_volume = learned({"volumeClaim": {"name": "routers", "path": "team/a"}})
    for target in Target:
        snapshot = compiled(on_volume, pool(), target).snapshot
        assert snapshot is not None
        assert snapshot.router.artifact is not None
        assert (snapshot.router.artifact.claim, snapshot.router.artifact.path) == ("routers", "team/a")
    in_file = learned({"uri": "file:///srv/routers/a"})
    snapshot = compiled(in_file, pool(), Target.LOCAL).snapshot
    assert snapshot is not None
    assert snapshot.router.artifact is not None
    assert (snapshot.router.artifact.claim, snapshot.router.artifact.path) == (None, "/srv/routers/a")
    condition, reason, message = only_problem(compiled(in_file, pool()))
    assert (condition, reason) == (ConditionType.ACCEPTED, Reason.ARTIFACT_NOT_REACHABLE)
    assert "volumeClaim" in message


def test_a_tokenizer_on_a_volume_serves_everywhere_and_a_file_only_locally() -> None:
    def counted(**where: Object | str) -> Object:
        return model(tokenCount={"method": "Tokenizer", "tokenizer": where | {"digest": DIGEST}})

    on_volume = counted(volumeClaim={"name": "tokenizers", "path": "team/small.json"})
    for target in Target:
        snapshot = compiled(policy(), pool(on_volume), target).snapshot
        assert snapshot is not None
        assert snapshot.models[0].tokenizer == SnapshotTokenizer(
            claim="tokenizers", path="team/small.json", digest=DIGEST
        )
    in_file = counted(uri="file:///srv/small.json")
    snapshot = compiled(policy(), pool(in_file), Target.LOCAL).snapshot
    assert snapshot is not None
    assert snapshot.models[0].tokenizer == SnapshotTokenizer(claim=None, path="/srv/small.json", digest=DIGEST)
    condition, reason, message = only_problem(compiled(policy(), pool(in_file)))
    assert (condition, reason) == (ConditionType.RESOLVED_REFS, Reason.TOKENIZER_NOT_REACHABLE)
    assert "volumeClaim" in message


PRICE = {"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"}


def test_a_cap_needs_a_model_whose_worst_case_is_known() -> None:
    capped = policy(costLimits={"perRequest": "0.01"})
    for unfit in (model(), model(price=PRICE), model(tokenCount={"overheadTokens": 10})):
        condition, reason, message = only_problem(compiled(capped, pool(unfit)))
        assert (condition, reason) == (ConditionType.ACCEPTED, Reason.NO_PRICEABLE_MODEL)
        assert "tokenCount.overheadTokens" in message


def test_a_model_that_a_cap_leaves_out_is_a_warning() -> None:
    fit = model("fit", price=PRICE, tokenCount={"overheadTokens": 10})
    mixed = pool(fit, model("unpriced"), model("unbounded", price=PRICE))
    open_to_all = {"anonymous": "Allow"}
    warnings = compiled(policy(costLimits={"perRequest": "0.01"}, tenants=open_to_all), mixed).warnings
    assert ["'unpriced'" in warning and "price" in warning for warning in warnings] == [True, False]
    assert "'unbounded'" in warnings[1]
    assert "tokenCount.overheadTokens" in warnings[1]
    assert compiled(policy(tenants=open_to_all), mixed).warnings == ()


def test_a_policy_that_admits_nobody_is_a_warning() -> None:
    (warning,) = compiled(policy(), pool(model())).warnings
    assert "every caller gets status 401 until `spec.tenants.apiKeys` is set" in warning
    assert compiled(policy(tenants=KEYED), pool(model())).warnings == ()
    assert compiled(policy(), pool(model()), Target.LOCAL).warnings == ()


KEYED = {"apiKeys": {"secretRef": {"name": "tenants"}}}


def test_the_tenants() -> None:
    rules = [{"name": "team-a", "models": ["small"]}, {"name": "team-b", "models": ["large", "small"]}]
    snapshot = compiled(policy(tenants=KEYED | {"rules": rules}), pool(model(), model("large"))).snapshot
    assert snapshot is not None
    assert snapshot.tenants.secret_name == "tenants"
    assert snapshot.tenants.models == {"team-a": ("small",), "team-b": ("large", "small")}
    assert not snapshot.anonymous_allowed


def test_a_tenant_can_only_be_allowed_models_of_the_pool() -> None:
    rules = [{"name": "team-a", "models": ["small", "huge"]}]
    condition, reason, message = only_problem(compiled(policy(tenants=KEYED | {"rules": rules}), pool()))
    assert (condition, reason) == (ConditionType.RESOLVED_REFS, Reason.MODEL_NOT_FOUND)
    assert "`spec.tenants.rules[team-a].models`" in message
    assert "no model 'huge'; it has small" in message


def test_all_problems_are_told_at_once() -> None:
    wanted = policy(aliases=["small"], router={"strategy": "Default", "defaultModel": "large"})
    reasons = {problem.reason for problem in compiled(wanted, pool()).problems}
    assert reasons == {Reason.ALIAS_CONFLICT, Reason.MODEL_NOT_FOUND}


@pytest.mark.parametrize(
    ("objective", "kind", "percent"),
    [
        ({"tradeoff": {}}, "Tradeoff", 30),
        ({"tradeoff": {"costWeightPercent": 0}}, "Tradeoff", 0),
        ({"cheapestWithinPercentOfBest": {"percent": 5}}, "CheapestWithinPercentOfBest", 5),
    ],
)
def test_the_objective(objective: Object, kind: str, percent: int) -> None:
    snapshot = compiled(policy(objective=objective), pool()).snapshot
    assert snapshot is not None
    assert (snapshot.objective.kind, snapshot.objective.percent) == (kind, percent)


def test_compiling_twice_gives_the_same_content() -> None:
    first, second = (compiled(policy(), pool()).snapshot for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.canonical_json() == second.canonical_json()
