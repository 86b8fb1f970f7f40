"""The metrics of one application, on a registry of its own.

Owns names, help texts and labels; every label has a closed set of values or comes from the configuration, never from a request.
It must not know who measures.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from foresail_sidecar.telemetry.merged import GONE, merged_registry

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
NO_MODEL: Final = ""

_BUDGET_PARTS = ("amount", "spent", "reserved")
_OVERHEAD_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ANSWER_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """All metrics of the data plane. Each application has one, so that tests and several servers in a process do not share any."""

    def __init__(self, registry: CollectorRegistry | None = None, shared: Path | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._exposed = self.registry if shared is None else merged_registry(shared)
        self.requests = self._counter(
            "requests", "Requests to /v1/chat/completions by how they ended.", ("policy", "model", "outcome")
        )
        self.decisions = self._counter(
            "decisions",
            "Decisions by what they rest on, and why the router gave no estimates.",
            ("policy", "basis", "scoring_error"),
        )
        self.eliminations = self._counter(
            "eliminations", "Models that could not answer a request.", ("policy", "model", "reason")
        )
        self.scoring_seconds = self._histogram(
            "scoring_seconds", "Time that the router took, or that was waited for it.", ("policy",), _OVERHEAD_BUCKETS
        )
        self.overhead_seconds = self._histogram(
            "overhead_seconds",
            "Time from the whole request to its first forwarding, scoring included.",
            ("policy",),
            _OVERHEAD_BUCKETS,
        )
        self.first_byte_seconds = self._histogram(
            "upstream_first_byte_seconds",
            "Time from forwarding to the first byte for the client.",
            ("policy", "model"),
            _ANSWER_BUCKETS,
        )
        self.attempts = self._counter(
            "upstream_attempts", "Attempts at upstreams by how they ended.", ("policy", "model", "upstream", "outcome")
        )
        self.tokens = self._counter(
            "tokens", "Tokens that upstreams reported or that were counted.", ("policy", "model", "direction")
        )
        self.settled_dollars = self._counter(
            "settled_dollars", "US dollars settled, by what the amount rests on.", ("policy", "model", "basis")
        )
        self.bound_exceeded = self._counter(
            "bound_exceeded", "Answers whose reported usage exceeds what was bounded before sending.", ("model",)
        )
        self.distrusted_models = Gauge(
            "foresail_distrusted_models",
            "Models that no cap and no enforced budget uses, because their bound was exceeded too often.",
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.retries = self._counter(
            "retries", "Attempts after a failure, by the model and the failure.", ("policy", "model", "failure")
        )
        self.fallbacks = self._counter(
            "fallbacks", "Attempts that another model took over after a failure.", ("policy", "model")
        )
        self.ejections = self._counter(
            "upstream_ejections", "Times that an upstream was left alone for its failures.", ("model", "upstream")
        )
        self.drained_streams = self._counter(
            "drained_streams", "Streams that were read on after their client had left, by how they ended.", ("outcome",)
        )
        self.ledger_seconds = self._histogram(
            "ledger_seconds", "Time that calls to the ledger took.", ("operation",), _OVERHEAD_BUCKETS
        )
        self.ledger_errors = self._counter(
            "ledger_errors", "Calls to the ledger that had no result.", ("operation", "reason")
        )
        self.ledger_skipped = self._counter(
            "ledger_skipped", "Attempts that went on without a reservation because the ledger was away.", ("policy",)
        )
        self.settlements_journaled = self._counter(
            "ledger_settlements_journaled", "Settlements that wait on disk until the ledger takes them.", ()
        )
        self.settlements_lost = self._counter(
            "ledger_settlements_lost", "Settlements that found no room; their reservations become spend.", ()
        )
        self.ledger_durable = Gauge(
            "foresail_ledger_durable",
            "0 if what the ledger acknowledges might not survive a crash, else 1.",
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self.ledger_durable.set(1)
        self.budget_dollars = Gauge(
            "foresail_budget_dollars",
            "US dollars of the present window of each budget that all tenants share.",
            ("policy", "budget", "part"),
            registry=self.registry,
            multiprocess_mode="livemostrecent",
        )
        self.workers = self._gauge("workers", "Processes that answer.")
        self.in_flight = self._gauge("in_flight_requests", "Requests under way.")
        self.buffered_bytes = self._gauge("buffered_bytes", "Bytes of bodies and whole answers that are held.")
        self.configuration_errors = self._counter(
            "configuration_errors",
            "Changes of the configuration that could not be served; what was served before is kept.",
            (),
        )
        self.decision_log_lost = self._counter(
            "decision_log_lost", "Lines of the decision log that could not be written.", ()
        )
        self._read_off = {self.configuration_errors: 0, self.decision_log_lost: 0}
        self.snapshot = Gauge(
            "foresail_snapshot_info",
            "1 for the snapshot and the artifact that are served.",
            ("policy", "snapshot_hash", "artifact_digest"),
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._snapshot: tuple[str, str, str] | None = None
        self._budgets: set[tuple[str, str, str]] = set()

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format, those of all workers together where there are several."""
        return generate_latest(self._exposed)

    def take_readings(
        self, *, in_flight: int, buffered_bytes: int, configuration_errors: int, decision_log_lost: int
    ) -> None:
        """Show these gauges, and raise these counters to their totals."""
        self.workers.set(1)
        self.in_flight.set(in_flight)
        self.buffered_bytes.set(buffered_bytes)
        for counter, total in (
            (self.configuration_errors, configuration_errors),
            (self.decision_log_lost, decision_log_lost),
        ):
            counter.inc(total - self._read_off[counter])
            self._read_off[counter] = total

    def called(self, operation: str, seconds: float, error: str | None) -> None:
        """Count one call to a ledger; `error` is why it had no result."""
        self.ledger_seconds.labels(operation).observe(seconds)
        if error is not None:
            self.ledger_errors.labels(operation, error).inc()

    def journaled(self, count: int) -> None:
        """Count settlements that went to the journal."""
        self.settlements_journaled.inc(count)

    def lost(self, count: int) -> None:
        """Count settlements that found no room."""
        self.settlements_lost.inc(count)

    def durable(self, durable: bool) -> None:
        """Show whether what the ledger acknowledges survives a crash."""
        self.ledger_durable.set(durable)

    def show_budgets(self, policy: str, budgets: Iterable[tuple[str, int, int, int]]) -> None:
        """Show these budgets, and these alone: name, amount, spent and reserved, in nano-dollars. Of several processes, the last word counts."""
        before, self._budgets = self._budgets, set()
        for name, *amounts in budgets:
            for part, nano_dollars in zip(_BUDGET_PARTS, amounts, strict=True):
                labels = policy, name, part
                self._budgets.add(labels)
                self.budget_dollars.labels(*labels).set(nano_dollars / 1e9)
        for labels in before - self._budgets:
            if self._exposed is self.registry:
                self.budget_dollars.remove(*labels)
            else:
                self.budget_dollars.labels(*labels).set(GONE)

    def serve_snapshot(self, policy: str, snapshot_hash: str, artifact_digest: str) -> None:
        """Show this snapshot, and this alone, as the one that is served."""
        now = (policy, snapshot_hash, artifact_digest)
        if self._snapshot is not None and self._snapshot != now:
            if self._exposed is self.registry:
                self.snapshot.clear()
            else:
                # What several processes show can only be set; an info that is 0 everywhere is left out when it is asked for.
                self.snapshot.labels(*self._snapshot).set(0)
        self._snapshot = now
        self.snapshot.labels(*now).set(1)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        counter = Counter(f"foresail_{name}", text, labels, registry=self.registry)
        # To find the series cost three times as much as to count.
        counter.labels = cache(counter.labels)  # type: ignore[method-assign]
        return counter

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"foresail_{name}", text, registry=self.registry, multiprocess_mode="livesum")

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(f"foresail_{name}", text, labels, registry=self.registry, buckets=buckets)
        histogram.labels = cache(histogram.labels)  # type: ignore[method-assign]
        return histogram
