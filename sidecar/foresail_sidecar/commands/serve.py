"""`foresail serve`: one policy from YAML files or from a snapshot, as an OpenAI-compatible endpoint.

Owns the flags. It must not know how a configuration is read, nor how a request is answered.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from foresail_api.console import Command
from foresail_api.errors import UserError


def _configure(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "-f",
        "--file",
        dest="files",
        metavar="PATH",
        type=Path,
        nargs="+",
        action="extend",
        help="YAML files, or directories of YAML files, with a ModelPool, a RoutingPolicy and, if you like, Secrets",
    )
    source.add_argument("--snapshot", metavar="FILE", type=Path, help="a compiled snapshot instead of YAML files")
    parser.add_argument("--policy", metavar="NAME", help="the RoutingPolicy to serve, if the files hold several")
    parser.add_argument(
        "--secrets",
        metavar="DIR",
        type=Path,
        help="directory of credentials, one file <secret>/<key> each; wins over manifests",
    )
    parser.add_argument(
        "--volume-claim",
        dest="volume_claims",
        metavar="NAME=DIR",
        type=_volume_claim,
        action="append",
        default=[],
        help="directory that stands for the volume claim NAME of an artifact; may be repeated",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=_between(int, 0, 65535),
        default=8080,
        help="port to listen on; 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=_between(int, 1, 64),
        default=1,
        help="processes that answer, for more than one CPU; what is in flight and in buffers is limited for each of them (default: %(default)s)",
    )
    parser.add_argument(
        "--scorer-socket",
        metavar="PATH",
        type=Path,
        help="Unix socket of a process that scores, instead of scoring in this one",
    )
    parser.add_argument(
        "--body-limit-mebibytes",
        metavar="N",
        type=_between(int, 1, 1024),
        default=8,
        help="largest request; a larger one gets status 413 (default: %(default)s)",
    )
    parser.add_argument(
        "--buffer-mebibytes",
        metavar="N",
        type=_between(int, 1, 65536),
        default=256,
        help="most that all requests and whole answers may hold together; one more gets status 503 (default: %(default)s)",
    )
    parser.add_argument(
        "--most-in-flight",
        metavar="N",
        type=_between(int, 1, 1_000_000),
        default=4096,
        help="most requests under way; one more gets status 503 (default: %(default)s)",
    )
    parser.add_argument(
        "--decision-log",
        metavar="PATH",
        type=Path,
        default=Path("-"),
        help="file to which each request adds one line of JSON; - is stdout (default: %(default)s)",
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        help="directory that outlives this process, where budgets keep what was spent and what was learned of models is kept; "
        "of processes that share one, all share it "
        "(default: foresail/NAMESPACE.POLICY in $XDG_STATE_HOME, or in ~/.local/state)",
    )
    parser.add_argument(
        "--shutdown-delay-seconds",
        metavar="N",
        type=_between(float, 0, 3600),
        default=0,
        help="after the signal to end, answer new requests for that long while /readyz says 503 (default: %(default)s)",
    )
    parser.add_argument(
        "--drain-seconds",
        metavar="N",
        type=_between(float, 0, 3600),
        default=20,
        help="longest wait for requests under way at the end (default: %(default)s)",
    )


def _run(arguments: argparse.Namespace) -> int:
    if arguments.policy is not None and arguments.snapshot is not None:
        raise UserError("--policy chooses among YAML files; a snapshot holds one policy only")
    if arguments.buffer_mebibytes < arguments.body_limit_mebibytes:
        raise UserError(
            f"--buffer-mebibytes {arguments.buffer_mebibytes} has no room for one request of "
            f"--body-limit-mebibytes {arguments.body_limit_mebibytes}; raise the former or lower the latter"
        )
    from foresail_sidecar.fronts.http.settings import MEBIBYTE
    from foresail_sidecar.serving.plan import Plan

    plan = Plan(
        files=tuple(arguments.files or ()),
        snapshot=arguments.snapshot,
        policy=arguments.policy,
        secrets=arguments.secrets,
        volume_claims=dict(arguments.volume_claims),
        scorer_socket=arguments.scorer_socket,
        host=arguments.host,
        port=arguments.port,
        body_limit_bytes=arguments.body_limit_mebibytes * MEBIBYTE,
        buffered_bytes=arguments.buffer_mebibytes * MEBIBYTE,
        most_in_flight=arguments.most_in_flight,
        delay_seconds=arguments.shutdown_delay_seconds,
        drain_seconds=arguments.drain_seconds,
        decision_log=arguments.decision_log,
        state=arguments.state,
    )
    if arguments.workers > 1:
        from foresail_sidecar.serving.supervisor import supervise

        return supervise(plan, arguments.workers)
    from foresail_sidecar.serving.process import serve

    return serve(plan)


def _volume_claim(text: str) -> tuple[str, Path]:
    name, separator, directory = text.partition("=")
    if not (name and separator and directory):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=DIR")
    if not Path(directory).is_dir():
        raise argparse.ArgumentTypeError(f"{directory} is not a directory")
    return name, Path(directory)


def _between(kind: type[int] | type[float], low: int, high: int) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} does not lie between {low} and {high}")
        return value

    return parse


command = Command(help="serve one policy as an OpenAI-compatible endpoint", configure=_configure, run=_run)
