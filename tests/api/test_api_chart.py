"""The Helm chart: linted, rendered, refused where values are wrong, and installed on a real API server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hack.chart_crds import templates
from tests.support.control_plane import ControlPlane, start_control_plane
from tests.support.foresail_crds import NAMES
from tests.support.processes import free_port, running, wait_until

from foresail_operator.rights import RULES

ROOT = Path(__file__).parents[2]
CHART = str(ROOT / "charts" / "foresail")

Object = dict[str, Any]

POOL = """
apiVersion: foresail.dev/v1alpha1
kind: ModelPool
metadata: {name: models}
spec:
  models:
    - name: small
      upstreams: [{name: main, url: "http://127.0.0.1:9/v1", auth: {secretRef: {name: keys, key: small}}}]
      price: {inputPerMillionTokens: "0.10", outputPerMillionTokens: "0.40"}
      contextWindowTokens: 8192
      maxOutputTokens: 1024
"""

POLICY = """
apiVersion: foresail.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: chat}
spec:
  poolRef: {name: models}
  router: {strategy: Cheapest}
  tenants: {anonymous: Allow}
"""


def rendered(control_plane: ControlPlane, *arguments: str) -> dict[tuple[str, str], Object]:
    """The objects of `helm template` by kind and name."""
    text = control_plane.helm("template", "test", CHART, "--namespace", "system", *arguments)
    objects = [item for item in yaml.safe_load_all(text) if item]
    return {(item["kind"], item["metadata"]["name"]): item for item in objects}


def pod_of(objects: dict[tuple[str, str], Object]) -> Object:
    spec: Object = objects["Deployment", "test-foresail"]["spec"]["template"]["spec"]
    return spec


def test_the_chart_lints_strictly(control_plane: ControlPlane) -> None:
    assert "0 chart(s) failed" in control_plane.helm("lint", "--strict", CHART)


def test_the_definitions_in_the_chart_are_those_of_the_api() -> None:
    stale = [path.name for path, text in templates().items() if not path.exists() or path.read_text() != text]
    assert stale == [], "run `make generate`"


def test_installed_definitions_equal_the_generated_ones(control_plane: ControlPlane) -> None:
    objects = rendered(control_plane)
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        source = yaml.safe_load(file.read_text())
        shipped = objects["CustomResourceDefinition", source["metadata"]["name"]]
        assert shipped["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert shipped == source


def test_definitions_can_be_left_out_or_removed_with_the_release(control_plane: ControlPlane) -> None:
    assert not [kind for kind, _ in rendered(control_plane, "--set", "crds.install=false") if "Definition" in kind]
    removed = rendered(control_plane, "--set", "crds.keep=false")
    assert "annotations" not in removed["CustomResourceDefinition", "modelpools.foresail.dev"]["metadata"]


def test_the_operator_runs_alone_and_restricted(control_plane: ControlPlane) -> None:
    objects = rendered(control_plane)
    deployment = objects["Deployment", "test-foresail"]["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    pod = pod_of(objects)
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_images_are_named_by_tag_or_pinned_by_digest(control_plane: ControlPlane) -> None:
    version = yaml.safe_load((ROOT / "charts" / "foresail" / "Chart.yaml").read_text())["appVersion"]
    (container,) = pod_of(rendered(control_plane))["containers"]
    assert container["image"] == f"foresail/operator:{version}"
    assert f"--sidecar-image=foresail/sidecar:{version}" in container["args"]
    digest = "sha256:" + "a" * 64
    pinned = rendered(
        control_plane, "--set", f"image.digest={digest}", "--set", "sidecarImage.repository=registry.test:5000/sidecar"
    )
    (container,) = pod_of(pinned)["containers"]
    assert container["image"] == f"foresail/operator@{digest}"
    assert f"--sidecar-image=registry.test:5000/sidecar:{version}" in container["args"]


def test_scheduling_and_metadata_values_reach_the_pod(control_plane: ControlPlane, tmp_path: Path) -> None:
    values = {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "platform"},
        "resources": {"limits": {"memory": "1Gi"}},
    }
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    objects = rendered(control_plane, "--values", str(file))
    pod = pod_of(objects)
    for name in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod[name] == values[name]
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}
    metadata = objects["Deployment", "test-foresail"]["spec"]["template"]["metadata"]
    assert metadata["annotations"] == {"a": "b"}
    assert metadata["labels"]["team"] == "platform"


def test_rights_and_account_can_be_brought_along(control_plane: ControlPlane) -> None:
    own = rendered(
        control_plane, "--set", "serviceAccount.create=false,serviceAccount.name=mine", "--set", "rbac.create=false"
    )
    assert {kind for kind, _ in own} == {"CustomResourceDefinition", "Deployment"}
    assert pod_of(own)["serviceAccountName"] == "mine"


def test_rights_shrink_to_the_watched_namespaces(control_plane: ControlPlane) -> None:
    objects = rendered(control_plane, "--set", "watchNamespaces={a,b}")
    assert "ClusterRole" not in {kind for kind, _ in objects}
    text = control_plane.helm("template", "test", CHART, "--set", "watchNamespaces={a,b}")
    roles = [item for item in yaml.safe_load_all(text) if item and item["kind"] == "Role"]
    assert [role["metadata"]["namespace"] for role in roles] == ["a", "b"]
    assert all(role["rules"] == [rule.manifest() for rule in RULES] for role in roles)
    arguments = pod_of(objects)["containers"][0]["args"]
    assert [argument for argument in arguments if "namespace" in argument] == ["--namespace=a", "--namespace=b"]


def test_every_value_is_described_and_known_to_the_schema() -> None:
    folder = ROOT / "charts" / "foresail"
    schema = json.loads((folder / "values.schema.json").read_text())

    def compare(values: Object, known: Object, path: str) -> Iterator[str]:
        for name in values.keys() ^ known.keys() - {"global"}:
            yield f"{path}{name}"
        for name in values.keys() & known.keys():
            if known[name].get("properties") and isinstance(values[name], dict) and name != "resources":
                yield from compare(values[name], known[name]["properties"], f"{path}{name}.")

    values = yaml.safe_load((folder / "values.yaml").read_text())
    assert list(compare(values, schema["properties"], "")) == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("image.tagg=1", "additional properties 'tagg' not allowed"),
        ("image.digest=sha256:short", "image/digest"),
        ("image.pullPolicy=Sometimes", "image/pullPolicy"),
        ("crds.install=perhaps", "crds/install"),
        ("sidecarImage.repository=", "sidecarImage/repository"),
        ("serviceAccount.create=false", "serviceAccount/name"),
    ],
)
def test_wrong_values_are_refused(control_plane: ControlPlane, setting: str, words: str) -> None:
    result = control_plane.run("helm", "template", "test", CHART, "--set", setting, check=False)
    assert result.returncode != 0
    assert words in result.stderr


@pytest.fixture
def release(control_plane: ControlPlane, namespace: str) -> str:
    """The chart, installed as `foresail` in a namespace that admits only restricted pods; returns the namespace."""
    control_plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    control_plane.helm("install", "foresail", CHART, "--namespace", namespace, "--set", "crds.install=false")
    return namespace


@pytest.fixture
def uninstall(control_plane: ControlPlane, release: str) -> Iterator[str]:
    """The release's namespace; what it has outside that namespace is gone afterwards."""
    yield release
    control_plane.helm("uninstall", "foresail", "--namespace", release)


