"""What is proven, as pure functions of what was seen: balances, bills, records of attempts, refusals.

Owns what each check means and what it says of itself. It must not know processes, clients, or how anything was read.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tests.proof.ledgers import Poll, Record

REPORTED: Final = "Reported"
RELEASED: Final = "Released"
ABANDONED: Final = "Abandoned"
_AT_LEAST: Final = frozenset({"Counted", "Assumed", "Expired"})
# A refusal is logged some time after the ledger's answer: when the line is written, and the polls are 50 ms apart or more.
_BEFORE_SECONDS: Final = 5.0
_AFTER_SECONDS: Final = 1.0
_BILLION: Final = 10**9


@dataclass(frozen=True)
class Verdict:
    """One check. `offenders` are what failed it, one line each; it passed if there are none."""

    what: str
    figures: str
    offenders: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing offends."""
        return not self.offenders


@dataclass(frozen=True)
class Refusal:
    """What a line of the decision log says of a request that a budget refused. `least_worst` is the smallest worst case of the
    candidates that the budgets left out; None where the line names none.
    """

    decision: str
    seconds: float
    reason: str
    account: str
    spent: int
    reserved: int
    limit: int
    needed: int
    least_worst: int | None


def never_exceeded(polls: Sequence[Poll], amounts: Mapping[str, int], away: int = 0) -> Verdict:
    """(a) Spent and reserved together were never above the amount."""
    offenders = []
    highest = dict.fromkeys(amounts, 0)
    for poll in polls:
        for account, balance in poll.balances.items():
            used = balance.spent + balance.reserved
            highest[account] = max(highest.get(account, 0), used)
            if used > amounts[account]:
                offenders.append(f"{poll.seconds:.3f} {account} {balance} of {amounts[account]}")
    if not polls:
        offenders.append("the ledger was never read")
    gaps = [after.seconds - before.seconds for before, after in pairwise(polls)]
    gap = f", {1000 * statistics.median(gaps):.0f} ms apart, at most {max(gaps):.1f} s" if gaps else ""
    most = ", ".join(f"{100 * highest[account] / amount:.3f} %" for account, amount in amounts.items())
    figures = f"{len(polls)} polls{gap} (+{away} unanswered); most {most} of the amount"
    return Verdict("(a) spent + reserved <= amount at every poll", figures, tuple(offenders))


def bills_within(bills: Mapping[str, int], amount: int) -> Verdict:
    """(a) What all upstreams billed together is not above the amount."""
    total = sum(bills.values())
    offenders = () if total <= amount else (f"{total} nano-dollars were billed of {amount}",)
    figures = f"{_dollars(total)} of {_dollars(amount)} USD in {len(bills)} accepted attempts"
    return Verdict("(a) the journals' sum <= amount", figures, offenders)


def windows_within(
    bills: Mapping[str, int],
    records: Mapping[str, Sequence[Record]],
    account: str,
    amount: int,
    *,
    span_ms: int,
    bucket_ms: int,
) -> Verdict:
    """(a) In no window of a rolling budget the upstreams billed more than its amount; an attempt counts where it was reserved."""
    by_slot: Counter[int] = Counter()
    for attempt, bill in bills.items():
        entries = (entry for record in records.get(attempt, ()) for entry in record.entries if entry.account == account)
        slots = {entry.slot_ms for entry in entries}
        for slot in list(slots)[:1]:
            by_slot[slot] += bill
    offenders = []
    highest = 0
    for end in by_slot:
        used = sum(bill for slot, bill in by_slot.items() if end - span_ms - bucket_ms < slot <= end)
        highest = max(highest, used)
        if used > amount:
            offenders.append(f"{used} nano-dollars of {amount} were billed in the window that ends in {end}")
    figures = f"{len(by_slot)} windows; most {100 * highest / amount:.1f} % of the amount"
    return Verdict("(a) the journals' sum <= amount in every rolling window", figures, tuple(offenders))


