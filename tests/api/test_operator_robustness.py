"""The operator leaves alone what needs no change, survives its own death, and says what it lacks."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.control_plane import ControlPlane
from tests.support.operated import CHILDREN, Cluster, cluster_of, command, environment, operating
from tests.support.processes import free_port, running
from tests.support.routing import conditions, policy, pool, told

KINDS = ("fpool/models", "fpolicy/steady", *(f"{kind}/steady-foresail" for kind in CHILDREN))


@pytest.fixture
def cluster(control_plane: ControlPlane) -> Iterator[Cluster]:
    with cluster_of(control_plane) as found:
        yield found


def versions(cluster: Cluster) -> dict[str, str]:
    return {item: cluster.get(*item.split("/"))["metadata"]["resourceVersion"] for item in KINDS}


def test_nothing_is_written_where_nothing_changed(cluster: Cluster, tmp_path: Path) -> None:
    with operating(cluster, tmp_path):
        cluster.apply(pool(), policy("steady"))
        cluster.report_ready("steady")
        cluster.wait_told("steady", Programmed="True Programmed", Ready="True Ready")
        before, applies = versions(cluster), cluster.applies()
        time.sleep(2)
        assert versions(cluster) == before
        for number in range(3):
            for item in KINDS:
                note = {"metadata": {"annotations": {"tests.example/touched": str(number)}}}
                cluster.patch(*item.split("/"), note)
        cluster.patch("deployment", "steady-foresail", {"metadata": {"annotations": {"tests.example/touched": None}}})
        touched = versions(cluster)
        # Its status is the sign that the operator has seen all that came before it.
        cluster.apply(policy("sentinel", pool="none"))
        cluster.wait_told("sentinel", ResolvedRefs="False PoolNotFound")
        time.sleep(1)
        assert versions(cluster) == touched
        assert cluster.applies() == applies + 1
    with operating(cluster, tmp_path):
        cluster.apply(policy("second-sentinel", pool="none"))
        cluster.wait_told("second-sentinel", ResolvedRefs="False PoolNotFound")
        assert versions(cluster) == touched
        assert cluster.applies() == applies + 2


def test_a_killed_operator_is_replaced_without_loss(cluster: Cluster, tmp_path: Path) -> None:
    with operating(cluster, tmp_path) as first:
        cluster.apply(pool(), policy("before"), policy("deleted"))
        cluster.wait_programmed("before")
        cluster.wait_programmed("deleted")
        # It dies with work on its hands.
        cluster.apply(*(policy(f"burst-{number}") for number in range(10)))
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(timeout=10)
    cluster.apply(policy("before", aliases=["changed"]), policy("while-away"))
    cluster.delete("fpolicy", "deleted")
    cluster.delete("configmap", "before-foresail")
    with operating(cluster, tmp_path):
        for name in ("before", "while-away", *(f"burst-{number}" for number in range(10))):
            status = cluster.wait_programmed(name)
            assert told(status)["Ready"] == "False PodsNotReady"
        assert '"changed"' in cluster.get("configmap", "before-foresail")["data"]["snapshot.json"]
        assert cluster.status("before")["snapshotSequence"] == 2
        cluster.kubectl("wait", "--for=delete", "deployment/deleted-foresail", "--timeout=30s")


def test_it_ends_in_time_when_told_to_and_logs_json_if_asked(cluster: Cluster, tmp_path: Path) -> None:
    log, environ = tmp_path / "log", environment(cluster.account)
    arguments = command(cluster.namespace, free_port(), "--log-format=json")
    with running(arguments, log, environment=environ) as process:
        cluster.apply(pool(), policy("brief"))
        cluster.wait_programmed("brief")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert f"Deployment {cluster.namespace}/brief-foresail applied" in [line["message"] for line in lines]


def test_a_refusal_is_told_in_the_status_and_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    cluster.apply({**quota, "spec": {"hard": {"services": "0"}}})
    cluster.wait_for(lambda: "hard" in cluster.get("resourcequota", "none").get("status", {}), "the quota")
    with operating(cluster, tmp_path, expected="forbidden: exceeded quota"):
        cluster.apply(pool(), policy("refused"))
        status = cluster.wait_told("refused", Programmed="False ApplyFailed", Ready="False ApplyFailed")
        assert "exceeded quota: none" in conditions(status)["Programmed"]["message"]
        cluster.delete("resourcequota", "none")
        cluster.wait_programmed("refused")


def test_missing_rights_are_named_at_the_start(cluster: Cluster) -> None:
    rules = cluster.get("role", "operator")["rules"]
    kept = [rule for rule in rules if rule["apiGroups"] != ["apps"]]
    cluster.patch("role", "operator", {"rules": kept})
    done = subprocess.run(
        command(cluster.namespace, free_port()),
        env=environment(cluster.account),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "the operator's account lacks rights" in done.stderr
    assert f"get, list, watch, create, patch deployments.apps in {cluster.namespace}" in done.stderr
    assert "configmaps" not in done.stderr
    assert "Traceback" not in done.stderr


def test_an_api_server_that_does_not_answer_ends_it(tmp_path: Path, control_plane: ControlPlane) -> None:
    account = tmp_path / "kubeconfig"
    account.write_text(control_plane.kubeconfig.read_text().replace(control_plane.server, "https://127.0.0.1:9"))
    done = subprocess.run(
        command("default", free_port()),
        env=environment(account),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "The operator ends: ApiError: the API server gave no answer: " in done.stderr
    assert "Traceback" not in done.stderr
