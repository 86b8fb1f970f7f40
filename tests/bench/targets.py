"""The targets of the gateway's speed, each with the figure that it is judged by. It must not know how a figure is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.figures import Rounds, Spread, spread

Parts = Mapping[str, Rounds]
OFF, SQLITE, REDIS = "foresail-off", "foresail-sqlite", "foresail-redis"
LEDGERS = {OFF: "no ledger", SQLITE: "SQLite", REDIS: "Redis"}
# Figures are in binary units, targets in decimal ones.
KB_OF_KIB, MB_OF_MIB = 1.024, 1.048576


@dataclass(frozen=True, slots=True)
class Target:
    """One target: what, how much at most (or at least), and the figure by round. `digits` are those that are shown."""

    name: str
    limit: float
    unit: str
    values: Callable[[Parts], Sequence[float]]
    digits: int = 2
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target with what was measured; None where it was not."""

    target: Target
    measured: Spread | None

    @property
    def met(self) -> bool | None:
        """Say whether the median of all rounds keeps the target."""
        if self.measured is None:
            return None
        if self.target.at_least:
            return self.measured.median >= self.target.limit
        return self.measured.median <= self.target.limit


def judged(parts: Parts) -> list[Verdict]:
    """Return each target with its verdict."""
    verdicts = []
    for target in TARGETS:
        values = target.values(parts)
        verdicts.append(Verdict(target, spread(values) if values else None))
    return verdicts


def _figure(part: str, row: str, name: str, less: str = "", scale: float = 1.0) -> Callable[[Parts], list[float]]:
    """Take a figure of a row, less another of the same round."""

    def values(parts: Parts) -> list[float]:
        rounds = [each[row] for each in parts.get(part, ()) if {name, less or name} <= each.get(row, {}).keys()]
        return [scale * (each[name] - (each[less] if less else 0.0)) for each in rounds]

    return values


def _times(row: str) -> Callable[[Parts], list[float]]:
    """Take requests per second of Foresail on SQLite, divided by those of another row in the same round."""

    def values(parts: Parts) -> list[float]:
        name = "per_second_1kb"
        rounds = [each for each in parts.get("json", ()) if name in each.get(row, {}) and name in each.get(SQLITE, {})]
        return [each[SQLITE][name] / each[row][name] for each in rounds]

    return values


def _latencies() -> list[Target]:
    found = []
    for row, ledger in LEDGERS.items():
        p50, p99, of_streams = "", "", ""
        beyond = ""
        if row == SQLITE:
            p50, p99, of_streams = "commit_p50_ms", "commit_p99_ms", "commit_p50_ms"
            beyond = " beyond a durable commit"
        found += [
            Target(
                f"added p50{beyond}, one connection, {ledger}", 1, "ms", _figure("json", row, "added_p50_ms_1kb", p50)
            ),
            Target(
                f"added p99{beyond}, half the maximum, {ledger}",
                5,
                "ms",
                _figure("json", row, "added_half_p99_ms", p99),
            ),
            Target(
                f"added first byte p50{beyond}, 32 streams, {ledger}",
                1,
                "ms",
                _figure("streams", row, "added_apart_first_byte_p50_ms", of_streams),
            ),
        ]
    return found


def _of_each_ledger() -> list[Target]:
    found = []
    for row, ledger in LEDGERS.items():
        per_second = _figure("streams", row, "busy_per_second")
        after_load = _figure("json", row, "mebibytes", scale=MB_OF_MIB)
        found += [
            Target(f"streams a second, 256 connections, {ledger}", 1000, "", per_second, digits=0, at_least=True),
            Target(f"per idle stream, {ledger}", 30, "KB", _figure("memory", row, "kibibytes", scale=KB_OF_KIB), 1),
            Target(f"memory after load, {ledger}", 80, "MB", after_load, digits=1),
            Target(f"rise of CPU with a second worker, {ledger}", 10, "%", _figure("workers", row, "rise_percent"), 1),
            *(
                Target(
                    f"cancellation seen, {moment} the first token, p99, {ledger}",
                    50,
                    "ms",
                    _figure("cancellation", row, f"{moment}_p99_ms"),
                )
                for moment in ("before", "after")
            ),
        ]
    return found


TARGETS = (
    Target("CPU per JSON request, SQLite", 0.4, "ms", _figure("json", SQLITE, "cpu_ms_1kb"), digits=3),
    Target(
        "requests a second and core, SQLite",
        2500,
        "",
        _figure("json", SQLITE, "per_second_1kb"),
        digits=0,
        at_least=True,
    ),
    Target("requests a second, times LiteLLM's", 25, "x", _times("litellm"), digits=1, at_least=True),
    Target("requests a second, times Portkey's", 3, "x", _times("portkey"), digits=1, at_least=True),
    *_latencies(),
    *_of_each_ledger(),
    Target("open streams on one worker", 2000, "", _figure("memory", SQLITE, "streams"), digits=0, at_least=True),
    Target(
        "growth of memory, request 50,000 to 200,000", 5, "%", _figure("growth", SQLITE, "growth_percent"), digits=1
    ),
)
