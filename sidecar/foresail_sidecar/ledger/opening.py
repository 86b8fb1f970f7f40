"""Opens the ledger that a policy asks for: in a file of the state directory, or on a Redis.

It owns the choice. It must not know budgets, nor wait for a server: a Redis that cannot be reached is a state of the ledger
and no failed start.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

from foresail_api.errors import UserError
from foresail_sidecar.ledger.interface import Ledger
from foresail_sidecar.ledger.sqlite.backend import open_sqlite
from foresail_sidecar.ledger.sqlite.schema import ledger_path


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Which ledger a policy asks for. Without a URL it is the embedded one.

    `authorities` are the certificates (PEM) of whoever may have signed the server's; None: whom the machine trusts, empty: nobody.
    """

    redis_url: str | None = None
    username: str | None = None
    timeout_milliseconds: int = 500
    authorities: str | None = None


async def open_ledger(settings: LedgerSettings, *, uid: str, password: str | None, directory: Path) -> Ledger:
    """Return the ledger of the policy `uid`; `directory` holds the file of an embedded one.

    Raises:
        UserError: the URL is none of a Redis, or the file cannot be made or is no ledger.
    """
    if settings.redis_url is None:
        return await open_sqlite(ledger_path(directory, uid), busy_seconds=settings.timeout_milliseconds / 1000)
    # Importing the client and reading the machine's certificates read from the disk.
    return await asyncio.to_thread(_on_redis, settings, settings.redis_url, uid, password)


def _on_redis(settings: LedgerSettings, url: str, uid: str, password: str | None) -> Ledger:
    # Imported here: processes without a Redis save the 5 MB of its client.
    from foresail_sidecar.ledger.redis.backend import RedisLedger
    from foresail_sidecar.ledger.redis.calls import RedisSettings

    trust = _trust(settings.authorities) if url.startswith("rediss://") else None
    try:
        return RedisLedger(
            RedisSettings(url, settings.username, password, settings.timeout_milliseconds / 1000, trust), uid
        )
    except ValueError:
        raise UserError(
            f"costLimits.ledger.redis.url: `{url}` is not the address of a Redis; "
            "write `redis://HOST:PORT` or, with TLS, `rediss://HOST:PORT`"
        ) from None


def _trust(authorities: str | None) -> ssl.SSLContext:
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return nobody if authorities == "" else ssl.create_default_context(cadata=authorities)
    except ssl.SSLError:
        # What stands there is no certificate.
        return nobody
