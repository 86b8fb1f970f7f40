"""What end-to-end tests share: where the one-node cluster lives, its script, and steps that say how long they took."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.support.control_plane import ControlPlane
from tests.support.processes import free_port

SCRIPT = str(Path(__file__).parents[2] / "hack" / "cluster" / "cluster.sh")
CLUSTER = Path(os.environ.get("FORESAIL_CLUSTER_DIR", "/var/lib/foresail-cluster"))
HOST_ADDRESS = "10.99.0.1"


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Print how long something took; end-to-end runs are watched."""
    started = time.monotonic()
    print(f"\n{what} ...", flush=True)
    yield
    print(f"{what}: {time.monotonic() - started:.1f} s", flush=True)


def shell(*command: str, timeout: float) -> None:
    """Run a script; fail with the end of what it printed."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if result.returncode:
        pytest.fail(f"{' '.join(command)}\n{(result.stdout + result.stderr)[-4000:]}", pytrace=False)


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that are free on loopback now."""
    while True:
        first = free_port()
        with contextlib.suppress(OSError, OverflowError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


def give_up(cluster: ControlPlane, namespace: str, what: str) -> NoReturn:
    """Fail, after printing all that tells why pods of a namespace do not do what they should."""
    here = ("--namespace", namespace)
    print(cluster.kubectl("get", "foresail,deployments,pods,services", *here, check=False))
    print(cluster.kubectl("describe", "foresail,pods", *here, check=False))
    for pod in cluster.get("pods", *here)["items"]:
        print(cluster.kubectl("logs", pod["metadata"]["name"], "--tail=50", *here, check=False))
    pytest.fail(f"{what}; see above", pytrace=False)
