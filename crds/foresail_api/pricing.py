"""What a model costs and how its tokens are counted, as users write it: prices by kind of token, tiers, bounds.

Owns these shapes. It must not know upstreams or policies.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from foresail_api.common import (
    ApiObject,
    Digest,
    DnsSubdomain,
    Dollars,
    FileUri,
    RelativePath,
    Tokens,
    list_map,
    rule,
    unique,
)

_ONE_PLACE = "exactly one of `uri` and `volumeClaim` must be set"
_TOKENIZER_MESSAGE = "`tokenizer` must be set if, and only if, `method` is `Tokenizer`"


class CountMethod(StrEnum):
    """How a prompt's tokens are bounded from above before it is sent."""

    BYTES = "Bytes"
    TOKENIZER = "Tokenizer"


class TokenPrices(ApiObject):
    """Prices of tokens by kind, in US dollars per million, as decimal strings with at most 6 decimals."""

    input_per_million_tokens: Dollars = Field(description='US dollars per million input tokens, for example "0.25".')
    output_per_million_tokens: Dollars = Field(
        description='US dollars per million output tokens, reasoning included, for example "2.00".'
    )
    cached_input_per_million_tokens: Dollars | None = Field(
        None,
        description="US dollars per million input tokens that the upstream reads from its cache. As input if absent.",
    )
    cache_write_short_per_million_tokens: Dollars | None = Field(
        None,
        description="US dollars per million input tokens that the upstream writes to its cache for its usual, short time. As input if absent.",
    )
    cache_write_long_per_million_tokens: Dollars | None = Field(
        None,
        description="US dollars per million input tokens that the upstream writes to its cache for a long time. As a short write if absent.",
    )
    image_per_million_tokens: Dollars | None = Field(
        None, description="US dollars per million tokens of images in the input. As input if absent."
    )
    audio_per_million_tokens: Dollars | None = Field(
        None, description="US dollars per million tokens of audio in the input. As input if absent."
    )


class PriceTier(TokenPrices):
    """The prices of all tokens of a request with a long input. They replace every price of a token; what is absent follows this tier's input."""

    above_input_tokens: Tokens = Field(
        description="The tier holds for a request that is billed more input tokens than this, of all kinds together."
    )


class Price(TokenPrices):
    """List price of a model, in US dollars as decimal strings with at most 6 decimals."""

    per_request: Dollars = Field("0", description='US dollars per request on top of the tokens, for example "0.005".')
    tiers: Annotated[list[PriceTier], Field(max_length=4), unique("above_input_tokens")] = Field(
        default_factory=list,
        description="Prices of requests with a long input, told apart by where they begin.",
        json_schema_extra=list_map("aboveInputTokens") | {"default": []},
    )


class TokenizerVolume(ApiObject):
    """A file on a PersistentVolumeClaim in the same namespace."""

    name: DnsSubdomain = Field(description="Name of the PersistentVolumeClaim. Mounted read-only.")
    path: RelativePath = Field(description="The file on the volume, relative to its root.")


class Tokenizer(ApiObject):
    """The `tokenizer.json` of a model, as its makers publish it, pinned by its digest."""

    cel: ClassVar = (rule("has(self.uri) != has(self.volumeClaim)", _ONE_PLACE),)

    uri: FileUri | None = Field(
        None, description="`file://` and an absolute path. For `foresail serve` only; in a cluster use `volumeClaim`."
    )
    volume_claim: TokenizerVolume | None = Field(None, description="File on a volume.")
    digest: Digest = Field(description="`sha256:` and the SHA-256 of the file. Any other content is refused.")

    @model_validator(mode="after")
    def _rules(self) -> Tokenizer:
        if (self.uri is None) == (self.volume_claim is None):
            raise ValueError(_ONE_PLACE)
        return self


class TokenCount(ApiObject):
    """How many tokens a prompt can become at most, known before it is sent. Cost caps rest on it."""

    cel: ClassVar = (
        rule("(has(self.method) && self.method == 'Tokenizer') == has(self.tokenizer)", _TOKENIZER_MESSAGE),
    )

    method: CountMethod = Field(
        CountMethod.BYTES,
        description="`Bytes` multiplies the UTF-8 bytes of the prompt's JSON by `maxTokensPerByte`. `Tokenizer` counts the texts of its messages, tools' answers apart, with `tokenizer`, and the rest as `Bytes` does.",
    )
    tokenizer: Tokenizer | None = Field(
        None,
        description="What counts the texts of messages. Until it can be read, and in a request with more than a million bytes of them, they are counted as `Bytes` does. `maxTokensPerByte` does not multiply what it counts.",
    )
    max_tokens_per_byte: Annotated[int, Field(strict=True, ge=1, le=16)] = Field(
        1, description="Most tokens that one byte can become. 1 holds for every byte-level tokenizer."
    )
    overhead_tokens: Annotated[int, Field(strict=True, ge=0, le=10_000_000)] | None = Field(
        None,
        description="Tokens that the upstream adds to every request (system prompt, chat template). Must be set for a policy with a cost cap to use the model.",
    )
    max_tokens_per_image: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = Field(
        None,
        description="Most tokens that one image in a message can become, whatever its size. Under a cost cap, a request with images never goes to a model without it.",
    )
    max_tokens_per_audio: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] | None = Field(
        None,
        description="Most tokens that one piece of audio in a message can become, whatever its length. Under a cost cap, a request with audio never goes to a model without it.",
    )

    @model_validator(mode="after")
    def _rules(self) -> TokenCount:
        if (self.method == CountMethod.TOKENIZER) != (self.tokenizer is not None):
            raise ValueError(_TOKENIZER_MESSAGE)
        return self
