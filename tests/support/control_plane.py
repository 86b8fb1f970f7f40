"""A real Kubernetes control plane on loopback for tests: etcd, kube-apiserver, kube-controller-manager; no node.

`start_control_plane(folder)` is the whole life of one; `ControlPlane` is how tests talk to it. Whoever needs running
pods plays the kubelet with `report_pods_ready`. This module must not know Foresail.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.control_plane import locate
from tests.support.certificates import Authority, KeyPair, signing_key
from tests.support.processes import free_port, running, wait_until


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running control plane and the commands to use it; `kubeconfig` carries an administrator's rights."""

    server: str
    certificate_authority: Path
    kubeconfig: Path
    folder: Path
    binaries: dict[str, Path]

    def run(
        self,
        binary: str,
        *arguments: str,
        input: str | None = None,  # noqa: A002
        check: bool = True,
        kubeconfig: Path | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run `kubectl` or `helm` with a kubeconfig (the administrator's by default); `check` fails the test with stderr."""
        environment = {
            "KUBECONFIG": str(kubeconfig or self.kubeconfig),
            "HOME": str(self.folder),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }
        result = subprocess.run(
            [self.binaries[binary], *arguments],
            input=input or "",
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
            check=False,
        )
        if check and result.returncode:
            raise AssertionError(
                f"{binary} {' '.join(arguments)}: exit code {result.returncode}\n{result.stderr}{result.stdout}"
            )
        return result

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002
        check: bool = True,
        kubeconfig: Path | None = None,
    ) -> str:
        """The standard output of `kubectl ARGUMENTS`."""
        return self.run("kubectl", *arguments, input=input, check=check, kubeconfig=kubeconfig).stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get ARGUMENTS -o json`, parsed."""
        answer: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return answer

    def wait_for_kind(self, name: str) -> None:
        """Wait until `kubectl` knows a kind that was just defined by this (short) name; its discovery cache is dropped."""

        def known() -> bool:
            shutil.rmtree(self.folder / ".kube", ignore_errors=True)
            return self.run("kubectl", "explain", name, check=False).returncode == 0

        wait_until(known, f"kind {name}")

    def helm(self, *arguments: str) -> str:
        """The standard output of `helm ARGUMENTS`."""
        return self.run("helm", *arguments, timeout=120).stdout

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig with exactly the rights of a ServiceAccount, by a token of the TokenRequest API."""
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration", "1h").strip()
        path = self.folder / f"{namespace}-{name}.kubeconfig"
        write_kubeconfig(path, self.server, self.certificate_authority, {"token": token}, namespace)
        return path

    def report_pods_ready(self, namespace: str, selector: str) -> int:
        """Play the kubelet: report the pods that match as ready, so that their Deployment counts them; return how many."""
        pods = self.get("pods", "--namespace", namespace, "--selector", selector)["items"]
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        patch = json.dumps({"status": {"phase": "Running", "conditions": [condition]}})
        for pod in pods:
            target = ("--namespace", namespace, pod["metadata"]["name"])
            self.kubectl("patch", "pod", *target, "--subresource=status", "--type=merge", "-p", patch)
        return len(pods)


@contextlib.contextmanager
def start_control_plane(folder: Path, manifests: Sequence[Path] = ()) -> Iterator[ControlPlane]:
    """Start the three processes with data, certificates and logs in `folder`; everything is gone at the end.

    `manifests` are applied before the controllers start: the garbage collector looks for new kinds only every 30 s.

    Raises hack.control_plane.MissingBinaries, which names the remedy, where they have not been built.
    """
    binaries = locate()
    authority = Authority(folder / "pki")
    api_port, etcd_port, peer_port = free_port(), free_port(), free_port()
    server = f"https://127.0.0.1:{api_port}"
    admin = authority.issue("admin", common_name="admin", organization="system:masters")
    plane = ControlPlane(server, authority.certificate, folder / "admin.kubeconfig", folder, binaries)
    write_kubeconfig(plane.kubeconfig, server, authority.certificate, _client(admin))
    signing_key(folder / "pki" / "service-accounts.key")
    with contextlib.ExitStack() as stack:
        etcd_url = f"http://127.0.0.1:{etcd_port}"
        stack.enter_context(running(_etcd(binaries, folder, etcd_url, peer_port), folder / "etcd.log"))
        api_log = folder / "kube-apiserver.log"
        api = stack.enter_context(running(_api_server(binaries, authority, etcd_url, api_port), api_log))
        context = ssl.create_default_context(cafile=authority.certificate)
        context.load_cert_chain(admin.certificate, admin.key)
        wait_until(lambda: _is_ready(server, context), "kube-apiserver", seconds=60, process=api, log=api_log)
        for manifest in manifests:
            plane.kubectl("apply", "--server-side", "-f", str(manifest))
        if manifests:
            plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")
        manager_log = folder / "kube-controller-manager.log"
        manager = stack.enter_context(running(_controller_manager(binaries, authority, server), manager_log))
        # Pods of a namespace need its default ServiceAccount, the last thing that comes up.
        account = f"{server}/api/v1/namespaces/default/serviceaccounts/default"
        wait_until(
            lambda: _answers(account, context), "kube-controller-manager", seconds=60, process=manager, log=manager_log
        )
        yield plane


def write_kubeconfig(path: Path, server: str, ca: Path, user: dict[str, str], namespace: str = "default") -> None:
    """A kubeconfig of one cluster, one user and one context; JSON, which is YAML too."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "user", "namespace": namespace}}],
        "current-context": "tests",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))


def _client(pair: KeyPair) -> dict[str, str]:
    return {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}


def _etcd(binaries: dict[str, Path], folder: Path, url: str, peer_port: int) -> list[str | Path]:
    peer_url = f"http://127.0.0.1:{peer_port}"
    return [
        binaries["etcd"],
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _api_server(binaries: dict[str, Path], authority: Authority, etcd_url: str, port: int) -> list[str | Path]:
    serving = authority.issue("apiserver", common_name="kube-apiserver", hosts=("localhost", "127.0.0.1"))
    account_key = authority.folder / "service-accounts.key"
    return [
        binaries["kube-apiserver"],
        f"--etcd-servers={etcd_url}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/16",
        "--authorization-mode=RBAC",
        f"--client-ca-file={authority.certificate}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={account_key}",
        f"--service-account-signing-key-file={account_key}",
        "--profiling=false",
    ]


def _controller_manager(binaries: dict[str, Path], authority: Authority, server: str) -> list[str | Path]:
    client = authority.issue("controller-manager", common_name="system:kube-controller-manager")
    kubeconfig = authority.folder / "controller-manager.kubeconfig"
    write_kubeconfig(kubeconfig, server, authority.certificate, _client(client))
    return [
        binaries["kube-controller-manager"],
        f"--kubeconfig={kubeconfig}",
        f"--service-account-private-key-file={authority.folder / 'service-accounts.key'}",
        f"--root-ca-file={authority.certificate}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
    ]


def _is_ready(server: str, context: ssl.SSLContext) -> bool:
    return _answers(f"{server}/readyz", context)


def _answers(url: str, context: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(url, context=context, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
