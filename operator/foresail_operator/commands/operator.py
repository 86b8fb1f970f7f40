"""`foresail operator`: runs the control plane, in a cluster or beside one with a kubeconfig.

It must not know what is reconciled.
"""

from __future__ import annotations

import argparse
import re

from foresail_api.console import Command
from foresail_api.errors import UserError

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sidecar-image", metavar="IMAGE", required=True, help="image of the pods that route, by tag or digest"
    )
    parser.add_argument(
        "--sidecar-image-pull-policy",
        choices=["Always", "IfNotPresent", "Never"],
        default="IfNotPresent",
        help="when nodes pull that image (default: %(default)s)",
    )
    parser.add_argument(
        "--namespace",
        dest="namespaces",
        metavar="NAME",
        action="append",
        default=[],
        help="watch this namespace only; may be repeated (default: all namespaces)",
    )
    parser.add_argument(
        "--liveness-port", metavar="PORT", type=int, help="port that answers GET /healthz (default: none)"
    )
    parser.add_argument(
        "--log-format", choices=["plain", "json"], default="plain", help="form of log lines (default: %(default)s)"
    )


def _run(arguments: argparse.Namespace) -> int:
    for namespace in arguments.namespaces:
        if not _NAMESPACE.fullmatch(namespace):
            raise UserError(f"--namespace {namespace!r} is not the name of a namespace; name one, without patterns")
    if arguments.liveness_port is not None and not 0 < arguments.liveness_port < 65536:
        raise UserError(f"--liveness-port {arguments.liveness_port} must be between 1 and 65535")

    from foresail_operator.process import Options, run_operator

    options = Options(
        sidecar_image=arguments.sidecar_image,
        sidecar_image_pull_policy=arguments.sidecar_image_pull_policy,
        namespaces=tuple(dict.fromkeys(arguments.namespaces)),
        liveness_port=arguments.liveness_port,
        json_logs=arguments.log_format == "json",
    )
    return run_operator(options)


command = Command(
    help="run the control plane that serves every RoutingPolicy of a cluster", configure=_configure, run=_run
)
