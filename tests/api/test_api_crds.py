"""What the API server says to good and broken ModelPools and RoutingPolicies."""

from __future__ import annotations

import copy
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import ValidationError
from tests.support.api_objects import (
    EXAMPLES,
    FULL_POLICY,
    FULL_POOL,
    MINIMAL_POLICY,
    MINIMAL_POOL,
    MODEL,
    REMOVED,
    RULES,
    STATUS,
    Object,
    Part,
)
from tests.support.control_plane import ControlPlane
from tests.support.schema_faults import Fault, faults

from foresail_api.policy import RoutingPolicy
from foresail_api.pool import ModelPool

DEFINITIONS: dict[str, Object] = {
    definition["spec"]["names"]["kind"]: definition
    for file in sorted((Path(__file__).parents[2] / "crds").glob("*.yaml"))
    for definition in [yaml.safe_load(file.read_text())]
}
MODELS: dict[str, type[ModelPool] | type[RoutingPolicy]] = {"ModelPool": ModelPool, "RoutingPolicy": RoutingPolicy}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    """An HTTP client with the administrator's rights; nothing that it sends is kept (dry run), all is validated strictly."""
    user = json.loads(control_plane.kubeconfig.read_text())["users"][0]["user"]
    context = ssl.create_default_context(cafile=control_plane.certificate_authority)
    context.load_cert_chain(user["client-certificate"], user["client-key"])
    parameters = {"dryRun": "All", "fieldValidation": "Strict"}
    with httpx.Client(base_url=control_plane.server, verify=context, params=parameters, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def stored(control_plane: ControlPlane) -> str:
    """The name of a stored object of each kind in the namespace `default`."""
    documents = [EXAMPLES[example] | {"metadata": {"name": "stored"}} for example in ("minimal pool", "minimal policy")]
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))
    return "stored"


def collection(kind: str) -> str:
    plural = DEFINITIONS[kind]["spec"]["names"]["plural"]
    return f"/apis/foresail.dev/v1alpha1/namespaces/default/{plural}"


def schema_of(kind: str) -> Object:
    schema: Object = DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def changed(example: str, path: tuple[Part, ...], value: Any) -> Object:
    document: Object = copy.deepcopy(EXAMPLES[example])
    parent: Any = document
    for part in path[:-1]:
        parent = parent[part]
    if value is REMOVED:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return document


def spec_faults() -> Iterator[Any]:
    seen = set()
    for document in EXAMPLES.values():
        kind = document["kind"]
        for fault in faults(schema_of(kind)["properties"]["spec"], document["spec"]):
            if (kind, fault.title) not in seen:
                seen.add((kind, fault.title))
                yield pytest.param(document, fault, id=f"{kind}-{fault.title}")


def status_faults() -> Iterator[Any]:
    for kind, status in STATUS.items():
        for fault in faults(schema_of(kind)["properties"]["status"], status):
            yield pytest.param(kind, fault, id=f"{kind}-{fault.title}")


