"""docs/reference/errors.md lists what clients are told: each error of the code with its headers and fields, and no other."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from foresail_router.decision.types import Decision, Refusal, RefusalKind
from foresail_sidecar.flow.budgets import BudgetRefusal, RefusalReason
from foresail_sidecar.flow.limits import LimitRefusal
from foresail_sidecar.fronts.http import errors, limit_errors, upstream_errors
from foresail_sidecar.fronts.http.errors import Problem
from foresail_sidecar.fronts.http.upstream_errors import AttemptFailed
from foresail_sidecar.ledger.interface import Measure
from foresail_sidecar.protocols.errors import BadRequest
from foresail_sidecar.protocols.openai.bodies import UpstreamError
from foresail_sidecar.upstreams.failures import FailureKind, UpstreamFailure

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "errors.md").read_text()
MODULES = (errors, limit_errors, upstream_errors)


@dataclass(frozen=True)
class Told:
    """An error as clients see it; `extras` are its headers and the further fields of its body."""

    status: str
    type: str
    code: str
    extras: frozenset[str]


def documented() -> list[Told]:
    told = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
        if len(cells) == 6 and re.match(r"\d", cells[0]):
            status, kind, code, means, remedy, extras = cells
            assert means, line
            assert remedy, line
            # Of what an upstream says by itself, the last word is what stands where it says nothing.
            kind, code = (re.findall(r"`([^`]+)`", cell)[-1] for cell in (kind, code))
            told.append(Told(status, kind, code, frozenset(re.findall(r"`([^`]+)`", extras))))
    return told


def _bad_request_codes() -> set[str]:
    """Every code with which something of a request is refused as it is read."""
    codes = {inspect.signature(BadRequest).parameters["code"].default}
    for path in (ROOT / "sidecar" / "foresail_sidecar").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("BadRequest", "errors.invalid"):
                codes |= {
                    each.value for each in node.args[2:3] if isinstance(each, ast.Constant) and each.value is not None
                }
    return codes


def _raised() -> dict[str, list[Problem | AttemptFailed]]:
    """What each function that makes an error makes, by its name."""
    refusals = [Decision(None, Refusal(kind, "x"), None, (), "", None) for kind in RefusalKind]
    said = UpstreamError("x")
    limits = [LimitRefusal("m", "first", Measure.TOKENS, 1, 0, 1, needed) for needed in (1, 2)]
    budgets = [BudgetRefusal(reason, budget="daily", ends_ms=1) for reason in RefusalReason]
    return {
        "too_large": [errors.too_large(1)],
        "too_slow": [errors.too_slow(1)],
        "invalid": [errors.invalid("x", None, code) for code in (None, *_bad_request_codes())],
        "malformed": [errors.malformed(1, 1)],
        "expectation_failed": [errors.expectation_failed()],
        "unauthenticated": [errors.unauthenticated(has_keys=has_keys) for has_keys in (False, True)],
        "unknown_key": [errors.unknown_key()],
        "model_not_allowed": [errors.model_not_allowed()],
        "not_ready": [errors.not_ready("x")],
        "overloaded": [errors.overloaded()],
        "interrupted": [errors.interrupted()],
        "failed": [errors.failed(None)],
        "no_such_path": [
            errors.no_such_path(404, "x", "GET", "/", None),
            errors.no_such_path(405, "x", "GET", "/", "POST"),
        ],
        "no_healthy_upstream": [errors.no_healthy_upstream("x", 1)],
        "refusal": [
            *(errors.refusal(refusal) for refusal in refusals),
            *(limit_errors.refusal(refusal) for refusal in (*budgets, *limits)),
        ],
        "error_event": [upstream_errors.error_event("x", "m")],
        "stream_cut": [upstream_errors.stream_cut("m")],
        "no_completion": [upstream_errors.no_completion(None, "m")],
        "not_streamed": [upstream_errors.not_streamed("m")],
        "unreachable": [upstream_errors.unreachable("m", {})],
        "connection_failed": [
            upstream_errors.connection_failed(UpstreamFailure(kind, "x"), "m", "first") for kind in FailureKind
        ],
        "status_failed": [upstream_errors.status_failed(status, said, "m", {}) for status in range(300, 600)],
    }


def _functions(module: ModuleType) -> Iterator[str]:
    for name, function in inspect.getmembers(module, inspect.isfunction):
        made = function.__annotations__.get("return")
        if function.__module__ == module.__name__ and not name.startswith("_") and made in ("Problem", "AttemptFailed"):
            yield name


def _told(made: Problem | AttemptFailed) -> Told:
    problem = made if isinstance(made, Problem) else made.problem
    extras = {f"{name}: {value}" if name == "x-should-retry" else name for name, value in problem.headers.items()}
    status = "4xx" if problem.code == "upstream_refused" else str(problem.status)
    return Told(status, problem.type, problem.code, frozenset(extras | set(problem.details)))


def test_every_function_that_makes_an_error_is_asked() -> None:
    assert set(_raised()) == {name for module in MODULES for name in _functions(module)}


def test_the_page_lists_every_error_and_no_other() -> None:
    made: dict[tuple[str, str, str], frozenset[str]] = {}
    for each in (_told(each) for made_by in _raised().values() for each in made_by):
        key = (each.status, each.type, each.code)
        made[key] = made.get(key, frozenset()) | each.extras
    page = documented()
    assert {(told.status, told.type, told.code): told.extras for told in page} == made
    assert len(page) == len(made), "an error has two rows"
