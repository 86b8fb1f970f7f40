"""Arguments and replies of the ledger's scripts. Pure; it must not know connections.

The order of the arguments is written at the top of each script. Whole numbers travel as decimal text, which is exact up
to 2^53; floats never occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from foresail_api.values import value
from foresail_sidecar.ledger.interface import (
    CalendarSpan,
    Claim,
    Denied,
    Entry,
    Granted,
    Held,
    Measure,
    Receipt,
    ReserveRequest,
    RollingSpan,
    Settled,
    Shortage,
    Usage,
)

Argument = str | int | bytes
Value = bytes | int
_HEADER: Final = 6
_MOST_BUCKETS: Final = 1000


@value
class Reply:
    """What every script answers: how it went, the state of the ledger, and values of its own."""

    code: str
    generation: int
    sequence: int
    epoch: bytes
    now_ms: int
    opens_ms: int
    values: Sequence[Value]


def reply_of(raw: object) -> Reply:
    """Read a script's answer. Raises `ValueError` if it is none."""
    if not isinstance(raw, list) or len(raw) < _HEADER:
        raise ValueError("the server's answer is not that of a ledger script")
    code, generation, sequence, epoch, now_ms, opens_ms = cast(tuple[bytes, int, int, bytes, int, int], raw[:_HEADER])
    return Reply(code.decode(), generation, sequence, epoch, now_ms, opens_ms, raw[_HEADER:])


def _name(account: str) -> str:
    if "\n" in account:
        raise ValueError("the name of an account must not contain a line feed")
    return account


def claim_arguments(claims: Sequence[Claim]) -> list[Argument]:
    """Number of claims, and each of them."""
    arguments: list[Argument] = [len(claims)]
    for claim in claims:
        arguments += (
            _name(claim.account),
            claim.measure.value,
            claim.limit,
            claim.overdraft,
            int(claim.enforced),
            claim.amount,
        )
        match claim.span:
            case CalendarSpan(windows):
                arguments += ("calendar", len(windows))
                for start, end in windows:
                    arguments += (start, end)
            case RollingSpan(span_ms, bucket_ms):
                if not 0 < bucket_ms <= span_ms <= bucket_ms * _MOST_BUCKETS:
                    raise ValueError(f"a rolling span must have 1 to {_MOST_BUCKETS} buckets")
                arguments += ("rolling", span_ms, bucket_ms)
            case Held():
                arguments.append("held")
    return arguments


def reserve_arguments(request: ReserveRequest) -> list[Argument]:
    """Arguments of `reserve.lua`."""
    arguments: list[Argument] = [_name(request.attempt_id), request.lease_ms, *claim_arguments(request.budgets)]
    arguments.append(len(request.options))
    for option in request.options:
        arguments += (option.wanted, option.least, int(option.overdraws), *claim_arguments(option.claims))
    return arguments


def settle_arguments(settlements: Sequence[Settled]) -> list[Argument]:
    """Arguments of `settle.lua`."""
    arguments: list[Argument] = [len(settlements)]
    for settled in settlements:
        arguments += (settled.attempt_id, settled.revision, settled.basis, settled.receipt.generation)
        arguments.append(len(settled.receipt.entries))
        for entry, amount in zip(settled.receipt.entries, settled.amounts, strict=True):
            arguments += (*_entry_arguments(entry), amount)
    return arguments


def seen_arguments(seen: Sequence[Usage]) -> list[Argument]:
    """First half of the arguments of `restore.lua`."""
    arguments: list[Argument] = [len(seen)]
    for usage in seen:
        # Of a rolling window the end is not that of the slot.
        ends = 0 if usage.rolling else usage.ends_ms or 0
        arguments += (_name(usage.account), usage.slot_ms, usage.spent, usage.reserved, ends)
        arguments += (usage.sequence, int(usage.rolling))
    return arguments


def live_arguments(live: Sequence[tuple[Receipt, int]]) -> list[Argument]:
    """Second half of the arguments of `restore.lua`."""
    arguments: list[Argument] = [len(live)]
    for receipt, lease_ms in live:
        arguments += (receipt.attempt_id, lease_ms, len(receipt.entries))
        for entry in receipt.entries:
            arguments += _entry_arguments(entry)
    return arguments


def _entry_arguments(entry: Entry) -> tuple[Argument, ...]:
    return _name(entry.account), entry.slot_ms, entry.measure.value, entry.amount, int(entry.rolling)


def _usages(claims: Sequence[Claim], values: Sequence[Value], sequence: int) -> list[Usage]:
    usages: list[Usage] = []
    for index, claim in enumerate(claims):
        slot, spent, reserved, ends = (int(value) for value in values[4 * index : 4 * index + 4])
        rolling = isinstance(claim.span, RollingSpan)
        usages.append(Usage(claim.account, slot, spent, reserved, ends if ends >= 0 else None, sequence, rolling))
    return usages


def usages_of(claims: Sequence[Claim], reply: Reply) -> tuple[Usage, ...]:
    """What `usage.lua` says, in the order of the claims."""
    return tuple(_usages(claims, reply.values, reply.sequence))


def granted_of(request: ReserveRequest, reply: Reply) -> Granted:
    """What `reserve.lua` says of a reservation that stands."""
    option, amount, generation, count = (int(value) for value in reply.values[:4])
    entries: list[Entry] = []
    ends = 4 + 5 * count
    for index in range(4, ends, 5):
        account, slot, measure, reserved, rolling = cast(
            tuple[bytes, bytes, bytes, int, bytes], reply.values[index : index + 5]
        )
        entries.append(Entry(account.decode(), int(slot), Measure(measure.decode()), reserved, rolling == b"1"))
    taken = request.options[option] if option < len(request.options) else request.options[0]
    usages = _usages((*request.budgets, *taken.claims), reply.values[ends:], reply.sequence)
    receipt = Receipt(request.attempt_id, generation, tuple(entries))
    return Granted(receipt, option, amount, tuple(usages), reply.now_ms)


def denied_of(request: ReserveRequest, reply: Reply) -> Denied:
    """What `reserve.lua` says when no option fits. An account that several options claim is told once."""
    count = int(reply.values[0])
    shortages: list[Shortage] = []
    for index in range(1, 1 + 6 * count, 6):
        number, place, spent, reserved, needed, ends = (int(value) for value in reply.values[index : index + 6])
        option = request.options[number]
        claim = (*request.budgets, *option.claims)[place]
        limit = claim.limit + (claim.overdraft if option.overdraws else 0)
        ends_ms = ends if ends >= 0 else None
        shortages.append(Shortage(number, claim.account, claim.measure, limit, spent, reserved, needed, ends_ms))
    claims = [*request.budgets, *(claim for option in request.options for claim in option.claims)]
    told = _usages(claims, reply.values[1 + 6 * count :], reply.sequence)
    return Denied(tuple(shortages), tuple({usage.account: usage for usage in told}.values()), reply.now_ms)


def touched_of(reply: Reply) -> tuple[Usage, ...]:
    """What `settle.lua` says of the slots that it touched."""
    usages: list[Usage] = []
    for index in range(0, len(reply.values), 5):
        account, slot, spent, reserved, ends = cast(tuple[bytes, bytes, int, int, int], reply.values[index : index + 5])
        ends_ms = ends if ends >= 0 else None
        usages.append(Usage(account.decode(), int(slot), spent, reserved, ends_ms, reply.sequence))
    return tuple(usages)
