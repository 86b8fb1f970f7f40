"""An OpenAI client asks for `model: auto` at a policy's Service; real models answer, and pods do all the work."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
import yaml
from tests.support.control_plane import ControlPlane
from tests.support.one_node import CLUSTER, HOST_ADDRESS, give_up, step

DEMO = Path(__file__).parents[2] / "examples" / "demo"
NAMESPACE = "shop"
UPSTREAMS = "demo-models"
HERE = ("--namespace", NAMESPACE)

PROMPTS = [
    "What is 48 plus 77?",
    "What is the capital of Norway?",
    "What is the opposite of 'empty'?",
    "How do you say 'bread' in Spanish?",
]

# Runs in a pod of the cluster, where the policy's address resolves.
ASK = """
import json, sys, urllib.request
body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": sys.argv[2]}]}).encode()
request = urllib.request.Request(sys.argv[1] + "/chat/completions", body, {"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=60) as answer:
    text = json.load(answer)["choices"][0]["message"]["content"]
    print(json.dumps({"model": answer.headers["x-foresail-model"], "answer": text}))
"""


@pytest.fixture(scope="module")
def served(cluster: ControlPlane, operator: None, models_port: int) -> str:
    """The demo's pool and policy, ready; returns the base URL of the policy's Service as the host reaches it."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    pool, ports = in_cluster_pool(models_port)
    policy = yaml.safe_load((DEMO / "policy.yaml").read_text())
    documents = [*upstream_service(ports), *artifact_volume(policy), pool, policy]
    name = policy["metadata"]["name"]
    with step("apply pool and policy, wait until Ready"):
        cluster.kubectl("apply", *HERE, "-f", "-", input=yaml.safe_dump_all(documents))
        waited = cluster.run(
            "kubectl",
            "wait",
            f"fpolicy/{name}",
            "--for=condition=Ready",
            "--timeout=120s",
            *HERE,
            check=False,
            timeout=150,
        )
    if waited.returncode:
        give_up(cluster, NAMESPACE, "the policy did not become Ready")
    print(cluster.kubectl("get", "fpool,fpolicy,deployments,services,pods", *HERE))
    address = cluster.get("service", f"{name}-foresail", *HERE)["spec"]["clusterIP"]
    return f"http://{address}/v1"


def in_cluster_pool(first_port: int) -> tuple[dict[str, Any], list[int]]:
    """The demo's pool with Services in place of loopback addresses; also the ports that those need."""
    pool = yaml.safe_load((DEMO / "pool.yaml").read_text())
    upstreams = [upstream for model in pool["spec"]["models"] for upstream in model["upstreams"]]
    written = [urlsplit(upstream.pop("url")) for upstream in upstreams]
    lowest = min(url.port or 0 for url in written)
    ports = [first_port + (url.port or 0) - lowest for url in written]
    for upstream, url, port in zip(upstreams, written, ports, strict=True):
        upstream["backendRef"] = {"name": UPSTREAMS, "port": port, "pathPrefix": url.path}
    return pool, ports


def upstream_service(ports: list[int]) -> list[dict[str, Any]]:
    """A Service whose endpoint is the host, where the models run."""
    named = [{"name": f"p{port}", "port": port} for port in ports]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": UPSTREAMS}, "spec": {"ports": named}}
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{UPSTREAMS}-host", "labels": {"kubernetes.io/service-name": UPSTREAMS}},
        "addressType": "IPv4",
        "ports": named,
        "endpoints": [{"addresses": [HOST_ADDRESS], "conditions": {"ready": True}}],
    }
    return [service, endpoints]


def artifact_volume(policy: dict[str, Any]) -> list[dict[str, Any]]:
    """A volume of the node with the demo's trained router, and the claim to it that the policy names."""
    named = policy["spec"]["router"]["artifact"]["volumeClaim"]
    folder = CLUSTER / "artifacts"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DEMO / named["path"], folder / named["path"])
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    size = {"storage": "1Gi"}
    shared = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "artifacts"},
        "spec": {**shared, "capacity": size, "hostPath": {"path": str(folder)}},
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": named["name"]},
        "spec": {**shared, "resources": {"requests": size}, "volumeName": "artifacts"},
    }
    return [volume, claim]


def test_an_openai_client_gets_routed_answers_through_the_service(served: str) -> None:
    names = {model["name"] for model in yaml.safe_load((DEMO / "pool.yaml").read_text())["spec"]["models"]}
    client = openai.OpenAI(base_url=served, api_key="unused", timeout=60, max_retries=0)
    chosen = set()
    for prompt in PROMPTS:
        started = time.monotonic()
        answer = client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": prompt}]
        )
        text = answer.parse().choices[0].message.content
        model, cost = answer.headers["x-foresail-model"], answer.headers["x-foresail-cost-usd"]
        print(f"{prompt} -> {model} ({time.monotonic() - started:.1f} s, ${cost}): {text!r}")
        assert model in names
        assert answer.headers["x-foresail-basis"] == "Learned"
        assert text
        assert float(cost) > 0
        chosen.add(model)
    assert len(chosen) > 1, "the router sent every kind of prompt to one model"


def test_a_stream_arrives_through_the_service(served: str) -> None:
    client = openai.OpenAI(base_url=served, api_key="unused", timeout=60, max_retries=0)
    stream = client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": PROMPTS[1]}], stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_a_pod_reaches_the_address_in_the_status(cluster: ControlPlane, images: str, served: str) -> None:
    (policy,) = cluster.get("fpolicy", *HERE)["items"]
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "client",
                    "image": f"{images}/sidecar:e2e",
                    "imagePullPolicy": "Never",
                    "command": ["python3", "-c", ASK, policy["status"]["endpoint"], PROMPTS[0]],
                    "securityContext": restricted,
                }
            ],
        },
    }
    cluster.kubectl("apply", *HERE, "-f", "-", input=json.dumps(pod))
    cluster.kubectl("wait", "pod/client", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", *HERE)
    answer = json.loads(cluster.kubectl("logs", "client", *HERE))
    print(f"a pod asked {policy['status']['endpoint']}: {answer}")
    assert answer["answer"]


def test_deleting_the_policy_removes_its_pods(cluster: ControlPlane, served: str) -> None:
    with step("delete the policy"):
        cluster.kubectl("delete", "fpolicy", "--all", *HERE)
        cluster.run(
            "kubectl", "wait", "--for=delete", "pods", "-l", "foresail.dev/policy", "--timeout=90s", *HERE, timeout=120
        )
    assert cluster.get("deployments", *HERE)["items"] == []
