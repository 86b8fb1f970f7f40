"""What a process has seen of a ledger, for the day on which the ledger has lost it.

It owns which of several sights of an account is kept. It must not know backends: `Ledger.restore` is told what stands here.
Whoever made the last change of an account saw its totals, so one process that saw them is enough to restore the spend of
all, of dead ones too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from foresail_sidecar.ledger.interface import Usage

MOST_SLOTS: Final = 10_000
"""How many windows of accounts are remembered; those that were not seen for the longest time are forgotten first."""

_ROLLING: Final = -1


class Seen:
    """The latest sight of each window of each account, and of each rolling account as a whole."""

    def __init__(self, most_slots: int = MOST_SLOTS) -> None:
        self._most_slots = most_slots
        self._slots: OrderedDict[tuple[str, int], Usage] = OrderedDict()
        self._present: dict[str, tuple[str, int]] = {}

    def take(self, usages: Iterable[Usage]) -> None:
        """Remember what an operation told; an answer that was overtaken by a later one changes nothing."""
        for usage in usages:
            key = (usage.account, _ROLLING if usage.rolling else usage.slot_ms)
            known = self._slots.get(key)
            if known is None or usage.sequence >= known.sequence:
                self._slots[key] = usage
            self._slots.move_to_end(key)
            if key[1] >= self._present.get(usage.account, key)[1]:
                self._present[usage.account] = key
        while len(self._slots) > self._most_slots:
            key, _ = self._slots.popitem(last=False)
            if self._present.get(key[0]) == key:
                del self._present[key[0]]

    def latest(self, account: str) -> Usage | None:
        """What was last seen of the latest window of an account."""
        key = self._present.get(account)
        return None if key is None else self._slots[key]

    def for_restore(self) -> tuple[Usage, ...]:
        """Everything that is remembered, for `Ledger.restore`."""
        return tuple(self._slots.values())
