"""What is not the operator's is never taken over, whenever it appears, and the policy recovers when it is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from tests.support.control_plane import ControlPlane
from tests.support.operated import CHILDREN, Cluster, cluster_of, operating
from tests.support.routing import Object, conditions, policy, pool

from foresail_operator.api import Api, Conflict
from foresail_operator.resources import CONFIG_MAP, MUST_NOT_EXIST

FOREIGN: dict[str, Object] = {
    "configmap": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"snapshot.json": "mine", "other": "too"}},
    "service": {
        "apiVersion": "v1",
        "kind": "Service",
        "spec": {"selector": {"app": "mine"}, "ports": [{"port": 80, "name": "http"}]},
    },
    "deployment": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "mine"}},
            "template": {
                "metadata": {"labels": {"app": "mine"}},
                "spec": {"containers": [{"name": "router", "image": "mine:1"}]},
            },
        },
    },
}


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_of(control_plane) as found, operating(found, tmp_path_factory.mktemp("operator")):
        yield found


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[Api]:
    """The operator's own requests, with its own rights."""
    configuration = Configuration()
    await config.load_kube_config(str(cluster.account), client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield Api(client)


def foreign(kind: str, name: str, **metadata: Any) -> Object:
    return {**FOREIGN[kind], "metadata": {"name": f"{name}-foresail", **metadata}}


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_foreign_object_stays_as_it_is_byte_for_byte(cluster: Cluster, kind: str) -> None:
    name = f"taken-{kind}"
    cluster.apply(foreign(kind, name))
    if kind == "deployment":
        cluster.wait_for(lambda: "status" in cluster.get(kind, f"{name}-foresail"), "the controller's first visit")
    before = cluster.get(kind, f"{name}-foresail")
    cluster.apply(pool(), policy(name))
    status = cluster.wait_told(
        name, Accepted="True Accepted", Programmed="False NameConflict", Ready="False NameConflict"
    )
    message = conditions(status)["Programmed"]["message"]
    assert f"'{name}-foresail' exists and is controlled by nothing, not by this policy" in message
    assert "delete or rename it, or create this policy under another name" in message
    cluster.apply(policy(name, aliases=["changed"]))
    cluster.wait_told(name, Programmed="False NameConflict")
    assert cluster.get(kind, f"{name}-foresail") == before
    cluster.delete(kind, f"{name}-foresail")
    cluster.wait_programmed(name)
    assert cluster.get(kind, f"{name}-foresail")["metadata"]["ownerReferences"][0]["name"] == name


def test_another_policys_child_is_foreign_too(cluster: Cluster) -> None:
    cluster.apply(pool(), policy("other"))
    cluster.wait_programmed("other")
    owners = cluster.get("configmap", "other-foresail")["metadata"]["ownerReferences"]
    labels = {"app.kubernetes.io/managed-by": "foresail-operator", "foresail.dev/policy": "disguised"}
    cluster.apply(foreign("configmap", "disguised", ownerReferences=owners, labels=labels))
    before = cluster.get("configmap", "disguised-foresail")
    cluster.apply(policy("disguised"))
    status = cluster.wait_told("disguised", Programmed="False NameConflict")
    assert "is controlled by RoutingPolicy 'other'" in conditions(status)["Programmed"]["message"]
    assert cluster.get("configmap", "disguised-foresail") == before


def test_a_child_that_was_given_away_is_left_to_its_new_owner(cluster: Cluster) -> None:
    cluster.apply(pool(), policy("donor"))
    cluster.wait_programmed("donor")
    cluster.patch("configmap", "donor-foresail", {"metadata": {"ownerReferences": None}})
    cluster.wait_told("donor", Programmed="False NameConflict")
    before = cluster.get("configmap", "donor-foresail")
    cluster.apply(policy("donor", aliases=["changed"]))
    cluster.wait_told("donor", Programmed="False NameConflict")
    assert cluster.get("configmap", "donor-foresail") == before


def _config_map(cluster: Cluster, name: str, version: str) -> Object:
    metadata = {"name": name, "namespace": cluster.namespace, "resourceVersion": version}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"by": "operator"}}


async def test_creating_can_never_adopt_what_appeared_in_between(cluster: Cluster, api: Api) -> None:
    cluster.apply({**FOREIGN["configmap"], "metadata": {"name": "race"}})
    before = cluster.get("configmap", "race")
    with pytest.raises(Conflict):
        await api.apply(CONFIG_MAP, _config_map(cluster, "race", MUST_NOT_EXIST))
    assert cluster.get("configmap", "race") == before
    created = await api.apply(CONFIG_MAP, _config_map(cluster, "free", MUST_NOT_EXIST))
    assert created["data"] == {"by": "operator"}


async def test_a_change_is_refused_where_the_object_is_not_the_one_that_was_seen(cluster: Cluster, api: Api) -> None:
    seen = await api.apply(CONFIG_MAP, _config_map(cluster, "replaced", MUST_NOT_EXIST))
    cluster.kubectl("delete", "configmap", "replaced")
    cluster.apply({**FOREIGN["configmap"], "metadata": {"name": "replaced"}})
    before = cluster.get("configmap", "replaced")
    with pytest.raises(Conflict):
        await api.apply(CONFIG_MAP, _config_map(cluster, "replaced", seen["metadata"]["resourceVersion"]))
    assert cluster.get("configmap", "replaced") == before
