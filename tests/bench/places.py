"""Starts what is measured and what measures it, each on a core of its own, and reads what processes have used.

It must not know what is measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack import control_plane
from tests.support.processes import running, wait_until

WIRE = Path(__file__).parent / "wire"
_CORES = sorted(os.sched_getaffinity(0))
GATEWAY_CORE, LOAD_CORE = _CORES[0], _CORES[-1]
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_RUN_SECONDS = 240


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds used since the start, the most memory held, and the memory held now, in MiB."""

    cpu_seconds: float
    peak_mebibytes: float
    mebibytes: float = 0.0


def cache_folder() -> Path:
    """Return the folder of what is kept between runs: compiled ends of the wire, other gateways."""
    return control_plane.cache_root() / "bench"


def built_wire() -> Path:
    """Compile the mock upstream and the load generator, once for each version of their source."""
    content = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(WIRE.iterdir()))).hexdigest()[:16]
    target = cache_folder() / f"wire-{content}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [control_plane.find_go(), "build", "-trimpath", "-o", str(target), "."]
        environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
        subprocess.run(command, cwd=WIRE, env=environment, check=True, timeout=600)
    return target


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Start processes on one core while the block runs: they inherit it, with all of their threads."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


@contextlib.contextmanager
def started(
    command: Sequence[str | Path],
    core: int,
    log: Path,
    ready: str,
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = 30,
) -> Iterator[tuple[int, str]]:
    """Run a command on a core until the block ends; yield its process id and its log once that holds `ready`."""
    with contextlib.ExitStack() as stack:
        with on_core(core):
            process = stack.enter_context(running(list(map(str, command)), log, environment=environment))
        wait_until(lambda: ready in log.read_text(), str(command[0]), process=process, log=log, seconds=seconds)
        yield process.pid, log.read_text()


@contextlib.contextmanager
def awake(wire: Path, folder: Path) -> Iterator[None]:
    """Keep both cores from sleeping, without taking time from what runs on them."""
    with contextlib.ExitStack() as stack:
        for core in sorted({GATEWAY_CORE, LOAD_CORE}):
            stack.enter_context(started([wire, "spin"], core, folder / f"spin-{core}.log", ""))
        yield


def used(process: int) -> Used:
    """Return what a process and its children have used so far, all of their threads together."""
    ticks, peak, resident = 0, 0, 0
    for each in _tree(process):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{each}/status").read_text().splitlines() if ":" in line
            )
            ticks += int(fields[11]) + int(fields[12])
            peak += int(status["VmHWM"].split()[0])
            resident += int(status["VmRSS"].split()[0])
    return Used(ticks / _TICKS_PER_SECOND, peak / 1024, resident / 1024)


def load(wire: Path, address: str, **flags: Any) -> dict[str, Any]:
    """Run the load generator on its core and return its report."""
    return dict(json.loads(ran(wire, "load", address, flags)))


def shown(wire: Path, address: str, **flags: Any) -> bytes:
    """Return the body of one answer."""
    return ran(wire, "load", address, flags | {"show": True})


def ran(wire: Path, what: str, address: str, flags: Mapping[str, Any]) -> bytes:
    """Run one end of the wire to its end and return what it printed."""
    command = wire_command(wire, what, address, flags)
    with on_core(LOAD_CORE):
        done = subprocess.run(command, capture_output=True, timeout=_RUN_SECONDS, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the load generator failed: {done.stderr.decode().strip()}")
    return done.stdout


def wire_command(wire: Path, what: str, address: str, flags: Mapping[str, Any]) -> list[str]:
    """Return the command line of one end of the wire; a flag's tuple repeats it."""
    arguments = [f"-address={address}"]
    for name, value in flags.items():
        for each in value if isinstance(value, tuple) else (value,):
            text = str(each).lower() if isinstance(each, bool) else str(each)
            arguments.append(f"-{name.replace('_', '-')}={text}")
    return [str(wire), what, *arguments]


@dataclass(frozen=True, slots=True)
class Mock:
    """The running upstream: where it answers (host:port), and how it does so from now on."""

    address: str

    def set(self, **behaviour: Any) -> None:
        """Replace how it answers: delay, answer (bytes), chunks, gap, hold."""
        words = "&".join(f"{name}={str(value).lower()}" for name, value in behaviour.items())
        with urllib.request.urlopen(f"http://{self.address}/set?{words}", timeout=5) as answer:
            said = answer.read().decode().strip()
        if said != "ok":
            raise SystemExit(f"the mock upstream refused {words}: {said}")


@contextlib.contextmanager
def mock(wire: Path, folder: Path) -> Iterator[Mock]:
    """Run the upstream on the load's core."""
    log = folder / "mock.log"
    log.unlink(missing_ok=True)
    with started([wire, "mock"], LOAD_CORE, log, "127.0.0.1:") as (_, said):
        yield Mock(said.strip())


def _tree(process: int) -> list[int]:
    """Return a process and all that it started, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, open_ = [], [process]
    while open_:
        each = open_.pop()
        found.append(each)
        open_ += children.get(each, [])
    return found
