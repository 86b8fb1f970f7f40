"""How `hack/control_plane.py` builds: once for all callers, whole files only, with the release stamped in.

The compiler is a stand-in that records its calls: compiling Kubernetes takes minutes, and `make test` does it anyway.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hack.control_plane import CONTROL_PLANE, build_folder, go_version, kubernetes_version

SCRIPT = str(Path(__file__).parents[2] / "hack" / "control_plane.py")

COMPILER = """#!/bin/sh
[ "$1" = env ] && { echo go1.26.0; exit; }
echo "$@" >> "$CALLS"
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\n' > "$2"
sleep 0.1
case "$2" in */"$FAIL") exit 1;; esac
chmod +x "$2"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A cache and a compiler of the test's own."""
    compiler = tmp_path / "bin" / "go"
    compiler.parent.mkdir()
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    path = f"{compiler.parent}:/usr/bin:/bin"
    return {"PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache"), "CALLS": str(tmp_path / "calls"), "FAIL": "none"}


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def test_callers_at_the_same_time_share_one_build(environment: dict[str, str]) -> None:
    results = [finish(process) for process in [start(environment) for _ in range(3)]]
    assert [code for code, _, _ in results] == [0, 0, 0]
    calls = Path(environment["CALLS"]).read_text().splitlines()
    assert len(calls) == len(CONTROL_PLANE)
    listed = [line for line in results[0][1].splitlines() if line.startswith(tuple(CONTROL_PLANE)) and " /" in line]
    assert [Path(line.split()[1]).name for line in listed] == list(CONTROL_PLANE)
    assert finish(start(environment))[0] == 0
    assert Path(environment["CALLS"]).read_text().splitlines() == calls, "nothing was missing, yet something was built"


def test_kubernetes_is_stamped_with_the_release_of_its_module(environment: dict[str, str]) -> None:
    finish(start(environment))
    calls = Path(environment["CALLS"]).read_text().splitlines()
    (server,) = [call for call in calls if call.endswith("cmd/kube-apiserver")]
    assert f"-X k8s.io/component-base/version.gitVersion={kubernetes_version()}" in server
    (etcd,) = [call for call in calls if "etcd" in call.split()[-1]]
    assert "-X" not in etcd


def test_a_failed_build_leaves_no_half_binary_behind(environment: dict[str, str], tmp_path: Path) -> None:
    code, _, errors = finish(start(environment | {"FAIL": "kubectl"}))
    assert code == 1
    assert "failed with exit code 1" in errors
    assert "Traceback" not in errors
    found = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".lock"}
    assert found == {"kube-apiserver", "kube-controller-manager"}
    assert finish(start(environment))[0] == 0


def test_printing_builds_nothing(environment: dict[str, str]) -> None:
    code, _, errors = finish(start(environment, "--print"))
    assert code == 1
    assert "make control-plane" in errors
    assert not Path(environment["CALLS"]).exists()


def test_binaries_go_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build_folder().is_relative_to(tmp_path / "foresail" / "control-plane")


def test_a_command_that_does_not_run_has_no_version() -> None:
    assert go_version("/nowhere/go") is None
