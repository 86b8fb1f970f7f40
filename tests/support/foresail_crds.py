"""Installs the generated custom resource definitions on a control plane; knows their files and short names alone."""

from __future__ import annotations

from pathlib import Path

from tests.support.control_plane import ControlPlane

FILES = sorted((Path(__file__).parents[2] / "crds").glob("*.yaml"))
NAMES = ("modelpools.foresail.dev", "routingpolicies.foresail.dev")
SHORT_NAMES = ("fpool", "fpolicy")


def install_crds(control_plane: ControlPlane) -> None:
    """Apply the definitions and wait until the server and `kubectl` know both kinds."""
    files = [argument for file in FILES for argument in ("-f", str(file))]
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", *files)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *files)
    for short_name in SHORT_NAMES:
        control_plane.wait_for_kind(short_name)


def remove_crds(control_plane: ControlPlane) -> None:
    """Delete the definitions and, with them, every object of both kinds."""
    control_plane.kubectl("delete", "crd", "--ignore-not-found", *NAMES)
