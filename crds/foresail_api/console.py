"""The console script `foresail`: finds its subcommands among installed entry points and runs one.

It must not know any subcommand, nor import what only one of them needs: the operator's image has no encoder, the sidecar's no Kopf.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foresail_api.errors import UserError

ENTRY_POINT_GROUP = "foresail.commands"


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: one line of help, its arguments, and what it does.

    `run` returns the exit status. It may raise `UserError`, which is printed without a traceback.
    """

    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `foresail ARGUMENTS` and return its exit status: 0 done, 1 done and found wanting, 2 not usable as called."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    parser = argparse.ArgumentParser(
        prog="foresail", description="Routes every LLM request to the model that will answer it best for the money."
    )
    parser.add_argument("--version", action="version", version=f"foresail {importlib.metadata.version('foresail')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands = {name: _load(entry) for name, entry in sorted(entries.items())}
    for name, command in commands.items():
        command.configure(subparsers.add_parser(name, help=command.help, description=command.help))
    parsed = parser.parse_args(arguments)
    try:
        return commands[parsed.command].run(parsed)
    except UserError as error:
        print(f"foresail {parsed.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"foresail {parsed.command}: {_remedy(entries[parsed.command], error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output left, as in `foresail ... | head`: nothing to report, and nobody to report it to.
        sys.stderr.close()
        return 141


def _load(entry: importlib.metadata.EntryPoint) -> Command:
    command = entry.load()
    if not isinstance(command, Command):
        raise TypeError(
            f"entry point {entry.value} of {ENTRY_POINT_GROUP} is a {type(command).__name__}, not a Command"
        )
    return command


def _remedy(entry: importlib.metadata.EntryPoint, error: ModuleNotFoundError) -> str:
    extras = ",".join(entry.extras)
    package = (error.name or "").partition(".")[0]
    if not extras or package.startswith("foresail_"):
        raise error
    return (
        f"needs the Python package {package!r}, which is not installed; install the extra `{extras}` of foresail, "
        f"in a clone with: pip install '.[{extras}]'"
    )
