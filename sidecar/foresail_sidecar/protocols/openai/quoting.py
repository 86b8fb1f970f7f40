"""How a message names what a client sent without quoting its prompt: applications log the messages of errors.

It must not know which fields there are.
"""

from __future__ import annotations

import json
import re

# One short word, as settings have; a sentence is none.
_WORD = re.compile(r"[A-Za-z0-9_.+-]{0,40}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_SMALLEST_HIDDEN_NUMBER = 10**40


def json_type(value: object) -> str:
    """Return the JSON type of a value in words: all that may be said of one that can hold a prompt."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def shown(value: object) -> str:
    """Return the value of a setting as JSON if it is a number, a boolean, null or one short word, else its type."""
    if value is None or isinstance(value, bool | float):
        return json.dumps(value)
    if isinstance(value, int) and abs(value) < _SMALLEST_HIDDEN_NUMBER:
        return str(value)
    if isinstance(value, str) and _WORD.fullmatch(value):
        return json.dumps(value)
    return json_type(value)


def field_name(name: str) -> str:
    """Return a field's name as a message shows it; text that is no identifier is not shown."""
    return f"`{name}`" if _NAME.fullmatch(name) else "a field whose name is not an identifier"
