"""The reference documents what the code has: every metric, header and limit, and no other."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from foresail_api.reasons import Basis
from foresail_router.decision.types import RefusalKind
from foresail_sidecar.configuration.state import ServingHolder
from foresail_sidecar.flow.budgets import PolicyBudget
from foresail_sidecar.flow.outcomes import AttemptOutcome, RequestOutcome
from foresail_sidecar.fronts.http import answers, callers
from foresail_sidecar.fronts.http.application import create_application
from foresail_sidecar.fronts.http.budgets import budget_document
from foresail_sidecar.fronts.http.context import CONTEXT
from foresail_sidecar.fronts.http.settings import HttpSettings
from foresail_sidecar.ledger.accounts import BudgetRule, RollingWindow
from foresail_sidecar.ledger.interface import Usage
from foresail_sidecar.telemetry.metrics import Metrics

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


def test_every_reason_of_a_refusal_is_documented() -> None:
    (refusal,) = (meaning for name, meaning in rows(METRICS, 2) if name == "`refusal`")
    assert set(re.findall(r"`(\w+)`", refusal)) == set(RefusalKind)


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


def test_every_field_of_a_budget_is_documented() -> None:
    rule = BudgetRule("day", 10**9, RollingWindow(60))
    shown = budget_document(PolicyBudget(rule), Usage("b|day|", 0, 0, 0, None, 0), "")
    section = HTTP.partition("\n## Budgets\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", " ".join(row[0] for row in rows(section, 3)))) == shown.keys()


def test_every_limit_is_documented_with_its_default() -> None:
    settings = HttpSettings()
    limits = dataclasses.asdict(settings)
    documented = dict(row[:2] for row in rows(HTTP, 3))
    assert {name: f"{value:g}" for name, value in limits.items()} == {
        name.strip("`"): f"{float(value):g}" for name, value in documented.items() if name.strip("`") in limits
    }
