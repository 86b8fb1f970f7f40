"""A JSON object with the place of each of its members in the text, so that a few can be changed and all else kept to the byte.

Owns strictness about JSON: what two readers could understand differently is refused. It must not know any field's name.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from foresail_api.values import value
from foresail_sidecar.protocols.errors import BadRequest
from foresail_sidecar.protocols.openai.quoting import field_name

_WHITESPACE = re.compile(r"[ \t\n\r]*")
_MARK = re.compile(r"[ \t\n\r]*([,}])[ \t\n\r]*")
# What stands before most values, read in one step: the brace or the comma, and a name without escapes.
_PLAIN_NAME = r'[ \t\n\r]*("[^"\\\x00-\x1f]*")[ \t\n\r]*:[ \t\n\r]*'
_FIRST, _NEXT = re.compile("{" + _PLAIN_NAME), re.compile(r"[ \t\n\r]*," + _PLAIN_NAME)


class _Repeated(ValueError):
    """An object inside of a value has a field twice; which one is not said, for its name can be a prompt's."""


@value
class Member:
    """One member of an object: its value, and where key and value lie in the text, in characters, ends exclusive."""

    value: Any
    key_start: int
    key_end: int
    value_start: int
    value_end: int


def decode(body: bytes) -> str:
    """Return the body as text; raise `BadRequest` if it is not UTF-8 or begins with a byte order mark."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise broken(f"byte {error.start} is not UTF-8; encode it as UTF-8") from None
    if text.startswith("\ufeff"):
        raise broken("it begins with a byte order mark; leave that out")
    return text


def read_object(text: str) -> dict[str, Member]:
    """Return the members of the one JSON object that is the text; raise `BadRequest` for anything else."""
    members, end = read_members(text, 0 if text.startswith("{") else _skip(text, 0))
    if end != len(text) and _skip(text, end) != len(text):
        raise broken(f"there is more after the end of the object, at character {end}; send one object")
    return members


def read_members(text: str, start: int) -> tuple[dict[str, Member], int]:
    """Return the members of the object that begins at `start`, and where it ends. Raises `BadRequest` if it is broken."""
    if text[start : start + 1] != "{":
        raise broken("it must be an object, such as {...}")
    members: dict[str, Member] = {}
    named, at = _FIRST.match(text, start), start + 1
    while True:
        if named is not None:
            (key_start, key_end), value_start = named.span(1), named.end()
            key = text[key_start + 1 : key_end - 1]
        else:
            key_start = _skip(text, at)
            if not members and text[key_start : key_start + 1] == "}":
                return members, key_start + 1
            key, key_end, value_start = _name(text, key_start)
        value, at = _value(text, value_start)
        if key in members:
            raise _twice(f"{field_name(key)} appears")
        members[key] = Member(value, key_start, key_end, value_start, at)
        named = _NEXT.match(text, at)
        if named is not None:
            continue
        mark = _MARK.match(text, at)
        if mark is None:
            raise broken(f"expected ',' or '}}' at character {_skip(text, at)}")
        if mark[1] == "}":
            return members, mark.end(1)
        at = mark.end()


def _name(text: str, at: int) -> tuple[str, int, int]:
    """Return a member's name, where it ends, and where the member's value begins."""
    key, end = _value(text, at)
    if not isinstance(key, str):
        raise broken(f"expected a field's name in double quotes at character {at}")
    colon = _skip(text, end)
    if text[colon : colon + 1] != ":":
        raise broken(f"expected ':' at character {colon}")
    return key, end, _skip(text, colon + 1)


def broken(problem: str) -> BadRequest:
    """Return the error for a body that is not the JSON that it must be."""
    return BadRequest(f"The request body is not valid JSON: {problem}.", None, "invalid_json")


def _skip(text: str, at: int) -> int:
    match = _WHITESPACE.match(text, at)
    return match.end() if match else at


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _decoder.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise broken(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except _Repeated:
        raise _twice(f"in the value that begins at character {at}, a field appears") from None
    except ValueError as error:  # a whole number with more digits than Python reads
        raise broken(str(error).split(";")[0].lower()) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Repeated
    return value


def _twice(which_appears: str) -> BadRequest:
    return broken(f"{which_appears} twice in the same object; send it once")


def _no_constant(name: str) -> NoReturn:
    raise broken(f"{name} is not a number in JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
