"""The manifest of an artifact: what the router is, what it knows, how well it does, and the digest of every other file.

It must not know where artifacts lie.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from foresail_router.features.weights import Precision

FORMAT_VERSION: Final = 1
KIND: Final = "foresail-router"
MANIFEST_NAME: Final = "manifest.json"
FILE_NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=FILE_NAME_PATTERN)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class TokenPrice(_Frozen):
    """US dollars per million tokens."""

    input_per_million_tokens_usd: Amount
    output_per_million_tokens_usd: Amount


class ModelFacts(_Frozen):
    """What the training side says of one model without regard to the prompt.

    `price` is what the training data's costs imply, None where they imply none; `mean_cost_usd` is None without costs. Where the data
    counts no input tokens, a quarter token per UTF-8 byte is assumed.
    """

    name: Annotated[str, Field(min_length=1, max_length=512)]
    outcomes: Count
    mean_quality: Share
    mean_input_tokens: Amount
    mean_output_tokens: Amount
    input_tokens_per_byte: Amount
    mean_cost_usd: Amount | None
    price: TokenPrice | None


class Reference(_Frozen):
    """The best single model: what it costs on average is what the cost weight compares with."""

    model: str
    mean_input_tokens: Amount
    mean_output_tokens: Amount


class PackagedEncoder(_Frozen):
    """A sentence encoder that an installed Python package holds; `digest` covers weights, sizes and tokenizer."""

    kind: Literal["package"] = "package"
    package: str
    version: str
    digest: Digest
    precision: Precision
    width: Annotated[int, Field(ge=1, le=65536)]


class ContainedEncoder(_Frozen):
    """A sentence encoder inside the artifact: an ONNX graph and a tokenizer definition."""

    kind: Literal["files"] = "files"
    graph: FileName
    tokenizer: FileName
    digest: Digest
    precision: Precision
    width: Annotated[int, Field(ge=1, le=65536)]


class Training(_Frozen):
    """What the router was trained on, without any of it."""

    fingerprint: Digest
    prompts: Count
    held_out_prompts: Count
    encoder_precision: Precision
    reproducible: bool
    seed: int
    output_tokens: Literal["reported", "assumed"]


class FileFacts(_Frozen):
    """The digest and size of one file."""

    digest: Digest
    bytes: Count


class Manifest(_Frozen):
    """The whole of `manifest.json`."""

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["foresail-router"] = KIND
    strategy: str
    strategy_config: dict[str, Any]
    models: Annotated[tuple[ModelFacts, ...], Field(min_length=1, max_length=1024)]
    reference: Reference
    encoder: PackagedEncoder | ContainedEncoder = Field(discriminator="kind")
    training: Training
    calibration: dict[str, float]
    metrics: dict[str, float]
    # Cost to match and AIQ on held-out prompts; empty where there are no costs, and in artifacts of releases that did not measure them.
    costs: dict[str, float] = Field(default_factory=dict)
    files: Annotated[dict[FileName, FileFacts], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        names = self.model_names
        if len(set(names)) != len(names):
            raise ValueError("a model is listed twice")
        if self.reference.model not in names:
            raise ValueError("the reference is not among the models")
        if MANIFEST_NAME in self.files:
            raise ValueError("the manifest lists itself")
        return self

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models that the router knows, in the order of its estimates."""
        return tuple(model.name for model in self.models)

    def to_bytes(self) -> bytes:
        """Return the one text of this content: sorted keys, two blanks, a final newline."""
        return (json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def parse_manifest(content: bytes) -> Manifest:
    """Parse `manifest.json`; raises `ValueError` that says whether it is broken, foreign, of another version, or at which field bad."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError("is not JSON: the file is damaged") from error
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise ValueError(f'has no "kind": "{KIND}": this is not an artifact of Foresail')
    if data.get("format_version") != FORMAT_VERSION:
        version = data.get("format_version")
        shown = version if isinstance(version, int) else "unreadable"
        raise ValueError(
            f"has format version {shown}, this release reads {FORMAT_VERSION}: train the artifact again, or upgrade"
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "as a whole"
        raise ValueError(f"is not valid at {place}: {first['msg']}") from error
