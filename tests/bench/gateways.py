"""What is compared: the upstream itself, a bare aiohttp relay, Foresail with each ledger, and other gateways.

Foresail has everything on that a request needs in production but scoring: API keys, prices, metrics, the decision log. It must not know
how they are measured.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from tests.bench import peers
from tests.bench.places import GATEWAY_CORE, LOAD_CORE, on_core, started
from tests.support.configurations import model, policy, pool, write
from tests.support.processes import free_port
from tests.support.redis_server import running_redis
from tests.support.serving import FORESAIL, done

PASS_THROUGH = Path(__file__).with_name("passthrough.py")
_READY_SECONDS = 180.0
_PROBE = b'{"model": "%s", "messages": [{"role": "user", "content": "Are you there?"}], "max_tokens": 5}'


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers: where and how it is asked, and its processes (None for the upstream itself).

    `exact` says that answers are the upstream's own, byte for byte.
    """

    key: str
    address: str
    process: int | None
    model: str = "auto"
    path: str = "/v1/chat/completions"
    headers: tuple[str, ...] = ()
    exact: bool = True
    redis: int | None = None

    def flags(self) -> dict[str, Any]:
        """Return how the load generator asks it."""
        flags: dict[str, Any] = {"path": self.path, "model": self.model}
        return flags | ({"header": self.headers} if self.headers else {})


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows are started: the upstream (host:port), a folder of the run, and how many workers Foresail and the bare relay have."""

    upstream: str
    folder: Path
    workers: int = 1

    def own(self, name: str) -> Path:
        """Return a new folder of the run."""
        path = self.folder / f"{name}-{time.monotonic_ns()}"
        path.mkdir(parents=True)
        return path


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the tables: its key, its name, and what starts it."""

    key: str
    name: str
    start: Callable[[Place], AbstractContextManager[Target]]


@contextlib.contextmanager
def _direct(place: Place) -> Iterator[Target]:
    yield Target("direct", place.upstream, None)


@contextlib.contextmanager
def _relay(place: Place) -> Iterator[Target]:
    port = free_port()
    command: list[str | Path] = [
        sys.executable,
        PASS_THROUGH,
        str(port),
        f"http://{place.upstream}",
        str(place.workers),
    ]
    with started(command, GATEWAY_CORE, place.own("relay") / "log", "") as (process, _):
        target = Target("aiohttp", f"127.0.0.1:{port}", process)
        wait_for(target)
        yield target


@contextlib.contextmanager
def foresail(place: Place, key: str, ledger: dict[str, Any] | None) -> Iterator[Target]:
    """Run `foresail serve` with an API key, the decision log in a file, and, with a ledger, a budget that nothing exhausts."""
    folder = place.own(key)
    token, hashed = _api_key()
    usual = {"contextWindowTokens": 200_000, "maxOutputTokens": 1024, "tokenCount": {"overheadTokens": 16}}
    models = [
        model(each, f"http://{place.upstream}/v1", price=str(price), **usual)
        for each, price in (("small", 1), ("medium", 3), ("large", 10))
    ]
    budget = {"name": "monthly", "amount": "999999", "window": {"calendar": {"unit": "Month", "timeZone": "UTC"}}}
    limits: dict[str, Any] = {} if ledger is None else {"costLimits": {"budgets": [budget], "ledger": ledger}}
    tenants = {"apiKeys": {"secretRef": {"name": "tenants"}}}
    write(folder / "all.yaml", pool(models), policy(tenants=tenants, **limits), hashed)
    command: list[str | Path] = [
        FORESAIL,
        "serve",
        "-f",
        folder / "all.yaml",
        "--port",
        "0",
        "--workers",
        str(place.workers),
    ]
    command += ["--state", folder / "state", "--decision-log", folder / "decisions.jsonl"]
    with started(command, GATEWAY_CORE, folder / "log", "/v1/route") as (process, log):
        found = re.search(r"^  URL +http://(\S+)/v1$", log, re.MULTILINE)
        if found is None:
            raise SystemExit(f"{key} did not say where it listens:\n{log}")
        target = Target(key, found[1], process, headers=(f"Authorization: Bearer {token}",))
        wait_for(target)
        yield target


def _api_key() -> tuple[str, dict[str, Any]]:
    """Return a new key and the Secret that lets it in."""
    said = done("key", "create", "--tenant", "bench")
    found = re.search(r"fsk_\S+", said)
    manifest = said[said.index("apiVersion:") :].partition("\n\n")[0]
    if found is None:
        raise SystemExit("foresail key create printed no key")
    return found[0], dict(yaml.safe_load(manifest))


def _off(place: Place) -> AbstractContextManager[Target]:
    return foresail(place, "foresail-off", None)


def _sqlite(place: Place) -> AbstractContextManager[Target]:
    return foresail(place, "foresail-sqlite", {"type": "Embedded"})


@contextlib.contextmanager
def _redis(place: Place) -> Iterator[Target]:
    with contextlib.ExitStack() as stack:
        # Beside the load: a gateway's own core does not run its Redis in production, and its CPU is counted apart.
        with on_core(LOAD_CORE):
            server = stack.enter_context(running_redis(place.own("redis")))
        ledger = {"type": "Redis", "redis": {"url": f"redis://127.0.0.1:{server.port}"}}
        target = stack.enter_context(foresail(place, "foresail-redis", ledger))
        yield replace(target, redis=server.pid)


def _peer(key: str) -> Callable[[Place], AbstractContextManager[Target]]:
    @contextlib.contextmanager
    def start(place: Place) -> Iterator[Target]:
        peer = peers.PEERS[key]
        folder, port = place.own(key), free_port()
        command, environment = peer.command(peers.installed(peer), folder, port, place.upstream)
        log = folder / "log"
        with started(command, GATEWAY_CORE, log, "", environment=environment) as (process, _):
            address = peers.address(peer, log, port, _READY_SECONDS)
            target = Target(key, address, process, peer.model, peer.path, peer.headers(place.upstream), exact=False)
            wait_for(target)
            yield target

    return start


def wait_for(target: Target) -> None:
    """Wait until a chat completion is answered; raises `SystemExit` with the last refusal."""
    headers = dict(header.split(": ", 1) for header in target.headers) | {"Content-Type": "application/json"}
    body = _PROBE % target.model.encode()
    deadline, last = time.monotonic() + _READY_SECONDS, "nothing"
    while time.monotonic() < deadline:
        request = urllib.request.Request(f"http://{target.address}{target.path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                if answer.status == 200:
                    return
        except urllib.error.HTTPError as refusal:
            last = f"{refusal.code}: {refusal.read(300).decode(errors='replace')}"
        except OSError as problem:
            last = str(problem)
        time.sleep(0.1)
    raise SystemExit(f"{target.key} does not answer; it said {last}")


ROWS = (
    Row("direct", "directly", _direct),
    Row("aiohttp", "bare aiohttp relay", _relay),
    Row("foresail-off", "Foresail, no ledger", _off),
    Row("foresail-sqlite", "Foresail, SQLite", _sqlite),
    Row("foresail-redis", "Foresail, Redis", _redis),
    *(Row(key, peer.name, _peer(key)) for key, peer in peers.PEERS.items()),
)
