"""A real one-node cluster with Foresail on it, made once per run: images built, chart installed, the demo's models reachable."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hack.control_plane import NODE, locate
from tests.support.control_plane import ControlPlane
from tests.support.one_node import CLUSTER, HOST_ADDRESS, SCRIPT, free_ports, give_up, shell, step
from tests.support.processes import running, wait_until

ROOT = Path(__file__).parents[2]
TAG = "e2e"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The cluster, with an administrator's rights; it is taken down afterwards."""
    if os.geteuid() != 0:
        pytest.fail("make e2e needs root: a node mounts, makes network namespaces and starts containers", pytrace=False)
    folder = tmp_path_factory.mktemp("cluster")
    binaries = locate() | locate(NODE)
    try:
        with step("start the cluster"):
            shell(SCRIPT, "up", timeout=240)
        administrator = CLUSTER / "admin.kubeconfig"
        yield ControlPlane("https://10.99.0.2:6443", CLUSTER / "pki" / "ca.crt", administrator, folder, binaries)
    finally:
        with step("take the cluster down"):
            shell(SCRIPT, "down", timeout=120)


@pytest.fixture(scope="session")
def images(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Both images, built from the lock file and loaded into the node; returns the prefix of their names."""
    folder = tmp_path_factory.mktemp("images")
    prefix = "localhost/foresail"
    for part in ("operator", "sidecar"):
        archive = str(folder / f"{part}.tar")
        with step(f"build and load the image {part}"):
            shell(str(ROOT / "hack" / "images" / "build.sh"), part, f"{prefix}/{part}:{TAG}", archive, timeout=900)
            shell(SCRIPT, "load", archive, timeout=300)
    return prefix


@pytest.fixture(scope="session")
def operator(cluster: ControlPlane, images: str) -> None:
    """The operator, installed by the chart into a namespace that admits only restricted pods."""
    cluster.kubectl("create", "namespace", "foresail-system")
    cluster.kubectl("label", "namespace", "foresail-system", "pod-security.kubernetes.io/enforce=restricted")
    chart = str(ROOT / "charts" / "foresail")
    settings = [f"{image}.{name}" for image, part in (("image", "operator"), ("sidecarImage", "sidecar"))
                for name in (f"repository={images}/{part}", f"tag={TAG}", "pullPolicy=Never")]  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    release = ("foresail", chart, "--namespace", "foresail-system", "--wait", "--timeout", "90s")
    with step("install the chart"):
        installed = cluster.run("helm", "install", *release, *words, check=False, timeout=120)
    if installed.returncode:
        give_up(cluster, "foresail-system", f"the operator did not come up: {installed.stderr}")


@pytest.fixture(scope="session")
def models_port(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The demo's real models, reachable from pods at the host's address; returns the port of the first of four."""
    folder = tmp_path_factory.mktemp("models")
    port, log = free_ports(4), folder / "models.log"
    command = [sys.executable, "-m", "examples.demo.models", "--base-port", str(port), "--threads", "1"]
    relay = [sys.executable, "-m", "tests.support.relay", HOST_ADDRESS, "127.0.0.1", *(str(port + n) for n in range(4))]
    with running(command, log, folder=ROOT) as process, running(relay, folder / "relay.log", folder=ROOT):
        with step("start the models"):
            wait_until(
                lambda: "all models answer" in log.read_text(), "the models", seconds=180, process=process, log=log
            )
        yield port
