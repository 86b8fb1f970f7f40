"""Where the upstreams of a snapshot are and which headers each one gets, worked out once per snapshot instead of per request.

Owns the injection of credentials. It must not know requests. Nothing here shows a credential in a representation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yarl import URL

from foresail_api.attempts import OnClientCancel, StreamUsage
from foresail_api.pool import AuthScheme, OutputLimitField
from foresail_api.snapshot import SnapshotModel, SnapshotUpstream
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.upstreams.timeouts import DEFAULT_TIMEOUTS, UpstreamTimeouts


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream, ready to be asked: `headers` hold the pool's credential and override whatever the client sent.

    `credential` is None where none is sent. `drains` says that a stream is read on when its client leaves, `asks_usage` that streams
    may be asked for their usage.
    """

    name: str
    url: URL
    model: str
    output_limit_field: OutputLimitField
    headers: Mapping[str, str] = field(repr=False)
    credential: str | None = field(repr=False)
    timeouts: UpstreamTimeouts = DEFAULT_TIMEOUTS
    drains: bool = False
    asks_usage: bool = True

    @property
    def key(self) -> tuple[str, URL, str]:
        """What tells this upstream from others over changes of the configuration: its name in the pool alone could move.

        Providers limit and fail model by model, so those behind one address are told apart.
        """
        return self.name, self.url, self.model


def targets_of(state: ServingState, path: str) -> dict[str, tuple[Target, ...]]:
    """Return, per model of the pool, the upstreams that can be asked, in the order in which they are tried.

    An upstream whose credential is missing is left out; `path` is what the protocol appends to the base URL.
    """
    return {model.name: tuple(_targets(model, state, path)) for model in state.snapshot.models}


def _targets(model: SnapshotModel, state: ServingState, path: str) -> list[Target]:
    targets = []
    for upstream in model.upstreams:
        credential = None if upstream.auth is None else state.credential(upstream.auth)
        if upstream.auth is None or credential is not None:
            url, headers = URL(upstream.url + path, encoded=True), _headers(upstream, credential)
            targets.append(
                Target(
                    name=upstream.name,
                    url=url,
                    model=upstream.model,
                    output_limit_field=upstream.output_limit_field,
                    headers=headers,
                    credential=credential,
                    timeouts=UpstreamTimeouts.of(upstream.timeouts),
                    drains=upstream.on_client_cancel == OnClientCancel.DRAIN,
                    asks_usage=upstream.stream_usage == StreamUsage.REQUESTED,
                )
            )
    return targets


def _headers(upstream: SnapshotUpstream, credential: str | None) -> dict[str, str]:
    # An answer is read on its way through, so it must not be compressed.
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if upstream.auth is not None and credential is not None:
        bearer = upstream.auth.scheme == AuthScheme.BEARER
        headers[upstream.auth.header_name] = f"Bearer {credential}" if bearer else credential
    return headers
