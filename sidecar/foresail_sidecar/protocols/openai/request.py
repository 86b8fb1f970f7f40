"""Reads a chat completion request: the neutral request for the decision, and the places in the text that a rewrite changes.

Raises `BadRequest` in the words of the body's fields. It must not know models, prices or connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from foresail_api.pool import Capability
from foresail_router.decision.types import NeutralRequest
from foresail_sidecar.protocols.errors import BadRequest
from foresail_sidecar.protocols.openai.content import read_messages
from foresail_sidecar.protocols.openai.count import printed_bytes
from foresail_sidecar.protocols.openai.fields import (
    ELSEWHERE,
    KNOWN,
    LIMIT_FIELDS,
    NOT_PROMPT,
    SIMPLE,
)
from foresail_sidecar.protocols.openai.quoting import json_type, shown
from foresail_sidecar.protocols.openai.spans import Member, broken, decode, read_members, read_object
from foresail_sidecar.protocols.openai.thinking import thinking_tokens
from foresail_sidecar.protocols.openai.unbounded import what_is_unbounded

MOST_CHOICES = 128
_LARGEST_LIMIT = 2**53
_LIMIT_NAMES = tuple(LIMIT_FIELDS.values())
# One for all, since nearly all requests need none.
_NOTHING: Final = frozenset[Capability]()
_NO_REASONING = frozenset({None, "none"})


@dataclass(slots=True)
class ParsedChat:
    """One request: what the decision reads, whether the client asked for usage on its stream, and the original with its members.

    `message_texts` are the texts that chat templates print as they are, one for each message that has such a text.
    """

    neutral: NeutralRequest
    wants_usage: bool
    message_texts: Sequence[str] = field(repr=False)
    text: str = field(repr=False)
    members: dict[str, Member] = field(repr=False)
    stream_options: dict[str, Member] | None = field(repr=False)

    def forget(self) -> None:
        """Let go of the prompt and all else that only a decision or another upstream would read. It cannot be rewritten any more."""
        self.neutral = replace(self.neutral, text="")
        self.message_texts, self.text, self.members, self.stream_options = (), "", {}, None


def parse_request(body: bytes) -> ParsedChat:
    """Return what a body asks for; raise `BadRequest` (status 400) if it cannot be read in one way only."""
    try:
        return _parse(decode(body))
    except RecursionError:
        raise broken("it is nested too deeply; send fewer levels") from None


def _parse(text: str) -> ParsedChat:
    members = read_object(text)
    _refuse_misleading(members)
    fields = {name: member.value for name, member in members.items()}
    model = _model(fields)
    conversation = read_messages(_messages(fields))
    stream = _boolean(fields, "stream")
    wants_usage = _wants_usage(fields)
    simple = fields.keys() <= SIMPLE
    required = conversation.required if simple else conversation.required | _required(fields)
    neutral = NeutralRequest(
        model=model,
        text=conversation.text,
        input_bytes=conversation.input_bytes + (0 if simple else _other_prompt_bytes(fields)),
        required=frozenset(required) if required else _NOTHING,
        output_limit=_output_limit(fields),
        choices=max(_count(fields, "n", MOST_CHOICES) or 1, _count(fields, "best_of", MOST_CHOICES) or 1),
        stream=stream,
        unpriceable=conversation.unpriceable or (None if simple else what_is_unbounded(fields)),
        images=conversation.images,
        audio_parts=conversation.audio_parts,
        thinking_tokens=None if simple else thinking_tokens(fields),
    )
    options = members.get("stream_options")
    return ParsedChat(
        neutral,
        wants_usage,
        conversation.texts,
        text,
        members,
        read_members(text, options.value_start)[0] if options is not None and options.value is not None else None,
    )


def _refuse_misleading(members: dict[str, Member]) -> None:
    if members.keys() <= KNOWN:
        return
    for name in members:
        plain = name.casefold()
        if plain in ELSEWHERE:
            raise BadRequest(
                f"The field `{plain}` is refused: the pool alone says where requests go and with which key. Leave it out.",
                plain,
                "unknown_parameter",
            )
        if name not in KNOWN and plain in KNOWN:
            raise BadRequest(
                f"The field `{name}` differs from `{plain}` in case only; write it in lower case.",
                name,
                "unknown_parameter",
            )


def _model(fields: dict[str, Any]) -> str:
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest(
            f'`model` must name a model or an alias, such as "auto"; it is {shown(model) if "model" in fields else "missing"}.',
            "model",
            "invalid_type",
        )
    return model


def _messages(fields: dict[str, Any]) -> list[Any]:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        what = "an empty list" if messages == [] else "not a list" if "messages" in fields else "missing"
        raise BadRequest(
            f"`messages` must be a list with at least one message; it is {what}.", "messages", "invalid_type"
        )
    return messages


def _count(fields: dict[str, Any], name: str, most: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= most:
        raise BadRequest(f"`{name}` must be a whole number from 1 to {most}, not {shown(value)}.", name)
    return value


def _output_limit(fields: dict[str, Any]) -> int | None:
    smallest = None
    for name in _LIMIT_NAMES:
        limit = _count(fields, name, _LARGEST_LIMIT)
        if limit is not None and (smallest is None or limit < smallest):
            smallest = limit
    return smallest


def _boolean(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"`{name}` must be true or false, not {shown(value)}.", name, "invalid_type")
    return bool(value)


def _wants_usage(fields: dict[str, Any]) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise BadRequest(f"`stream_options` must be an object, not {shown(options)}.", "stream_options", "invalid_type")
    include = options.get("include_usage")
    if include is not None and not isinstance(include, bool):
        raise BadRequest(
            f"`stream_options.include_usage` must be true or false, not {shown(include)}.",
            "stream_options.include_usage",
            "invalid_type",
        )
    return bool(include)


def _other_prompt_bytes(fields: dict[str, Any]) -> int:
    counted = {name: value for name, value in fields.items() if name not in NOT_PROMPT and name != "messages"}
    return printed_bytes(counted) if counted else 0


def _required(fields: dict[str, Any]) -> set[Capability]:
    required = set()
    for name in ("tools", "functions"):
        if not isinstance(fields.get(name), list | None):
            raise BadRequest(f"`{name}` must be a list, not {json_type(fields[name])}.", name, "invalid_type")
        if fields.get(name):
            required.add(Capability.TOOLS)
    if _boolean(fields, "parallel_tool_calls"):
        required.add(Capability.PARALLEL_TOOLS)
    response_format = fields.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        required.add(Capability.JSON_SCHEMA)
    if fields.get("audio") is not None or "audio" in _modalities(fields):
        required.add(Capability.AUDIO)
    effort = fields.get("reasoning_effort")
    if effort is not None and not isinstance(effort, str):
        raise BadRequest(
            f"`reasoning_effort` must be a string, not {shown(effort)}.", "reasoning_effort", "invalid_type"
        )
    if effort not in _NO_REASONING or _asks_for_reasoning(fields.get("reasoning")) or thinking_tokens(fields):
        required.add(Capability.REASONING)
    return required


def _asks_for_reasoning(reasoning: Any) -> bool:
    if isinstance(reasoning, dict):
        return reasoning.get("enabled") is not False and reasoning.get("effort") != "none"
    return reasoning is not None and reasoning is not False


def _modalities(fields: dict[str, Any]) -> list[Any]:
    modalities = fields.get("modalities")
    if modalities is not None and not isinstance(modalities, list):
        raise BadRequest(f"`modalities` must be a list, not {shown(modalities)}.", "modalities", "invalid_type")
    return modalities or []
