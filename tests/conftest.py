"""Counts the tests of a run by kind, turns a run that skipped any into a failed one, lets children be interrupted, and says which
examples Hypothesis tries.
"""

from __future__ import annotations

import signal
from collections import defaultdict

import pytest
from hypothesis import settings

# Everybody's run tries the same examples, so that a change and not chance makes a test fail. The proof tries others each time.
settings.register_profile("test", derandomize=True, deadline=None)
settings.register_profile("proof", max_examples=300, deadline=None, print_blob=True)
settings.register_profile("proof-quick", max_examples=50, deadline=None, print_blob=True)
settings.load_profile("test")


def pytest_configure() -> None:
    """Undo what `nohup` and shells do to commands in the background: their children would never see an interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> object:
    """Print one line per kind (the folder below `tests`): how many passed, how many did not, how long they took."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    seconds: dict[str, float] = defaultdict(float)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            kind = report.nodeid.split("/")[1] if report.nodeid.count("/") > 1 else "other"
            seconds[kind] += getattr(report, "duration", 0.0)
            counts[kind][outcome != "passed"] += 1
    result = yield
    if counts:
        terminalreporter.section("tests by kind")
    for kind, (passed, others) in sorted(counts.items()):
        terminalreporter.line(f"{kind:<12} {passed:>5} passed {others:>4} not {seconds[kind]:>7.1f} s")
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test is a hole that nobody sees: it counts as a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(reporter, pytest.TerminalReporter) and reporter.stats.get("skipped") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
