"""The operator notices what its watch never told it, and creates nothing for a policy that is already gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from tests.support.control_plane import ControlPlane
from tests.support.operated import CHILDREN as KINDS
from tests.support.operated import Cluster, cluster_of
from tests.support.routing import policy, pool

from foresail_operator.api import Api
from foresail_operator.children.deployment import SidecarImage
from foresail_operator.controller import Controller
from foresail_operator.freshness import StaleIndices, check_indices
from foresail_operator.observation import policy_record, pool_record
from foresail_operator.resources import CHILDREN, MODEL_POOL, ROUTING_POLICY, Key
from foresail_operator.watching import Indices


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> Iterator[Cluster]:
    with cluster_of(control_plane) as found:
        yield found


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[Api]:
    """The operator's own requests, with its own rights."""
    configuration = Configuration()
    await config.load_kube_config(str(cluster.account), client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield Api(client)


@pytest.fixture
def seen(cluster: Cluster) -> Indices:
    """What a watch told: a pool and a policy as they are now, and no children."""
    cluster.apply(pool(), policy())
    indices: Any = [{}, {}, {}]
    for index, kind, name, resource, read in (
        (indices[0], "fpool", "models", MODEL_POOL, pool_record),
        (indices[1], "fpolicy", "chat", ROUTING_POLICY, policy_record),
    ):
        index[Key(resource.kind, cluster.namespace, name)] = [read(cluster.get(kind, name))]
    return Indices(*indices, {resource: {} for resource in CHILDREN})  # type: ignore[arg-type]


async def test_true_indices_pass(cluster: Cluster, api: Api, seen: Indices) -> None:
    await check_indices(api, seen, (cluster.namespace,), grace_seconds=0)


@pytest.mark.parametrize("missed", ["deletion", "change", "creation"])
async def test_what_the_watch_missed_is_noticed(cluster: Cluster, api: Api, seen: Indices, missed: str) -> None:
    if missed == "deletion":
        cluster.kubectl("delete", "fpool", "models")
    elif missed == "change":
        cluster.apply(pool("models", *pool()["spec"]["models"][:1]))
    else:
        cluster.apply(pool("new"))
    named = f"ModelPool {cluster.namespace}/{'new' if missed == 'creation' else 'models'}"
    with pytest.raises(StaleIndices, match=named):
        await check_indices(api, seen, (cluster.namespace,), grace_seconds=0)
    cluster.kubectl("delete", "fpool,fpolicy", "--all")


async def test_news_that_arrive_late_are_no_fault(cluster: Cluster, api: Api, seen: Indices) -> None:
    cluster.apply(pool("models", *pool()["spec"]["models"][:1]))
    key = Key(MODEL_POOL.kind, cluster.namespace, "models")

    class Late(dict[Key, Any]):
        reads = 0

        def __iter__(self) -> Iterator[Key]:
            Late.reads += 1
            if Late.reads == 2:
                self[key] = [pool_record(cluster.get("fpool", "models"))]
            return iter([key])

    late = Indices(Late(seen.pools), seen.policies, seen.pool_users, seen.children)  # type: ignore[arg-type]
    await check_indices(api, late, (cluster.namespace,), grace_seconds=0)
    assert Late.reads == 2


async def test_nothing_is_created_for_a_policy_that_is_gone(cluster: Cluster, api: Api, seen: Indices) -> None:
    cluster.kubectl("delete", "fpolicy", "chat")
    controller = Controller(api, SidecarImage("image:1", "Never"), lambda: datetime.now(UTC))
    controller.started(seen)
    await controller.handle(Key(ROUTING_POLICY.kind, cluster.namespace, "chat"))
    assert [cluster.find(kind, "chat-foresail") for kind in KINDS] == [None, None, None]
