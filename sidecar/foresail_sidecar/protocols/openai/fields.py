"""The fields of a chat completion request, sorted by what they mean for a cost: none, prompt text, or something without a bound.

Owns the closed sets. It must not know how a body is read.
"""

from __future__ import annotations

from foresail_api.pool import Capability, OutputLimitField

LIMIT_FIELDS = {
    OutputLimitField.MAX_TOKENS: "max_tokens",
    OutputLimitField.MAX_COMPLETION_TOKENS: "max_completion_tokens",
}

# Fields that no upstream turns into input tokens. Whatever is neither here nor below counts as prompt text.
NOT_PROMPT = frozenset(
    {
        "best_of",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "min_p",
        "modalities",
        "model",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "repetition_penalty",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
    }
)

# Fields that decide about cost, limits or routing. A name that differs from one of these in case only would be read by some upstreams
# as the field itself, past our limits.
DECISIVE = NOT_PROMPT | {
    "function_call",
    "functions",
    "messages",
    "reasoning_effort",
    "response_format",
    "tool_choice",
    "tools",
    "verbosity",
}

_OTHER_LIMIT = "another output limit; use `max_tokens` or `max_completion_tokens`"
_PROVIDER_TOOL = "run by the provider, at a price of its own"
_STORED = "adds a prompt that is stored elsewhere"

# Fields that make some upstream bill what neither the prompt's bytes nor the output limit bound.
UNPRICEABLE = {
    "audio": "audio output has no price",
    "cached_content": _STORED,
    "chat_template": "a chat template of its own can repeat the prompt",
    "conversation": _STORED,
    "data_sources": _STORED,
    "enable_search": _PROVIDER_TOOL,
    "extra_body": "holds fields of a provider's own",
    "max_gen_len": _OTHER_LIMIT,
    "max_length": _OTHER_LIMIT,
    "max_new_tokens": _OTHER_LIMIT,
    "max_output_tokens": _OTHER_LIMIT,
    "max_tokens_to_sample": _OTHER_LIMIT,
    "models": "lets the provider choose another model",
    "n_cmpl": "another number of answers; use `n`",
    "n_predict": _OTHER_LIMIT,
    "num_predict": _OTHER_LIMIT,
    "num_return_sequences": "another number of answers; use `n`",
    "options": "holds fields of a provider's own",
    "plugins": _PROVIDER_TOOL,
    "prediction": "rejected parts of a predicted output are billed beyond the output limit",
    "previous_response_id": _STORED,
    "prompt": _STORED,
    "search_parameters": _PROVIDER_TOOL,
    "thinking": "a thinking budget of its own; use `reasoning_effort`",
    "thinking_budget": "a thinking budget of its own; use `reasoning_effort`",
    "use_beam_search": "beams are billed beyond the number of answers",
    "web_search": _PROVIDER_TOOL,
    "web_search_options": _PROVIDER_TOOL,
}

# Service tiers that cost no more than the list price.
LISTED_SERVICE_TIERS = frozenset({"auto", "default", "flex"})

CONTROL_NAMES = frozenset(name.casefold() for name in DECISIVE | UNPRICEABLE.keys())

# Fields of a message that are text, or say which part of it is.
MESSAGE_FIELDS = frozenset(
    {
        "annotations",
        "content",
        "function_call",
        "name",
        "reasoning",
        "reasoning_content",
        "refusal",
        "role",
        "tool_call_id",
        "tool_calls",
    }
)

# Parts of a message's content that are text: the type, and the field that holds it.
TEXT_PARTS = {"text": "text", "refusal": "refusal"}

# Parts that are media, and what a model must be able to read for each.
MEDIA_PARTS = {"image_url": Capability.VISION, "input_audio": Capability.AUDIO, "file": Capability.FILES}

# Tools that the client runs. A provider runs any other, at a price of its own.
CLIENT_TOOLS = frozenset({"function", "custom"})
TOOL_FIELDS = CLIENT_TOOLS | {"type"}
