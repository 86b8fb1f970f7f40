"""One call to a ledger: its deadline, its measure, and whether it is made at all.

Owns the deadline, the circuit and what the last call found, and logs when a ledger goes away and comes back. It must not know what is
called, except that a ledger which lost data has to be restored before it is called again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, ParamSpec, Protocol, TypeVar

from foresail_sidecar.ledger.circuit import Circuit
from foresail_sidecar.ledger.deadline import Deadline
from foresail_sidecar.ledger.deliveries import DeliveryMetrics
from foresail_sidecar.ledger.interface import DataLost, LedgerClosed, LedgerError, LedgerUnavailable
from foresail_sidecar.telemetry.logs import log

_LOGGER = logging.getLogger(__name__)

RESTORE: Final = "Restore"

_CLOSED_SECONDS: Final = 3.0

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class LedgerMetrics(DeliveryMetrics, Protocol):
    """What is measured of a ledger."""

    def called(self, operation: str, seconds: float, error: str | None) -> None:
        """One call ended; `error` is Unavailable, Closed, WindowsOutdated or DataLost, None if it had a result."""
        ...

    def durable(self, durable: bool) -> None:
        """Whether what the ledger acknowledges survives a crash."""
        ...


class Availability(StrEnum):
    """What the last call found; `UNKNOWN` until the ledger has said whether it is open."""

    UNKNOWN = "Unknown"
    AVAILABLE = "Available"
    UNAVAILABLE = "Unavailable"
    CLOSED = "Closed"


class Calls:
    """The calls of one process to one ledger. `restore` tells a ledger of the given generation what was seen of it.

    `quiet`: nobody needs this ledger, so nothing of it is logged.
    """

    def __init__(
        self,
        deadline_seconds: float,
        metrics: LedgerMetrics,
        restore: Callable[[int], Awaitable[None]],
        *,
        quiet: bool = False,
    ) -> None:
        self._deadline = deadline_seconds
        self._metrics = metrics
        self._restore = restore
        self._circuit = Circuit(time.monotonic)
        self._quiet = quiet
        self.availability = Availability.UNKNOWN

    def require_circuit(self) -> None:
        """Refuse at once while the ledger does not answer.

        Raises:
            LedgerUnavailable: it did not answer lately.
        """
        if not self._circuit.allows():
            raise LedgerUnavailable("the ledger did not answer lately")

    async def call(
        self,
        operation: str,
        run: Callable[Parameters, Awaitable[Result]],
        *args: Parameters.args,
        **kw: Parameters.kwargs,
    ) -> Result:
        """Call the ledger unless it did not answer lately; raises as `made`."""
        self.require_circuit()
        return await self.made(operation, run, *args, **kw)

    async def made(
        self,
        operation: str,
        run: Callable[Parameters, Awaitable[Result]],
        *args: Parameters.args,
        **kw: Parameters.kwargs,
    ) -> Result:
        """Call the ledger within the deadline. One that lost data is restored, and is closed to this caller.

        Raises:
            LedgerError: there was no answer in time, or it was one of the ledger's refusals, but never `DataLost`.
        """
        started = time.perf_counter()
        failed: LedgerError | None = None
        try:
            with Deadline(self._deadline):
                result = await run(*args, **kw)
        except TimeoutError:
            failed = LedgerUnavailable(f"the ledger did not answer within {self._deadline:g} s")
        except LedgerError as error:
            failed = error
        except Exception as error:
            # Whatever a backend did not foresee is an answer that did not come, and must not end a heartbeat.
            failed = LedgerUnavailable(f"the ledger failed: {type(error).__name__}")
        seconds = time.perf_counter() - started
        if failed is None:
            # A ledger that is being restored renews and answers, and stays closed until its status says otherwise.
            if self.availability == Availability.UNAVAILABLE:
                self.availability = Availability.AVAILABLE
                self._say_back()
            self._circuit.succeeded()
            self._metrics.called(operation, seconds, None)
            return result
        self._failed(failed)
        self._metrics.called(operation, seconds, type(failed).__name__.removeprefix("Ledger"))
        if isinstance(failed, DataLost):
            failed = await self._restored(operation, failed)
        try:
            raise failed
        finally:
            # The error knows this frame: as a circle both, and the request, would be left to the search for garbage.
            failed = None

    async def _restored(self, operation: str, lost: DataLost) -> LedgerError:
        if operation == RESTORE:
            # Who restores waits for this call, and would wait for itself.
            return LedgerUnavailable("the ledger lost data again while it was restored")
        await self._restore(lost.generation)
        self.availability = Availability.CLOSED
        return LedgerClosed(_CLOSED_SECONDS)

    def _failed(self, failed: LedgerError) -> None:
        if isinstance(failed, LedgerUnavailable):
            was_open = self._circuit.is_open
            self._circuit.failed()
            self.availability = Availability.UNAVAILABLE
            if self._circuit.is_open and not was_open and not self._quiet:
                # Clients are only told that it is away: nobody else says why.
                log(_LOGGER, logging.WARNING, "ledger does not answer", reason=str(failed))
            return
        self._say_back()
        self._circuit.succeeded()
        if isinstance(failed, LedgerClosed):
            self.availability = Availability.CLOSED

    def _say_back(self) -> None:
        if self._circuit.is_open and not self._quiet:
            log(_LOGGER, logging.INFO, "ledger answers again")
