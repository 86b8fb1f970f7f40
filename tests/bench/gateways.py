"""What is compared: the upstream itself, a bare aiohttp relay, and Foresail without and with a router.

It must not know how they are measured.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.places import GATEWAY_CORE, started
from tests.support.configurations import learned, model, policy, pool, write
from tests.support.learning import MODELS, write_data
from tests.support.processes import free_port
from tests.support.serving import FORESAIL, done

PASS_THROUGH = Path(__file__).with_name("passthrough.py")
TRAINING_PROMPTS = 300
# Long enough that a decision is waited for and measured, instead of being replaced by a quick fallback.
DEADLINE_MILLISECONDS = 5000


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is measured: its name, where it answers, and its process (None for the upstream itself)."""

    name: str
    address: str
    process: int | None
    learned: bool = False


@contextlib.contextmanager
def gateways(upstream: str, router: tuple[Path, str], folder: Path) -> Iterator[tuple[Row, ...]]:
    """Start all of them in front of one upstream (host:port); `router` is a directory and the artifact's digest."""
    with contextlib.ExitStack() as stack:
        rows = [Row("directly", upstream, None)]
        rows.append(stack.enter_context(_pass_through(upstream, folder)))
        cheapest = {"strategy": "Cheapest"}
        directory, digest = router
        asked = learned(digest, claim="routers", path=directory.name, deadlineMilliseconds=DEADLINE_MILLISECONDS)
        rows.append(stack.enter_context(_foresail("Foresail, Cheapest", upstream, cheapest, directory.parent, folder)))
        rows.append(stack.enter_context(_foresail("Foresail, kNN router", upstream, asked, directory.parent, folder)))
        yield tuple(rows)


def trained_router(folder: Path) -> tuple[Path, str]:
    """Train a small router and return its directory and digest."""
    data = write_data(folder / "data", count=TRAINING_PROMPTS)
    said = done("train", data, "-o", folder / "volume" / "router", "--threads", "1")
    return folder / "volume" / "router", re.findall(r"sha256:[0-9a-f]{64}", said)[0]


@contextlib.contextmanager
def _pass_through(upstream: str, folder: Path) -> Iterator[Row]:
    port = free_port()
    log = folder / f"passthrough-{port}.log"
    command = [sys.executable, PASS_THROUGH, str(port), f"http://{upstream}"]
    with started(command, GATEWAY_CORE, log, "") as (process, _):
        _wait_for(f"http://127.0.0.1:{port}/")
        yield Row("bare aiohttp relay", f"127.0.0.1:{port}", process)


@contextlib.contextmanager
def _foresail(name: str, upstream: str, router: dict[str, object], volume: Path, folder: Path) -> Iterator[Row]:
    own = folder / f"{name.replace(' ', '-').replace(',', '')}-{upstream.rpartition(':')[2]}"
    own.mkdir()
    models = [model(each, f"http://{upstream}/v1", price=str(1 + index)) for index, each in enumerate(MODELS)]
    write(own / "all.yaml", pool(models), policy(router=router))
    command = [FORESAIL, "serve", "-f", own / "all.yaml", "--port", "0", "--volume-claim", f"routers={volume}"]
    with started(command, GATEWAY_CORE, own / "log", "/v1/route") as (process, log):
        found = re.search(r"^  URL +http://(\S+)/v1$", log, re.MULTILINE)
        if found is None:
            raise SystemExit(f"{name} did not say where it listens:\n{log}")
        yield Row(name, found[1], process, learned=router["strategy"] == "Learned")


def _wait_for(url: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{url} does not answer")
