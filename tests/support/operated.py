"""`foresail operator` as a process against a real API server, under a ServiceAccount with exactly the rights that it lists."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.support.control_plane import ControlPlane
from tests.support.processes import free_port, running, wait_until
from tests.support.routing import Object, told

from foresail_operator.rights import RULES

FORESAIL = Path(sys.executable).with_name("foresail")
IMAGE = "registry.example/foresail/sidecar:test"
CHILDREN = ("configmap", "service", "deployment")


@dataclass(frozen=True, slots=True)
class Cluster:
    """One namespace of a control plane, with the account of an operator that may watch it."""

    plane: ControlPlane
    namespace: str
    account: Path

    def kubectl(self, *arguments: str, manifests: list[Object] | None = None) -> str:
        text = None if manifests is None else json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        return self.plane.kubectl(*arguments, "--namespace", self.namespace, input=text)

    def apply(self, *manifests: Object) -> None:
        placed = [{**item, "metadata": {**item["metadata"], "namespace": self.namespace}} for item in manifests]
        self.kubectl("apply", "-f", "-", manifests=placed)

    def patch(self, kind: str, name: str, patch: object, *, how: str = "merge", subresource: str | None = None) -> None:
        target = () if subresource is None else ("--subresource", subresource)
        self.kubectl("patch", kind, name, f"--type={how}", "-p", json.dumps(patch), *target)

    def delete(self, kind: str, name: str) -> None:
        self.kubectl("delete", kind, name, "--wait=false")

    def find(self, kind: str, name: str) -> Object | None:
        text = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found", "--show-managed-fields")
        return json.loads(text) if text.strip() else None

    def get(self, kind: str, name: str) -> Object:
        found = self.find(kind, name)
        assert found is not None, f"there is no {kind} {name}"
        return found

    def status(self, name: str, kind: str = "fpolicy") -> Object:
        status: Object = self.get(kind, name).get("status", {})
        return status

    def wait_for(self, check: Callable[[], bool], what: str, seconds: float = 20) -> None:
        wait_until(check, what, seconds=seconds)

    def wait_told(self, name: str, kind: str = "fpolicy", **verdicts: str) -> Object:
        """Wait until the conditions say so of the newest generation; return the status."""
        status: Object = {}

        def says() -> bool:
            nonlocal status
            found = self.get(kind, name)
            status = found.get("status", {})
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            known = told(status) if current else {}
            return all(known.get(condition) == verdict for condition, verdict in verdicts.items())

        try:
            self.wait_for(says, f"{verdicts} of {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the status is {json.dumps(status, indent=1)}") from None
        return status

    def wait_programmed(self, name: str) -> Object:
        return self.wait_told(
            name, Accepted="True Accepted", ResolvedRefs="True Resolved", Programmed="True Programmed"
        )

    def report_ready(self, policy: str, count: int = 1) -> None:
        """Play the kubelet for a policy's pods as soon as there are so many."""
        selector = f"foresail.dev/policy={policy}"
        self.wait_for(
            lambda: self.plane.report_pods_ready(self.namespace, selector) >= count, f"{count} pods of {policy}"
        )

    def applies(self) -> int:
        """How many server-side applies, creates and patches of our kinds the API server has answered since it started."""
        kinds = "configmaps|services|deployments|modelpools|routingpolicies"
        total = 0
        for line in self.plane.kubectl("get", "--raw", "/metrics").splitlines():
            if line.startswith("apiserver_request_total{") and re.search(rf'resource="({kinds})"', line):
                total += int(float(line.rsplit(" ", 1)[1])) if 'verb="APPLY"' in line else 0
        return total


@dataclass
class Operator:
    """A running operator; `settle` waits until it has nothing to do."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def settle(self) -> None:
        """Wait until its health check answers."""
        wait_until(self._healthy, "the operator", seconds=60, process=self.process, log=self.log)

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=2, trust_env=False).is_success
        except httpx.HTTPError:
            return False


@contextlib.contextmanager
def cluster_of(plane: ControlPlane) -> Iterator[Cluster]:
    """A namespace that admits only restricted pods, and an account with the operator's rights in it."""
    namespace = f"operated-{secrets.token_hex(4)}"
    plane.kubectl("create", "namespace", namespace)
    plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    here = ("--namespace", namespace)
    plane.kubectl("create", "serviceaccount", "operator", *here)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "operator"},
        "rules": [rule.manifest() for rule in RULES],
    }
    plane.kubectl("create", *here, "-f", "-", input=json.dumps(role))
    plane.kubectl(
        "create", "rolebinding", "operator", "--role=operator", f"--serviceaccount={namespace}:operator", *here
    )
    try:
        yield Cluster(plane, namespace, plane.service_account_kubeconfig(namespace, "operator"))
    finally:
        plane.kubectl("delete", "namespace", namespace, "--wait=false")


@contextlib.contextmanager
def operating(cluster: Cluster, folder: Path, expected: str = "nothing") -> Iterator[Operator]:
    """Run the operator for a cluster's namespace until the block ends; no refusal but the expected may be in its log."""
    port = free_port()
    log = folder / f"operator-{port}.log"
    with running(command(cluster.namespace, port), log, environment=environment(cluster.account)) as process:
        operator = Operator(process, log, port)
        operator.settle()
        yield operator
    text = log.read_text().replace(expected, "")
    assert "Traceback" not in text, text
    assert "forbidden" not in text.lower(), text


def command(namespace: str, port: int, *more: str) -> list[str | Path]:
    """The command line of an operator for one namespace."""
    options = [*more, f"--sidecar-image={IMAGE}", f"--namespace={namespace}", f"--liveness-port={port}"]
    return [FORESAIL, "operator", *options]


def environment(kubeconfig: Path) -> dict[str, str]:
    """What an operator's process finds in its environment."""
    return {"KUBECONFIG": str(kubeconfig), "PATH": os.environ["PATH"], "HOME": "/nonexistent", "NO_PROXY": "*"}
