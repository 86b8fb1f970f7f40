"""Budgets for reasoning that a request sets itself: those with a number are a part of its output limit, any other form has no bound.

Owns the forms. It must not know models, nor whether a cap applies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_LARGEST = 2**53


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _LARGEST else None


def _thinking(value: Any) -> int | None:
    """`thinking`: `{"type": "enabled", "budget_tokens": N}`, or `{"type": "disabled"}`."""
    if not isinstance(value, dict):
        return None
    if value.keys() == {"type"} and value["type"] == "disabled":
        return 0
    if value.keys() == {"type", "budget_tokens"} and value["type"] == "enabled":
        return _number(value["budget_tokens"])
    return None


def _reasoning(value: Any) -> int | None:
    """`reasoning`: `{"max_tokens": N}`, with nothing beside it but switches."""
    if not isinstance(value, dict) or not value.keys() <= {"max_tokens", "enabled", "exclude"}:
        return None
    if not all(isinstance(value.get(switch, False), bool) for switch in ("enabled", "exclude")):
        return None
    return _number(value.get("max_tokens"))


_FORMS: Final[Mapping[str, Callable[[Any], int | None]]] = {
    "thinking_budget": _number,
    "thinking": _thinking,
    "reasoning": _reasoning,
}


def is_bounded_thinking(name: str, value: Any) -> bool:
    """Return whether a field sets a budget for reasoning that the output limit holds."""
    return name in _FORMS and _FORMS[name](value) is not None


def thinking_tokens(fields: Mapping[str, Any]) -> int | None:
    """Return the largest budget that the request sets for reasoning, in tokens, or None if it sets none that has a number."""
    if _FORMS.keys().isdisjoint(fields):
        return None
    budgets = [form(fields.get(name)) for name, form in _FORMS.items()]
    return max((budget for budget in budgets if budget), default=None)
