"""What the operator would write and say, decided from frozen values alone."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.routing import Object, conditions, documented, model, policy, pool, stored, told

from foresail_api.reasons import ConditionType, Reason
from foresail_api.snapshot import SnapshotEnvelope, read_envelope
from foresail_operator.children.deployment import SidecarImage
from foresail_operator.observation import PolicyObservation, child, policy_record, pool_record
from foresail_operator.plan import Plan, plan_policy, plan_pool
from foresail_operator.resources import CHILDREN, CONFIG_MAP, DEPLOYMENT, MUST_NOT_EXIST, SERVICE, Resource

IMAGE = SidecarImage("registry.example/foresail:1", "IfNotPresent")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DOCUMENTED = documented()
FORMAT_1 = Path(__file__).parent / "snapshots" / "format-1.json"
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)
ALL_WELL = {"Accepted": "True Accepted", "ResolvedRefs": "True Resolved", "Programmed": "True Programmed"}


class Cluster:
    """One policy, its pool and what was written, as a store that applies plans."""

    def __init__(self, policy_: Object | None = None, pool_: Object | None = None) -> None:
        self.policy = stored(policy_ or policy())
        self.pool = None if pool_ is None else stored(pool_, uid="u-pool")
        self.children: dict[Resource, Object] = {}
        self.version = 100

    def plan(self, now: datetime = NOON, failure: str | None = None, image: SidecarImage = IMAGE) -> Plan:
        seen = PolicyObservation(
            policy_record(self.policy),
            None if self.pool is None else pool_record(self.pool),
            {resource: child(self.children[resource]) if resource in self.children else None for resource in CHILDREN},
        )
        plan = plan_policy(seen, image, now, failure)
        assert undocumented(plan) == []
        return plan

    def apply(self, now: datetime = NOON, **options: Any) -> Plan:
        plan = self.plan(now, **options)
        for write in plan.writes:
            self.version += 1
            before = self.children.get(write.resource)
            version = MUST_NOT_EXIST if before is None else before["metadata"]["resourceVersion"]
            assert write.manifest["metadata"]["resourceVersion"] == version
            status = {} if before is None else {"status": before.get("status", {})}
            unversioned = {**write.manifest["metadata"], "resourceVersion": str(self.version)}
            uid = f"u-{write.resource.plural}"
            self.children[write.resource] = stored({**write.manifest, "metadata": unversioned, **status}, uid=uid)
        self.policy["status"] = copy.deepcopy(plan.status)
        return plan

    def pods_available(self, number: int) -> None:
        self.children[DEPLOYMENT]["status"] = {"availableReplicas": number}

    def change(self, **spec: object) -> None:
        self.policy["spec"].update(spec)
        self.policy["metadata"]["generation"] += 1

    @property
    def envelope(self) -> SnapshotEnvelope:
        return read_envelope(self.children[CONFIG_MAP]["data"]["snapshot.json"], "the ConfigMap")

    @property
    def models(self) -> list[str]:
        return [found.name for found in self.envelope.snapshot.models]

    @property
    def replicas(self) -> int:
        return int(self.children[DEPLOYMENT]["spec"]["replicas"])

    @property
    def pod(self) -> Object:
        spec: Object = self.children[DEPLOYMENT]["spec"]["template"]["spec"]
        return spec


def undocumented(plan: Plan) -> list[str]:
    """What a policy's conditions say that the reference does not list; `Ready` may repeat the reason of another one."""
    said = [(item["type"], item["status"], item["reason"]) for item in plan.status["conditions"]]
    repeated = {("Ready", "False", reason) for _, status, reason in said[:-1] if status != "True"}
    return sorted(str(verdict) for verdict in set(said) - DOCUMENTED - repeated)


def serving(**options: Any) -> Cluster:
    cluster = Cluster(policy(**options), pool())
    cluster.apply()
    cluster.pods_available(1)
    cluster.apply()
    return cluster


def test_the_first_visit_creates_all_children_and_states_all_conditions() -> None:
    plan = Cluster(pool_=pool()).plan()
    assert [(write.resource, write.manifest["metadata"]["name"]) for write in plan.writes] == [
        (CONFIG_MAP, "chat-foresail"),
        (SERVICE, "chat-foresail"),
        (DEPLOYMENT, "chat-foresail"),
    ]
    assert told(plan.status) == ALL_WELL | {"Ready": "False PodsNotReady"}
    assert plan.status["endpoint"] == "http://chat-foresail.default.svc/v1"
    assert plan.status["snapshotSequence"] == 1
    assert plan.status["observedGeneration"] == 1