def test_an_installed_operator_passes_restricted_pod_security(control_plane: ControlPlane, uninstall: str) -> None:
    here = ("--namespace", uninstall)
    selector = ("--selector", "app.kubernetes.io/component=operator")
    wait_until(lambda: len(control_plane.get("pods", *here, *selector)["items"]) == 1, "the operator's pod")
    assert control_plane.report_pods_ready(uninstall, "app.kubernetes.io/component=operator") == 1
    control_plane.kubectl("rollout", "status", "deployment/foresail", "--timeout=20s", *here)


def test_the_role_grants_the_rights_that_the_operator_says_it_needs(control_plane: ControlPlane) -> None:
    role = rendered(control_plane)["ClusterRole", "test-foresail"]
    assert role["rules"] == [rule.manifest() for rule in RULES]


@pytest.mark.parametrize(
    ("allowed", "verb", "resource"),
    [
        ("yes", "watch", "modelpools.foresail.dev"),
        ("yes", "watch", "routingpolicies.foresail.dev"),
        ("yes", "patch", "routingpolicies.foresail.dev/status"),
        ("yes", "patch", "modelpools.foresail.dev/status"),
        ("yes", "create", "deployments.apps"),
        ("yes", "patch", "services"),
        ("yes", "create", "configmaps"),
        ("no", "delete", "configmaps"),
        ("no", "delete", "deployments.apps"),
        ("yes", "create", "events"),
        ("no", "get", "secrets"),
        ("no", "list", "secrets"),
        ("no", "watch", "secrets"),
        ("no", "create", "secrets"),
        ("no", "patch", "routingpolicies.foresail.dev"),
        ("no", "delete", "modelpools.foresail.dev"),
        ("no", "create", "pods"),
        ("no", "create", "pods/exec"),
        ("no", "create", "serviceaccounts/token"),
        ("no", "create", "rolebindings.rbac.authorization.k8s.io"),
        ("no", "create", "clusterroles.rbac.authorization.k8s.io"),
        ("no", "patch", "customresourcedefinitions.apiextensions.k8s.io"),
        ("no", "get", "nodes"),
    ],
)
def test_the_operator_may_do_what_it_needs_and_no_more(
    control_plane: ControlPlane, installed_once: Path, allowed: str, verb: str, resource: str
) -> None:
    resource, _, subresource = resource.partition("/")
    question = ("auth", "can-i", verb, resource, f"--subresource={subresource}", "--namespace", "default")
    answer = control_plane.run("kubectl", *question, kubeconfig=installed_once, check=False)
    assert answer.stdout.strip() == allowed, answer.stderr


