"""What is served at one moment, as one immutable value, and the place from which every request takes it.

Owns the hand-over from one state to the next. It must not know where a state comes from, nor requests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from foresail_api.snapshot import Snapshot, SnapshotAuth, SnapshotModel
from foresail_router.decision.ratios import InputMeans
from foresail_router.engine.interface import Scorer
from foresail_sidecar.configuration.tokenizers import Tokenizers
from foresail_sidecar.tenants.directory import TenantDirectory

CredentialKey = tuple[str, str]

CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"
"""What is in the values that are certificates (PEM) and no credentials."""


@dataclass(frozen=True, slots=True)
class ArtifactFacts:
    """What a decision needs of the loaded artifact beyond its scores.

    `models` are those that it can score; the mean counts are tokens per request of its best single model on the training data.
    `input_means` says, per model, how long inputs were there.
    """

    digest: str
    method: str
    models: tuple[str, ...]
    best_single_model: str
    mean_input_tokens: float
    mean_output_tokens: float
    input_means: Mapping[str, InputMeans] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServingState:
    """One policy with its pool, its credentials and its router. `artifact_error` says why a wanted artifact is not there.

    `credentials` maps (Secret name, key) to the credential, or to certificates; they never show in a representation. `tenants` are those
    of the Secret of keys that the snapshot names; `tokenizers` those of its models that could be read, by digest.
    """

    snapshot: Snapshot
    snapshot_hash: str
    sequence: int
    credentials: Mapping[CredentialKey, str] = field(repr=False)
    scorer: Scorer | None = None
    artifact: ArtifactFacts | None = None
    artifact_error: str | None = None
    tenants: TenantDirectory = field(default_factory=TenantDirectory, repr=False)
    tokenizers: Tokenizers = field(default_factory=dict, repr=False)

    def credential(self, auth: SnapshotAuth) -> str | None:
        """Return the credential that an upstream wants, or None if it is missing."""
        value = self.credentials.get((auth.secret_name, auth.secret_key))
        return None if value is None or CERTIFICATE in value else value

    def missing_credentials(self, model: SnapshotModel) -> tuple[CredentialKey, ...]:
        """Return the (Secret name, key) of each credential that the model's upstreams want and that is not there."""
        wanted = [upstream.auth for upstream in model.upstreams if upstream.auth is not None]
        return tuple((auth.secret_name, auth.secret_key) for auth in wanted if self.credential(auth) is None)

    def models_without_credentials(self) -> frozenset[str]:
        """Return the names of the models that cannot be asked: each of their upstreams wants a credential that is missing."""
        return frozenset(
            model.name for model in self.snapshot.models if len(self.missing_credentials(model)) == len(model.upstreams)
        )


class ServingHolder:
    """Holds the current state. A request takes it once and keeps it, so that a replacement drops no request.

    `draining` is set once, at the end. `configuration_errors` only rises; `configuration_error` is the last one, until a change succeeds.
    """

    def __init__(self, current: ServingState | None = None) -> None:
        self.current = current
        self.draining = False
        self.configuration_errors = 0
        self.configuration_error: str | None = None
        self._uses: Counter[int] = Counter()
        self._released = asyncio.Event()

    def replace(self, state: ServingState) -> None:
        """Serve `state` from now on; requests under way keep the one that they have."""
        self.current = state
        self.configuration_error = None

    def refuse(self, error: str) -> None:
        """Keep what is served and count a change that cannot be."""
        self.configuration_errors += 1
        self.configuration_error = error

    def withdraw(self, reason: str) -> None:
        """Serve nothing from now on, because what was served was taken away."""
        self.current = None
        self.refuse(reason)

    def in_use(self) -> AbstractContextManager[ServingState | None]:
        """Return the current state as a context manager, whose scorer stays open at least until the block is left.

        Hold it from parsing to the decision; what comes after needs only the state's values, which never go away.
        """
        state = self.current
        if state is None or state.scorer is None:
            return contextlib.nullcontext(state)
        return self._used(state, id(state.scorer))

    @contextlib.contextmanager
    def _used(self, state: ServingState, scorer: int) -> Iterator[ServingState]:
        self._uses[scorer] += 1
        try:
            yield state
        finally:
            self._uses[scorer] -= 1
            if not self._uses[scorer]:
                del self._uses[scorer]
                self._released.set()

    async def wait_until_unused(self, scorer: Scorer, seconds: float) -> bool:
        """Wait until no request is between parsing and decision with `scorer`; return False after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while self._uses[id(scorer)]:
                    self._released.clear()
                    await self._released.wait()
        except TimeoutError:
            return False
        return True