def settled_as_billed(bills: Mapping[str, int], records: Mapping[str, Sequence[Record]]) -> Verdict:
    """(b) What rests on a report equals the bill to the nano-dollar, the rest is not below it, and every bill is known."""
    offenders = []
    counts: Counter[str] = Counter()
    settled_sums: Counter[str] = Counter()
    billed_sums: Counter[str] = Counter()
    for attempt in bills.keys() | records.keys():
        bill, mine = bills.get(attempt), records.get(attempt, ())
        # What stands for the attempt: a tombstone stands beside what went on without the ledger's consent.
        standing = [record for record in mine if record.state != "abandoned"] or list(mine)
        settled = sum(_settled(record) for record in standing)
        bases = "+".join(sorted({_basis(record) for record in standing})) or "none"
        if bill is not None or bases not in (RELEASED, ABANDONED):
            counts[bases] += 1
            settled_sums[bases] += settled
            billed_sums[bases] += bill or 0
        if not _agrees(bases, settled, bill):
            offenders.append(f"{attempt} {bases}: settled {settled}, billed {'nothing' if bill is None else bill}")
    shares = ", ".join(
        f"{basis} {100 * count / max(1, counts.total()):.1f} % of attempts "
        f"({_dollars(settled_sums[basis])} settled, {_dollars(billed_sums[basis])} billed)"
        for basis, count in counts.most_common()
    )
    what = "(b) `Reported` settlements equal the journals to the nano-dollar, no other lies below"
    return Verdict(what, f"{counts.total()} attempts: {shares}", tuple(sorted(offenders)))


def _agrees(bases: str, settled: int, bill: int | None) -> bool:
    if bases == REPORTED:
        # Also a request that costs nothing is in the journal, if it was answered.
        return settled == bill
    if all(basis in _AT_LEAST for basis in bases.split("+")):
        return settled >= (bill or 0)
    # Released, abandoned, unknown to the ledger, or still reserved.
    return bill is None


def refusals_justified(
    refusals: Sequence[Refusal], amounts: Mapping[str, int], polls: Sequence[Poll], least_worst: int
) -> Verdict:
    """(c) At the moment of each refusal spent + reserved + the smallest worst case of all candidates were above the amount.

    The figures are those of the ledger's own answer; what it says of spend must lie in what was polled around then.
    """
    offenders = []
    reasons: Counter[str] = Counter()
    for refusal in refusals:
        reasons[refusal.reason] += 1
        smallest = least_worst if refusal.least_worst is None else refusal.least_worst
        used = refusal.spent + refusal.reserved
        if refusal.limit != amounts.get(refusal.account):
            offenders.append(f"{refusal}: the amount is {amounts.get(refusal.account)}")
        elif used + refusal.needed <= refusal.limit or used + smallest <= refusal.limit:
            offenders.append(f"{refusal}: there was room")
        elif refusal.reason == "BudgetExhausted" and refusal.spent + refusal.needed <= refusal.limit:
            offenders.append(f"{refusal}: said to be used up, but some of it is only reserved")
    offenders += _unseen(refusals, polls)
    said = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    what = "(c) each refusal: spent + reserved + the smallest eligible worst case > amount"
    return Verdict(what, f"{len(refusals)} refusals: {said or 'none'}", tuple(offenders))


def _unseen(refusals: Sequence[Refusal], polls: Sequence[Poll]) -> list[str]:
    """Return the refusals whose spend was not that of the ledger at any moment around them."""
    offenders = []
    times = [poll.seconds for poll in polls]
    first = last = 0
    for refusal in sorted(refusals, key=lambda each: each.seconds):
        while first < len(times) and times[first] < refusal.seconds - _BEFORE_SECONDS:
            first += 1
        while last < len(times) and times[last] <= refusal.seconds + _AFTER_SECONDS:
            last += 1
        around = polls[max(0, first - 1) : last + 1]
        spent = [poll.balances[refusal.account].spent for poll in around if refusal.account in poll.balances]
        if not spent:
            continue
        # Spend only grows until a part of a rolling window leaves it: how far it had grown until then fell between two polls.
        fell = any(later < earlier for earlier, later in pairwise(spent))
        most = refusal.limit if fell else max(spent)
        if not min(spent) <= refusal.spent <= most:
            offenders.append(f"{refusal}: the ledger said {min(spent)} to {most} around then")
    return offenders


def answered_exactly(answered: int, accepted: int, expected: int, clients: int) -> Verdict:
    """(c) Where every answer costs its worst case, exactly as many requests succeed as the budget pays."""
    offenders = []
    if answered != expected:
        offenders.append(f"{answered} requests were answered, not {expected}")
    if accepted != expected:
        offenders.append(f"{accepted} requests were accepted by upstreams, not {expected}")
    figures = f"{answered} of {clients} answered, {accepted} accepted"
    return Verdict(f"(c) actual = worst case: exactly {expected} of {clients} succeed", figures, tuple(offenders))


def spent_nearly_all(spent: int, amount: int, worst: int) -> Verdict:
    """(c) Clients that come again when they are told to spend 99 % of the budget, less one worst case."""
    least = 99 * amount // 100 - worst
    offenders = () if spent >= least else (f"{spent} nano-dollars are spent, not {least}",)
    figures = f"{100 * spent / amount:.3f} % spent (worst case {100 * worst / amount:.3f} %)"
    return Verdict("(c) actual = a tenth: >= 99 % of the budget is spent, less one worst case", figures, offenders)


