"""The kind `ModelPool`: which models there are, where they answer, what they cost and what they can do.

Owns the shape that users write. It must not know policies, nor how a request is routed.
"""

from __future__ import annotations

import itertools
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from foresail_api.attempts import OnClientCancel, OutlierDetection, StreamUsage, Timeouts, UpstreamLimits
from foresail_api.common import (
    API_VERSION,
    LIST_SET,
    ApiObject,
    Distinct,
    DnsLabel,
    DnsSubdomain,
    ModelName,
    ObjectMeta,
    SecretKey,
    Tokens,
    list_map,
    rule,
    unique,
)
from foresail_api.pricing import Price, TokenCount


class Protocol(StrEnum):
    """The wire protocol of an upstream."""

    OPENAI = "OpenAI"


class OutputLimitField(StrEnum):
    """The request field in which an upstream takes the output limit."""

    MAX_TOKENS = "MaxTokens"
    MAX_COMPLETION_TOKENS = "MaxCompletionTokens"


class AuthScheme(StrEnum):
    """How a credential is sent."""

    BEARER = "Bearer"
    HEADER = "Header"
    NONE = "None"


class Capability(StrEnum):
    """What a model can be asked to do beyond plain text chat."""

    TOOLS = "Tools"
    PARALLEL_TOOLS = "ParallelTools"
    JSON_SCHEMA = "JSONSchema"
    VISION = "Vision"
    AUDIO = "Audio"
    FILES = "Files"
    REASONING = "Reasoning"


class SecretRef(ApiObject):
    """A key of a Secret in the same namespace."""

    name: DnsSubdomain = Field(description="Name of the Secret, in the namespace of this object.")
    key: SecretKey = Field(description="Key in the Secret whose value is the credential.")


_OWN_HEADERS = ("connection", "content-length", "content-type", "host", "transfer-encoding")
_OWN_HEADERS_MESSAGE = (
    f"`headerName` must be a header other than {', '.join(_OWN_HEADERS)}, which describe the request itself"
)


class Auth(ApiObject):
    """The credential that is sent to an upstream. The caller's own credential is never forwarded."""

    cel: ClassVar = (
        rule("(self.scheme == 'None') != has(self.secretRef)", "`secretRef` must be set, unless `scheme` is `None`"),
        rule(
            "(self.scheme == 'Header') == has(self.headerName)",
            "`headerName` must be set if, and only if, `scheme` is `Header`",
        ),
        rule(
            f"!has(self.headerName) || !(self.headerName.lowerAscii() in {list(_OWN_HEADERS)})",
            _OWN_HEADERS_MESSAGE,
        ),
    )

    scheme: AuthScheme = Field(
        AuthScheme.BEARER,
        description="`Bearer` sends `Authorization: Bearer <credential>`; `Header` sends the credential in `headerName`; `None` sends none.",
    )
    header_name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][-A-Za-z0-9_]*$")] | None = (
        Field(None, description="Header that carries the credential if `scheme` is `Header`, for example `api-key`.")
    )
    secret_ref: SecretRef | None = Field(
        None, description="Where the credential is kept. Always in the same namespace."
    )

    @model_validator(mode="after")
    def _rules(self) -> Auth:
        if (self.scheme == AuthScheme.NONE) == (self.secret_ref is not None):
            raise ValueError("`secretRef` must be set, unless `scheme` is `None`")
        if (self.scheme == AuthScheme.HEADER) != (self.header_name is not None):
            raise ValueError("`headerName` must be set if, and only if, `scheme` is `Header`")
        if self.header_name is not None and self.header_name.lower() in _OWN_HEADERS:
            raise ValueError(_OWN_HEADERS_MESSAGE)
        return self


class BackendRef(ApiObject):
    """A Service in the same namespace that serves the model."""

    group: Literal[""] = Field("", description="API group of the referenced kind; the core group is the empty string.")
    kind: Literal["Service"] = Field("Service", description="Kind of the referenced object.")
    name: DnsLabel = Field(description="Name of the Service, in the namespace of this object.")
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = Field(description="Port of the Service.")
    scheme: Literal["http", "https"] = Field("http", description="Scheme of the connection.")
    path_prefix: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^/[-A-Za-z0-9._~/]*[-A-Za-z0-9._~]$")] = (
        Field("/v1", description="Path before `/chat/completions`, including the version, for example `/v1`.")
    )


