"""What a process has learned outlives it, and reaches the other workers and replicas: it is kept in notes of the policy's ledger.

Owns the names of the notes and when each is read and written. It must not know what is in them.

Notes are read, merged and written back without a lock. Each merge is such that a note which another process overwrote is made good
with the next round, or costs no more than half a minute of observations.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from foresail_api.snapshot import Snapshot
from foresail_sidecar.configuration.state import ServingHolder
from foresail_sidecar.flow.record import Memory
from foresail_sidecar.ledger.client import LedgerClient
from foresail_sidecar.ledger.interface import LedgerError
from foresail_sidecar.serving.ledgers import Ledgers
from foresail_sidecar.telemetry.logs import log, log_defect

EXCESS_NOTE: Final = "excess"
CALIBRATION_NOTE: Final = "calibration"
_ROUND_SECONDS: Final = 1.0
_CALIBRATION_SECONDS: Final = 30.0

_LOGGER = logging.getLogger(__name__)


class Keeper:
    """Keeps what `memory` learns: `start` before the first request, then `run` until cancelled, `end` while the ledgers are still open."""

    def __init__(
        self, holder: ServingHolder, ledgers: Ledgers, memory: Memory, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._holder = holder
        self._ledgers = ledgers
        self._memory = memory
        self._clock = clock
        self._calibrated: float | None = None
        self._distrusted: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Take up what was kept. A ledger that does not answer within its deadline is asked again with each round."""
        await self.round()

    async def run(self) -> None:
        """Share what was learned, round after round."""
        while True:
            await asyncio.sleep(_ROUND_SECONDS)
            try:
                await self.round()
            except Exception as error:
                # What nobody foresaw in one round must not end all later ones.
                log_defect(_LOGGER, "what was learned is not kept", error)

    async def end(self) -> None:
        """Have the rest written when the ledger is closed."""
        self._calibrated = None
        await self.round()

    async def round(self) -> None:
        """Merge with what other processes learned; the calibration at most every 30 seconds."""
        state = self._holder.current
        ledger = None if state is None else self._ledgers.notes_of(state)
        if state is None:
            return
        if ledger is not None:
            await self._share(ledger, state.snapshot)
        self._tell(state.snapshot)

    async def _share(self, ledger: LedgerClient, snapshot: Snapshot) -> None:
        try:
            _written(ledger, EXCESS_NOTE, self._memory.trust.merge(await ledger.read_note(EXCESS_NOTE), snapshot))
            if self._calibrated is None or self._clock() - self._calibrated >= _CALIBRATION_SECONDS:
                kept = await ledger.read_note(CALIBRATION_NOTE)
                names = [model.name for model in snapshot.models]
                _written(ledger, CALIBRATION_NOTE, self._memory.calibrator.merge(kept, names))
                self._calibrated = self._clock()
        except LedgerError:
            # Nothing is lost: what was learned here stays, and is merged when the ledger answers.
            return

    def _tell(self, snapshot: Snapshot) -> None:
        distrusted = self._memory.trust.distrusted(snapshot)
        for model in sorted(distrusted - self._distrusted):
            log(_LOGGER, logging.ERROR, "model distrusted", model=model, remedy="correct what the pool declares of it")
        for model in sorted(self._distrusted - distrusted):
            log(_LOGGER, logging.INFO, "model trusted again", model=model)
        self._distrusted = distrusted


def _written(ledger: LedgerClient, name: str, text: str | None) -> None:
    if text is not None:
        ledger.write_note(name, text)
