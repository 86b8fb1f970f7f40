"""What an answer reports to have used, from a whole body or from one event of a stream. It must not know what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from foresail_sidecar.protocols.answers import Usage

# No request has more: such a report is a defect of the upstream, and counts as none.
_MOST_TOKENS = 1_000_000_000


def usage_in(value: Mapping[str, Any]) -> Usage | None:
    """Return the usage of a decoded body or event, or None. Some servers leave reasoning out of the completion, not out of the total."""
    usage = value.get("usage")
    if not isinstance(usage, Mapping):
        return None
    prompt, completion, total = (usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if not _is_count(prompt) or not _is_count(completion):
        return None
    return Usage(prompt, max(completion, total - prompt) if _is_count(total) else completion)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _MOST_TOKENS
