"""Plays the kubelet for one container: puts the volumes of a pod below a folder and runs the container's command there.

What a container would find at an absolute path, the process finds below the folder: its arguments are rewritten so.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.support.operated import Cluster
from tests.support.processes import free_port, running
from tests.support.routing import Object


@dataclass(frozen=True)
class Pod:
    """The only container of a Deployment's pod template, with `claims` for the content of its volume claims."""

    cluster: Cluster
    deployment: str
    root: Path
    claims: dict[str, Path]

    def sync(self) -> None:
        """Put the present content of all volumes in place, each in one step, as a kubelet does."""
        spec = self._spec()
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for mount in self._container()["volumeMounts"]:
            target = self.root / mount["mountPath"].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._sync_volume(volumes[mount["name"]], target)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[httpx.AsyncClient]:
        """Run the container's command with its arguments and environment; a client of its port, once it has started and is ready."""
        self.sync()
        container, port = self._container(), free_port()
        command = [str(Path(sys.executable).with_name(container["command"][0])), *container["command"][1:]]
        arguments = [self._rewritten(argument, port) for argument in container["args"]]
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "NO_PROXY": "*"}
        environment |= {item["name"]: item["value"] for item in container.get("env", [])}
        log = self.root / "log"
        # How a pod ends is tested elsewhere: here it need not wait for nodes that still send requests.
        with running([*command, *arguments], log, environment=environment, grace_seconds=0.1) as process:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    path = container[probe]["httpGet"]["path"]
                    await _answered(client, path, lambda: f"{process.poll()}: {log.read_text()}")
                yield client

    def _spec(self) -> Object:
        spec: Object = self.cluster.get("deployment", self.deployment)["spec"]["template"]["spec"]
        return spec

    def _container(self) -> Object:
        (container,) = self._spec()["containers"]
        found: Object = container
        return found

    def _rewritten(self, argument: str, port: int) -> str:
        if argument.startswith("--port="):
            return f"--port={port}"
        return re.sub(r"=(/)", f"={self.root}/", argument)

    def _sync_volume(self, volume: Object, target: Path) -> None:
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            _swap(target, lambda folder: shutil.copytree(self.claims[claim], folder, dirs_exist_ok=True))
        elif "configMap" in volume:
            data = self.cluster.get("configmap", volume["configMap"]["name"])["data"]
            _swap(target, lambda folder: _write(folder, {name: text.encode() for name, text in data.items()}))
        elif "secret" in volume:
            _swap(target, lambda folder: _write(folder, self._secret(volume["secret"])))
        else:
            assert volume == {"name": volume["name"], "emptyDir": {}}
            target.mkdir(exist_ok=True)

    def _secret(self, source: Object) -> dict[str, bytes]:
        found = self.cluster.find("secret", source["secretName"])
        assert found is not None or source["optional"], f"the pod would not start without {source['secretName']}"
        data = {} if found is None else found.get("data", {})
        return {item["path"]: base64.b64decode(data[item["key"]]) for item in source["items"] if item["key"] in data}


async def _answered(client: httpx.AsyncClient, path: str, said: Callable[[], str], seconds: float = 30) -> None:
    """Ask until the answer is 200."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            if (await client.get(path)).status_code == 200:
                return
        assert loop.time() < deadline, f"{path} was never answered with 200: {said()}"
        await asyncio.sleep(0.05)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _swap(target: Path, fill: Callable[[Path], object]) -> None:
    """Fill a new folder and let `target` point to it from one moment to the next."""
    folder = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    folder.mkdir()
    fill(folder)
    link = folder.with_suffix(".link")
    link.symlink_to(folder)
    link.replace(target)
