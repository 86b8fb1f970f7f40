"""Brings what is served up to date with its sources: once at the start, then whenever their content changes.

Owns what replaces what, and when a replaced router is closed. It must not know files' formats, nor requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from foresail_api.errors import UserError
from foresail_api.snapshot import Snapshot, SnapshotArtifact
from foresail_sidecar.configuration import artifacts, changes, secrets, tokenizers
from foresail_sidecar.configuration.artifacts import EngineUnavailable, LoadedRouter, Routers
from foresail_sidecar.configuration.sources import Configuration, Incompatible, Source, Withdrawn, hash_of
from foresail_sidecar.configuration.state import CredentialKey, ServingHolder, ServingState
from foresail_sidecar.configuration.tokenizers import Tokenizers
from foresail_sidecar.telemetry.logs import log, log_defect

# Longest use of a scorer by one request: its deadline is 60 s at most; then its router is closed in any case.
RETIREMENT_SECONDS = 90.0

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a configuration is read from on this machine."""

    source: Source
    secrets: Path | None
    volume_claims: Mapping[str, Path]
    routers: Routers


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at the files found, so that only a change is acted upon."""

    source: str
    secrets: str


@dataclass(frozen=True, slots=True)
class _MissingArtifact:
    """An artifact that could not be loaded, what was there of it then, and whether it was for want of somebody to load it."""

    artifact: SnapshotArtifact
    fingerprint: str
    for_want_of_engine: bool


class Reloader:
    """Keeps a `ServingHolder` up to date: `start` once, then `run` until cancelled, then `close`.

    `warnings` are those of what is served now: faults that do not keep it from serving. `prepare` is awaited for each state before it
    is served, which a `UserError` of it prevents.
    """

    def __init__(
        self,
        holder: ServingHolder,
        inputs: Inputs,
        *,
        interval_seconds: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        prepare: Callable[[ServingState], Awaitable[None]] | None = None,
    ) -> None:
        self.warnings: tuple[str, ...] = ()
        self._holder = holder
        self._inputs = inputs
        self._interval_seconds = interval_seconds
        self._sleep = sleep
        self._prepare = prepare
        self._router: LoadedRouter | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._look = _Look("", "")
        self._own_credentials: Mapping[CredentialKey, str] = {}
        self._sequence = 0
        self._hash = ""
        self._withdrawals = 0
        self._missing: _MissingArtifact | None = None
        self._uncounted: tuple[object, ...] | None = None

    async def start(self) -> ServingState:
        """Load for the first time; raise `UserError` if there is nothing that could be served."""
        look = await asyncio.to_thread(self._read_look)
        configuration = await asyncio.to_thread(self._inputs.source.load)
        state = await self._serve(configuration)
        self._look = look
        return state

    async def run(self) -> None:
        """Look for changes until cancelled. Nothing that a file holds ends this."""
        while True:
            await self._sleep(self._interval_seconds)
            try:
                await self.poll()
            except Exception as error:
                # What nobody foresaw in one look must not end all later ones.
                log_defect(_LOGGER, "configuration not read", error)
                self._holder.refuse(f"the configuration could not be read: {type(error).__name__}")

    async def poll(self) -> None:
        """Look once. What changed is served if it can be; what was taken away is not served any longer."""
        look = await asyncio.to_thread(self._read_look)
        before, self._look = self._look, look
        if look.source != before.source or self._withdrawals == 1 or await self._artifact_may_have_come():
            await self._reload()
            return
        if look.secrets != before.secrets:
            await self._refresh_credentials()
        await self._refresh_tokenizers()

    async def close(self) -> None:
        """Close the router in use and those that are still being retired."""
        for task in tuple(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._router is not None:
            await self._router.close()
            self._router = None
        await self._inputs.routers.close()

    async def _reload(self) -> None:
        try:
            configuration = await asyncio.to_thread(self._inputs.source.load)
            await self._serve(configuration)
            self._withdrawals = 0
        except Withdrawn as error:
            # Editors replace a file by removing it first: only two looks in a row make it a withdrawal.
            self._withdrawals += 1
            if self._withdrawals == 2:
                log(_LOGGER, logging.WARNING, "configuration withdrawn", reason=str(error))
                self._holder.withdraw(str(error))
                self._retire(None)
        except UserError as error:
            self._withdrawals = 0
            log(_LOGGER, logging.ERROR, "configuration refused", reason=str(error))
            if isinstance(error, Incompatible):
                await self._take_away(error)
            self._holder.refuse(str(error))
            await self._refresh_credentials()

    async def _take_away(self, error: Incompatible) -> None:
        """Serve what a change that cannot be served leaves of the one before."""
        current = self._holder.current
        if current is None:
            return
        self._own_credentials = error.credentials
        rest = error.rest_of(current.snapshot)
        if rest is None:
            log(_LOGGER, logging.WARNING, "configuration withdrawn", reason=str(error))
            self._holder.withdraw(str(error))
            self._retire(None)
        elif rest != current.snapshot:
            await self._serve(Configuration(rest, None, self._own_credentials))

    async def _serve(self, configuration: Configuration) -> ServingState:
        previous = self._holder.current
        snapshot, content = configuration.snapshot, configuration.snapshot.content_hash()
        sequence = changes.next_sequence(configuration.sequence, content, self._sequence, self._hash)
        self._own_credentials = configuration.credentials
        router, artifact_error = await self._router_for(snapshot, previous)
        files, counters, uncounted = await self._tokenizers_of(snapshot, previous)
        credentials, faults = await self._credentials(configuration.credentials)
        tenants, key_faults = secrets.tenants_of(credentials, snapshot.tenants.secret_name)
        state = ServingState(
            snapshot=snapshot,
            snapshot_hash=content,
            sequence=sequence,
            credentials=credentials,
            scorer=router.scorer if router else None,
            artifact=router.facts if router else None,
            artifact_error=artifact_error,
            tenants=tenants,
            tokenizers=counters,
        )
        await self._prepared(state, router)
        self._sequence, self._hash = sequence, content
        self._uncounted = files if uncounted else None
        self._holder.replace(state)
        self._retire(router)
        warnings = (*configuration.warnings, *uncounted, *faults, *key_faults, *changes.warnings(state))
        self._warn(warnings, logged=previous is not None)
        if previous is not None:
            log(
                _LOGGER,
                logging.INFO,
                "configuration replaced",
                sequence=sequence,
                snapshot=content,
                before=previous.snapshot_hash,
            )
        return state

    async def _prepared(self, state: ServingState, router: LoadedRouter | None) -> None:
        """Have `state` prepared; a router that was loaded for it in vain is closed."""
        if self._prepare is None:
            return
        try:
            await self._prepare(state)
        except UserError:
            if router is not None and router is not self._router:
                await router.close()
            raise

    async def _router_for(
        self, snapshot: Snapshot, previous: ServingState | None
    ) -> tuple[LoadedRouter | None, str | None]:
        """Return the router that a snapshot wants, or why it is not there.

        Raises `UserError` where another router is being served and this one cannot be: then the whole change is broken, unless it
        takes something away that must not be served any longer.
        """
        wanted = snapshot.router.artifact
        self._missing = None
        if wanted is None:
            return None, None
        if self._router is not None and self._router.facts.digest == wanted.digest:
            return self._router, None
        found = await asyncio.to_thread(artifacts.fingerprint, wanted, self._inputs.volume_claims)
        try:
            directory = await asyncio.to_thread(artifacts.locate, wanted, self._inputs.volume_claims)
            return await self._loaded(directory, wanted.digest), None
        except UserError as error:
            self._missing = _MissingArtifact(wanted, found, isinstance(error, EngineUnavailable))
            if (
                previous is not None
                and previous.scorer is not None
                and not changes.takes_away(previous.snapshot, snapshot)
            ):
                raise
            return None, str(error)

    async def _tokenizers_of(
        self, snapshot: Snapshot, previous: ServingState | None
    ) -> tuple[tuple[object, ...], Tokenizers, tuple[str, ...]]:
        """Return what was there of a snapshot's tokenizers, these themselves, and why others are not to be had.

        Those are looked for again: without them bounds are only wider.
        """
        claims = self._inputs.volume_claims
        files = await asyncio.to_thread(tokenizers.fingerprint, snapshot, claims)
        known = {} if previous is None else previous.tokenizers
        found, warnings = await asyncio.to_thread(tokenizers.load, snapshot, claims, known)
        return files, found, warnings

    async def _refresh_tokenizers(self) -> None:
        """Take tokenizers that came after what is served, also where a later change is broken."""
        current = self._holder.current
        if current is None or self._uncounted is None:
            return
        claims = self._inputs.volume_claims
        if await asyncio.to_thread(tokenizers.fingerprint, current.snapshot, claims) == self._uncounted:
            return
        files, found, warnings = await self._tokenizers_of(current.snapshot, current)
        self._uncounted = files if warnings else None
        if found != current.tokenizers:
            self._holder.current = replace(current, tokenizers=found)
            log(_LOGGER, logging.INFO, "tokenizers replaced", tokenizers=len(found))
        self._warn((*warnings, *changes.warnings(current)), logged=True)

    async def _loaded(self, directory: Path, digest: str) -> LoadedRouter:
        """Return the router of an artifact. Loading can take minutes, and a key that is revoked meanwhile does not stay valid."""
        loading = asyncio.create_task(self._inputs.routers.load(directory, digest), name="load-artifact")
        try:
            while not (await asyncio.wait((loading,), timeout=self._interval_seconds))[0]:
                with contextlib.suppress(UserError):
                    await self._refresh_credentials()
            return loading.result()
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    async def _refresh_credentials(self) -> None:
        """Apply credentials that came or went, also where the rest of a change is broken."""
        current = self._holder.current
        if current is None:
            return
        credentials, faults = await self._credentials(self._own_credentials)
        if credentials != current.credentials:
            tenants, key_faults = secrets.tenants_of(credentials, current.snapshot.tenants.secret_name)
            state = replace(current, credentials=credentials, tenants=tenants)
            if self._prepare is not None:
                await self._prepare(state)
            self._holder.current = state
            log(_LOGGER, logging.INFO, "credentials replaced", credentials=len(credentials))
            self._warn((*faults, *key_faults, *changes.warnings(state)), logged=True)

    async def _credentials(
        self, own: Mapping[CredentialKey, str]
    ) -> tuple[Mapping[CredentialKey, str], tuple[str, ...]]:
        mounted, faults = await asyncio.to_thread(secrets.read_directory, self._inputs.secrets)
        return {**own, **mounted}, tuple(faults)

    def _retire(self, router: LoadedRouter | None) -> None:
        old, self._router = self._router, router
        if old is not None and old is not router:
            task = asyncio.create_task(self._close_when_unused(old), name="retire-router")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _close_when_unused(self, router: LoadedRouter) -> None:
        try:
            if not await self._holder.wait_until_unused(router.scorer, RETIREMENT_SECONDS):
                log(_LOGGER, logging.WARNING, "router closed in use", digest=router.facts.digest)
        finally:
            await router.close()

    def _warn(self, warnings: tuple[str, ...], *, logged: bool) -> None:
        for warning in warnings if logged else ():
            if warning not in self.warnings:
                log(_LOGGER, logging.WARNING, "configuration warning", warning=warning)
        self.warnings = warnings

    def _read_look(self) -> _Look:
        directory = self._inputs.secrets
        files = [] if directory is None else [file for _, file in secrets.credential_files(directory)]
        return _Look(source=self._inputs.source.fingerprint(), secrets=hash_of(files))

    async def _artifact_may_have_come(self) -> bool:
        missing = self._missing
        if missing is None:
            return False
        found = await asyncio.to_thread(artifacts.fingerprint, missing.artifact, self._inputs.volume_claims)
        return found != missing.fingerprint or (missing.for_want_of_engine and await self._inputs.routers.available())
