"""What a ledger is: its operations, the values they take and return, and how they fail.

It owns the words that every backend and every user of a ledger share, and no behaviour. It must not know where a
ledger keeps its data (SQLite, Redis), nor requests, prices or HTTP: amounts are integers, accounts are names.

Rules that every backend follows, checked by the same tests on each of them:

1. Reserving is atomic over all claims of a request: the first option whose claims all fit is taken, or nothing is
   written at all. An amount of 0 always fits.
2. Every operation is idempotent by the id of its attempt; a settlement with a higher revision corrects the former one.
3. A reservation is a lease. When it ends without being renewed or settled, it becomes spend at its full amount.
4. Whatever a window counts belongs to the window that admitted the attempt, and the ledger's clock says which.
5. Limits stand in the claims and not in the ledger: a new limit applies at once and keeps what was used.
6. Amounts are integers between 0 and `MOST`; what was spent saturates there.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Protocol

from foresail_api.values import value

MOST: Final = 2**53 - 1
"""The largest amount: every integer up to it is exact in a double as well."""
MOST_RESERVED: Final = 2**50
"""The most that one attempt may reserve."""
MOST_BUDGETS: Final = 8
MOST_OPTIONS: Final = 64
"""As many as a pool has models: the one that fits may be the last."""


class Measure(StrEnum):
    """What an account counts. Money is in nano-dollars; slots are held while an attempt lives and are never spent."""

    MONEY = "money"
    REQUESTS = "requests"
    TOKENS = "tokens"
    SLOTS = "slots"


@value
class CalendarSpan:
    """Consecutive calendar windows around now as (start, end), start inclusive, end exclusive, in milliseconds of the
    Unix epoch. The ledger takes the one that its own clock is in.
    """

    windows: tuple[tuple[int, int], ...]


@value
class RollingSpan:
    """The last `span_ms`, counted in buckets: every bucket with start + bucket > now - span, so never less than it."""

    span_ms: int
    bucket_ms: int


@value
class Held:
    """No window: what is held counts until it is given back (concurrency)."""


Span = CalendarSpan | RollingSpan | Held


@value
class Claim:
    """What one account must have room for."""

    account: str
    span: Span
    measure: Measure
    limit: int
    """Most that spent + reserved may become."""
    overdraft: int = 0
    """Added to the limit for options that may overdraw."""
    enforced: bool = True
    """False: counted, never refused."""
    amount: int = 0
    """For measures other than money; money takes what the option is granted."""


@value
class Option:
    """One way to serve the attempt: between `least` and `wanted` nano-dollars, and claims of its own."""

    wanted: int
    least: int
    overdraws: bool = False
    claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.wanted <= MOST_RESERVED:
            raise ValueError(
                f"an option must have 0 <= least <= wanted <= 2^50, but has {self.least} and {self.wanted}"
            )


@value
class ReserveRequest:
    """One attempt's wish: claims that hold for every option, and the options in order of preference."""

    attempt_id: str
    budgets: tuple[Claim, ...]
    options: tuple[Option, ...]
    lease_ms: int

    def __post_init__(self) -> None:
        if len(self.budgets) > MOST_BUDGETS:
            raise ValueError(f"a reservation takes at most {MOST_BUDGETS} budgets, not {len(self.budgets)}")
        if not 1 <= len(self.options) <= MOST_OPTIONS:
            raise ValueError(f"a reservation takes 1 to {MOST_OPTIONS} options, not {len(self.options)}")
        # Options without claims of their own say nothing that the budgets do not say.
        for claims in ((), *(option.claims for option in self.options if option.claims)):
            accounts = [claim.account for claim in (*self.budgets, *claims)]
            if len(set(accounts)) < len(accounts):
                raise ValueError("an account may stand only once in an option and the budgets")


@value
class Entry:
    """What an attempt reserved in one slot of an account. The slot is the start of its window or bucket, in ms of the
    Unix epoch; 0 where there is no window. `rolling` says that the slot is one bucket of many.
    """

    account: str
    slot_ms: int
    measure: Measure
    amount: int
    rolling: bool = False


@value
class Receipt:
    """What is settled later: the entries of one reservation, plain enough for a journal."""

    attempt_id: str
    generation: int
    entries: tuple[Entry, ...]


@value
class Usage:
    """What an account has used, at one moment.

    `slot_ms` is the start of the window (calendar), of the present bucket (rolling) or 0. `ends_ms` is the end of the
    window; for a rolling one the moment when its oldest use leaves, or None without use; None without a window.
    `sequence` orders the changes of the ledger: the larger one is the later knowledge. Where `rolling`, spent and
    reserved are sums over all counted buckets and `sequence` is the largest of theirs, so of one account only the
    latest such usage may be kept; otherwise the latest of each slot.
    """

    account: str
    slot_ms: int
    spent: int
    reserved: int
    ends_ms: int | None
    sequence: int
    rolling: bool = False


@value
class Granted:
    """The reservation stands: the option's number, its nano-dollars, and every account it took from, afterwards."""

    receipt: Receipt
    option: int
    amount: int
    usages: tuple[Usage, ...]
    now_ms: int