def test_children_belong_to_the_policy_without_a_right_on_its_finalizers() -> None:
    for write in Cluster(pool_=pool()).plan().writes:
        (owner,) = write.manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("RoutingPolicy", "u-1", True)
        assert owner["blockOwnerDeletion"] is False
        assert write.manifest["metadata"]["labels"]["foresail.dev/policy"] == "chat"


def test_nothing_is_planned_where_nothing_changed() -> None:
    cluster = serving()
    again = cluster.plan(LATER)
    assert again.writes == ()
    assert again.status == cluster.policy["status"]


@pytest.mark.parametrize("available", [0, 1, 2])
def test_ready_follows_the_available_replicas(available: int) -> None:
    cluster = Cluster(policy(serving={"replicas": 2}), pool())
    cluster.apply()
    cluster.pods_available(available)
    ready = conditions(cluster.plan().status)["Ready"]
    assert ready["message"].startswith(f"{available} of 2 pods are available")
    assert (ready["status"], ready["reason"]) == (("True", "Ready") if available == 2 else ("False", "PodsNotReady"))
    assert cluster.plan().status["availableReplicas"] == available


def test_a_policy_scaled_to_zero_is_not_ready() -> None:
    cluster = Cluster(policy(serving={"replicas": 0}), pool())
    assert told(cluster.apply().status) == ALL_WELL | {"Ready": "False ScaledToZero"}
    assert cluster.replicas == 0


def test_times_stay_until_a_status_flips() -> None:
    cluster = serving()
    cluster.pods_available(0)
    later = conditions(cluster.plan(LATER).status)
    assert later["Programmed"]["lastTransitionTime"] == "2026-01-01T12:00:00Z"
    assert later["Ready"]["lastTransitionTime"] == "2026-01-01T13:00:00Z"


def test_a_changed_snapshot_restarts_no_pod_and_raises_the_sequence() -> None:
    cluster = serving()
    before = cluster.envelope
    cluster.change(objective={"tradeoff": {"costWeightPercent": 90}})
    plan = cluster.apply()
    assert [write.resource for write in plan.writes] == [CONFIG_MAP]
    assert cluster.envelope.sequence == before.sequence + 1
    assert plan.status["observedGeneration"] == 2
    assert plan.status["snapshotHash"] == cluster.envelope.hash != before.hash


def test_a_change_back_gets_a_new_number_too() -> None:
    cluster = serving()
    first = cluster.envelope
    for aliases in (["auto", "cheap"], ["auto"]):
        cluster.change(aliases=aliases)
        cluster.apply()
    assert cluster.envelope.hash == first.hash
    assert cluster.envelope.sequence == 3


@pytest.mark.parametrize("text", [None, "{broken"])
def test_a_lost_or_broken_config_map_does_not_lower_the_sequence(text: str | None) -> None:
    cluster = serving()
    cluster.change(aliases=["other"])
    cluster.apply()
    if text is None:
        del cluster.children[CONFIG_MAP]
    else:
        cluster.children[CONFIG_MAP]["data"]["snapshot.json"] = text
    cluster.apply()
    assert cluster.envelope.sequence == 2
    del cluster.children[CONFIG_MAP]
    cluster.change(aliases=["auto"])
    cluster.apply()
    assert cluster.envelope.sequence == 3


@pytest.mark.parametrize("pool_is_broken", [False, True])
def test_a_snapshot_of_the_format_before_is_written_anew_under_a_higher_number(pool_is_broken: bool) -> None:
    cluster = serving()
    cluster.children[CONFIG_MAP]["data"]["snapshot.json"] = FORMAT_1.read_text()
    assert cluster.pool is not None
    if pool_is_broken:
        cluster.pool["spec"]["models"] = []
    plan = cluster.apply()
    assert (cluster.envelope.sequence, cluster.envelope.hash) == (2, cluster.envelope.snapshot.content_hash())
    assert (cluster.envelope.snapshot.namespace == "team-a") == pool_is_broken
    assert (plan.status["snapshotSequence"], plan.status["snapshotHash"]) == (2, cluster.envelope.hash)
    assert cluster.plan().writes == ()


def test_a_policy_without_its_pool_says_so_and_starts_nothing() -> None:
    cluster = Cluster()
    plan = cluster.apply()
    assert plan.writes == ()
    assert told(plan.status) == {
        "Accepted": "True Accepted",
        "ResolvedRefs": "False PoolNotFound",
        "Programmed": "False Waiting",
        "Ready": "False PoolNotFound",
    }
    assert "ModelPool 'models' does not exist" in conditions(plan.status)["ResolvedRefs"]["message"]
    cluster.pool = stored(pool(), uid="u-pool")
    assert told(cluster.apply().status) == ALL_WELL | {"Ready": "False PodsNotReady"}


