"""What the handlers of one application share. It must not know what any of them does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from foresail_sidecar.configuration.state import ServingHolder, ServingState
from foresail_sidecar.flow.admit import Admission
from foresail_sidecar.flow.identities import Identities
from foresail_sidecar.flow.record import Memory
from foresail_sidecar.flow.retries import RetryBudget
from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.buffered import BufferedBytes
from foresail_sidecar.fronts.http.draining import Drainer
from foresail_sidecar.fronts.http.errors import Refused
from foresail_sidecar.fronts.http.in_flight import InFlight
from foresail_sidecar.fronts.http.served import Served, ServedCache
from foresail_sidecar.fronts.http.settings import HttpSettings
from foresail_sidecar.ledger.client import LedgerClient
from foresail_sidecar.upstreams.client import UpstreamClient
from foresail_sidecar.upstreams.health import UpstreamHealth


class LedgerSource(Protocol):
    """Where handlers find the ledger of what they serve."""

    def of(self, state: ServingState) -> LedgerClient | None:
        """Return the client of the ledger that keeps the spend of `state`, None if there is none."""
        ...


class NoLedgers:
    """The source of an application without ledgers: enforced budgets are as if theirs did not answer."""

    def of(self, state: ServingState) -> LedgerClient | None:
        """Return None."""
        return None


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that lives as long as the application. `listeners` are the sockets on which it listens."""

    serving: ServingHolder
    settings: HttpSettings
    memory: Memory
    client: UpstreamClient
    in_flight: InFlight
    buffered: BufferedBytes
    ledgers: LedgerSource = field(default_factory=NoLedgers)
    identities: Identities = field(default_factory=Identities)
    admission: Admission = field(default_factory=Admission)
    cache: ServedCache = field(default_factory=ServedCache)
    health: UpstreamHealth = field(default_factory=UpstreamHealth)
    retries: RetryBudget = field(default_factory=RetryBudget)
    drainer: Drainer = field(default_factory=Drainer)
    listeners: list[asyncio.AbstractServer] = field(default_factory=list)

    def take_readings(self) -> None:
        """Bring those metrics up to date that are read off instead of being counted as things happen."""
        log = self.memory.decision_log
        self.memory.metrics.take_readings(
            in_flight=len(self.in_flight),
            buffered_bytes=len(self.buffered),
            configuration_errors=self.serving.configuration_errors,
            decision_log_lost=0 if log is None else log.lost,
        )
        state = self.serving.current
        if state is not None:
            digest = "" if state.artifact is None else state.artifact.digest
            self.memory.metrics.distrusted_models.set(len(self.memory.trust.distrusted(state.snapshot)))
            self.memory.metrics.serve_snapshot(state.snapshot.policy, state.snapshot_hash, digest)
            self._show_budgets(state)

    def _show_budgets(self, state: ServingState) -> None:
        budgets, ledger = self.served(state).policy.budgets, self.ledgers.of(state)
        shared = [] if ledger is None else [budget for budget in budgets.each if not budget.rule.per_tenant]
        seen = [(budget.rule, ledger.seen(budget.account(""))) for budget in shared if ledger is not None]
        rows = [(rule.name, rule.amount, usage.spent, usage.reserved) for rule, usage in seen if usage is not None]
        self.memory.metrics.show_budgets(state.snapshot.policy, rows)

    def served(self, state: ServingState | None) -> Served:
        """Return `state`, made ready; raise `Refused` if that is nothing."""
        if state is None:
            raise Refused(
                errors.not_ready("nothing is served: the policy or its pool is not there, or not yet; the log says why")
            )
        return self.cache.of(state)


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
