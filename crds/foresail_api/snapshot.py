"""The snapshot: all that a data plane needs of one policy and its pool, resolved, in whole numbers, with a content hash.

Owns the format that the operator writes and the sidecar reads. It must not know the kinds it was compiled from, nor where it is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, Literal

from pydantic import ValidationError

from foresail_api.attempts import OnClientCancel, StreamUsage
from foresail_api.errors import UserError
from foresail_api.frozen import Frozen
from foresail_api.ledgers import OnLedgerUnavailable
from foresail_api.policy import FailureMode, Strategy
from foresail_api.pool import AuthScheme, Capability, OutputLimitField, Protocol
from foresail_api.snapshot_budgets import SnapshotBudget, SnapshotLedger

FORMAT_VERSION: Final = 2
_FORMATS_READ: Final = (1, FORMAT_VERSION)


class SnapshotAuth(Frozen):
    """Which credential goes upstream, and how. The credential itself is never part of a snapshot."""

    scheme: AuthScheme
    header_name: str
    secret_name: str
    secret_key: str


class SnapshotTimeouts(Frozen):
    """Bounds on the waits for an upstream. `total_milliseconds` counts from the request's first attempt."""

    connect_milliseconds: int = 5000
    first_byte_milliseconds: int = 600_000
    idle_milliseconds: int = 120_000
    total_milliseconds: int = 3_600_000


class SnapshotLimits(Frozen):
    """What an upstream takes at most; None where that is not limited."""

    concurrent_requests: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class SnapshotUpstream(Frozen):
    """One address of a model. `url` includes the version; a protocol's module appends its path."""

    name: str
    protocol: Protocol
    url: str
    model: str
    output_limit_field: OutputLimitField
    auth: SnapshotAuth | None
    limits: SnapshotLimits | None = None
    timeouts: SnapshotTimeouts = SnapshotTimeouts()
    on_client_cancel: OnClientCancel = OnClientCancel.ABORT
    stream_usage: StreamUsage = StreamUsage.REQUESTED


class SnapshotTokenPrices(Frozen):
    """Prices of each kind of token, in whole millionths of a US dollar per million tokens."""

    input: int
    output: int
    cached_input: int
    cache_write_short: int
    cache_write_long: int
    image: int
    audio: int

    @cached_property
    def dearest_text(self) -> int:
        """The most that an input token can cost that is not of media: it may be read from a cache, or written to one."""
        return max(self.input, self.cached_input, self.cache_write_short, self.cache_write_long)


class SnapshotTier(Frozen):
    """The prices of all tokens of a request whose billed input exceeds so many tokens."""

    above_input_tokens: int
    prices: SnapshotTokenPrices


class SnapshotPrice(Frozen):
    """Price in whole millionths of a US dollar, per million tokens and per request. Tiers stand in rising order.

    Where a kind of input has no price of its own, it costs what plain input does; a long cache write what a short one does.
    """

    input_micro_dollars: int
    output_micro_dollars: int
    request_micro_dollars: int
    cached_input_micro_dollars: int | None = None
    cache_write_short_micro_dollars: int | None = None
    cache_write_long_micro_dollars: int | None = None
    image_micro_dollars: int | None = None
    audio_micro_dollars: int | None = None
    tiers: tuple[SnapshotTier, ...] = ()

    @cached_property
    def tables(self) -> tuple[tuple[int, SnapshotTokenPrices], ...]:
        """The prices from 0 input tokens on, then those above each tier's number."""
        plain = self.input_micro_dollars
        short = _or(self.cache_write_short_micro_dollars, plain)
        base = SnapshotTokenPrices(
            input=plain,
            output=self.output_micro_dollars,
            cached_input=_or(self.cached_input_micro_dollars, plain),
            cache_write_short=short,
            cache_write_long=_or(self.cache_write_long_micro_dollars, short),
            image=_or(self.image_micro_dollars, plain),
            audio=_or(self.audio_micro_dollars, plain),
        )
        return ((0, base), *((tier.above_input_tokens, tier.prices) for tier in self.tiers))

    def prices_at(self, input_tokens: int) -> SnapshotTokenPrices:
        """Return the prices of a request that is billed so many input tokens of all kinds."""
        tables = self.tables
        chosen = tables[0][1]
        if len(tables) == 1:
            return chosen
        for above, prices in tables[1:]:
            if input_tokens > above:
                chosen = prices
        return chosen


def _or(price: int | None, otherwise: int) -> int:
    return otherwise if price is None else price


class SnapshotTokenizer(Frozen):
    """Where a `tokenizer.json` lies: an absolute `path`, or one inside of the volume `claim`."""

    claim: str | None
    path: str
    digest: str


