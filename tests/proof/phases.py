"""The parts of the proof on one ledger: every answer at its worst case, every answer at a tenth of it, and everything going wrong.

Owns what runs in each part and which checks are made of it. It must not know what a check means.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.proof import clients, faults, verdicts
from tests.proof.clients import Crowd
from tests.proof.decisions import Decisions, read_decisions
from tests.proof.faults import Fault
from tests.proof.journal import read_bills
from tests.proof.ledgers import Poll, Reader, Record, RedisReader, SqliteReader, Unreadable, Watch, by_attempt
from tests.proof.replicas import Stand, standing
from tests.proof.setting import BUCKET_MS, MINUTE, SPAN_MS, TOTAL, Setting, exact, faulty
from tests.proof.verdicts import Verdict

PAID: Final = 300
LEASE_SECONDS: Final = 15.0
AFTER_LEASE_SECONDS: Final = 5.0
_SETTLED_SECONDS: Final = 30.0
# No more than this may take.
_EXACT_SECONDS: Final = 180.0
_TENTH_SECONDS: Final = 300.0
# What may not happen where nothing goes wrong.
_TROUBLE: Final = ("503 ledger_unavailable", "503 ledger_restoring", "broken off", "502 upstream_error")


@dataclass(frozen=True)
class Backend:
    """A ledger, and what shares it."""

    name: str
    shared: bool
    replicas: int
    workers: int
    kinds: Mapping[str, int]


REDIS: Final = Backend("Redis, 4 replicas", True, 4, 1, faults.SHARED)
SQLITE: Final = Backend("SQLite, 1 replica, 2 workers", False, 1, 2, faults.EMBEDDED)


@dataclass(frozen=True)
class Load:
    """How much is asked: clients, seconds of trouble, seconds between faults, the clients' pause, nano-dollars of a rolling minute."""

    clients: int
    seconds: float
    fault_seconds: float
    pause_seconds: float
    minute: int
    seed: int


@dataclass(frozen=True)
class Part:
    """What a part of the proof has shown."""

    name: str
    seconds: float
    verdicts: Sequence[Verdict]


@dataclass
class Scene:
    """A running part: its processes, the watch on its ledger, and what clients got."""

    stand: Stand
    watch: Watch
    crowd: Crowd

    def reader(self) -> Reader:
        """Open the ledger to look at it."""
        return open_reader(self.stand)

    async def poll(self) -> Poll | None:
        """Return the balances now; None if the ledger does not answer for a while."""
        for _ in range(20):
            reader = self.reader()
            with contextlib.suppress(Unreadable):
                return await asyncio.to_thread(reader.poll)
            await asyncio.sleep(0.5)
        return None

    async def settled(self, seconds: float) -> Poll | None:
        """Wait until nothing is reserved, at most so long; return the last balances."""
        deadline = time.monotonic() + seconds
        while True:
            last = await self.poll()
            held = last is None or any(balance.reserved for balance in last.balances.values())
            if not held or time.monotonic() > deadline:
                return last
            await asyncio.sleep(0.2)

    async def records(self) -> dict[str, Sequence[Record]]:
        """Return the records of all attempts."""
        return by_attempt(await asyncio.to_thread(self.reader().records))

    def bills(self) -> dict[str, int]:
        """Return what upstreams have billed."""
        return read_bills(self.stand.journals)

    def decisions(self) -> Decisions:
        """Return what the replicas logged; all of it is there when they have ended."""
        return read_decisions(self.stand.decision_logs)


def open_reader(stand: Stand) -> Reader:
    """Open the ledger of a stand to look at it."""
    if stand.redis is not None:
        return RedisReader(stand.redis.port, stand.setting.amounts)
    return SqliteReader(stand.ledger_directory)


@contextlib.asynccontextmanager
async def scene(
    folder: Path, backend: Backend, setting: Setting, *, delay_milliseconds: float = 50
) -> AsyncIterator[Scene]:
    """Run a part's processes and watch its ledger until the block ends."""
    async with standing(
        folder,
        setting,
        replicas=backend.replicas,
        workers=backend.workers,
        shared=backend.shared,
        delay_milliseconds=delay_milliseconds,
    ) as stand:
        with Watch(lambda: open_reader(stand)) as watch:
            yield Scene(stand, watch, Crowd())


async def worst_case(folder: Path, backend: Backend, load: Load) -> Part:
    """Every answer costs its worst case, and the budget pays for 300 of 1,000 (of fewer clients, as many of each)."""
    began = time.monotonic()
    paid = PAID * load.clients // 1000
    setting = exact(paid)
    # Answers take longer than it takes for all requests to arrive, so that they are in flight together.
    async with scene(folder, backend, setting, delay_milliseconds=1000) as running:
        async with asyncio.timeout(_EXACT_SECONDS):
            await clients.once_each(load.clients, running.stand.ports, running.crowd)
        last, bills = await running.settled(_SETTLED_SECONDS), running.bills()
        records = await running.records()
    decisions, crowd, polls = running.decisions(), running.crowd, running.watch.polls
    checks = [
        verdicts.all_connected(crowd.most_connected, load.clients),
        verdicts.answered_exactly(crowd.answered, len(bills), paid, load.clients),
        *always(running, setting, bills, records, decisions, last, polls),
        verdicts.all_logged(crowd.outcomes, len(decisions.refusals)),
        verdicts.served_enough(crowd.outcomes, least=1, forbidden=_TROUBLE),
    ]
    return Part(f"{backend.name}: actual = worst case", time.monotonic() - began, checks)


