"""Starts what is measured and what measures it, each on a core of its own, and reads what a process has used.

It must not know what is measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack import control_plane
from tests.support.processes import running, wait_until

WIRE = Path(__file__).parent / "wire"
_CORES = sorted(os.sched_getaffinity(0))
GATEWAY_CORE, LOAD_CORE = _CORES[0], _CORES[-1]
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_RUN_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds that a process has used since its start, and the most memory that it held, in MiB."""

    cpu_seconds: float
    peak_mebibytes: float


def built_wire() -> Path:
    """Compile the mock upstream and the load generator, once for each version of their source."""
    content = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(WIRE.iterdir()))).hexdigest()[:16]
    target = control_plane.cache_root() / "bench" / f"wire-{content}"
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
def started(command: Sequence[str | Path], core: int, log: Path, ready: str) -> Iterator[tuple[int, str]]:
    """Run a command on a core until the block ends; yield its process id and its log once that holds `ready`."""
    with contextlib.ExitStack() as stack:
        with on_core(core):
            process = stack.enter_context(running(list(map(str, command)), log))
        wait_until(lambda: ready in log.read_text(), str(command[0]), process=process, log=log)
        yield process.pid, log.read_text()


def used(process: int) -> Used:
    """Return what a process has used so far, all of its threads together."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{process}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return Used((int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND, peak / 1024)


def load(wire: Path, address: str, **flags: Any) -> dict[str, Any]:
    """Run the load generator on its core and return its report."""
    return dict(json.loads(_wire(wire, address, flags)))


def shown(wire: Path, address: str, **flags: Any) -> bytes:
    """Return the body of one answer."""
    return _wire(wire, address, flags | {"show": True})


def _wire(wire: Path, address: str, flags: dict[str, Any]) -> bytes:
    arguments = [f"-{name.replace('_', '-')}={str(value).lower()}" for name, value in flags.items()]
    with on_core(LOAD_CORE):
        done = subprocess.run(
            [wire, "load", f"-address={address}", *arguments], capture_output=True, timeout=_RUN_SECONDS, check=False
        )
    if done.returncode != 0:
        raise SystemExit(f"the load generator failed: {done.stderr.decode().strip()}")
    return done.stdout
