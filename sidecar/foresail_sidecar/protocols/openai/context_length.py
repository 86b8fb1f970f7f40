"""Whether an upstream refused a request because its prompt is too long. It must not know what follows from that."""

from __future__ import annotations

import re

from foresail_sidecar.protocols.openai.bodies import UpstreamError

_CODES = frozenset(
    {"context_length_exceeded", "string_above_max_length", "request_too_large", "context_window_exceeded"}
)
# Servers that send no code of their own; the words are those of the common ones.
_WORDS = re.compile(
    r"context[ _-]?(?:length|window|size)|maximum context|max_model_len|prompt is too long|input is too long"
    r"|too many (?:input )?tokens|input (?:token count|length).{0,40}exceed|exceeds? the (?:maximum|max) (?:number of )?(?:input )?tokens",
    re.IGNORECASE,
)


def is_context_length(said: UpstreamError) -> bool:
    """Return whether the error is about the length of the prompt."""
    return said.code in _CODES or _WORDS.search(said.message) is not None
