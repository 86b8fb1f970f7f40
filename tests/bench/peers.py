"""Other gateways: how each is installed apart from the project, started, and asked for the same answer.

They are never dependencies: each lives in the cache, in a folder of its own, at a pinned version. It must not know what is measured.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.places import cache_folder

_INSTALL_SECONDS = 900
_DONE = "installed"
# LiteLLM starts only with one; it lives as long as the run.
_MASTER_KEY = f"sk-{secrets.token_hex(32)}"


class PeerMissing(Exception):
    """A gateway that cannot be installed here, and why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another gateway. `packages` are of PyPI, or of npm where `runtime` is node.

    `command` gets its folder, a folder of the run, a port and the upstream (host:port) and returns command and environment; `listens` is what
    its log says of its address, where it cannot be told one.
    """

    name: str
    runtime: str
    packages: tuple[str, ...]
    command: Callable[[Path, Path, int, str], tuple[list[str], Mapping[str, str]]]
    model: str
    path: str = "/v1/chat/completions"
    headers: Callable[[str], tuple[str, ...]] = lambda upstream: ()
    listens: str = ""

    def folder(self) -> Path:
        """Return where it is installed: another folder for other versions."""
        return cache_folder() / "peers" / re.sub(r"[^a-z0-9.]+", "-", " ".join(self.packages).lower()).strip("-")


def installed(peer: Peer) -> Path:
    """Install a gateway unless it is there and return its folder; raises `PeerMissing`."""
    folder = peer.folder()
    if (folder / _DONE).exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for command in _install_commands(peer, folder):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise PeerMissing(f"{command[0]}: {type(problem).__name__}") from None
        if done.returncode != 0:
            raise PeerMissing(f"{command[0]} could not install {peer.packages[0]} (exit status {done.returncode})")
    (folder / _DONE).write_text("\n".join(peer.packages))
    return folder


def address(peer: Peer, log: Path, port: int, seconds: float) -> str:
    """Return where a started gateway answers; raises `SystemExit` if it does not say so."""
    if not peer.listens:
        return f"127.0.0.1:{port}"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := re.search(peer.listens, log.read_text(errors="replace")):
            return found[1].replace("0.0.0.0", "127.0.0.1")
        time.sleep(0.1)
    raise SystemExit(f"{peer.name} did not say where it listens")


def _install_commands(peer: Peer, folder: Path) -> list[list[str]]:
    if peer.runtime == "node":
        pinned = dict(package.rsplit("@", 1) for package in peer.packages)
        # An override, because a package's own requirements would bring a second, newer version of another.
        overrides = dict(list(pinned.items())[1:])
        (folder / "package.json").write_text(
            json.dumps({"private": True, "dependencies": pinned, "overrides": overrides})
        )
        return [["npm", "install", "--silent", "--legacy-peer-deps", "--prefix", str(folder)]]
    python = str(folder / "bin" / "python")
    if shutil.which("uv"):
        install = ["uv", "pip", "install", "--quiet", "--python", python, *peer.packages]
        return [["uv", "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)], install]
    return [[sys.executable, "-m", "venv", str(folder)], [python, "-m", "pip", "install", "--quiet", *peer.packages]]


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | {"NO_PROXY": "*"} | more


def _litellm(folder: Path, own: Path, port: int, upstream: str) -> tuple[list[str], Mapping[str, str]]:
    parameters = {"model": "openai/mock", "api_base": f"http://{upstream}/v1", "api_key": "none"}
    settings = {"model_list": [{"model_name": "mock", "litellm_params": parameters}]}
    (own / "config.yaml").write_text(json.dumps(settings))
    command = [str(folder / "bin" / "litellm"), "--config", str(own / "config.yaml")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    return command, _environment(
        LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR", LITELLM_MASTER_KEY=_MASTER_KEY
    )


def _litellm_headers(upstream: str) -> tuple[str, ...]:
    return (f"Authorization: Bearer {_MASTER_KEY}",)


_TENSORZERO = """\
import sys, time
from tensorzero import tensorzero
gateway = tensorzero._start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False)
print("listens at", gateway.base_url, flush=True)
time.sleep(86400)
"""


def _tensorzero(folder: Path, own: Path, port: int, upstream: str) -> tuple[list[str], Mapping[str, str]]:
    (own / "tensorzero.toml").write_text(f"""\
[gateway]
observability.enabled = false

[models.mock]
routing = ["mock"]

[models.mock.providers.mock]
type = "openai"
model_name = "mock"
api_base = "http://{upstream}/v1/"
api_key_location = "none"
""")
    command = [str(folder / "bin" / "python"), "-c", _TENSORZERO, str(own / "tensorzero.toml")]
    return command, _environment(TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS="1")


def _portkey(folder: Path, own: Path, port: int, upstream: str) -> tuple[list[str], Mapping[str, str]]:
    script = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    return ["node", str(script), f"--port={port}", "--headless"], _environment(NODE_ENV="production")


def _portkey_headers(upstream: str) -> tuple[str, ...]:
    return ("x-portkey-provider: openai", f"x-portkey-custom-host: http://{upstream}/v1", "Authorization: Bearer none")


PEERS = {
    "litellm": Peer(
        "LiteLLM proxy 1.106.2", "python", ("litellm[proxy]==1.106.2",), _litellm, "mock", headers=_litellm_headers
    ),
    "tensorzero": Peer(
        "TensorZero gateway 2026.6.0",
        "python",
        ("tensorzero==2026.6.0",),
        _tensorzero,
        "tensorzero::model_name::mock",
        "/openai/v1/chat/completions",
        listens=r"listens at https?://([0-9.]+:\d+)",
    ),
    # Its newest release fails every request with the newer server that its own requirements allow.
    "portkey": Peer(
        "Portkey gateway 1.15.2",
        "node",
        ("@portkey-ai/gateway@1.15.2", "@hono/node-server@1.13.5"),
        _portkey,
        "mock",
        headers=_portkey_headers,
    ),
}
