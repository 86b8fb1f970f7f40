"""The base of everything that a snapshot holds: frozen, strict about unknown fields, with properties that are derived once.

It must not know any field.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Plain data that never changes after it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __copy__(self) -> Self:
        # `model_copy` changes fields of the copy, so what was derived from them must not come along.
        copied = super().__copy__()
        for derived in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[derived]
        return copied
