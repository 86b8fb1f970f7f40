"""`foresail operator` from a shell: what it says when it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FORESAIL = Path(sys.executable).with_name("foresail")


def refused(*arguments: str, **environment: str) -> str:
    kept = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}
    done = subprocess.run(
        [FORESAIL, "operator", *arguments], capture_output=True, text=True, timeout=60, env=kept, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_image_of_the_pods_must_be_named() -> None:
    assert "--sidecar-image" in refused()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--namespace", "team-*"], "--namespace 'team-*' is not the name of a namespace"),
        (["--liveness-port", "70000"], "--liveness-port 70000 must be between 1 and 65535"),
        (["--sidecar-image-pull-policy", "Sometimes"], "invalid choice: 'Sometimes'"),
    ],
)
def test_arguments_are_checked_before_anything_is_connected(arguments: list[str], said: str) -> None:
    assert said in refused("--sidecar-image", "foresail:1", *arguments)


def test_without_a_cluster_it_says_how_to_name_one(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    assert "set KUBECONFIG to a usable file" in refused("--sidecar-image", "foresail:1", KUBECONFIG=missing)
