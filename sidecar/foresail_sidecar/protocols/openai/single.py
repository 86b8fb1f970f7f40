"""A request of our own with one prompt, and the text and usage of its answer, as OpenAI's chat completions have them.

It must not know connections, or why the prompt is asked.
"""

from __future__ import annotations

import json
from typing import Any

from foresail_api.pool import OutputLimitField
from foresail_sidecar.protocols.answers import Usage
from foresail_sidecar.protocols.openai.fields import LIMIT_FIELDS


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


def read_single_answer(body: bytes) -> tuple[str, Usage | None]:
    """Return an answer's text, empty where the model wrote none, and its usage; raise `ValueError` if it is not a chat completion."""
    try:
        parsed = json.loads(body)
        content = parsed["choices"][0]["message"].get("content")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("is not a chat completion") from error
    return _text(content), _usage(parsed.get("usage"))


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    input_tokens, output_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(input_tokens) is not int or type(output_tokens) is not int or min(input_tokens, output_tokens) < 0:
        return None
    return Usage(input_tokens, output_tokens)