@pytest.fixture(scope="module")
def installed_once(control_plane: ControlPlane) -> Iterator[Path]:
    """A kubeconfig with exactly the rights of the operator that the chart installs."""
    here = ("--namespace", "foresail-rights")
    control_plane.helm("install", "rights", CHART, *here, "--create-namespace", "--set", "crds.install=false")
    yield control_plane.service_account_kubeconfig("foresail-rights", "rights-foresail")
    control_plane.helm("uninstall", "rights", *here)


@pytest.fixture
def empty_control_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane of the test's own, without our kinds."""
    with start_control_plane(tmp_path) as plane:
        yield plane


def test_uninstalling_keeps_definitions_and_objects(empty_control_plane: ControlPlane) -> None:
    control_plane, here = empty_control_plane, ("--namespace", "default")
    notes = control_plane.helm("install", "foresail", CHART, *here)
    assert "base_url" in notes
    control_plane.wait_for_kind("fpolicy")
    policy = {
        "apiVersion": "foresail.dev/v1alpha1",
        "kind": "RoutingPolicy",
        "metadata": {"name": "kept"},
        "spec": {"poolRef": {"name": "pool"}, "router": {"strategy": "Cheapest"}},
    }
    control_plane.kubectl("apply", *here, "-f", "-", input=json.dumps(policy))
    control_plane.helm("uninstall", "foresail", *here)
    assert control_plane.kubectl("get", "fpolicy", *here, "-o", "name").split() == ["routingpolicy.foresail.dev/kept"]
    assert control_plane.kubectl("get", "deployments,serviceaccounts", *here, "-o", "name").split() == [
        "serviceaccount/default"
    ]
    control_plane.helm("install", "foresail", CHART, *here, "--set", "crds.keep=false", "--take-ownership")
    control_plane.helm("uninstall", "foresail", *here)
    control_plane.kubectl("wait", "--for=delete", "--timeout=20s", *(f"crd/{name}" for name in NAMES))


@pytest.fixture
def operator(control_plane: ControlPlane, installed_once: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The operator as the chart's pod runs it, its command and arguments, with exactly that pod's rights on the API."""
    here = ("--namespace", "foresail-rights")
    pod = control_plane.get("deployment", "rights-foresail", *here)["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "rights-foresail"
    (container,) = pod["containers"]
    port = free_port()
    arguments = [f"--liveness-port={port}" if "liveness" in word else word for word in container["args"]]
    program, *words = container["command"]
    command = [str(Path(sys.executable).parent / program), *words, *arguments]
    environment = {"KUBECONFIG": str(installed_once), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    probe = container["livenessProbe"]["httpGet"]
    log = tmp_path / "operator.log"

    def healthy() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{probe['path']}", timeout=2).is_success
        except httpx.HTTPError:
            return False

    with running(command, log, environment=environment, grace_seconds=15) as process:
        wait_until(healthy, "the operator", seconds=60, process=process, log=log)
        yield process
    assert "Forbidden" not in log.read_text()


def test_the_operator_reconciles_with_the_rights_of_its_chart(
    control_plane: ControlPlane, operator: subprocess.Popen[bytes], namespace: str
) -> None:
    here = ("--namespace", namespace)
    control_plane.kubectl("apply", *here, "-f", "-", input=POLICY)
    control_plane.kubectl("wait", "fpolicy/chat", "--for=condition=ResolvedRefs=False", "--timeout=30s", *here)
    control_plane.kubectl("apply", *here, "-f", "-", input=POOL)
    control_plane.kubectl("wait", "fpolicy/chat", "--for=condition=Programmed", "--timeout=30s", *here)
    children = ("configmap/chat-foresail", "service/chat-foresail", "deployment/chat-foresail")
    control_plane.kubectl("get", *here, *children)

    def pods_exist() -> bool:
        return control_plane.report_pods_ready(namespace, "foresail.dev/policy=chat") > 0

    wait_until(pods_exist, "pods of the policy")
    control_plane.kubectl("wait", "fpolicy/chat", "--for=condition=Ready", "--timeout=30s", *here)
    shown = control_plane.kubectl("get", "fpool,fpolicy", *here)
    assert "True" in shown
    control_plane.kubectl("delete", "fpolicy", "chat", *here)
    control_plane.kubectl("wait", "--for=delete", "--timeout=30s", *here, *children)
    assert operator.poll() is None
