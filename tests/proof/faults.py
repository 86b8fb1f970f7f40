"""What goes wrong, and when: a schedule from a seed, and its performance on running processes.

Owns the kinds of faults and their order. It must not know clients or ledgers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.proof.replicas import Child, Stand, ready

KILL_REPLICA: Final = "replica killed"
END_REPLICA: Final = "replica ended"
KILL_WORKER: Final = "worker killed"
KILL_UPSTREAM: Final = "upstream killed"
END_UPSTREAM: Final = "upstream ended"
KILL_REDIS: Final = "Redis killed"
END_REDIS: Final = "Redis ended"
STALL_REDIS: Final = "Redis stalled"

# How often of so many faults, with a Redis and without.
SHARED: Final = {
    KILL_REPLICA: 5,
    END_REPLICA: 2,
    KILL_UPSTREAM: 4,
    END_UPSTREAM: 1,
    KILL_REDIS: 2,
    END_REDIS: 1,
    STALL_REDIS: 1,
}
EMBEDDED: Final = {KILL_WORKER: 5, KILL_REPLICA: 2, END_REPLICA: 1, KILL_UPSTREAM: 4, END_UPSTREAM: 1}
_READY_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Fault:
    """One fault: seconds after the beginning, its kind, a number that chooses whom it befalls, and how long that stays away."""

    at: float
    kind: str
    whom: int
    away_seconds: float


def schedule(seed: int, seconds: float, every_seconds: float, kinds: Mapping[str, int]) -> list[Fault]:
    """Return the faults of a part of the proof. The first ones are one of each kind, in any order."""
    choice = random.Random(seed)
    firsts = list(kinds)
    choice.shuffle(firsts)
    faults: list[Fault] = []
    at = every_seconds
    while at < seconds:
        kind = firsts.pop() if firsts else choice.choices(list(kinds), weights=list(kinds.values()))[0]
        faults.append(Fault(at, kind, choice.randrange(1000), 0.2 + 1.3 * choice.random()))
        at += every_seconds * (0.5 + choice.random())
    return faults


def restart_everything(seed: int, seconds: float, replicas: int, upstreams: int) -> list[Fault]:
    """Return the faults that befall each replica, each upstream and Redis once, evenly over the time, killed or ended."""
    choice = random.Random(seed)
    befallen = [(choice.choice((KILL_REPLICA, END_REPLICA)), number) for number in range(replicas)]
    befallen += [(choice.choice((KILL_UPSTREAM, END_UPSTREAM)), number) for number in range(upstreams)]
    befallen += [(KILL_REDIS, 0), (END_REDIS, 0), (STALL_REDIS, 0)]
    choice.shuffle(befallen)
    pause = seconds / (len(befallen) + 1)
    return [
        Fault(pause * (number + 1), kind, whom, 0.2 + 1.3 * choice.random())
        for number, (kind, whom) in enumerate(befallen)
    ]


@dataclass
class Trouble:
    """Performs a schedule. `done` counts by kind, `befallen` by the name of what it befell. `spared` is how many of the replicas, the first ones, nothing befalls."""

    stand: Stand
    done: Counter[str] = field(default_factory=Counter)
    befallen: Counter[str] = field(default_factory=Counter)
    spared: int = 0
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def perform(self, faults: Sequence[Fault]) -> None:
        """Perform all of them, each in its time, and wait until everything runs again."""
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                await asyncio.sleep(max(0.0, began + fault.at - asyncio.get_running_loop().time()))
                tasks.create_task(self._perform(fault))

    async def _perform(self, fault: Fault) -> None:
        name, child = self._befallen(fault)
        # One after the other: what is away cannot be killed.
        async with self._locks[name]:
            self.done[fault.kind] += 1
            self.befallen[name] += 1
            if child is not None:
                await self._befall(fault, child)
            else:
                await self._befall_redis(fault)

    def _befallen(self, fault: Fault) -> tuple[str, Child | None]:
        if fault.kind in (KILL_REDIS, END_REDIS, STALL_REDIS):
            return "redis", None
        upstream = fault.kind in (KILL_UPSTREAM, END_UPSTREAM)
        among = self.stand.upstreams if upstream else self.stand.replicas[self.spared :]
        child = among[fault.whom % len(among)]
        return child.name, child

    async def _befall(self, fault: Fault, child: Child) -> None:
        if fault.kind == KILL_WORKER:
            workers = child.workers()
            with contextlib.suppress(ProcessLookupError):
                if workers:
                    os.kill(workers[fault.whom % len(workers)], signal.SIGKILL)
            return
        kills = fault.kind in (KILL_REPLICA, KILL_UPSTREAM)
        await asyncio.to_thread(child.kill if kills else child.end)
        await asyncio.sleep(fault.away_seconds)
        await asyncio.to_thread(child.start)
        if fault.kind in (KILL_REPLICA, END_REPLICA):
            await ready(child)

    async def _befall_redis(self, fault: Fault) -> None:
        redis = self.stand.redis
        assert redis is not None
        if fault.kind == STALL_REDIS:
            redis.pause()
            await asyncio.sleep(1.0 + fault.away_seconds)
            redis.resume()
            return
        await asyncio.to_thread(redis.kill if fault.kind == KILL_REDIS else redis.stop)
        await asyncio.sleep(fault.away_seconds)
        await asyncio.to_thread(redis.start)