@value
class Shortage:
    """One claim that one option did not fit. `limit` includes the overdraft where the option may overdraw."""

    option: int
    account: str
    measure: Measure
    limit: int
    spent: int
    reserved: int
    needed: int
    ends_ms: int | None


@value
class Denied:
    """No option fits: every claim that an option did not fit, and all accounts looked at, at one moment."""

    shortages: tuple[Shortage, ...]
    usages: tuple[Usage, ...]
    now_ms: int


@value
class Settled:
    """How an attempt ended. `amounts` are aligned with the receipt's entries; zeros release it.

    A higher revision corrects a lower one; the expiry of a lease writes revision 0 with the basis `Expired`, so
    settlements begin at 1. `basis` is kept in the record for audits.
    """

    attempt_id: str
    revision: int
    basis: str
    receipt: Receipt
    amounts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.amounts) != len(self.receipt.entries):
            raise ValueError("a settlement must have one amount for each entry of its receipt")
        if self.revision < 1:
            raise ValueError("a settlement's revision begins at 1")
        if self.amounts and not 0 <= min(self.amounts) <= max(self.amounts) <= MOST:
            raise ValueError("a settled amount must lie between 0 and 2^53 - 1")


@value
class Status:
    """What is known of the ledger itself. `opens_ms` is set while it is being restored; `faults` say why what it
    acknowledges might not outlive a crash.
    """

    generation: int
    sequence: int
    opens_ms: int | None
    now_ms: int
    faults: tuple[str, ...]


class LedgerError(Exception):
    """An operation of a ledger had no result."""


class LedgerUnavailable(LedgerError):
    """No answer within the deadline, connection lost, disk full."""


class LedgerClosed(LedgerError):
    """A ledger that lost data is being restored and reserves nothing until it opens."""

    def __init__(self, opens_in_seconds: float) -> None:
        super().__init__(f"the ledger is being restored and opens in {opens_in_seconds:.1f} s")
        self.opens_in_seconds = opens_in_seconds


class WindowsOutdated(LedgerError):
    """The ledger's clock is in none of the windows of a claim; nothing was changed."""

    def __init__(self, now_ms: int) -> None:
        super().__init__(f"the ledger's clock ({now_ms} ms) is in none of the windows of the claim")
        self.now_ms = now_ms


class DataLost(LedgerError):
    """The ledger is older than what was seen of it: restore it, then go on. Nothing was changed."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"the ledger has lost data and is now at generation {generation}")
        self.generation = generation


class Abandoned(LedgerError):
    """This attempt was abandoned before its reservation came."""


class Ledger(Protocol):
    """A store of accounts. Every operation is one atomic change at one moment of the ledger's clock.

    Every operation may raise `LedgerUnavailable`, and `DataLost` (but not `restore` and `close`).
    """

    async def reserve(self, request: ReserveRequest) -> Granted | Denied:
        """Reserve the first option that fits. A repeated id returns what it was granted, with present usages.

        Raises:
            LedgerClosed: the ledger is being restored.
            WindowsOutdated: a calendar span holds no window for the ledger's present.
            Abandoned: the attempt was abandoned before.
        """
        ...

    async def settle(self, settlements: Sequence[Settled]) -> tuple[Usage, ...]:
        """Turn reservations into spend. An unknown id is recorded as spend all the same, so none is ever lost.

        Returns the slots touched, of entries that are not rolling: one bucket would say nothing of the whole.

        Raises:
            LedgerClosed: the ledger is being restored; settle again when it is open.
        """
        ...

    async def abandon(self, attempt_ids: Sequence[str]) -> None:
        """Give back reservations whose answer never came, also where their leases have ended since, and refuse those
        that arrive later. Never call it for an attempt of which anything was forwarded.

        Raises:
            LedgerClosed: the ledger is being restored; the lease will end the reservation.
        """
        ...

    async def renew(self, attempt_ids: Sequence[str], lease_ms: int) -> frozenset[str]:
        """Extend leases from now on. Returns the ids that are no longer reserved; none of them comes back."""
        ...

    async def usage(self, claims: Sequence[Claim]) -> tuple[Usage, ...]:
        """What the accounts of the claims have used now, in the order of the claims.

        Raises:
            LedgerClosed: the ledger is being restored, so not all of it may have been told yet.
            WindowsOutdated: a calendar span holds no window for the ledger's present.
        """
        ...

    async def restore(self, seen: Sequence[Usage], live: Sequence[tuple[Receipt, int]]) -> None:
        """Tell a ledger that lost data what was seen of it, and which reservations live on (receipt, lease in ms)."""
        ...

    async def status(self) -> Status:
        """Generation, clock and faults."""
        ...

    async def read_note(self, name: str) -> str | None:
        """A text kept beside the accounts."""
        ...

    async def write_note(self, name: str, text: str) -> None:
        """Keep a text beside the accounts."""
        ...

    async def close(self) -> None:
        """Give back what the ledger holds open. Operations afterwards raise `LedgerUnavailable`."""
        ...
