"""The operator on a real API server: policies come and go, break and recover, and what it runs follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.control_plane import ControlPlane
from tests.support.operated import CHILDREN, IMAGE, Cluster, Operator, cluster_of, operating
from tests.support.routing import Object, conditions, model, policy, pool, told

from foresail_api.snapshot import SnapshotEnvelope, read_envelope

ALL_WELL = {"Accepted": "True Accepted", "ResolvedRefs": "True Resolved", "Programmed": "True Programmed"}


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> Iterator[Cluster]:
    with cluster_of(control_plane) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with operating(cluster, tmp_path_factory.mktemp("operator")) as running:
        yield running
        assert running.process.poll() is None


def envelope(cluster: Cluster, name: str) -> SnapshotEnvelope:
    return read_envelope(cluster.get("configmap", f"{name}-foresail")["data"]["snapshot.json"], "the ConfigMap")


def template(cluster: Cluster, name: str) -> dict[str, Any]:
    spec: Object = cluster.get("deployment", f"{name}-foresail")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("pool_first", [True, False])
def test_a_policy_is_programmed_in_either_order(cluster: Cluster, pool_first: bool) -> None:
    name = "pool-first" if pool_first else "policy-first"
    objects = [pool(name), policy(name, pool=name)]
    for item in objects if pool_first else reversed(objects):
        cluster.apply(item)
    status = cluster.wait_told(name, **ALL_WELL, Ready="False PodsNotReady")
    assert status["endpoint"] == f"http://{name}-foresail.{cluster.namespace}.svc/v1"
    assert conditions(status)["Ready"]["message"].startswith("0 of 1 pod is available; `kubectl describe pod`")
    assert status["snapshotHash"] == envelope(cluster, name).hash
    assert cluster.wait_told(name, "fpool", Accepted="True Accepted")["models"] == 2


def test_a_missing_pool_is_told_and_its_appearance_noticed(cluster: Cluster) -> None:
    cluster.apply(policy("early", pool="late"))
    status = cluster.wait_told("early", ResolvedRefs="False PoolNotFound", Programmed="False Waiting")
    assert told(status)["Ready"] == "False PoolNotFound"
    assert [cluster.find(kind, "early-foresail") for kind in CHILDREN] == [None, None, None]
    cluster.apply(pool("late"))
    cluster.wait_programmed("early")


def test_ready_follows_the_pods_and_is_shown(cluster: Cluster) -> None:
    cluster.apply(pool(), policy("pods", serving={"replicas": 2}))
    cluster.wait_told("pods", **ALL_WELL, Ready="False PodsNotReady")
    cluster.report_ready("pods", count=2)
    status = cluster.wait_told("pods", **ALL_WELL, Ready="True Ready")
    assert status["availableReplicas"] == 2
    assert cluster.kubectl("get", "fpolicy", "pods", "--no-headers").split()[:5] == [
        "pods",
        "models",
        "Cheapest",
        "True",
        "Ready",
    ]
    described = cluster.kubectl("describe", "fpolicy", "pods")
    assert "Normal  Programmed" in described
    assert "Normal  Ready" in described
    cluster.kubectl(
        "delete", "pod", "--selector=foresail.dev/policy=pods", "--wait=false", "--grace-period=0", "--force"
    )
    cluster.wait_told("pods", Ready="False PodsNotReady")


def test_available_replicas_are_those_of_the_deployment(cluster: Cluster) -> None:
    cluster.apply(pool(), policy("scaled", serving={"replicas": 0}))
    cluster.wait_told("scaled", **ALL_WELL, Ready="False ScaledToZero")
    cluster.apply(policy("scaled", serving={"replicas": 3}))
    assert conditions(cluster.wait_told("scaled", Ready="False PodsNotReady"))["Ready"]["message"].startswith("0 of 3")


def test_deleting_a_policy_removes_its_children_and_leaves_the_pool(cluster: Cluster) -> None:
    cluster.apply(pool(), policy("gone"))
    cluster.wait_programmed("gone")
    cluster.delete("fpolicy", "gone")
    for kind in CHILDREN:
        cluster.kubectl("wait", "--for=delete", f"{kind}/gone-foresail", "--timeout=30s")
    assert cluster.find("fpolicy", "gone") is None
    assert cluster.find("fpool", "models") is not None
    assert "finalizers" not in cluster.get("fpool", "models")["metadata"]


def test_a_policy_can_come_back_under_its_name_at_once(cluster: Cluster) -> None:
    cluster.apply(pool(), policy("again"))
    cluster.wait_programmed("again")
    before = cluster.get("fpolicy", "again")["metadata"]["uid"]
    cluster.delete("fpolicy", "again")
    cluster.wait_for(lambda: cluster.find("fpolicy", "again") is None, "the deletion")
    cluster.apply(policy("again"))
    cluster.wait_programmed("again")
    for kind in CHILDREN:
        (owner,) = cluster.get(kind, "again-foresail")["metadata"]["ownerReferences"]
        assert owner["uid"] != before


def test_a_change_reaches_the_config_map_and_restarts_no_pod(cluster: Cluster) -> None:
    cluster.apply(pool("changing"), policy("changed", pool="changing"))
    first = cluster.wait_programmed("changed")
    deployment = cluster.get("deployment", "changed-foresail")["metadata"]["generation"]
    cluster.apply(policy("changed", pool="changing", aliases=["auto", "cheap"]))
    second = cluster.wait_programmed("changed")
    assert second["observedGeneration"] == first["observedGeneration"] + 1
    assert second["snapshotSequence"] == first["snapshotSequence"] + 1
    assert all(item["observedGeneration"] == second["observedGeneration"] for item in second["conditions"])
    times = [[item["lastTransitionTime"] for item in status["conditions"]] for status in (first, second)]
    assert times[0] == times[1]
    cluster.apply(pool("changing", model("small")))
    cluster.wait_for(lambda: len(envelope(cluster, "changed").snapshot.models) == 1, "the pool's change")
    assert envelope(cluster, "changed").sequence == second["snapshotSequence"] + 1
    assert cluster.get("deployment", "changed-foresail")["metadata"]["generation"] == deployment


def test_a_policy_that_moves_follows_its_new_pool_alone(cluster: Cluster) -> None:
    cluster.apply(pool("left"), pool("joined", model("first")), policy("mover", pool="left"))
    cluster.wait_programmed("mover")
    cluster.apply(policy("mover", pool="joined"))
    cluster.wait_for(lambda: envelope(cluster, "mover").snapshot.pool == "joined", "the move")
    cluster.delete("fpool", "left")
    cluster.apply(pool("joined", model("second")))
    cluster.wait_for(lambda: envelope(cluster, "mover").snapshot.models[0].name == "second", "the pool's change")
    assert told(cluster.wait_programmed("mover"))["Ready"] == "False PodsNotReady"
    assert envelope(cluster, "mover").sequence == 3


def test_a_secret_that_is_no_longer_named_is_unmounted(cluster: Cluster) -> None:
    cluster.apply(pool("keyed", model("small", secret="keys")), policy("keyed", pool="keyed"))
    cluster.wait_programmed("keyed")
    (volume,) = [volume for volume in template(cluster, "keyed")["volumes"] if "secret" in volume]
    assert volume["secret"]["optional"] is True
    cluster.apply(pool("keyed", model("small")))
    cluster.wait_for(
        lambda: all("secret" not in volume for volume in template(cluster, "keyed")["volumes"]), "the volume's removal"
    )
    assert [mount["name"] for mount in template(cluster, "keyed")["containers"][0]["volumeMounts"]] == [
        "snapshot",
        "state",
        "tmp",
    ]


def test_a_ledger_that_gets_a_volume_and_loses_it_changes_how_pods_are_replaced(cluster: Cluster) -> None:
    def strategy() -> str:
        found: str = cluster.get("deployment", "kept-foresail")["spec"]["strategy"]["type"]
        return found

    cluster.apply(pool("kept", model("small", tokenCount={"overheadTokens": 10})))
    budgets = [{"name": "daily", "amount": "5", "window": {"calendar": {"unit": "Day"}}}]
    cluster.apply(policy("kept", pool="kept", costLimits={"budgets": budgets}))
    status = cluster.wait_told("kept", **ALL_WELL)
    assert "LedgerNotDurable" in conditions(status)["Accepted"]["message"]
    assert strategy() == "RollingUpdate"
    assert envelope(cluster, "kept").snapshot.ledger_namespace == cluster.get("fpolicy", "kept")["metadata"]["uid"]

    stored = {"budgets": budgets, "ledger": {"storage": {"volumeClaimName": "ledger"}}}
    cluster.apply(policy("kept", pool="kept", costLimits=stored))
    cluster.wait_for(lambda: strategy() == "Recreate", "the strategy of a volume that one pod holds")
    volumes = {volume["name"]: volume for volume in template(cluster, "kept")["volumes"]}
    assert volumes["state"]["persistentVolumeClaim"] == {"claimName": "ledger"}

    cluster.apply(policy("kept", pool="kept", costLimits={"budgets": budgets}))
    cluster.wait_for(lambda: strategy() == "RollingUpdate", "the strategy of pods without a volume")
    volumes = {volume["name"]: volume for volume in template(cluster, "kept")["volumes"]}
    assert volumes["state"] == {"name": "state", "emptyDir": {}}


def test_a_broken_policy_fails_alone_and_its_configuration_of_before_stays(cluster: Cluster) -> None:
    cluster.apply(pool(), policy("good"), policy("broken"))
    before = cluster.wait_programmed("broken")
    cluster.apply(policy("broken", aliases=["small"]), policy("good", aliases=["fine"]))
    status = cluster.wait_told("broken", Accepted="False AliasConflict", Programmed="False Waiting")
    assert "small is the name of a model of ModelPool 'models'; choose another alias" in str(status)
    assert status["snapshotHash"] == before["snapshotHash"] == envelope(cluster, "broken").hash
    cluster.wait_programmed("good")
    assert envelope(cluster, "good").snapshot.aliases == ("fine",)


def test_a_pool_that_the_models_refuse_fails_alone(cluster: Cluster) -> None:
    # The schema's patterns are RE2, for which a no-break space is no white space.
    cluster.apply(pool("odd", model("small", url="http://host\u00a0name/v1")), policy("odd", pool="odd"))
    cluster.apply(pool("even"), policy("even", pool="even"))
    verdict = conditions(cluster.wait_told("odd", "fpool", Accepted="False Invalid"))["Accepted"]
    assert "`spec.models[0].upstreams[0].url`" in verdict["message"]
    cluster.wait_told("odd", ResolvedRefs="False PoolNotAccepted", Ready="False PoolNotAccepted")
    cluster.wait_programmed("even")


def test_a_deleted_pool_takes_the_pods_away_until_it_is_back(cluster: Cluster) -> None:
    cluster.apply(pool("revoked"), policy("bereft", pool="revoked", serving={"replicas": 2}))
    cluster.wait_programmed("bereft")
    address = cluster.get("service", "bereft-foresail")["spec"]["clusterIP"]
    cluster.delete("fpool", "revoked")
    cluster.wait_told("bereft", ResolvedRefs="False PoolNotFound", Programmed="False Withdrawn")
    assert cluster.get("deployment", "bereft-foresail")["spec"]["replicas"] == 0
    cluster.apply(pool("revoked", model("other")))
    cluster.wait_programmed("bereft")
    assert cluster.get("deployment", "bereft-foresail")["spec"]["replicas"] == 2
    assert envelope(cluster, "bereft").sequence == 2
    assert cluster.get("service", "bereft-foresail")["spec"]["clusterIP"] == address


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_deleted_child_comes_back(cluster: Cluster, kind: str) -> None:
    name = f"lost-{kind}"
    cluster.apply(pool(), policy(name))
    number = cluster.wait_programmed(name)["snapshotSequence"]
    before = cluster.get(kind, f"{name}-foresail")["metadata"]["uid"]
    cluster.delete(kind, f"{name}-foresail")

    def back() -> bool:
        found = cluster.find(kind, f"{name}-foresail")
        return found is not None and found["metadata"]["uid"] != before

    cluster.wait_for(back, f"the new {kind}")
    assert envelope(cluster, name).sequence == number


def test_drift_is_repaired_and_what_others_add_is_left(cluster: Cluster) -> None:
    cluster.apply(pool(), policy("drift"))
    cluster.wait_programmed("drift")
    child = "drift-foresail"
    change = {"metadata": {"annotations": {"note": "ours"}}, "spec": {"replicas": 7}}
    cluster.patch("deployment", child, change)
    cluster.patch("deployment", child, [_replace("/spec/template/spec/containers/0/image", "evil:1")], how="json")
    cluster.patch("service", child, [_replace("/spec/ports/0/targetPort", 22)], how="json")
    cluster.patch("configmap", child, {"data": {"snapshot.json": "{}", "extra": "kept"}})
    cluster.wait_for(lambda: template(cluster, "drift")["containers"][0]["image"] == IMAGE, "the image")
    cluster.wait_for(lambda: cluster.get("deployment", child)["spec"]["replicas"] == 1, "the replicas")
    cluster.wait_for(lambda: cluster.get("service", child)["spec"]["ports"][0]["targetPort"] == "http", "the port")
    cluster.wait_for(lambda: cluster.get("configmap", child)["data"]["snapshot.json"] != "{}", "the snapshot")
    assert cluster.get("deployment", child)["metadata"]["annotations"]["note"] == "ours"
    assert cluster.get("configmap", child)["data"]["extra"] == "kept"


def test_a_child_without_its_labels_is_known_by_its_owner(cluster: Cluster) -> None:
    cluster.apply(pool(), policy("unlabelled"))
    cluster.wait_programmed("unlabelled")
    before = cluster.get("configmap", "unlabelled-foresail")["metadata"]
    cluster.patch("configmap", "unlabelled-foresail", {"metadata": {"labels": None}})
    cluster.wait_for(
        lambda: cluster.get("configmap", "unlabelled-foresail")["metadata"].get("labels") == before["labels"], "labels"
    )
    assert cluster.get("configmap", "unlabelled-foresail")["metadata"]["uid"] == before["uid"]


def test_all_that_is_written_is_written_by_server_side_apply(cluster: Cluster) -> None:
    cluster.apply(pool(), policy("managed"))
    cluster.wait_programmed("managed")
    owned = [cluster.get(kind, "managed-foresail") for kind in CHILDREN]
    for item in [*owned, cluster.get("fpolicy", "managed"), cluster.get("fpool", "models")]:
        ours = [entry for entry in item["metadata"]["managedFields"] if entry["manager"] == "foresail-operator"]
        assert [entry["operation"] for entry in ours] == ["Apply"], item["kind"]


def _replace(path: str, value: object) -> Object:
    return {"op": "replace", "path": path, "value": value}
