"""A request of our own with one prompt, and the text and usage of its answer, as OpenAI's chat completions have them.

It must not know connections, or why the prompt is asked.
"""

from __future__ import annotations

import json
from typing import Any

from foresail_api.pool import OutputLimitField
from foresail_router.decision.counts import TokenCounts
from foresail_sidecar.protocols.openai.fields import LIMIT_FIELDS
from foresail_sidecar.protocols.openai.usage import usage_in


def single_prompt_body(
    prompt: str, *, model: str, limit_field: OutputLimitField, output_limit: int, temperature: float | None
) -> bytes:
    """Return the request that puts `prompt` as the only message; no temperature is sent where it is None."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        LIMIT_FIELDS[limit_field]: output_limit,
    }
    if temperature is not None:
        body["temperature"] = temperature
    return json.dumps(body, ensure_ascii=False).encode()


def read_single_answer(body: bytes) -> tuple[str, TokenCounts | None]:
    """Return an answer's text, empty where the model wrote none, and its usage; raise `ValueError` if it is not a chat completion."""
    try:
        parsed = json.loads(body)
        content = parsed["choices"][0]["message"].get("content")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("is not a chat completion") from error
    return _text(content), usage_in(parsed)


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
