"""The snapshot: all that a data plane needs of one policy and its pool, resolved, in whole numbers, with a content hash.

Owns the format that the operator writes and the sidecar reads. It must not know the kinds it was compiled from, nor where it is kept.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from foresail_api.errors import UserError
from foresail_api.policy import FailureMode, Strategy
from foresail_api.pool import AuthScheme, Capability, OutputLimitField, Protocol

FORMAT_VERSION: Final = 2
_FORMATS_READ: Final = (1, FORMAT_VERSION)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SnapshotAuth(_Frozen):
    """Which credential goes upstream, and how. The credential itself is never part of a snapshot."""

    scheme: AuthScheme
    header_name: str
    secret_name: str
    secret_key: str


class SnapshotUpstream(_Frozen):
    """One address of a model. `url` includes the version; a protocol's module appends its path."""

    name: str
    protocol: Protocol
    url: str
    model: str
    output_limit_field: OutputLimitField
    auth: SnapshotAuth | None


class SnapshotPrice(_Frozen):
    """Price in whole millionths of a US dollar, per million tokens and per request."""

    input_micro_dollars: int
    output_micro_dollars: int
    request_micro_dollars: int


class SnapshotModel(_Frozen):
    """One model. `overhead_tokens` is None where no bound on a prompt's tokens can be given."""

    name: str
    upstreams: tuple[SnapshotUpstream, ...]
    price: SnapshotPrice | None
    max_tokens_per_byte: int
    overhead_tokens: int | None
    context_window_tokens: int
    max_output_tokens: int
    default_max_output_tokens: int
    min_output_tokens: int
    capabilities: frozenset[Capability]


class SnapshotArtifact(_Frozen):
    """Where the trained router lies: an absolute `path`, or one inside of the volume `claim`."""

    claim: str | None
    path: str
    digest: str


class SnapshotRouter(_Frozen):
    """What takes the decision."""

    strategy: Strategy
    artifact: SnapshotArtifact | None
    deadline_milliseconds: int
    default_model: str | None
    failure_mode: FailureMode


class SnapshotObjective(_Frozen):
    """What the decision optimises: `percent` is the cost weight, or the tolerated loss of quality."""

    kind: Literal["Tradeoff", "CheapestWithinPercentOfBest"]
    percent: int


class Snapshot(_Frozen):
    """One policy with its pool, ready to serve. Equal content has an equal `content_hash`.

    Every field that format 1 lacks has a default, which is what format 1 meant.
    """

    format_version: Literal[2] = FORMAT_VERSION
    namespace: str
    policy: str
    pool: str
    aliases: tuple[str, ...]
    models: tuple[SnapshotModel, ...]
    router: SnapshotRouter
    objective: SnapshotObjective
    per_request_nano_dollars: int | None
    anonymous_allowed: bool

    def canonical_json(self) -> str:
        """Return the one text that stands for this content."""
        data = self.model_dump(mode="json")
        for model in data["models"]:
            model["capabilities"] = sorted(model["capabilities"])
        return _canonical(data)

    def content_hash(self) -> str:
        """Return `sha256:` and the hex digest of the canonical JSON."""
        return _hash(self.canonical_json())

    def model(self, name: str) -> SnapshotModel | None:
        """Return the model of that name, if there is one."""
        return next((model for model in self.models if model.name == name), None)


class SnapshotEnvelope(_Frozen):
    """A snapshot on its way: the writer raises `sequence` when the hash changes, so that an older one never replaces a newer.

    `hash` is that of the content as it was written: of one that was read in an older format it is not the snapshot's own.
    """

    sequence: int
    hash: str
    snapshot: Snapshot

    @classmethod
    def seal(cls, snapshot: Snapshot, sequence: int) -> SnapshotEnvelope:
        """Return the envelope of a snapshot under that sequence number."""
        return cls(sequence=sequence, hash=snapshot.content_hash(), snapshot=snapshot)

    def to_json(self) -> str:
        """Return the text that `read_envelope` reads; equal envelopes give equal bytes."""
        head = json.dumps({"sequence": self.sequence, "hash": self.hash})
        return f'{head[:-1]}, "snapshot": {self.snapshot.canonical_json()}}}\n'


def read_envelope(text: str | bytes, source: str) -> SnapshotEnvelope:
    """Return the envelope in `text`, of this format or the one before; raise `UserError` that names `source` if it is neither or damaged."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{source} is not a snapshot: it is not JSON") from None
    content = data.get("snapshot") if isinstance(data, dict) else None
    if not isinstance(content, dict):
        raise UserError(f"{source} is not a snapshot: it is not an object with the field `snapshot`")
    # The hash is that of the content as it was written, before this release adds what the writer did not know of.
    written = _hash(_canonical(content))
    if content.get("format_version") in _FORMATS_READ:
        content["format_version"] = FORMAT_VERSION
    try:
        envelope = SnapshotEnvelope.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        formats = " or ".join(map(str, _FORMATS_READ))
        raise UserError(f"{source} is not a snapshot of format {formats}: {where}: {first['msg']}") from None
    if envelope.hash != written:
        raise UserError(f"{source} is damaged: its content does not have the hash {envelope.hash}; compile it again")
    return envelope


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _hash(canonical: str) -> str:
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"