async def tenth(folder: Path, backend: Backend, load: Load) -> Part:
    """Every answer costs a tenth of its worst case, and clients come again until the budget is used up."""
    began = time.monotonic()
    setting = exact(PAID * load.clients // 1000)
    async with scene(folder, backend, setting) as running:
        async with asyncio.timeout(_TENTH_SECONDS):
            await clients.until_exhausted(load.clients, running.stand.ports, running.crowd)
        last, bills = await running.settled(_SETTLED_SECONDS), running.bills()
        records = await running.records()
    decisions, crowd, polls = running.decisions(), running.crowd, running.watch.polls
    spent = 0 if last is None else last.balances[TOTAL].spent
    checks = [
        verdicts.all_connected(crowd.most_connected, load.clients),
        verdicts.spent_nearly_all(spent, setting.amounts[TOTAL], setting.least_worst_case),
        *always(running, setting, bills, records, decisions, last, polls),
        verdicts.all_logged(crowd.outcomes, len(decisions.refusals)),
        verdicts.served_enough(crowd.outcomes, least=1, forbidden=_TROUBLE),
    ]
    return Part(f"{backend.name}: actual = a tenth of the worst case", time.monotonic() - began, checks)


async def trouble(folder: Path, backend: Backend, load: Load) -> Part:
    """Replicas, upstreams and the ledger are killed while clients leave and upstreams fail."""
    began = time.monotonic()
    setting = faulty(load.minute, total_amount(load))
    async with scene(folder, backend, setting) as running:
        performing = faults.Trouble(running.stand)
        planned = faults.schedule(load.seed, load.seconds, load.fault_seconds, backend.kinds)
        await ask_in_trouble(running, performing, planned, load)
        last = await after_leases(running)
        bills, records = running.bills(), await running.records()
    decisions, crowd, polls = running.decisions(), running.crowd, running.watch.polls
    checks = [
        verdicts.all_connected(crowd.most_connected, load.clients),
        *always(running, setting, bills, records, decisions, last, polls),
        verdicts.served_enough(crowd.outcomes, least=least_answered(load)),
        happened(performing, backend, decisions),
    ]
    return Part(f"{backend.name}: with faults", time.monotonic() - began, checks)


def total_amount(load: Load) -> int:
    """Return a budget that is used up shortly before the end if the rolling one is spent all the time."""
    return int(load.minute * (load.seconds / 60 + 1) * 0.85)


def least_answered(load: Load) -> int:
    """Return how many answers there must be for anything to be proven: of a thousand clients, a few in a second."""
    return int(load.clients * load.seconds / 200)


async def ask_in_trouble(running: Scene, performing: faults.Trouble, planned: Sequence[Fault], load: Load) -> None:
    """Let clients ask for the load's time while these faults happen; all processes run again at the end."""
    ended = asyncio.Event()
    asyncio.get_running_loop().call_later(load.seconds, ended.set)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(performing.perform(planned))
        tasks.create_task(
            clients.in_trouble(
                load.clients,
                running.stand.ports,
                running.crowd,
                seed=load.seed,
                ended=ended,
                pause_seconds=load.pause_seconds,
            )
        )


async def after_leases(running: Scene) -> Poll | None:
    """Wait as long as a lease of a dead process lives, and a few seconds more; return the balances then."""
    return await running.settled(LEASE_SECONDS + AFTER_LEASE_SECONDS)


def happened(performing: faults.Trouble, backend: Backend, decisions: Decisions) -> Verdict:
    """Return whether every kind of fault happened, attempts fell back, and clients left."""
    seen = {kind: performing.done[kind] for kind in backend.kinds}
    return verdicts.all_seen(
        {**seen, "fallbacks": decisions.fallbacks, "clients left": decisions.outcomes["ClientLeft"]}
    )


def always(
    running: Scene,
    setting: Setting,
    bills: Mapping[str, int],
    records: Mapping[str, Sequence[Record]],
    decisions: Decisions,
    last: Poll | None,
    polls: Sequence[Poll],
) -> list[Verdict]:
    """Return the checks of every part."""
    amounts = setting.amounts
    checks = [
        verdicts.never_exceeded(polls, amounts, running.watch.away),
        verdicts.bills_within(bills, amounts[TOTAL]),
    ]
    if MINUTE in amounts:
        checks.append(
            verdicts.windows_within(bills, records, MINUTE, amounts[MINUTE], span_ms=SPAN_MS, bucket_ms=BUCKET_MS)
        )
    return [
        *checks,
        verdicts.settled_as_billed(bills, records),
        verdicts.refusals_justified(decisions.refusals, amounts, polls, setting.least_worst_case),
        verdicts.nothing_reserved(last, records),
        verdicts.balance_is_sum(last, records, TOTAL),
    ]
