"""What in the fields of a request has no bound on its cost. Only what is known to have one passes: a cap is a guarantee.

Owns the judgement of fields beside `messages`. It must not know prices, nor whether a cap applies.
"""

from __future__ import annotations

from typing import Any

from foresail_sidecar.protocols.openai.caching import CACHE_MARK, is_cache_mark
from foresail_sidecar.protocols.openai.fields import (
    CLIENT_TOOLS,
    LISTED_SERVICE_TIERS,
    NOT_PROMPT,
    PROMPT,
    TEMPLATE_SETTINGS,
    TOOL_FIELDS,
    UNPRICEABLE,
)
from foresail_sidecar.protocols.openai.quoting import field_name, shown
from foresail_sidecar.protocols.openai.thinking import is_bounded_thinking

_UNKNOWN = "Foresail does not know what it costs; leave it out, or use a policy without limits on costs"


def what_is_unbounded(fields: dict[str, Any]) -> str | None:
    """Return why no bound on a request's cost can be given, naming the field and what to do, or None if one can.

    `modalities`, `tools` and `functions` are lists or null.
    """
    for name, value in fields.items():
        if value is None or name in NOT_PROMPT or name in PROMPT or is_bounded_thinking(name, value):
            continue
        return f"{field_name(name)}: {UNPRICEABLE.get(name, _UNKNOWN)}"
    tier = fields.get("service_tier")
    if tier is not None and not (isinstance(tier, str) and tier in LISTED_SERVICE_TIERS):
        return f"`service_tier` {shown(tier)}: it can cost more than the list price"
    other = [modality for modality in fields.get("modalities") or [] if modality != "text"]
    if other:
        return f"`modalities` {shown(other[0])}: only text has a price"
    for index, tool in enumerate(fields.get("tools") or []):
        if not _run_by_client(tool):
            return f"`tools[{index}]`: run by the provider, at a price of its own, or unknown"
    if not _only_known_settings(fields.get("chat_template_kwargs")):
        return (
            f"`chat_template_kwargs`: only these have a bound, as single values: {', '.join(sorted(TEMPLATE_SETTINGS))}"
        )
    return None


def _run_by_client(tool: Any) -> bool:
    if not isinstance(tool, dict) or not tool.keys() <= TOOL_FIELDS or CLIENT_TOOLS.isdisjoint(tool):
        return False
    if not is_cache_mark(tool.get(CACHE_MARK)):
        return False
    kind = tool.get("type", "function")
    return isinstance(kind, str) and kind in CLIENT_TOOLS


def _only_known_settings(settings: Any) -> bool:
    if settings is None:
        return True
    return (
        isinstance(settings, dict)
        and settings.keys() <= TEMPLATE_SETTINGS
        and not any(isinstance(value, dict | list) for value in settings.values())
    )
