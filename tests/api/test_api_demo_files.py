"""The demo's two files, which `foresail serve` takes as they are, work through `kubectl apply` too."""

from __future__ import annotations

from pathlib import Path

from tests.support.control_plane import ControlPlane

DEMO = Path(__file__).parents[2] / "examples" / "demo"


def test_the_demo_s_files_are_applied_as_they_are(control_plane: ControlPlane, namespace: str) -> None:
    files = ("-f", str(DEMO / "pool.yaml"), "-f", str(DEMO / "policy.yaml"))
    said = control_plane.kubectl("apply", "--validate=strict", "-n", namespace, *files)
    assert "modelpool.foresail.dev/demo created" in said
    assert "routingpolicy.foresail.dev/demo created" in said
    assert "unchanged" in control_plane.kubectl("apply", "-n", namespace, *files)
    listed = control_plane.kubectl("get", "fpool,fpolicy", "-n", namespace)
    assert listed.count("/demo ") == 2