class SnapshotModel(Frozen):
    """One model. `overhead_tokens` is None where no bound on a prompt's tokens can be given, the media's maxima likewise.

    `tokenizer` counts the texts of messages; None where their bytes are counted.
    """

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
    max_tokens_per_image: int | None = None
    max_tokens_per_audio: int | None = None
    tokenizer: SnapshotTokenizer | None = None


class SnapshotArtifact(Frozen):
    """Where the trained router lies: an absolute `path`, or one inside of the volume `claim`."""

    claim: str | None
    path: str
    digest: str


class SnapshotRouter(Frozen):
    """What takes the decision."""

    strategy: Strategy
    artifact: SnapshotArtifact | None
    deadline_milliseconds: int
    default_model: str | None
    failure_mode: FailureMode


class SnapshotObjective(Frozen):
    """What the decision optimises: `percent` is the cost weight, or the tolerated loss of quality."""

    kind: Literal["Tradeoff", "CheapestWithinPercentOfBest"]
    percent: int


class SnapshotTenants(Frozen):
    """Who may call beside anonymous callers: `secret_name` is the Secret of the keys' hashes, None where there are no keys.

    `models` holds, by tenant, what that tenant may use; who does not stand there may use every model.
    """

    secret_name: str | None = None
    models: Mapping[str, tuple[str, ...]] = {}

    @cached_property
    def allowed(self) -> Mapping[str, frozenset[str]]:
        """What `models` says, to be looked up."""
        return {tenant: frozenset(names) for tenant, names in self.models.items()}


class SnapshotFallback(Frozen):
    """What follows a failed attempt."""

    max_attempts: int = 3
    other_models: bool = True
    retry_budget_percent: int = 20


class SnapshotOutlierDetection(Frozen):
    """When an upstream that fails is left alone."""

    consecutive_failures: int = 5
    ejection_seconds: int = 30


class Snapshot(Frozen):
    """One policy with its pool, ready to serve. Equal content has an equal `content_hash`.

    Every field that format 1 lacks has a default, which is what format 1 meant. `policy_uid` is empty outside of a cluster.
    """

    format_version: Literal[2] = FORMAT_VERSION
    namespace: str
    policy: str
    policy_uid: str = ""
    pool: str
    aliases: tuple[str, ...]
    models: tuple[SnapshotModel, ...]
    router: SnapshotRouter
    objective: SnapshotObjective
    per_request_nano_dollars: int | None
    budgets: tuple[SnapshotBudget, ...] = ()
    ledger: SnapshotLedger = SnapshotLedger()
    on_ledger_unavailable: OnLedgerUnavailable = OnLedgerUnavailable.FAIL_CLOSE
    anonymous_allowed: bool
    tenants: SnapshotTenants = SnapshotTenants()
    fallback: SnapshotFallback = SnapshotFallback()
    outlier_detection: SnapshotOutlierDetection = SnapshotOutlierDetection()

    @cached_property
    def ledger_namespace(self) -> str:
        """Under what this policy's spend is kept: a policy that is deleted and made anew begins with nothing spent."""
        return self.policy_uid or f"{self.namespace}/{self.policy}"

    @cached_property
    def has_enforced_budget(self) -> bool:
        """Whether any budget may refuse a request."""
        return any(budget.enforced for budget in self.budgets)

    @cached_property
    def has_limits(self) -> bool:
        """Whether any upstream declares what it takes at most."""
        return any(upstream.limits is not None for model in self.models for upstream in model.upstreams)

    @property
    def needs_ledger(self) -> bool:
        """Whether something is counted over all requests, processes and pods."""
        return bool(self.budgets) or self.has_limits

    def canonical_json(self) -> str:
        """Return the one text that stands for this content."""
        data = self.model_dump(mode="json")
        # What was added within this format is left out where it is not used: the text is that of before.
        for model in data["models"]:
            model["capabilities"] = sorted(model["capabilities"])
            if model["tokenizer"] is None:
                del model["tokenizer"]
            for upstream in model["upstreams"]:
                if upstream["limits"] is None:
                    del upstream["limits"]
        for name in ("ca_secret_name", "ca_secret_key"):
            if data["ledger"][name] is None:
                del data["ledger"][name]
        return _canonical(data)

    def content_hash(self) -> str:
        """Return `sha256:` and the hex digest of the canonical JSON."""
        return _hash(self.canonical_json())

    def model(self, name: str) -> SnapshotModel | None:
        """Return the model of that name, if there is one."""
        for model in self.models:
            if model.name == name:
                return model
        return None


class SnapshotEnvelope(Frozen):
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
