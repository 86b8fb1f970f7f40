"""Fixtures of the tests against a real API server: one control plane per run, one namespace per test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from hack.control_plane import MissingBinaries, locate
from tests.support.control_plane import ControlPlane, start_control_plane
from tests.support.foresail_crds import FILES, SHORT_NAMES


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and kube-controller-manager on loopback, with TLS and RBAC, and both kinds defined."""
    try:
        locate()
    except MissingBinaries as missing:
        pytest.fail(str(missing), pytrace=False)
    with start_control_plane(tmp_path_factory.mktemp("control-plane"), FILES) as plane:
        for short_name in SHORT_NAMES:
            plane.wait_for_kind(short_name)
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own; it is deleted in the background afterwards."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")
