"""The soak: half the load for a long time on Redis, with restarts of everything, until memory and balances can be told.

Owns which processes are watched and when. It must not know what flat means.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.proof import faults, phases, verdicts
from tests.proof.phases import REDIS, Load, Part, Scene
from tests.proof.replicas import resident_kibibytes
from tests.proof.setting import faulty
from tests.proof.verdicts import Verdict

_SAMPLE_SECONDS: Final = 2.0
# Nothing befalls the first replicas in the last part of the time, so that they live long enough to be told flat.
_RESTARTED_SHARE: Final = 0.15
_SURVIVORS: Final = 2
_FLAT_PERCENT: Final = 5.0
_LEAST_KIBIBYTES: Final = 2048

Samples = dict[str, list[tuple[float, int]]]


async def soak(folder: Path, load: Load) -> Part:
    """Restart everything during the first part of the time; later, two replicas and the upstreams survive what befalls the others."""
    began = time.monotonic()
    setting = faulty(load.minute, phases.total_amount(load))
    async with phases.scene(folder, REDIS, setting) as running:
        performing = faults.Trouble(running.stand)
        first = replace(load, seconds=load.seconds * _RESTARTED_SHARE)
        rest = replace(load, seconds=load.seconds - first.seconds, seed=load.seed + 1)
        stand = running.stand
        everything = faults.restart_everything(load.seed, first.seconds, len(stand.replicas), len(stand.upstreams))
        await phases.ask_in_trouble(running, performing, everything, first)
        restarted = dict.fromkeys(["redis", *(child.name for child in (*stand.replicas, *stand.upstreams))], 0)
        restarted |= performing.befallen
        performing.spared = _SURVIVORS
        planned = faults.schedule(rest.seed, rest.seconds, rest.fault_seconds, REDIS.kinds)
        samples = await _sampled(running, phases.ask_in_trouble(running, performing, planned, rest))
        last = await phases.after_leases(running)
        bills, records = running.bills(), await running.records()
        stored = await asyncio.to_thread(running.reader().bytes_used)
    decisions, crowd, polls = running.decisions(), running.crowd, running.watch.polls
    checks = [
        verdicts.all_connected(crowd.most_connected, load.clients),
        *phases.always(running, setting, bills, records, decisions, last, polls),
        verdicts.served_enough(crowd.outcomes, least=phases.least_answered(load)),
        phases.happened(performing, REDIS, decisions),
        replace(verdicts.all_seen(restarted), what="everything was restarted before memory is watched"),
        verdicts.memory_is_flat(samples, percent=_FLAT_PERCENT, least_kibibytes=_LEAST_KIBIBYTES),
        Verdict("what the ledger keeps for a day", f"{stored / max(1, len(records)):.0f} bytes for each attempt"),
    ]
    return Part(f"{REDIS.name}: soak of {load.seconds / 60:g} minutes", time.monotonic() - began, checks)


async def _sampled(running: Scene, asking: Coroutine[object, object, None]) -> Samples:
    """Return the memory of the replicas that survive, sampled while the clients ask."""
    survivors = {child.name: child.process.pid for child in running.stand.replicas[:_SURVIVORS] if child.process}
    samples: Samples = defaultdict(list)
    task = asyncio.create_task(asking)
    while not task.done():
        for name, pid in survivors.items():
            if size := resident_kibibytes(pid):
                samples[name].append((time.monotonic(), size))
        await asyncio.wait([task], timeout=_SAMPLE_SECONDS)
    await task
    return samples
