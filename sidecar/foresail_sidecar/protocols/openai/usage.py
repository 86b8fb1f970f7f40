"""What an answer reports to have used, from a whole body or from one event of a stream. It must not know what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from foresail_router.decision.counts import TokenCounts

# No request has more: such a report is a defect of the upstream, and counts as none.
_MOST_TOKENS = 1_000_000_000
_CACHES = frozenset({"cache_creation", "cache_creation_input_tokens", "cache_read_input_tokens"})
# Reads that some servers name beside the prompt's tokens, and count among them.
_READS = ("prompt_cache_hit_tokens", "cached_tokens")
_CACHE_WRITES = ("cache_write_tokens", "cache_creation_tokens")
_LONG_WRITE, _SHORT_WRITE = "ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens"


def usage_in(value: Mapping[str, Any]) -> TokenCounts | None:
    """Return the usage of a decoded body or event, or None. Some servers leave reasoning out of the completion, not out of the total."""
    usage = value.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt, completion, total = usage.get("prompt_tokens"), usage.get("completion_tokens"), usage.get("total_tokens")
    if not _is_count(prompt) or not _is_count(completion):
        return None
    details = _mapping(usage, "prompt_tokens_details")
    apart = not _CACHES.isdisjoint(usage)
    if apart:
        prompt = _whole_prompt(prompt, usage)
    output = max(completion, total - prompt) if _is_count(total) else completion
    if not details and not apart and usage.keys().isdisjoint(_READS):
        return TokenCounts(plain=prompt, output_tokens=output)
    return _by_kind(prompt, output, usage, details)


def _whole_prompt(prompt: int, usage: Mapping[str, Any]) -> int:
    """Return all input tokens. Servers that name the caches' tokens as Anthropic does may leave them out of the prompt, as it does.

    That shows where these, none of which is counted twice, are more than the prompt: cut to it, they would go unbilled.
    """
    creation = _mapping(usage, "cache_creation")
    told = sum(_count(creation, name) for name in (_LONG_WRITE, _SHORT_WRITE))
    apart = max(told, _count(usage, "cache_creation_input_tokens")) + _count(usage, "cache_read_input_tokens")
    return prompt + apart if apart > prompt else prompt


def _by_kind(prompt: int, output: int, usage: Mapping[str, Any], details: Mapping[str, Any]) -> TokenCounts:
    """Divide the prompt's tokens by kind. Where the kinds sum up to more than the prompt, those that cost least give way."""
    creation = _mapping(usage, "cache_creation") or _mapping(details, "cache_creation")
    left = prompt

    def take(tokens: int) -> int:
        nonlocal left
        taken = min(tokens, left)
        left -= taken
        return taken

    long = take(_count(creation, _LONG_WRITE))
    short = take(_count(creation, _SHORT_WRITE))
    told = max(_count(usage, "cache_creation_input_tokens"), *(_count(details, name) for name in _CACHE_WRITES))
    written = take(max(0, told - long - short))
    audio = take(_count(details, "audio_tokens"))
    image = take(_count(details, "image_tokens"))
    reads = [_count(usage, name) for name in ("cache_read_input_tokens", *_READS)]
    cached = take(max(_count(details, "cached_tokens"), *reads))
    return TokenCounts(left, cached, written, short, long, image, audio, output)


def _mapping(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _count(value: Mapping[str, Any], name: str) -> int:
    found = value.get(name)
    return found if _is_count(found) else 0


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _MOST_TOKENS
