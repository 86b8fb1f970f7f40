"""What a conversation asks for: its text, its bytes as prompt, the capabilities that it needs, and what in it has no price.

Owns messages and their parts. It must not know the other fields of a request, nor spans.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from foresail_api.pool import Capability
from foresail_sidecar.protocols.errors import BadRequest
from foresail_sidecar.protocols.openai.caching import CACHE_MARK, is_cache_mark
from foresail_sidecar.protocols.openai.count import is_unicode, json_bytes, printed_bytes, text_bytes, texts_bytes
from foresail_sidecar.protocols.openai.fields import MEDIA_PARTS, MESSAGE_FIELDS, TEXT_PARTS
from foresail_sidecar.protocols.openai.media import is_held_audio, is_held_image
from foresail_sidecar.protocols.openai.quoting import json_type

_PLAIN = frozenset({"role", "content"})
_TOOL_ROLES = frozenset({"tool", "function"})
# What tools answered is printed as JSON by some chat templates, which for some texts has far more tokens.
_PRINTED_AS_IT_IS = frozenset({"system", "developer", "user", "assistant"})
_KNOWN_FIELDS = ", ".join(f"`{name}`" for name in sorted(MESSAGE_FIELDS))


@dataclass(slots=True)
class Conversation:
    """What was read from the messages so far. `user_text` is the last user message's, `texts` are those that chat templates print as they are."""

    required: set[Capability] = field(default_factory=set)
    unpriceable: str | None = None
    user_text: str | None = None
    other_texts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    input_bytes: int = 0
    media: bool = False
    images: int = 0
    audio_parts: int = 0

    @property
    def text(self) -> str:
        """What the router reads: the last user message, or all texts where there is none; valid Unicode."""
        text = "\n".join(self.other_texts) if self.user_text is None else self.user_text
        return text if text.isascii() or is_unicode(text) else text.encode("utf-8", "replace").decode("utf-8")


def read_messages(messages: list[Any]) -> Conversation:
    """Return what the conversation asks for; raise `BadRequest` that names the message if one is malformed."""
    conversation = Conversation()
    texts_only = True
    for index, message in enumerate(messages):
        if not _is_text(message):
            texts_only = False
            _read_message(conversation, message, f"messages[{index}]")
        else:
            _take(conversation, message["role"], message["content"])
    if texts_only:
        conversation.input_bytes += texts_bytes(messages)
    else:
        conversation.input_bytes += json_bytes(
            [_without_media(message) for message in messages] if conversation.media else messages
        )
    return conversation


def _is_text(message: Any) -> bool:
    """Return whether a message is a role and a text and nothing else, as most are."""
    return (
        isinstance(message, dict)
        and len(message) == len(_PLAIN)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
    )


def _take(conversation: Conversation, role: str, text: str) -> None:
    if role in _PRINTED_AS_IT_IS:
        conversation.texts.append(text)
    if role == "user":
        conversation.user_text = text
    elif conversation.user_text is None and text:
        conversation.other_texts.append(text)
    if role in _TOOL_ROLES:
        conversation.required.add(Capability.TOOLS)


def _read_message(conversation: Conversation, message: Any, path: str) -> None:
    if not isinstance(message, dict):
        raise BadRequest(f"`{path}` must be an object with a `role`, not {json_type(message)}.", path, "invalid_type")
    role = message.get("role")
    if not isinstance(role, str):
        raise BadRequest(
            f'`{path}.role` must be a string, such as "user"; it is {json_type(role)}.', f"{path}.role", "invalid_type"
        )
    _take(conversation, role, _content_text(conversation, message.get("content"), f"{path}.content"))
    if not message.keys() <= _PLAIN:
        _read_other_fields(conversation, message, path)


def _content_text(conversation: Conversation, content: Any, path: str) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        raise BadRequest(
            f"`{path}` must be a string or a list of parts, not {json_type(content)}.", path, "invalid_type"
        )
    texts = [_part_text(conversation, part, f"{path}[{index}]") for index, part in enumerate(content)]
    return "\n".join(text for text in texts if text)


def _part_text(conversation: Conversation, part: Any, path: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise BadRequest(f'`{path}` must be an object with a `type`, such as "text".', path, "invalid_type")
    text_field = TEXT_PARTS.get(kind)
    if text_field is None:
        _read_media(conversation, part, kind, path)
        return ""
    text = part.get(text_field)
    if not isinstance(text, str):
        raise BadRequest(f"`{path}.{text_field}` must be a string.", f"{path}.{text_field}", "invalid_type")
    if len(part) > 2 and not (len(part) == 3 and CACHE_MARK in part and is_cache_mark(part[CACHE_MARK])):
        _mark(conversation, f"`{path}` has fields beside `type` and `{text_field}`")
    return text


def _read_media(conversation: Conversation, part: dict[str, Any], kind: str, path: str) -> None:
    capability = MEDIA_PARTS.get(kind)
    if capability is None:
        _mark(conversation, f"`{path}` is of a type that Foresail does not know")
        return
    conversation.media = True
    conversation.required.add(capability)
    if is_held_image(part):
        conversation.images += 1
    elif is_held_audio(part):
        conversation.audio_parts += 1
    else:
        _mark(conversation, f"`{path}` ({kind}) has no bound; only images as `data:` URLs and audio as base64 have one")


def _read_other_fields(conversation: Conversation, message: dict[str, Any], path: str) -> None:
    for name, value in message.items():
        if value is not None and value != [] and name not in MESSAGE_FIELDS:
            if name == "audio":
                conversation.required.add(Capability.AUDIO)
            _mark(conversation, f"`{path}` has a field other than {_KNOWN_FIELDS}")
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise BadRequest(f"`{path}.tool_calls` must be a list.", f"{path}.tool_calls", "invalid_type")
    called = [call.get("function") for call in calls or [] if isinstance(call, dict)]
    if message.get("function_call") is not None:
        called.append(message["function_call"])
    if calls or called:
        conversation.required.add(Capability.TOOLS)
    if len(calls or []) > 1:
        conversation.required.add(Capability.PARALLEL_TOOLS)
    for function in called:
        if isinstance(function, dict):
            conversation.input_bytes += _reprinted(function.get("arguments"))


def _every_pair(pairs: list[tuple[str, Any]]) -> Any:
    value = dict(pairs)
    return value if len(value) == len(pairs) else [piece for pair in pairs for piece in pair]


# A model wrote the arguments, so they are not held to the strictness of a request; of a repeated name, every value counts.
_loose_decoder = json.JSONDecoder(object_pairs_hook=_every_pair)


def _reprinted(arguments: Any) -> int:
    """Return the bytes that a call's arguments grow by if the upstream reads them and prints them anew."""
    if not isinstance(arguments, str):
        return printed_bytes(arguments) - json_bytes(arguments)
    try:
        value = _loose_decoder.decode(arguments)
    except ValueError:
        return 0
    return max(0, printed_bytes(value) - text_bytes(arguments))


def _without_media(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [part for part in content if part["type"] not in MEDIA_PARTS]}


def _mark(conversation: Conversation, why: str) -> None:
    conversation.unpriceable = conversation.unpriceable or why
