"""The control plane that all tests in this folder stand on is a real one."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hack.control_plane import CONTROL_PLANE, MissingBinaries, kubernetes_version, locate
from tests.support.control_plane import ControlPlane
from tests.support.processes import wait_until

ROOT = Path(__file__).parents[2]

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web:1}]}
"""


def test_the_server_is_the_pinned_release(control_plane: ControlPlane) -> None:
    version = json.loads(control_plane.kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == kubernetes_version()


def test_a_service_account_has_only_the_rights_that_it_was_given(control_plane: ControlPlane, namespace: str) -> None:
    here = ("--namespace", namespace)
    control_plane.kubectl("create", "serviceaccount", "reader", *here)
    control_plane.kubectl("create", "role", "reader", "--verb=get,list", "--resource=configmaps", *here)
    control_plane.kubectl(
        "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:reader", *here
    )
    reader = control_plane.service_account_kubeconfig(namespace, "reader")
    assert "kube-root-ca.crt" in control_plane.kubectl("get", "configmaps", kubeconfig=reader)
    refused = control_plane.run("kubectl", "get", "secrets", kubeconfig=reader, check=False)
    assert refused.returncode != 0
    assert f"system:serviceaccount:{namespace}:reader" in refused.stderr


def test_nobody_gets_in_without_credentials(control_plane: ControlPlane) -> None:
    context = ssl.create_default_context(cafile=control_plane.certificate_authority)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{control_plane.server}/api/v1/namespaces", context=context, timeout=10)
    with refused.value as answer:
        assert answer.code == 403
        assert "system:anonymous" in answer.read().decode()


def test_controllers_create_pods_and_count_those_reported_ready(control_plane: ControlPlane, namespace: str) -> None:
    here = ("--namespace", namespace)
    control_plane.kubectl("apply", *here, "-f", "-", input=DEPLOYMENT)
    wait_until(lambda: len(control_plane.get("pods", *here)["items"]) == 2, "pods of the Deployment")
    assert control_plane.report_pods_ready(namespace, "app=web") == 2
    control_plane.kubectl("wait", "deployment/web", "--for=condition=Available", "--timeout=20s", *here)


def test_what_an_owner_leaves_behind_is_collected(control_plane: ControlPlane, namespace: str) -> None:
    here = ("--namespace", namespace)
    control_plane.kubectl("create", "configmap", "owner", *here)
    owner = control_plane.get("configmap", "owner", *here)["metadata"]
    child = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "child",
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}],
        },
    }
    control_plane.kubectl("apply", *here, "-f", "-", input=json.dumps(child))
    control_plane.kubectl("delete", "configmap", "owner", *here)
    control_plane.kubectl("wait", "--for=delete", "configmap/child", "--timeout=20s", *here)


def test_missing_binaries_name_the_command_that_builds_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "nowhere"))
    with pytest.raises(MissingBinaries, match=r"kube-apiserver, .*run `make control-plane`"):
        locate()


def test_assets_of_the_environment_come_before_the_cache(tmp_path: Path) -> None:
    binaries = locate()
    own = tmp_path / "etcd"
    own.symlink_to(binaries["etcd"])
    everything_else = tmp_path / "cache"
    command = [sys.executable, str(ROOT / "hack" / "control_plane.py"), "--print"]
    environment = {"KUBEBUILDER_ASSETS": str(tmp_path), "XDG_CACHE_HOME": str(everything_else)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert answer.returncode == 1
    assert "etcd" not in answer.stderr
    for name in set(CONTROL_PLANE) - {"etcd"}:
        (tmp_path / name).symlink_to(binaries[name])
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout.splitlines() == [f"{name} {tmp_path / name}" for name in CONTROL_PLANE]