class Upstream(ApiObject):
    """One place where a model answers."""

    cel: ClassVar = (
        rule("has(self.url) != has(self.backendRef)", "exactly one of `url` and `backendRef` must be set"),
    )

    name: DnsLabel = Field(description="Name of this upstream, unique within the model.")
    protocol: Protocol = Field(Protocol.OPENAI, description="Wire protocol that the upstream speaks.")
    url: (
        Annotated[str, Field(min_length=8, max_length=512, pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*[^?#/\s])?$")] | None
    ) = Field(
        None,
        description="Base URL including the version, without a slash at its end, for example `https://api.openai.com/v1`; `/chat/completions` is appended.",
    )
    backend_ref: BackendRef | None = Field(
        None, description="Service of this namespace that serves the model, instead of `url`."
    )
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="Value of `model` in the forwarded request. The model's own name if absent."
    )
    output_limit_field: OutputLimitField = Field(
        OutputLimitField.MAX_TOKENS,
        description="Field in which this upstream takes the output limit: `MaxTokens` is `max_tokens`, `MaxCompletionTokens` is `max_completion_tokens`. Only this one is sent.",
    )
    auth: Auth | None = Field(None, description="Credential for this upstream. None is sent if absent.")
    limits: UpstreamLimits | None = Field(
        None,
        description="What this upstream takes at most. A request that does not fit goes to the next upstream or model. Nothing is limited if absent.",
    )
    timeouts: Timeouts = Field(
        default_factory=lambda: Timeouts(),
        description="How long this upstream may take.",
        json_schema_extra={"default": {}},
    )
    on_client_cancel: OnClientCancel = Field(
        OnClientCancel.ABORT,
        description="When the client of a stream leaves, `Abort` ends the upstream's work; `Drain` reads the rest for at most 30 seconds, so that its usage is learned.",
    )
    stream_usage: StreamUsage = Field(
        StreamUsage.REQUESTED,
        description="`Requested` asks this upstream for the usage of streams; `NotSupported` does not, for one that refuses `stream_options`.",
    )

    @model_validator(mode="after")
    def _rules(self) -> Upstream:
        if (self.url is None) == (self.backend_ref is None):
            raise ValueError("exactly one of `url` and `backendRef` must be set")
        return self


_TIERS_MESSAGE = "`price.tiers[].aboveInputTokens` must be less than `contextWindowTokens`"


class PoolModel(ApiObject):
    """One model: where it answers, what it costs, what it can do."""

    cel: ClassVar = (
        rule(
            "!has(self.defaultMaxOutputTokens) || self.defaultMaxOutputTokens <= self.maxOutputTokens",
            "`defaultMaxOutputTokens` must be less than or equal to `maxOutputTokens`",
        ),
        rule(
            "self.minOutputTokens <= self.maxOutputTokens",
            "`minOutputTokens` must be less than or equal to `maxOutputTokens`",
        ),
        rule(
            "!has(self.defaultMaxOutputTokens) || self.minOutputTokens <= self.defaultMaxOutputTokens",
            "`minOutputTokens` must be less than or equal to `defaultMaxOutputTokens`",
        ),
        rule(
            "self.maxOutputTokens <= self.contextWindowTokens",
            "`maxOutputTokens` must be less than or equal to `contextWindowTokens`",
        ),
        rule(
            "!has(self.price) || !has(self.price.tiers)"
            " || self.price.tiers.all(tier, tier.aboveInputTokens < self.contextWindowTokens)",
            _TIERS_MESSAGE,
        ),
    )

    name: ModelName = Field(
        description="Name of the model, as the router's artifact knows it and as clients may ask for it."
    )
    upstreams: Annotated[list[Upstream], Field(min_length=1, max_length=8), unique("name")] = Field(
        description="Places that serve this same model, in the order in which they are tried.",
        json_schema_extra=list_map("name"),
    )
    price: Price | None = Field(
        None, description="List price. A model without a price is never chosen where a cost cap applies."
    )
    token_count: TokenCount = Field(
        default_factory=lambda: TokenCount(),
        description="How a prompt's tokens are bounded before it is sent.",
        json_schema_extra={"default": {}},
    )
    context_window_tokens: Tokens = Field(description="Most tokens of input and output together.")
    max_output_tokens: Tokens = Field(description="Most tokens that one answer may have.")
    default_max_output_tokens: Tokens | None = Field(
        None, description="Output limit of a request that names none. `maxOutputTokens` if absent."
    )
    min_output_tokens: Tokens = Field(
        1, description="Smallest output limit that is worth a request. A cost cap that leaves less takes the model out."
    )
    capabilities: Annotated[list[Capability], Field(max_length=16), Distinct] = Field(
        default_factory=list,
        description="What the model can do beyond text chat. A request that needs more goes elsewhere.",
        json_schema_extra=LIST_SET,
    )

    @model_validator(mode="after")
    def _rules(self) -> PoolModel:
        limits = {
            "minOutputTokens": self.min_output_tokens,
            "defaultMaxOutputTokens": self.default_max_output_tokens,
            "maxOutputTokens": self.max_output_tokens,
            "contextWindowTokens": self.context_window_tokens,
        }
        present = [(name, value) for name, value in limits.items() if value is not None]
        for (smaller, low), (larger, high) in itertools.pairwise(present):
            if low > high:
                raise ValueError(f"`{smaller}` must be less than or equal to `{larger}`")
        tiers = [] if self.price is None else self.price.tiers
        if any(tier.above_input_tokens >= self.context_window_tokens for tier in tiers):
            raise ValueError(_TIERS_MESSAGE)
        return self


class ModelPoolSpec(ApiObject):
    """The models that policies of this namespace can route to."""

    models: Annotated[list[PoolModel], Field(min_length=1, max_length=64), unique("name")] = Field(
        description="The models, told apart by `name`.", json_schema_extra=list_map("name")
    )
    outlier_detection: OutlierDetection = Field(
        default_factory=lambda: OutlierDetection(),
        description="When an upstream that fails is left alone.",
        json_schema_extra={"default": {}},
    )


class ModelPool(ApiObject):
    """A pool of language models that a RoutingPolicy routes between."""

    api_version: Literal["foresail.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelPool"] = "ModelPool"
    metadata: ObjectMeta
    spec: ModelPoolSpec
    status: object = None