def test_a_deleted_pool_takes_its_pods_away_and_comes_back_with_a_higher_number() -> None:
    cluster = serving()
    kept, cluster.pool = cluster.pool, None
    plan = cluster.apply()
    assert cluster.replicas == 0
    assert told(plan.status)["Programmed"] == "False Withdrawn"
    assert "snapshotHash" not in plan.status
    assert cluster.plan().writes == ()
    cluster.pool = kept
    assert kept is not None
    kept["spec"]["models"].pop()
    cluster.apply()
    assert (cluster.replicas, cluster.models, cluster.envelope.sequence) == (1, ["small"], 2)


def test_a_broken_change_keeps_the_configuration_of_before() -> None:
    cluster = serving()
    before = cluster.envelope
    cluster.change(router={"strategy": "Default", "defaultModel": "missing"})
    plan = cluster.apply()
    assert plan.writes == ()
    assert cluster.envelope == before
    assert told(plan.status) == {
        "Accepted": "True Accepted",
        "ResolvedRefs": "False ModelNotFound",
        "Programmed": "False Waiting",
        "Ready": "False ModelNotFound",
    }
    assert conditions(plan.status)["Ready"]["message"] == "`ResolvedRefs` is not met; 1 of 1 pod is available"
    assert plan.status["snapshotHash"] == before.hash


def test_a_broken_change_does_not_hide_drift_or_a_new_image() -> None:
    cluster = serving()
    cluster.change(router={"strategy": "Default", "defaultModel": "missing"})
    cluster.children[SERVICE]["spec"]["ports"] = []
    plan = cluster.plan(image=SidecarImage("registry.example/foresail:2", "IfNotPresent"))
    assert [write.resource for write in plan.writes] == [SERVICE, DEPLOYMENT]


def test_what_is_taken_away_stops_being_served_even_by_a_broken_change() -> None:
    cluster = Cluster(policy(), pool("models", model("small", secret="a"), model("large", secret="b"), model("old")))
    cluster.apply()
    assert cluster.pool is not None
    cluster.pool["spec"]["models"] = [model("small", secret="a"), model("large", secret="rotated")]
    cluster.change(router={"strategy": "Default", "defaultModel": "old"}, tenants={"anonymous": "Deny"})
    plan = cluster.apply()
    assert cluster.models == ["small"]
    assert not cluster.envelope.snapshot.anonymous_allowed
    assert cluster.envelope.sequence == 2
    assert told(plan.status)["Programmed"] == "False Waiting"
    cluster.pool["spec"]["models"] = [model("large", secret="rotated")]
    assert told(cluster.apply().status)["Programmed"] == "False Withdrawn"
    assert cluster.replicas == 0


def test_a_revoked_default_model_leaves_nothing_to_serve() -> None:
    cluster = serving(router={"strategy": "Default", "defaultModel": "large"})
    assert cluster.pool is not None
    cluster.pool["spec"]["models"].pop()
    assert told(cluster.apply().status)["Programmed"] == "False Withdrawn"


def test_a_pool_that_is_refused_keeps_its_policies_serving() -> None:
    cluster = serving()
    assert cluster.pool is not None
    cluster.pool["spec"]["models"][0]["upstreams"][0]["url"] = "not a url"
    record = pool_record(cluster.pool)
    verdict = conditions(plan_pool(record, NOON).status)["Accepted"]
    assert (verdict["status"], verdict["reason"]) == ("False", "Invalid")
    assert "spec.models[0].upstreams[0].url" in verdict["message"]
    assert "not a url" in verdict["message"]
    plan = cluster.plan()
    assert plan.writes == ()
    assert told(plan.status)["ResolvedRefs"] == "False PoolNotAccepted"


def test_an_accepted_pool_counts_its_models() -> None:
    plan = plan_pool(pool_record(stored(pool())), NOON)
    assert plan.status["models"] == 2
    assert told(plan.status) == {"Accepted": "True Accepted"}
    assert plan.writes == ()


def test_a_policy_that_is_refused_leaves_everything_as_it_is() -> None:
    cluster = serving()
    before = copy.deepcopy(cluster.policy["status"])
    cluster.change(tenants={"anonymous": "Maybe"})
    cluster.pods_available(0)
    plan = cluster.plan()
    assert plan.writes == ()
    assert told(plan.status) == {
        "Accepted": "False Invalid",
        "ResolvedRefs": "Unknown Waiting",
        "Programmed": "False Waiting",
        "Ready": "False Invalid",
    }
    assert "`spec.tenants.anonymous`" in conditions(plan.status)["Accepted"]["message"]
    assert plan.status["snapshotHash"] == before["snapshotHash"]
    assert (before["availableReplicas"], plan.status["availableReplicas"]) == (1, 0)


