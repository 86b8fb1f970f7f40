"""The tables of measured figures in Markdown: medians with their spread by row, targets with their verdicts.

It must not know how anything is measured, nor where tables go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.figures import over_rounds
from tests.bench.results import Results
from tests.bench.targets import KB_OF_KIB, MB_OF_MIB, Verdict, judged

NOT_RUN = "*Not measured yet.*\n"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, the figure and how it is shown."""

    title: str
    figure: str
    digits: int = 2
    scale: float = 1.0


COLUMNS: dict[str, tuple[str, tuple[Column, ...]]] = {
    "throughput": (
        "json",
        (
            Column("requests/s, 1 KB", "per_second_1kb", 0),
            Column("CPU per request, 1 KB, ms", "cpu_ms_1kb", 3),
            Column("of its Redis, ms", "redis_cpu_ms_1kb", 3),
            Column("requests/s, 64 KB", "per_second_64kb", 0),
            Column("CPU per request, 64 KB, ms", "cpu_ms_64kb", 3),
            Column("memory after, MB", "mebibytes", 0, MB_OF_MIB),
        ),
    ),
    "latency": (
        "json",
        (
            Column("added p50, 1 KB, ms", "added_p50_ms_1kb"),
            Column("added p50, 64 KB, ms", "added_p50_ms_64kb"),
            Column("half the maximum, requests/s", "rate", 0),
            Column("added p99 at that rate, ms", "added_half_p99_ms"),
            Column("durable commit p50, ms", "commit_p50_ms"),
            Column("durable commit p99, ms", "commit_p99_ms"),
        ),
    ),
    "streams": (
        "streams",
        (
            Column("added first byte p50, 32 connections, ms", "added_apart_first_byte_p50_ms"),
            Column("when all 32 ask at once, ms", "added_herd_first_byte_p50_ms"),
            Column("streams/s, 256 connections", "busy_per_second", 0),
            Column("CPU per stream, ms", "busy_cpu_ms"),
        ),
    ),
    "memory": (
        "memory",
        (
            Column("open streams", "streams", 0),
            Column("per idle stream, KB", "kibibytes", 1, KB_OF_KIB),
            Column("all of it, MB", "mebibytes", 0, MB_OF_MIB),
        ),
    ),
    "workers": (
        "workers",
        (
            Column("CPU per request, one worker, ms", "cpu_ms_1", 3),
            Column("two workers, ms", "cpu_ms_2", 3),
            Column("rise, %", "rise_percent", 1),
        ),
    ),
    "cancellation": (
        "cancellation",
        (
            Column("left before the first token", "before_left", 0),
            Column("seen", "before_seen", 0),
            Column("p50, ms", "before_p50_ms"),
            Column("p99, ms", "before_p99_ms"),
            Column("left after it", "after_left", 0),
            Column("seen", "after_seen", 0),
            Column("p50, ms", "after_p50_ms"),
            Column("p99, ms", "after_p99_ms"),
        ),
    ),
    "growth": (
        "growth",
        (
            Column("memory at the first, MB", "early_mebibytes", 1, MB_OF_MIB),
            Column("at the last, MB", "late_mebibytes", 1, MB_OF_MIB),
            Column("growth, %", "growth_percent", 1),
        ),
    ),
}
PARTS = tuple(dict.fromkeys(part for part, _ in COLUMNS.values()))


def rows_table(results: Results, kind: str, names: Mapping[str, str]) -> str:
    """Return the table of a part's rows, `names` by key in their order; what is missing or failed says so."""
    part, columns = COLUMNS[kind]
    rounds = results.rounds(part)
    if not rounds:
        return NOT_RUN
    present = {name for each in rounds for figures in each.values() for name in figures}
    columns = tuple(column for column in columns if column.figure in present)
    lines = [_line(["", *(column.title for column in columns)]), "|---" * (len(columns) + 1) + "|"]
    remarks = results.missing() | results.failures(part)
    for key, name in names.items():
        if any(key in each for each in rounds):
            cells = [_cell(rounds, key, column) for column in columns]
            lines.append(_line([name, *cells]))
        elif key in results.missing():
            lines.append(_line([name, "not installed here", *[""] * (len(columns) - 1)]))
    lines += [f"\n{name}: {remarks[key]}." for key, name in names.items() if key in remarks]
    refused = {key: sum(each.get(key, {}).get("refused", 0.0) for each in rounds) for key in names}
    lines += [f"\n{name} refused {refused[key]:,.0f} requests." for key, name in names.items() if refused[key]]
    return "\n".join(lines) + "\n"


def targets_table(results: Results) -> str:
    """Return the targets with what was measured, after a sentence that names those that are missed."""
    verdicts = judged({part: results.rounds(part) for part in PARTS})
    lines = [_short(verdicts), "", "| | target | measured | |", "|---|---|---|---|"]
    for each in verdicts:
        target = each.target
        limit = f"{'>=' if target.at_least else '<='} {target.limit:,g} {target.unit}".strip()
        measured = "not measured" if each.measured is None else each.measured.text(target.digits)
        lines.append(_line([target.name, limit, measured, {True: "met", False: "**missed**", None: ""}[each.met]]))
    return "\n".join(lines) + "\n"


def facts_text(results: Results) -> str:
    """Return when and where each part was measured, a line each."""
    measured = [(part, results.facts(part), len(results.rounds(part))) for part in PARTS]
    lines = [f"- {part}: {_fact(facts, rounds)}" for part, facts, rounds in measured if facts]
    return "\n".join(lines) + "\n" if lines else NOT_RUN


def _fact(facts: Mapping[str, Any], rounds: int) -> str:
    before, after = facts["load_average"]
    return (
        f"{rounds} round{'s' if rounds != 1 else ''} on {facts['date']}, {facts['machine']}, gateway on core {facts['cores'][0]}, upstream and load on "
        f"core {facts['cores'][1]}; load average {before} before and {after} after"
    )


def _short(verdicts: Sequence[Verdict]) -> str:
    met = [each for each in verdicts if each.met]
    missed = [each.target.name for each in verdicts if each.met is False]
    said = f"{len(met)} of {len(verdicts)} targets are met."
    said += f" Missed: {'; '.join(missed)}." if missed else ""
    open_ = sum(each.met is None for each in verdicts)
    return said + (f" {open_} are not measured yet." if open_ else "")


def _cell(rounds: Sequence[Mapping[str, Mapping[str, float]]], key: str, column: Column) -> str:
    found = over_rounds(rounds, key, column.figure, column.scale)
    return "" if found is None else found.text(column.digits)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
