"""Types that both kinds share: names, money as decimal strings, object metadata, and the strict base of every object.

Owns what a name, an amount and a reference look like. It must not know either kind.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "foresail.dev"
VERSION = "v1alpha1"
API_VERSION: Final = "foresail.dev/v1alpha1"

MICRO_DOLLARS = 1_000_000
NANO_DOLLARS = 1_000_000_000


def rule(expression: str, message: str) -> dict[str, str]:
    """Return one CEL rule for `x-kubernetes-validations`; the message says what must hold."""
    return {"rule": expression, "message": message}


class ApiObject(BaseModel):
    """Base of every object that users write: camelCase names, unknown fields refused, never changed after reading.

    `cel` holds the rules that the API server checks for this object; the model's own validators check the same.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, use_enum_values=False
    )
    cel: ClassVar[tuple[dict[str, str], ...]] = ()


def list_map(key: str) -> dict[str, Any]:
    """Return the schema extras of a list whose items are told apart by the field `key`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def unique(key: str) -> AfterValidator:
    """Return the validator that goes with `list_map`: no two items share the value of `key`."""

    def check(items: list[Any]) -> list[Any]:
        values = [getattr(item, key) for item in items]
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            listed = ", ".join(map(str, repeated))
            raise ValueError(f"`{to_camel(key)}` must be unique in this list: {listed} appears more than once")
        return items

    return AfterValidator(check)


LIST_SET: Final[dict[str, Any]] = {"x-kubernetes-list-type": "set"}


def _distinct(items: list[Any]) -> list[Any]:
    if len(set(items)) != len(items):
        raise ValueError("must not hold the same value twice")
    return items


Distinct = AfterValidator(_distinct)

DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
DnsSubdomain = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
]
ModelName = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9._:/@+]*[A-Za-z0-9])?$")
]
SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
RelativePath = Annotated[
    str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9_][-A-Za-z0-9._]*(/[A-Za-z0-9_][-A-Za-z0-9._]*)*$")
]
FileUri = Annotated[str, Field(min_length=8, max_length=512, pattern=r"^file:///[^?#\s]+$")]
Digest = Annotated[str, Field(min_length=71, max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]
Dollars = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$")]
Tokens = Annotated[int, Field(strict=True, ge=1, le=100_000_000)]


def micro_dollars(amount: str) -> int:
    """Return a decimal amount of US dollars as whole millionths of a dollar; exact, because it has at most 6 decimals."""
    return int(Decimal(amount) * MICRO_DOLLARS)


def nano_dollars(amount: str) -> int:
    """Return a decimal amount of US dollars as whole billionths of a dollar."""
    return int(Decimal(amount) * NANO_DOLLARS)


class ObjectMeta(BaseModel):
    """The part of an object's metadata that Foresail reads; the rest is the API server's."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    name: DnsSubdomain
    namespace: DnsLabel = "default"
    uid: str = ""
    generation: int = 0
