"""`foresail key`: makes an API key for a tenant, or the line that stands for one in a Secret.

Owns the flags and what is printed: a key once, and nowhere else. It must not know where Secrets are kept.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from foresail_api.console import Command
from foresail_api.errors import UserError
from foresail_sidecar.commands.shared import from_1_to

if TYPE_CHECKING:
    from datetime import datetime

_LONGEST_DAYS = 3650


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="print a new key, once, and the entry of the Secret that makes it valid")
    hashed = actions.add_parser("hash", help="print the entry's value for a key that is read from standard input")
    for action in (create, hashed):
        action.add_argument("--tenant", metavar="NAME", required=True, help="whose key it is")
        action.add_argument(
            "--expires-in-days",
            metavar="N",
            type=from_1_to(_LONGEST_DAYS),
            help=f"after so many days the key is not valid any more, 1 to {_LONGEST_DAYS} (default: it does not expire)",
        )
    create.add_argument(
        "--secret",
        metavar="NAME",
        default="tenants",
        help="name of the Secret that `tenants.apiKeys.secretRef` names (default: %(default)s)",
    )
    create.add_argument(
        "--namespace",
        metavar="NAME",
        default="default",
        help="namespace of the Secret and the policy (default: %(default)s)",
    )


def _run(arguments: argparse.Namespace) -> int:
    from foresail_api.tenants import is_tenant_name

    if not is_tenant_name(arguments.tenant):
        raise UserError(
            f"--tenant {arguments.tenant!r} must be at most 63 lower-case letters, digits and hyphens that start and end "
            "with a letter or a digit, and not `anonymous`"
        )
    expires = _expiry(arguments.expires_in_days)
    if arguments.action == "hash":
        print(_hashed(arguments.tenant, expires))
    else:
        _create(arguments, expires)
    return 0


def _hashed(tenant: str, expires: datetime | None) -> str:
    import sys

    from foresail_sidecar.tenants.keys import hash_of_key, is_key, key_line

    key = sys.stdin.readline(1024).strip()
    if not is_key(key):
        raise UserError(
            "standard input must hold a key on its first line: `fsk_` and 32 random bytes in URL-safe base64; "
            "`foresail key create` makes one"
        )
    return key_line(hash_of_key(key), tenant, expires)


def _create(arguments: argparse.Namespace, expires: datetime | None) -> None:
    import json

    from foresail_sidecar.tenants.keys import hash_of_key, key_line, new_key

    key = new_key()
    key_hash = hash_of_key(key)
    entry = f"{arguments.tenant}-{key_hash.removeprefix('sha256:')[:8]}"
    line = key_line(key_hash, arguments.tenant, expires)
    patch = json.dumps({"stringData": {entry: line}})
    print(
        f"""\
The key of tenant {arguments.tenant}. It is shown this once; whoever has it calls in this tenant's name:

  {key}

It is valid once this Secret is there (its hash alone is kept):

apiVersion: v1
kind: Secret
metadata:
  name: {arguments.secret}
  namespace: {arguments.namespace}
stringData:
  {entry}: {line}

If the Secret is there already, add the last line to it, or run:

  kubectl patch secret {arguments.secret} --namespace {arguments.namespace} --type merge --patch '{patch}'"""
    )


def _expiry(days: int | None) -> datetime | None:
    from datetime import UTC, datetime, timedelta

    return None if days is None else datetime.now(UTC) + timedelta(days=days)


command = Command(help="make API keys for tenants; only their hashes are kept", configure=_configure, run=_run)
