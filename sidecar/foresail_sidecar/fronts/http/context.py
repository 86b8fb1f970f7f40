"""What the handlers of one application share. It must not know what any of them does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from foresail_sidecar.configuration.state import ServingHolder, ServingState
from foresail_sidecar.flow.record import Memory
from foresail_sidecar.flow.retries import RetryBudget
from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.buffered import BufferedBytes
from foresail_sidecar.fronts.http.draining import Drainer
from foresail_sidecar.fronts.http.errors import Refused
from foresail_sidecar.fronts.http.in_flight import InFlight
from foresail_sidecar.fronts.http.served import Served, ServedCache
from foresail_sidecar.fronts.http.settings import HttpSettings
from foresail_sidecar.upstreams.client import UpstreamClient
from foresail_sidecar.upstreams.health import UpstreamHealth


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that lives as long as the application. `listeners` are the sockets on which it listens."""

    serving: ServingHolder
    settings: HttpSettings
    memory: Memory
    client: UpstreamClient
    in_flight: InFlight
    buffered: BufferedBytes
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
            self.memory.metrics.serve_snapshot(state.snapshot.policy, state.snapshot_hash, digest)

    def served(self, state: ServingState | None) -> Served:
        """Return `state`, made ready; raise `Refused` if that is nothing."""
        if state is None:
            raise Refused(
                errors.not_ready("nothing is served: the policy or its pool is not there, or not yet; the log says why")
            )
        return self.cache.of(state)


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
