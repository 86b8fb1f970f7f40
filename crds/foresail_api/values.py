"""Plain values that many are made of for each request: dataclasses that the type checker keeps from changing, not the interpreter.

It must not know any field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_Value = TypeVar("_Value")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[_Value]) -> type[_Value]:
    """Make `cls` a slotted dataclass with the hash of its fields. To change one is an error of types, as if it were frozen.

    Frozen dataclasses also check while they run. For that, each field is set by a call when a value is made, which takes five times as long.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
