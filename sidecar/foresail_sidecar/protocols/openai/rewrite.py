"""Rewrites a request for the upstream that was chosen: a few places of the client's text change, every other byte stays.

It must not know why a model or a limit was chosen.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final

from foresail_api.pool import OutputLimitField
from foresail_sidecar.protocols.openai.fields import LIMIT_FIELDS
from foresail_sidecar.protocols.openai.request import ParsedChat
from foresail_sidecar.protocols.openai.spans import Member

_Edit = tuple[int, int, str]

# Of the models that upstreams have, which are few.
_NAMES_KEPT: Final = 256


def rewrite(
    parsed: ParsedChat, *, model: str, output_limit: int, limit_field: OutputLimitField, ask_usage: bool = True
) -> bytes:
    """Return the body to forward: `model` and the output limit replaced, the limit in the declared field only.

    A stream also asks for usage, unless `ask_usage` says that the upstream does not take that. Nothing else changes, not even white space.
    """
    named = parsed.members["model"]
    edits = [(named.value_start, named.value_end, _quoted(model))]
    added: list[str] = []
    _set_limit(parsed.members, LIMIT_FIELDS[limit_field], output_limit, edits, added)
    if ask_usage and parsed.neutral.stream and not parsed.wants_usage:
        _ask_for_usage(parsed, edits, added)
    if added:
        end = max(member.value_end for member in parsed.members.values())
        edits.append((end, end, "".join(f",{member}" for member in added)))
    return _spliced(parsed.text, edits).encode("utf-8")


@lru_cache(maxsize=_NAMES_KEPT)
def _quoted(model: str) -> str:
    return json.dumps(model)


def _set_limit(members: dict[str, Member], name: str, limit: int, edits: list[_Edit], added: list[str]) -> None:
    present = [field for field in LIMIT_FIELDS.values() if field in members]
    if not present:
        added.append(f'"{name}":{limit}')
        return
    kept = members[name] if name in present else members[present[0]]
    if name in present:
        edits.append((kept.value_start, kept.value_end, str(limit)))
    else:
        edits.append((kept.key_start, kept.key_end, f'"{name}"'))
        edits.append((kept.value_start, kept.value_end, str(limit)))
    edits += [_removal(members, members[field]) for field in present if members[field] is not kept]


def _removal(members: dict[str, Member], gone: Member) -> _Edit:
    """Return the edit that takes a member out with one of its commas; the object has other members."""
    after = [member.key_start for member in members.values() if member.key_start > gone.key_start]
    if after:
        return gone.key_start, min(after), ""
    return max(member.value_end for member in members.values() if member is not gone), gone.value_end, ""


def _ask_for_usage(parsed: ParsedChat, edits: list[_Edit], added: list[str]) -> None:
    options = parsed.members.get("stream_options")
    if options is None:
        added.append('"stream_options":{"include_usage":true}')
        return
    if options.value is None:
        edits.append((options.value_start, options.value_end, '{"include_usage":true}'))
        return
    inner = parsed.stream_options or {}
    if "include_usage" in inner:
        edits.append((inner["include_usage"].value_start, inner["include_usage"].value_end, "true"))
    else:
        start = options.value_start + 1
        edits.append((start, start, '"include_usage":true' + ("," if inner else "")))


def _spliced(text: str, edits: list[_Edit]) -> str:
    pieces = []
    at = 0
    for start, end, replacement in sorted(edits):
        pieces += [text[at:start], replacement]
        at = end
    return "".join([*pieces, text[at:]])