def nodes(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def assert_refused(answer: httpx.Response, field: str, words: str) -> None:
    message = answer.json()["message"]
    assert answer.status_code in (400, 422), message
    if words == "unknown field":
        assert f'unknown field "{field}"' in message
        return
    causes = answer.json()["details"]["causes"]
    assert any(cause["field"] == field and words in cause["message"] for cause in causes), message


@pytest.mark.parametrize("example", EXAMPLES)
def test_good_objects_are_accepted(api: httpx.Client, example: str) -> None:
    document = EXAMPLES[example]
    answer = api.post(collection(document["kind"]), json=document)
    assert answer.status_code == 201, answer.text
    MODELS[document["kind"]].model_validate(document)


@pytest.mark.parametrize(("document", "fault"), list(spec_faults()))
def test_a_broken_field_is_named_with_what_must_hold(api: httpx.Client, document: Object, fault: Fault) -> None:
    broken = document | {"spec": fault.broken}
    field = f"spec.{fault.field}".rstrip(".")
    assert_refused(api.post(collection(document["kind"]), json=broken), field, fault.words)
    with pytest.raises(ValidationError):
        MODELS[document["kind"]].model_validate(broken)


@pytest.mark.parametrize(("example", "path", "value", "field", "message"), RULES)
def test_a_broken_rule_says_what_must_hold(
    api: httpx.Client, example: str, path: tuple[Part, ...], value: Any, field: str, message: str
) -> None:
    broken = changed(example, path, value)
    assert_refused(api.post(collection(broken["kind"]), json=broken), field, message)
    with pytest.raises(ValidationError, match="must be"):
        MODELS[broken["kind"]].model_validate(broken)


def test_every_rule_of_the_definitions_is_broken_above() -> None:
    rules = {
        (kind, rule["message"])
        for kind in DEFINITIONS
        for _, node in nodes(schema_of(kind))
        for rule in node.get("x-kubernetes-validations", ())
    }
    assert rules == {(EXAMPLES[example]["kind"], message) for example, _, _, _, message in RULES}


def test_every_field_is_set_in_an_example_above() -> None:
    def fields(schema: Object, value: Any, path: str) -> Iterator[str]:
        yield path
        if schema["type"] == "array":
            for item in value:
                yield from fields(schema["items"], item, f"{path}[]")
        elif schema["type"] == "object":
            for name, child in value.items():
                yield from fields(schema["properties"][name], child, f"{path}.{name}")

    for kind in DEFINITIONS:
        schema = schema_of(kind)["properties"]
        documents = [document["spec"] for document in EXAMPLES.values() if document["kind"] == kind]
        covered = {path for spec in documents for path in fields(schema["spec"], spec, "")}
        assert {f".{path}" if path else "" for path, _ in nodes(schema["spec"])} == covered


@pytest.mark.parametrize(("kind", "fault"), list(status_faults()))
def test_a_broken_status_is_refused(api: httpx.Client, stored: dict[str, str], kind: str, fault: Fault) -> None:
    target = f"{collection(kind)}/{stored}/status"
    patch = [{"op": "add", "path": "/status", "value": fault.broken}]
    answer = api.patch(target, content=json.dumps(patch), headers={"Content-Type": "application/json-patch+json"})
    assert_refused(answer, f"status.{fault.field}".rstrip("."), fault.words)


def test_defaults_are_filled_in(api: httpx.Client) -> None:
    pool = api.post(collection("ModelPool"), json=EXAMPLES["minimal pool"]).json()["spec"]
    (model,) = pool["models"]
    assert model["minOutputTokens"] == 1
    assert model["tokenCount"] == {"method": "Bytes", "maxTokensPerByte": 1}
    assert model["upstreams"][0]["protocol"] == "OpenAI"
    assert model["upstreams"][0]["outputLimitField"] == "MaxTokens"
    policy = api.post(collection("RoutingPolicy"), json=EXAMPLES["minimal policy"]).json()["spec"]
    assert policy["aliases"] == ["auto"]
    assert policy["router"] == {"strategy": "Cheapest", "deadlineMilliseconds": 250, "failureMode": "FailOpen"}
    assert policy["objective"] == {"tradeoff": {"costWeightPercent": 30}}
    assert policy["tenants"] == {"anonymous": "Deny", "rules": []}
    assert policy["serving"] == {"mode": "Gateway", "replicas": 1}
    assert "costLimits" not in policy
    limits = api.post(collection("RoutingPolicy"), json=EXAMPLES["local policy"]).json()["spec"]["costLimits"]
    assert limits["onLedgerUnavailable"] == "FailClose"
    assert limits["ledger"]["timeoutMilliseconds"] == 500
    (budget,) = limits["budgets"]
    assert (budget["scope"], budget["hardAction"], budget["overrides"]) == ("Policy", "Reject", [])


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_server_and_the_models_fill_in_the_same_defaults(api: httpx.Client, example: str) -> None:
    document = EXAMPLES[example]
    served = api.post(collection(document["kind"]), json=document).json()
    model = MODELS[document["kind"]]
    assert model.model_validate(served).spec == model.model_validate(document).spec


def test_get_shows_columns_by_short_names_and_category(
    control_plane: ControlPlane, api: httpx.Client, namespace: str
) -> None:
    here = ("--namespace", namespace)
    control_plane.kubectl("apply", *here, "-f", "-", input=f"{FULL_POOL}---{FULL_POLICY}")
    for resource, kind in (("fpool", "ModelPool"), ("fpolicy", "RoutingPolicy")):
        patch = json.dumps({"status": STATUS[kind]})
        control_plane.kubectl("patch", resource, "full", *here, "--subresource=status", "--type=merge", "-p", patch)
    shown = control_plane.kubectl("get", "fpool,fpolicy", *here).splitlines()
    assert shown[0].split() == ["NAME", "MODELS", "ACCEPTED", "AGE"]
    assert shown[1].split()[:2] == ["modelpool.foresail.dev/full", "2"]
    assert shown[3].split() == ["NAME", "POOL", "STRATEGY", "READY", "REASON", "AGE"]
    assert shown[4].split()[:5] == ["routingpolicy.foresail.dev/full", "full", "Learned", "False", "PodsNotReady"]
    by_category = control_plane.kubectl("get", "foresail", *here, "-o", "name").split()
    assert by_category == ["modelpool.foresail.dev/full", "routingpolicy.foresail.dev/full"]


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_field_explains_itself(kind: str) -> None:
    silent = [
        path
        for path, node in nodes(schema_of(kind))
        if not node.get("description") and path != "metadata" and not path.endswith("[]")
    ]
    assert silent == []


def test_explain_reads_well(control_plane: ControlPlane) -> None:
    explained = control_plane.kubectl("explain", "fpolicy.spec.router")
    assert "What takes the decision." in explained
    assert "`FailClose` answers" in " ".join(explained.split())
    assert "enum: Learned, Cheapest, Default" in explained
    assert "Most US dollars that one request can cost" in control_plane.kubectl(
        "explain", "routingpolicies.spec.costLimits.perRequest"
    )


def test_only_the_broken_object_of_a_file_fails(control_plane: ControlPlane, namespace: str) -> None:
    broken = changed("minimal pool", (*MODEL, "maxOutputTokens"), 9000)
    broken["metadata"]["name"] = "broken"
    documents = f"{MINIMAL_POOL}---\n{yaml.safe_dump(broken)}---{MINIMAL_POLICY}"
    here = ("--namespace", namespace)
    result = control_plane.run("kubectl", "apply", *here, "-f", "-", input=documents, check=False)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "modelpool.foresail.dev/minimal created",
        "routingpolicy.foresail.dev/minimal created",
    ]
    (line,) = [line for line in result.stderr.splitlines() if "broken" in line]
    assert "`maxOutputTokens` must be less than or equal to `contextWindowTokens`" in line


def test_a_misspelt_field_is_refused_by_kubectl_apply(control_plane: ControlPlane, namespace: str) -> None:
    misspelt = yaml.safe_dump(changed("minimal policy", ("spec", "costLimit"), {"perRequest": "0.01"}))
    result = control_plane.run("kubectl", "apply", "--namespace", namespace, "-f", "-", input=misspelt, check=False)
    assert result.returncode == 1
    assert 'unknown field "spec.costLimit"' in result.stderr
