"""The reference documents what the code has: every metric, header, error and limit, and no other."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from foresail_api.reasons import Basis
from foresail_router.decision.types import Decision, Refusal, RefusalKind
from foresail_sidecar.configuration.state import ServingHolder
from foresail_sidecar.flow.budgets import BudgetRefusal, RefusalReason
from foresail_sidecar.flow.limits import LimitRefusal
from foresail_sidecar.flow.outcomes import AttemptOutcome, RequestOutcome
from foresail_sidecar.fronts.http import answers, callers, errors, limit_errors, upstream_errors
from foresail_sidecar.fronts.http.application import create_application
from foresail_sidecar.fronts.http.context import CONTEXT
from foresail_sidecar.fronts.http.errors import Problem
from foresail_sidecar.fronts.http.settings import HttpSettings
from foresail_sidecar.fronts.http.upstream_errors import AttemptFailed
from foresail_sidecar.ledger.interface import Measure
from foresail_sidecar.protocols.openai.bodies import UpstreamError
from foresail_sidecar.telemetry.metrics import Metrics
from foresail_sidecar.upstreams.failures import FailureKind, UpstreamFailure

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
HTTP = (REFERENCE / "http-api.md").read_text()
METRICS = (REFERENCE / "metrics.md").read_text()


def rows(text: str, columns: int) -> set[tuple[str, ...]]:
    """The rows of a document's tables that have so many columns."""
    cells = (line.strip("|").split("|") for line in text.splitlines() if line.startswith("| "))
    return {tuple(cell.strip() for cell in row) for row in cells if len(row) == columns}


def test_every_metric_is_documented_as_it_is() -> None:
    expected = set()
    for metric in vars(Metrics(CollectorRegistry())).values():
        if isinstance(metric, MetricWrapperBase):
            name = f"{metric._name}_total" if metric._type == "counter" else metric._name
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            expected.add((f"`{name}`", metric._type, labels, metric._documentation))
    documented = {row for row in rows(METRICS, 4) if row[0].startswith("`foresail_")}
    assert documented == expected


def test_every_exposed_series_is_documented() -> None:
    metrics = create_application(ServingHolder())[CONTEXT].memory.metrics
    for labelled in vars(metrics).values():
        if names := getattr(labelled, "_labelnames", ()):
            labelled.labels(*names)
    exposed = set(re.findall(r"^# TYPE (\S+) (\S+)$", metrics.exposition().decode(), re.MULTILINE))
    assert exposed == {(row[0].strip("`"), row[1]) for row in rows(METRICS, 4) if "foresail_" in row[0]}


def test_every_word_of_a_label_is_documented() -> None:
    for word in (*RequestOutcome, *AttemptOutcome):
        assert f"`{word.value}`" in METRICS, word


def test_every_header_of_ours_is_documented() -> None:
    named = {value for value in vars(answers).values() if isinstance(value, str) and value.startswith("x-foresail-")}
    assert set(re.findall(r"^\| `(x-foresail-[-a-z]+)` \|", HTTP, re.MULTILINE)) == named
    narrowing = {callers.MAX_COST, callers.MODELS, callers.ROUTING}
    assert set(re.findall(r"^\| `(x-foresail-[-a-z]+): ", HTTP, re.MULTILINE)) == narrowing
    assert all(f"`{basis.value}`" in HTTP for basis in Basis)


def test_every_path_is_documented() -> None:
    routes = {
        f"`{route.method} {route.resource.canonical}`"
        for route in create_application(ServingHolder()).router.routes()
        if route.method != "HEAD" and route.resource is not None
    }
    assert {row[0] for row in rows(HTTP, 2) if row[0].startswith(("`GET", "`POST"))} == routes


def test_every_error_is_documented() -> None:
    documented = {(row[0], row[1].strip("`"), row[2].strip("`")) for row in rows(HTTP, 4)}
    for problem in _problems():
        assert (str(problem.status), problem.type, problem.code) in documented, problem


def test_every_limit_is_documented_with_its_default() -> None:
    settings = HttpSettings()
    limits = dataclasses.asdict(settings)
    documented = dict(row[:2] for row in rows(HTTP, 3))
    assert {name: f"{value:g}" for name, value in limits.items()} == {
        name.strip("`"): f"{float(value):g}" for name, value in documented.items() if name.strip("`") in limits
    }


def _failures() -> list[AttemptFailed]:
    said = UpstreamError("x", "invalid_request_error", None, "upstream_refused")
    return [
        upstream_errors.error_event("x", "m"),
        upstream_errors.stream_cut("m"),
        upstream_errors.no_completion(None, "m"),
        upstream_errors.not_streamed("m"),
        *(upstream_errors.connection_failed(UpstreamFailure(kind, "x"), "m", "first") for kind in FailureKind),
        *(upstream_errors.status_failed(status, said, "m", {}) for status in (302, 401, 403, 408, 429, 500, 503)),
    ]


def _problems() -> list[Problem]:
    refusals = [Decision(None, Refusal(kind, "x"), None, (), "", None) for kind in RefusalKind]
    return [
        errors.too_large(1),
        errors.too_slow(1),
        *(
            errors.invalid("x", None, code)
            for code in ("invalid_json", "invalid_type", "invalid_value", "unknown_parameter", "invalid_header")
        ),
        errors.invalid("x", None, None),
        errors.malformed(1, 1),
        errors.expectation_failed(),
        *(errors.unauthenticated(has_keys=has_keys) for has_keys in (False, True)),
        errors.unknown_key(),
        errors.model_not_allowed(),
        errors.not_ready("x"),
        errors.overloaded(),
        errors.interrupted(),
        errors.failed(None),
        errors.no_such_path(404, "x", "GET", "/", None),
        errors.no_such_path(405, "x", "GET", "/", "POST"),
        *(errors.refusal(refusal) for refusal in refusals),
        *(limit_errors.refusal(BudgetRefusal(reason)) for reason in RefusalReason),
        limit_errors.refusal(LimitRefusal("m", "first", Measure.SLOTS, 1, 0, 1, 1)),
        *(failed.problem for failed in _failures()),
    ]
