"""Which ledger keeps the spend of what is served: opened before it is needed, kept over changes that do not concern it.

Owns the clients of ledgers and when a replaced one is closed. It must not know budgets' arithmetic, nor requests.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from foresail_api.errors import UserError
from foresail_api.snapshot import Snapshot
from foresail_api.snapshot_budgets import SnapshotLedger
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.flow.budgets import Budgets
from foresail_sidecar.ledger.calls import LedgerMetrics
from foresail_sidecar.ledger.client import LedgerClient
from foresail_sidecar.ledger.journal import open_journal
from foresail_sidecar.ledger.opening import LedgerSettings, open_ledger
from foresail_sidecar.telemetry.logs import log

# By then a request that began under a replaced configuration has reserved what it needs.
RETIREMENT_SECONDS = 90.0
_POLL_SECONDS = 1.0
_CLOSING_SECONDS = 5.0

_LOGGER = logging.getLogger(__name__)

# Password, certificates, and whether it is needed, and not for notes alone.
_Key = tuple[str, SnapshotLedger, str | None, str | None, bool]


class _Unmeasured:
    """The metrics of a ledger that nobody needs: what it does or fails to do concerns no request."""

    def called(self, operation: str, seconds: float, error: str | None) -> None: ...

    def durable(self, durable: bool) -> None: ...

    def journaled(self, count: int) -> None: ...

    def lost(self, count: int) -> None: ...


class Ledgers:
    """The clients of one process: `prepare` for each state before it is served, `aclose` after the last answer.

    `directory` holds embedded ledgers and what could not be delivered yet; None: one of the user's own for each policy.
    """

    def __init__(self, directory: Path | None, metrics: LedgerMetrics) -> None:
        self._directory = directory
        self._metrics = metrics
        self._clients: dict[_Key, LedgerClient] = {}
        self._retiring: dict[_Key, asyncio.Task[None]] = {}
        # What is asked for most, several times a request: a key is built of many parts.
        self._found: tuple[ServingState, LedgerClient | None] | None = None

    def notes_of(self, state: ServingState) -> LedgerClient | None:
        """Return where what is learned under `state` is kept: the ledger that it needs, else one that keeps nothing else.

        None if that could not be opened.
        """
        return self._clients.get(_key(state))

    def of(self, state: ServingState) -> LedgerClient | None:
        """Return the client of the ledger that `state` needs, None if it needs none."""
        if self._found is None or self._found[0] is not state:
            self._found = state, self._clients.get(_key(state)) if _needs_ledger(state) else None
        return self._found[1]

    async def prepare(self, state: ServingState) -> None:
        """Open what `state` needs; nothing remote is waited for. Without a need, one is opened for notes alone, if it can be.

        Raises:
            UserError: the state directory cannot be used, or what it holds is no ledger.
        """
        wanted, budgets = _key(state), Budgets.of(state.snapshot)
        await asyncio.to_thread(budgets.read_time_zones)
        retiring = self._retiring.pop(wanted, None)
        if retiring is not None:
            retiring.cancel()
        if wanted not in self._clients:
            try:
                self._clients[wanted] = await self._opened(state.snapshot, wanted)
            except UserError as error:
                if _needs_ledger(state):
                    raise
                log(_LOGGER, logging.WARNING, "what is learned is not kept", reason=str(error))
            self._found = None
        if wanted in self._clients:
            self._clients[wanted].watch(budgets.shared_claims if budgets else None)
        for key in self._clients:
            if key != wanted and key not in self._retiring:
                self._retiring[key] = asyncio.create_task(self._retire(key), name="retire-ledger")

    async def aclose(self) -> None:
        """Deliver or journal what is to be settled, and close all clients."""
        for task in self._retiring.values():
            task.cancel()
        await asyncio.gather(*self._retiring.values(), return_exceptions=True)
        self._retiring.clear()
        clients, self._clients, self._found = self._clients, {}, None
        await asyncio.gather(*(client.aclose(_CLOSING_SECONDS) for client in clients.values()))

    async def _opened(self, snapshot: Snapshot, key: _Key) -> LedgerClient:
        uid, ledger, password, authorities, needed = key
        try:
            directory = self._directory or default_directory(snapshot)
        except RuntimeError:
            raise UserError("there is no home directory to keep a ledger in; choose a directory with --state") from None
        try:
            await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True, exist_ok=True)
            journal = await asyncio.to_thread(open_journal, directory, uid)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot use the state directory {directory}: {reason}; choose another --state") from None
        settings = LedgerSettings(ledger.url, ledger.username, ledger.timeout_milliseconds, authorities)
        try:
            opened = await open_ledger(settings, uid=uid, password=password, directory=directory)
        except BaseException:
            await asyncio.to_thread(journal.close)
            raise
        client = LedgerClient(
            opened,
            deadline_seconds=ledger.timeout_milliseconds / 1000,
            journal=journal,
            metrics=self._metrics if needed else _Unmeasured(),
            quiet=not needed,
        )
        return await client.__aenter__()

    async def _retire(self, key: _Key) -> None:
        client = self._clients[key]
        await asyncio.sleep(RETIREMENT_SECONDS)
        while client.state.live:  # noqa: ASYNC110  attempts have a total deadline each
            await asyncio.sleep(_POLL_SECONDS)
        del self._clients[key], self._retiring[key]
        self._found = None
        await client.aclose(_CLOSING_SECONDS)
        log(_LOGGER, logging.INFO, "ledger closed", type=key[1].type.value)


def default_directory(snapshot: Snapshot) -> Path:
    """Return the user's own state directory of a policy."""
    home = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return Path(home) / "foresail" / f"{snapshot.namespace}.{snapshot.policy}"


def _key(state: ServingState) -> _Key:
    ledger = state.snapshot.ledger
    password = authorities = None
    if ledger.secret_name is not None and ledger.secret_key is not None:
        password = state.credentials.get((ledger.secret_name, ledger.secret_key))
    if ledger.ca_secret_name is not None and ledger.ca_secret_key is not None:
        # Where they are missing nobody is trusted: whom the machine trusts, the policy has excluded.
        authorities = state.credentials.get((ledger.ca_secret_name, ledger.ca_secret_key), "")
    return state.snapshot.ledger_namespace, ledger, password, authorities, _needs_ledger(state)


def _needs_ledger(state: ServingState) -> bool:
    return state.snapshot.needs_ledger
