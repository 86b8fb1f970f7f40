"""The proof's table, on a terminal and in the documentation. It must not know how anything was checked."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.proof.phases import Part

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "proof.md"
_BEGIN: Final = "<!-- table: proof -->\n"
_END: Final = "<!-- end of table -->"
_MOST_OFFENDERS: Final = 40


def shown(part: Part) -> str:
    """Return what a part has shown, with all that offends."""
    lines = [f"\n== {part.name} ({part.seconds:.0f} s)"]
    for verdict in part.verdicts:
        lines.append(f"{'ok    ' if verdict.passed else 'FAILED'} {verdict.what}\n         {verdict.figures}")
        lines += [f"       ! {offender}" for offender in verdict.offenders[:_MOST_OFFENDERS]]
        if len(verdict.offenders) > _MOST_OFFENDERS:
            lines.append(f"       ! and {len(verdict.offenders) - _MOST_OFFENDERS} more")
    return "\n".join(lines)


def table(parts: Sequence[Part], command: str, seconds: float) -> str:
    """Return the table in Markdown, with the machine and the command."""
    lines = [
        f"`{command}`: {seconds / 60:.1f} minutes on {machine()}.",
        "",
        "| part | check | | figures |",
        "|---|---|---|---|",
    ]
    for part in parts:
        name = f"{part.name} ({part.seconds:.0f} s)"
        for verdict in part.verdicts:
            said = "holds" if verdict.passed else f"**fails** {len(verdict.offenders)} times"
            lines.append(f"| {name} | {_cell(verdict.what)} | {said} | {_cell(verdict.figures)} |")
            name = ""
    return "\n".join(lines) + "\n"


def write_table(text: str) -> None:
    """Put the table into its place in the page."""
    before, found, rest = PAGE.read_text().partition(_BEGIN)
    _, closed, after = rest.partition(_END)
    if not (found and closed):
        raise SystemExit(f"{PAGE.name} has no place for the table: {_BEGIN.strip()} ... {_END}")
    PAGE.write_text(f"{before}{_BEGIN}{text}{_END}{after}")


def machine() -> str:
    """Return what it runs on."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
