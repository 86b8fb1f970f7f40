"""The ledger on Redis: each operation is one script, atomic over all accounts of a request.

It owns what this process has seen of the ledger (generation, sequence, epoch), which every call carries, so that the server
can tell a caller that it lost data. It must not know who reserves. The layout of the keys and the rules of generations
stand in `scripts/prelude.lua`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn
from urllib.parse import quote

from foresail_sidecar.ledger.interface import (
    Abandoned,
    Claim,
    DataLost,
    Denied,
    Granted,
    LedgerClosed,
    LedgerUnavailable,
    Receipt,
    ReserveRequest,
    Settled,
    Status,
    Usage,
    WindowsOutdated,
)
from foresail_sidecar.ledger.redis import scripts, wire
from foresail_sidecar.ledger.redis.calls import Calls, RedisSettings
from foresail_sidecar.ledger.redis.durability import SETTINGS, faults_of, lines_of, pairs_of
from foresail_sidecar.ledger.redis.scripts import Script

OPENS_AFTER_MS: Final = 3000
"""How long a new, restarted or lost ledger waits for everybody who saw more: three heartbeats."""
_CHECK_SECONDS: Final = 30.0
_MOST_SETTLED: Final = 64
_MOST_RENEWED: Final = 512
_MOST_RESTORED: Final = 256
_RESTORE_TRIES: Final = 3


class RedisLedger:
    """A `Ledger` whose accounts are shared by every process that uses the same Redis and the same uid.

    After its first start, and after every restart, fail-over and loss of data of its server, it is closed for a while:
    `reserve`, `settle`, `abandon` and `usage` raise `LedgerClosed`; `renew`, `restore` and `status` work.
    """

    def __init__(self, settings: RedisSettings, uid: str, *, opens_after_ms: int = OPENS_AFTER_MS) -> None:
        self._calls = Calls(settings)
        self._prefix = f"{{foresail:{quote(uid, safe='')}}}:"
        self._opens_after_ms = opens_after_ms
        self._known: tuple[int, int, bytes] = (0, 0, b"")
        self._faults: tuple[str, ...] = ()
        self._checked: float | None = None

    async def reserve(self, request: ReserveRequest) -> Granted | Denied:
        """See `Ledger.reserve`."""
        reply = await self._run(scripts.RESERVE, wire.reserve_arguments(request))
        if reply.code == "Granted":
            return wire.granted_of(request, reply)
        if reply.code == "Denied":
            return wire.denied_of(request, reply)
        if reply.code == "Abandoned":
            raise Abandoned(f"attempt {request.attempt_id} was abandoned before its reservation came")
        _refused(reply)

    async def settle(self, settlements: Sequence[Settled]) -> tuple[Usage, ...]:
        """See `Ledger.settle`."""
        touched: dict[tuple[str, int], Usage] = {}
        for start in range(0, len(settlements), _MOST_SETTLED):
            arguments = wire.settle_arguments(settlements[start : start + _MOST_SETTLED])
            reply = await self._run(scripts.SETTLE, arguments)
            _require_done(reply)
            touched |= {(usage.account, usage.slot_ms): usage for usage in wire.touched_of(reply)}
        return tuple(touched.values())

    async def abandon(self, attempt_ids: Sequence[str]) -> None:
        """See `Ledger.abandon`."""
        for start in range(0, len(attempt_ids), _MOST_RENEWED):
            part = attempt_ids[start : start + _MOST_RENEWED]
            _require_done(await self._run(scripts.ABANDON, [len(part), *part]))

    async def renew(self, attempt_ids: Sequence[str], lease_ms: int) -> frozenset[str]:
        """See `Ledger.renew`."""
        gone: set[str] = set()
        for start in range(0, max(1, len(attempt_ids)), _MOST_RENEWED):
            part = attempt_ids[start : start + _MOST_RENEWED]
            reply = await self._run(scripts.RENEW, [lease_ms, len(part), *part])
            gone.update(value.decode() for value in reply.values if isinstance(value, bytes))
        return frozenset(gone)

    async def usage(self, claims: Sequence[Claim]) -> tuple[Usage, ...]:
        """See `Ledger.usage`."""
        reply = await self._run(scripts.USAGE, wire.claim_arguments(claims))
        _require_done(reply)
        return wire.usages_of(claims, reply)

    async def restore(self, seen: Sequence[Usage], live: Sequence[tuple[Receipt, int]]) -> None:
        """See `Ledger.restore`. `live` holds every attempt whose settlement was not acknowledged yet."""
        nothing: list[wire.Argument] = [0]
        parts = [
            (wire.seen_arguments(seen[start : start + _MOST_RESTORED]), nothing)
            for start in range(0, len(seen), _MOST_RESTORED)
        ]
        parts += [
            (nothing, wire.live_arguments(live[start : start + _MOST_RESTORED]))
            for start in range(0, len(live), _MOST_RESTORED)
        ]
        for _ in range(_RESTORE_TRIES):
            calls = [self._call(scripts.RESTORE, [*one, *other]) for one, other in parts or [(nothing, nothing)]]
            replies = await asyncio.gather(*calls)
            # What was told to another life of the server may be lost again.
            if len({(reply.generation, reply.epoch) for reply in replies}) == 1:
                last = replies[-1]
                self._known = (last.generation, last.sequence, last.epoch)
                return
        raise LedgerUnavailable("Redis changed again and again while the ledger was being restored")

    async def status(self) -> Status:
        """See `Ledger.status`. Durability is checked every 30 s."""
        reply = await self._run(scripts.USAGE, [0])
        now = time.monotonic()
        if self._checked is None or now - self._checked >= _CHECK_SECONDS:
            self._faults = faults_of(await self._settings(), await self._persistence())
            self._checked = now
        opens_ms = reply.opens_ms if reply.opens_ms > reply.now_ms else None
        return Status(reply.generation, reply.sequence, opens_ms, reply.now_ms, self._faults)

    async def read_note(self, name: str) -> str | None:
        """See `Ledger.read_note`."""
        text = await self._calls.command("HGET", f"{self._prefix}n", name)
        return text.decode() if isinstance(text, bytes) else None

    async def write_note(self, name: str, text: str) -> None:
        """See `Ledger.write_note`."""
        await self._calls.command("HSET", f"{self._prefix}n", name, text)

    async def close(self) -> None:
        """See `Ledger.close`."""
        await self._calls.close()

    async def _call(self, script: Script, arguments: Sequence[wire.Argument]) -> wire.Reply:
        guarded = (*self._known, self._opens_after_ms, *arguments)
        try:
            return wire.reply_of(await self._calls.script(script, f"{self._prefix}meta", guarded))
        except ValueError as error:
            raise LedgerUnavailable(str(error)) from None

    async def _run(self, script: Script, arguments: Sequence[wire.Argument]) -> wire.Reply:
        reply = await self._call(script, arguments)
        if reply.code == "Lost":
            raise DataLost(reply.generation)
        if (reply.generation, reply.sequence) >= self._known[:2]:
            self._known = (reply.generation, reply.sequence, reply.epoch)
        return reply

    async def _settings(self) -> Mapping[str, str] | None:
        try:
            # One name for each command: servers before version 7 take no more.
            found = await asyncio.gather(*(self._calls.command("CONFIG", "GET", name) for name in SETTINGS))
        except LedgerUnavailable:
            return None
        return {name: value for pairs in found for name, value in pairs_of(pairs).items()}

    async def _persistence(self) -> Mapping[str, str] | None:
        try:
            return lines_of(await self._calls.command("INFO", "persistence"))
        except LedgerUnavailable:
            return None


def _require_done(reply: wire.Reply) -> None:
    if reply.code != "Done":
        _refused(reply)


def _refused(reply: wire.Reply) -> NoReturn:
    if reply.code == "Closed":
        raise LedgerClosed(max(0, reply.opens_ms - reply.now_ms) / 1000)
    if reply.code == "Outdated":
        raise WindowsOutdated(reply.now_ms)
    raise LedgerUnavailable(f"the server answered {reply.code!r}")
