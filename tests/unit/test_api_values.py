"""Values: dataclasses that compare and hash by their fields, and have no others."""

from __future__ import annotations

from dataclasses import field, replace

import pytest

from foresail_api.values import value


@value
class _Place:
    name: str
    number: int = 1
    secret: str = field(default="", repr=False)


def test_values_are_compared_hashed_and_shown_by_their_fields() -> None:
    assert _Place("a") == _Place("a", 1) != _Place("a", 2)
    assert {_Place("a"): "found"}[replace(_Place("b"), name="a")] == "found"
    assert repr(_Place("a", secret="s")) == "_Place(name='a', number=1)"


def test_a_value_has_no_other_fields() -> None:
    with pytest.raises(AttributeError):
        setattr(_Place("a"), "other", 1)  # noqa: B010  the type checker would say so before
