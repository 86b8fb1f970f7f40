"""The pod template and the comparison that decides whether a live object still says what was applied."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest
from tests.support.routing import Object, model, policy, pool

from foresail_api.compile import Target, compile_policy
from foresail_api.policy import RoutingPolicy
from foresail_api.pool import ModelPool
from foresail_operator.children.base import PolicyName
from foresail_operator.children.deployment import SidecarImage, deployment, mounts_of
from foresail_operator.children.drift import says
from foresail_sidecar.commands.serve import command as serve

IMAGE = SidecarImage("registry.example/foresail:1", "Always")
NAME = PolicyName("team", "chat", "u-1")
LEARNED = {
    "strategy": "Learned",
    "artifact": {"volumeClaim": {"name": "routers.v1", "path": "support"}, "digest": "sha256:" + "0" * 64},
}


def pod(policy_: Object, pool_: Object) -> Object:
    spec: Object = spec_of(policy_, pool_)["template"]["spec"]
    return spec


def spec_of(policy_: Object, pool_: Object) -> Object:
    compiled = compile_policy(RoutingPolicy.model_validate(policy_), ModelPool.model_validate(pool_), Target.CLUSTER)
    assert compiled.snapshot is not None
    spec: Object = deployment(NAME, IMAGE, mounts_of(compiled.snapshot), 1)["spec"]
    return spec


def test_each_secret_is_one_optional_directory_with_only_the_keys_that_are_named() -> None:
    long_name = "team-a.provider." + "x" * 200
    spec = pod(
        policy(), pool("models", model("a", secret="keys"), model("b", secret="keys"), model("c", secret=long_name))
    )
    secrets = {volume["secret"]["secretName"]: volume for volume in spec["volumes"] if "secret" in volume}
    assert set(secrets) == {"keys", long_name}
    mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    for name, volume in secrets.items():
        assert volume["secret"]["optional"] is True
        assert volume["secret"]["items"] == [{"key": "api-key", "path": "api-key"}]
        assert len(volume["name"]) <= 63
        assert mounts[volume["name"]] == {
            "name": volume["name"],
            "mountPath": f"/etc/foresail/secrets/{name}",
            "readOnly": True,
        }
    assert "--secrets=/etc/foresail/secrets" in spec["containers"][0]["args"]
    assert "env" not in spec["containers"][0]


def test_the_secret_of_tenants_keys_is_mounted_whole_so_that_an_entry_that_is_added_is_seen() -> None:
    keyed = {"apiKeys": {"secretRef": {"name": "tenants"}}}
    for models in ((model("a"),), (model("a", secret="tenants"),)):
        spec = pod(policy(tenants=keyed), pool("models", *models))
        (volume,) = [volume for volume in spec["volumes"] if "secret" in volume]
        assert volume["secret"] == {"secretName": "tenants", "optional": True}
        mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounts[volume["name"]] == "/etc/foresail/secrets/tenants"
        assert "--secrets=/etc/foresail/secrets" in spec["containers"][0]["args"]


def test_the_trained_router_is_mounted_read_only_where_the_argument_says() -> None:
    spec = pod(policy(router=LEARNED), pool())
    (volume,) = [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    assert volume["persistentVolumeClaim"] == {"claimName": "routers.v1", "readOnly": True}
    assert "--volume-claim=routers.v1=/volumes/routers.v1" in spec["containers"][0]["args"]
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["/volumes/routers.v1"]["readOnly"] is True


def test_volumes_of_tokenizers_are_mounted_once_each_beside_the_router() -> None:
    def counted(name: str, claim: str) -> Object:
        where = {"volumeClaim": {"name": claim, "path": f"{name}.json"}, "digest": LEARNED["artifact"]["digest"]}
        return model(name, tokenCount={"method": "Tokenizer", "tokenizer": where})

    models = (counted("a", "tokenizers"), counted("b", "routers.v1"), counted("c", "tokenizers"), model("d"))
    spec = pod(policy(router=LEARNED), pool("models", *models))
    (container,) = spec["containers"]
    volumes = {
        volume["name"]: volume["persistentVolumeClaim"]
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    }
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert len(volumes) == 2
    for claim in ("routers.v1", "tokenizers"):
        mount = mounts[f"/volumes/{claim}"]
        assert mount["readOnly"] is True
        assert volumes[mount["name"]] == {"claimName": claim, "readOnly": True}
        assert container["args"].count(f"--volume-claim={claim}=/volumes/{claim}") == 1


def test_a_claim_that_also_keeps_the_ledger_is_one_volume_and_is_read_where_the_argument_says() -> None:
    """A pod with two volumes of one claim can wait for the second one forever."""
    where = {"volumeClaim": {"name": "all", "path": "a.json"}, "digest": LEARNED["artifact"]["digest"]}
    counted = model("a", tokenCount={"method": "Tokenizer", "tokenizer": where, "overheadTokens": 1})
    spec = pod(policy(costLimits={"ledger": {"storage": {"volumeClaimName": "all"}}}), pool("models", counted))
    (volume,) = [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    assert volume == {"name": "state", "persistentVolumeClaim": {"claimName": "all"}}
    (container,) = spec["containers"]
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "state"]
    assert {"name": "state", "mountPath": "/volumes/all", "readOnly": True} in mounts
    assert len(mounts) == 2
    assert "--volume-claim=all=/volumes/all" in container["args"]


def test_a_pool_without_secrets_and_a_policy_without_artifact_mount_neither() -> None:
    spec = pod(policy(), pool())
    assert [volume["name"] for volume in spec["volumes"]] == ["snapshot", "state", "tmp"]
    assert not [argument for argument in spec["containers"][0]["args"] if "secrets" in argument or "claim" in argument]


REDIS = {"type": "Redis", "redis": {"url": "redis://redis:6379", "secretRef": {"name": "keys", "key": "redis"}}}


def test_the_password_of_a_redis_is_mounted_beside_other_keys_of_its_secret() -> None:
    (volume,) = [
        volume
        for volume in pod(policy(costLimits={"ledger": REDIS}), pool("models", model("a", secret="keys")))["volumes"]
        if "secret" in volume
    ]
    assert volume["secret"]["items"] == [{"key": "api-key", "path": "api-key"}, {"key": "redis", "path": "redis"}]


def test_the_authorities_of_a_redis_are_mounted() -> None:
    redis = {"url": "rediss://redis:6379", "caSecretRef": {"name": "redis-tls", "key": "ca.crt"}}
    spec = pod(policy(costLimits={"ledger": {"type": "Redis", "redis": redis}}), pool())
    (volume,) = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    assert (volume["secretName"], volume["items"]) == ("redis-tls", [{"key": "ca.crt", "path": "ca.crt"}])
    paths = [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]]
    assert "/etc/foresail/secrets/redis-tls" in paths


def test_an_embedded_ledger_lies_on_its_volume_which_two_pods_never_share() -> None:
    stored = spec_of(policy(costLimits={"ledger": {"storage": {"volumeClaimName": "ledger"}}}), pool())
    spec = stored["template"]["spec"]
    assert {"name": "state", "persistentVolumeClaim": {"claimName": "ledger"}} in spec["volumes"]
    assert spec["securityContext"]["fsGroup"] == 65532
    assert stored["strategy"] == {"type": "Recreate"}


def test_without_a_volume_what_a_pod_keeps_ends_with_it() -> None:
    plain = spec_of(policy(), pool())
    spec = plain["template"]["spec"]
    assert {"name": "state", "emptyDir": {}} in spec["volumes"]
    assert {"name": "state", "mountPath": "/var/lib/foresail"} in spec["containers"][0]["volumeMounts"]
    assert "--state=/var/lib/foresail" in spec["containers"][0]["args"]
    assert plain["strategy"]["type"] == "RollingUpdate"


def test_the_command_takes_the_arguments() -> None:
    (container,) = pod(policy(router=LEARNED, costLimits={"ledger": REDIS}), pool())["containers"]
    parser = argparse.ArgumentParser()
    serve.configure(parser)
    known = parser.format_help().split()
    assert [argument for argument in container["args"][1:] if argument.split("=", 1)[0] not in known] == []


def test_the_pod_meets_the_restricted_profile_and_holds_no_token() -> None:
    spec = pod(policy(), pool())
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (container["image"], container["imagePullPolicy"]) == (IMAGE.name, "Always")


def test_a_pod_that_ends_has_time_for_its_open_requests() -> None:
    spec = pod(policy(), pool())
    numbers = dict(argument.removeprefix("--").split("=", 1) for argument in spec["containers"][0]["args"][1:])
    needed = int(numbers["shutdown-delay-seconds"]) + 2 * int(numbers["drain-seconds"])
    assert spec["terminationGracePeriodSeconds"] > needed


def test_only_liveness_restarts_a_pod_and_readiness_asks_whether_it_can_answer() -> None:
    (container,) = pod(policy(), pool())["containers"]
    paths = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def test_nothing_of_the_routing_itself_is_in_the_template() -> None:
    assert json.dumps(pod(policy(), pool())) == json.dumps(pod(policy(aliases=["other"]), pool("models", model("x"))))


@pytest.mark.parametrize(
    ("live", "wanted", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, True),
        ({"a": "text"}, {"a": {"b": 1}}, False),
        ([1, 2], [1, 2], True),
        ([1, 2, 3], [1, 2], False),
        ([{"name": "x", "more": 1}, {"name": "y"}], [{"name": "x"}], True),
        ([{"name": "y"}], [{"name": "x"}], False),
        ([{"name": "x", "v": 1}], [{"name": "x", "v": 2}], False),
        ([{"uid": "1", "name": "a"}], [{"uid": "2", "name": "a"}], False),
        ([], [], True),
        (["old"], [], False),
        (None, [], False),
        (None, {}, False),
        ({"a": True}, {"a": True}, True),
        ({"a": 0}, {"a": 1}, False),
    ],
)
def test_a_live_object_says_what_is_wanted_whatever_others_added(live: Any, wanted: Any, same: bool) -> None:
    assert says(live, wanted) is same
