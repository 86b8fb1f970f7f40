"""Where the upstreams of a snapshot are and which headers each one gets, worked out once per snapshot instead of per request.

Owns the injection of credentials. It must not know requests. Nothing here shows a credential in a representation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yarl import URL

from foresail_api.pool import AuthScheme, OutputLimitField
from foresail_api.snapshot import SnapshotModel, SnapshotUpstream
from foresail_sidecar.configuration.state import ServingState


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream, ready to be asked: `headers` hold the pool's credential and override whatever the client sent."""

    name: str
    url: URL
    model: str
    output_limit_field: OutputLimitField
    headers: Mapping[str, str] = field(repr=False)


def targets_of(state: ServingState, path: str) -> dict[str, tuple[Target, ...]]:
    """Return, per model of the pool, the upstreams that can be asked, in the order in which they are tried.

    An upstream whose credential is missing is left out; `path` is what the protocol appends to the base URL.
    """
    return {model.name: tuple(_targets(model, state, path)) for model in state.snapshot.models}


def _targets(model: SnapshotModel, state: ServingState, path: str) -> list[Target]:
    targets = []
    for upstream in model.upstreams:
        headers = _headers(upstream, state)
        if headers is not None:
            url = URL(upstream.url + path, encoded=True)
            targets.append(Target(upstream.name, url, upstream.model, upstream.output_limit_field, headers))
    return targets


def _headers(upstream: SnapshotUpstream, state: ServingState) -> dict[str, str] | None:
    # An answer is read on its way through, so it must not be compressed.
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if upstream.auth is None:
        return headers
    credential = state.credential(upstream.auth)
    if credential is None:
        return None
    bearer = upstream.auth.scheme == AuthScheme.BEARER
    headers[upstream.auth.header_name] = f"Bearer {credential}" if bearer else credential
    return headers