@pytest.mark.parametrize("name", ["a.b", "1st", "a" * 55])
def test_a_policy_after_which_no_service_can_be_named_is_refused(name: str) -> None:
    plan = Cluster(policy(name), pool()).plan()
    assert plan.writes == ()
    assert told(plan.status)["Accepted"] == "False Invalid"
    assert "at most 54" in conditions(plan.status)["Accepted"]["message"]


def test_the_longest_name_gives_names_that_fit() -> None:
    (name,) = {write.manifest["metadata"]["name"] for write in Cluster(policy("a" * 54), pool()).plan().writes}
    assert len(name) == 63


@pytest.mark.parametrize("resource", CHILDREN)
@pytest.mark.parametrize("owner", [None, {"kind": "ReplicaSet", "name": "web", "uid": "u-web", "controller": True}])
def test_nothing_that_is_not_ours_is_taken_over(resource: Resource, owner: Object | None) -> None:
    cluster = Cluster(pool_=pool())
    foreign: Object = {"metadata": {"name": "chat-foresail", "namespace": "default"}}
    if owner:
        foreign["metadata"]["ownerReferences"] = [owner]
    cluster.children[resource] = stored(foreign, uid="u-foreign")
    plan = cluster.plan()
    assert resource not in [write.resource for write in plan.writes]
    verdict = conditions(plan.status)["Programmed"]
    assert (verdict["status"], verdict["reason"]) == ("False", "NameConflict")
    whose = "nothing" if owner is None else "ReplicaSet 'web'"
    assert f"{resource.kind} 'chat-foresail' exists and is controlled by {whose}" in verdict["message"]
    assert plan.unfinished == verdict["message"]
    assert ("endpoint" in plan.status) == (resource != SERVICE)
    del cluster.children[resource]
    assert told(cluster.apply().status) == ALL_WELL | {"Ready": "False PodsNotReady"}


def test_what_a_deleted_namesake_left_is_waited_for() -> None:
    cluster = serving()
    cluster.policy["metadata"]["uid"] = "u-2"
    plan = cluster.plan()
    assert plan.writes == ()
    assert told(plan.status)["Programmed"] == "False Waiting"
    assert plan.unfinished is not None


def test_a_refusal_of_the_api_server_is_told() -> None:
    plan = Cluster(pool_=pool()).plan(failure="Deployment default/chat-foresail: exceeded quota")
    verdict = conditions(plan.status)["Programmed"]
    assert (verdict["reason"], verdict["status"]) == ("ApplyFailed", "False")
    assert "exceeded quota" in verdict["message"]
    assert told(plan.status)["Ready"] == "False ApplyFailed"


def test_every_difference_from_what_was_applied_is_written_again() -> None:
    cluster = serving()
    container = cluster.pod["containers"][0]
    container["image"] = "evil:1"
    assert [write.resource for write in cluster.plan().writes] == [DEPLOYMENT]
    cluster.apply()
    assert cluster.pod["containers"][0]["image"] == IMAGE.name
    cluster.children[CONFIG_MAP]["metadata"]["labels"].clear()
    assert [write.resource for write in cluster.plan().writes] == [CONFIG_MAP]


def test_what_others_add_is_left_alone() -> None:
    cluster = serving()
    cluster.children[DEPLOYMENT]["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    cluster.children[DEPLOYMENT]["spec"]["progressDeadlineSeconds"] = 600
    cluster.pod["containers"].append({"name": "mesh", "image": "mesh:1"})
    cluster.pod["dnsPolicy"] = "ClusterFirst"
    cluster.children[SERVICE]["spec"]["clusterIP"] = "10.0.0.7"
    assert cluster.plan().writes == ()


def test_a_secret_that_is_no_longer_named_is_unmounted() -> None:
    cluster = Cluster(policy(), pool("models", model("small", secret="keys"), model("large")))
    cluster.apply()
    assert "keys" in json.dumps(cluster.pod["volumes"])
    assert cluster.pool is not None
    cluster.pool["spec"]["models"] = [model("small"), model("large")]
    cluster.apply()
    assert "keys" not in json.dumps(cluster.pod)


def test_warnings_are_told_without_keeping_the_policy_from_serving() -> None:
    bounded = model("small", tokenCount={"overheadTokens": 10})
    cluster = Cluster(policy(costLimits={"perRequest": "0.01"}), pool("models", bounded, model("large")))
    accepted = conditions(cluster.plan().status)[ConditionType.ACCEPTED]
    assert accepted["status"] == "True"
    assert "model 'large' is never chosen" in accepted["message"]


def test_every_reason_is_in_the_reference_with_a_condition_that_exists() -> None:
    assert {reason for _, _, reason in DOCUMENTED} == set(Reason)
    assert {condition for condition, _, _ in DOCUMENTED} == set(ConditionType)
