"""`foresail compile`: shows what a policy and its pool become, or why they cannot be served.

It must not know what a snapshot holds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from foresail_api.compile import Target, compile_policy
from foresail_api.console import Command
from foresail_api.manifests import load_manifests
from foresail_api.snapshot import SnapshotEnvelope


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f",
        "--file",
        dest="files",
        metavar="PATH",
        type=Path,
        action="append",
        required=True,
        help="YAML file, or directory of YAML files; may be repeated",
    )
    parser.add_argument("--policy", metavar="NAME", help="the RoutingPolicy to compile, if there are several")
    parser.add_argument(
        "--target",
        choices=["cluster", "local"],
        default="cluster",
        help="where it would be served (default: %(default)s)",
    )


def _run(arguments: argparse.Namespace) -> int:
    manifests = load_manifests(arguments.files)
    policy = manifests.policy(arguments.policy)
    compilation = compile_policy(policy, manifests.pool_of(policy), Target(arguments.target.capitalize()))
    for warning in compilation.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for problem in compilation.problems:
        print(f"{problem.condition}=False {problem.reason}: {problem.message}", file=sys.stderr)
    if compilation.snapshot is None:
        return 1
    print(SnapshotEnvelope.seal(compilation.snapshot, sequence=1).to_json(), end="")
    return 0


command = Command(help="compile a policy and its pool into the snapshot that is served", configure=_configure, run=_run)