def all_connected(most: int, clients: int) -> Verdict:
    """All clients were connected at the same moment."""
    offenders = () if most >= clients else (f"{most} of {clients} were",)
    return Verdict("all clients connected at once", f"{most} of {clients}", offenders)


def nothing_reserved(last: Poll | None, records: Mapping[str, Sequence[Record]]) -> Verdict:
    """(d) After all leases nothing is reserved, neither in an account nor by an attempt."""
    balances = {} if last is None else last.balances
    offenders = [f"{account}: {balance}" for account, balance in balances.items() if balance.reserved]
    offenders += [attempt for attempt, each in records.items() if any(record.state == "reserved" for record in each)]
    if last is None:
        offenders.append("the ledger was not read")
    figures = f"{sum(balance.reserved for balance in balances.values())} nano-dollars, of {len(records)} attempts"
    return Verdict("(d) no reservation is left", figures, tuple(offenders))


def balance_is_sum(last: Poll | None, records: Mapping[str, Sequence[Record]], account: str) -> Verdict:
    """What an account without gaps has spent is the sum of what its attempts were settled at."""
    settled = sum(_settled(record) for each in records.values() for record in each)
    spent = 0 if last is None or account not in last.balances else last.balances[account].spent
    offenders = () if spent == settled else (f"{account} has spent {spent}, its attempts {settled}",)
    return Verdict("the account's spend is the sum of its attempts", f"{_dollars(spent)} USD", offenders)


def memory_is_flat(
    samples: Mapping[str, Sequence[tuple[float, int]]], *, percent: float, least_kibibytes: int
) -> Verdict:
    """The resident memory of each process, as a median over the last quarter of its samples (seconds, KiB), is at most so many percent
    above that over the second quarter, or rose by less than `least_kibibytes`. The first quarter warms up.
    """
    offenders, said = [], []
    for name, mine in samples.items():
        quarter = len(mine) // 4
        if not quarter:
            offenders.append(f"{name}: {len(mine)} samples say nothing")
            continue
        before = statistics.median(size for _, size in mine[quarter : 2 * quarter])
        after = statistics.median(size for _, size in mine[-quarter:])
        minutes = (mine[-1][0] - mine[0][0]) / 60
        line = f"{name} {before / 1024:.1f} -> {after / 1024:.1f} MiB in {minutes:.1f} min"
        said.append(line)
        if after > before * (1 + percent / 100) and after - before >= least_kibibytes:
            offenders.append(line)
    if not samples:
        offenders.append("no process survived")
    what = f"memory is flat: last quarter <= {percent:g} % above the second"
    return Verdict(what, "; ".join(said), tuple(offenders))


def all_seen(counts: Mapping[str, int]) -> Verdict:
    """Everything that makes trouble happened at least once."""
    said = ", ".join(f"{count} x {what}" for what, count in counts.items())
    return Verdict("all kinds of trouble happened", said, tuple(what for what, count in counts.items() if not count))


def all_logged(outcomes: Mapping[str, int], logged: int) -> Verdict:
    """Each refusal that a client got has its line in a decision log, so that it was checked."""
    got = outcomes.get("429 budget_reserved", 0) + outcomes.get("429 budget_exhausted", 0)
    offenders = () if got == logged else (f"clients got {got} refusals, {logged} were logged",)
    return Verdict("each refusal is in a decision log", f"{logged} of {got}", offenders)


def served_enough(outcomes: Mapping[str, int], *, least: int, forbidden: Iterable[str] = ()) -> Verdict:
    """There was something to prove: so many requests were answered, and none ended in a way that must not be."""
    offenders = [f"{outcomes[name]} times {name}" for name in forbidden if outcomes.get(name)]
    if outcomes.get("200", 0) < least:
        offenders.append(f"{outcomes.get('200', 0)} requests were answered, not {least}")
    most = sorted(outcomes.items(), key=lambda each: -each[1])
    return Verdict("what clients got", ", ".join(f"{count} x {name}" for name, count in most), tuple(offenders))


def _basis(record: Record) -> str:
    return ABANDONED if record.state == "abandoned" else record.basis or record.state


def _settled(record: Record) -> int:
    """All accounts are charged alike, so the first one says it."""
    return record.entries[0].settled if record.entries else 0


def _dollars(nano: int) -> str:
    return f"{nano / _BILLION:.6f}"
