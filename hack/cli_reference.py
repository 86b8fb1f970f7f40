"""Writes docs/reference/cli.md from the commands' own arguments, so that flags are described in one place only.

It must not know any command.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

from foresail_api.console import ENTRY_POINT_GROUP, Command

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "reference" / "cli.md"

_HEAD = """\
# Command line

Generated from the commands by `python hack/cli_reference.py`. `foresail --help` and `foresail COMMAND --help` say the same.

Every command exits with status 0 when it is done, 1 when it is done and found wanting, and 2 when it cannot be used as called; then
the last line on stderr says what to change. A command whose libraries are not installed says which extra to install.
"""


def render() -> str:
    """Return the whole page."""
    entries = sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name)
    parts = [_HEAD, "| command | what it does | needs |\n|---|---|---|\n"]
    sections = []
    for entry in entries:
        command: Command = entry.load()
        extras = f"`foresail[{','.join(entry.extras)}]`" if entry.extras else ""
        parts[1] += f"| [`{entry.name}`](#foresail-{entry.name}) | {_sentence(command.help)} | {extras} |\n"
        sections.append(_section(entry.name, command))
    return "\n".join(parts + sections)


def _section(name: str, command: Command) -> str:
    parser = argparse.ArgumentParser(prog=f"foresail {name}", add_help=False)
    command.configure(parser)
    groups = [group._group_actions for group in parser._mutually_exclusive_groups if group.required]
    choices = "".join(
        f"\nOne of {' and '.join(f'`{_usage(action)}`' for action in group)} is required.\n" for group in groups
    )
    head = f"## foresail {name}\n\n{_sentence(command.help)}\n\n"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return head + "\n".join(_subsections(name, action))
    return f"{head}{_table(parser)}{choices}"


def _subsections(name: str, actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> Iterator[str]:
    for listed in actions._choices_actions:
        table = _table(actions.choices[listed.dest])
        yield f"### foresail {name} {listed.dest}\n\n{_sentence(listed.help or '')}\n\n{table}"


def _table(parser: argparse.ArgumentParser) -> str:
    return f"| argument | meaning |\n|---|---|\n{''.join(_rows(parser))}"


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        if action.required and action.option_strings:
            text += " (required)"
        yield f"| `{_usage(action)}` | {text.replace('<', '&lt;')} |\n"


def _usage(action: argparse.Action) -> str:
    named = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    value = action.metavar or ("" if action.nargs == 0 else named)
    value = " ".join(value) if isinstance(value, tuple) else value
    if not action.option_strings:
        return f"[{value}]" if action.nargs in ("?", "*") else value
    shown = "" if action.nargs == 0 else f" {value}" + ("..." if action.nargs == "+" else "")
    return f"{', '.join(action.option_strings)}{shown}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    TARGET.write_text(render())
