"""The fields of a chat completion request, sorted by what they mean for a cost: none, prompt text, or something without a bound.

Owns the closed sets. It must not know how a body is read.
"""

from __future__ import annotations

from foresail_api.pool import Capability, OutputLimitField

LIMIT_FIELDS = {
    OutputLimitField.MAX_TOKENS: "max_tokens",
    OutputLimitField.MAX_COMPLETION_TOKENS: "max_completion_tokens",
}

# Fields that no upstream turns into input tokens, and that raise no bill beyond prompt, answers and output limit.
NOT_PROMPT = frozenset(
    {
        # What Foresail reads itself.
        *("model", "stream", "stream_options", "n", "best_of", "max_tokens", "max_completion_tokens"),
        *("modalities", "parallel_tool_calls", "service_tier"),
        # Labels and storage.
        *("metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "store", "user"),
        *("cache_prompt", "cache_salt", "id_slot", "priority", "request_id"),
        # Which token comes next.
        *("seed", "random_seed", "temperature", "top_a", "top_k", "top_p", "min_p", "typical_p", "tfs_z", "samplers"),
        *("frequency_penalty", "presence_penalty", "repetition_penalty", "repeat_penalty", "repeat_last_n"),
        *("allowed_token_ids", "logit_bias", "no_repeat_ngram_size"),
        *("dry_allowed_length", "dry_base", "dry_multiplier", "dry_penalty_last_n", "dry_sequence_breakers"),
        *("dynatemp_exponent", "dynatemp_range", "mirostat", "mirostat_eta", "mirostat_tau"),
        *("xtc_probability", "xtc_threshold"),
        # Where an answer ends, inside of its limit.
        *("ignore_eos", "min_tokens", "stop", "stop_token_ids", "include_stop_str_in_output"),
        # How the answer is written down.
        *("logprobs", "top_logprobs", "prompt_logprobs", "n_probs", "post_sampling_probs"),
        *("include_reasoning", "reasoning_format", "separate_reasoning", "stream_reasoning"),
        *("return_token_ids", "return_tokens_as_token_ids", "skip_special_tokens", "spaces_between_special_tokens"),
        *("timings_per_token", "usage"),
    }
)

# Fields that some upstream writes into its prompt, or that shape the answer by a text; their bytes count.
PROMPT = frozenset(
    {
        *("messages", "tools", "functions", "tool_choice", "function_call", "response_format", "documents"),
        *("reasoning_effort", "verbosity", "chat_template_kwargs", "add_generation_prompt", "continue_final_message"),
        *("guided_choice", "guided_decoding_backend", "guided_grammar", "guided_json", "guided_regex"),
        *("guided_whitespace_pattern", "structured_outputs", "structural_tag"),
        *("ebnf", "format", "grammar", "json_schema", "regex"),
    }
)

# A request that has no fields but these needs no closer look: their values say nothing that matters, or are read of every request.
SIMPLE = (NOT_PROMPT | {"messages"}) - {"modalities", "parallel_tool_calls", "service_tier"}

# What a request may set in a chat template. Any other setting could bring a template, or fill the prompt up to a length.
TEMPLATE_SETTINGS = frozenset(
    {
        *("add_generation_prompt", "clear_thinking", "continue_final_message", "enable_thinking"),
        *("reasoning_effort", "thinking", "thinking_mode"),
    }
)

# Fields that would send a request, and a pool's key, elsewhere than the pool says: never forwarded.
ELSEWHERE = frozenset({"api_base", "api_key", "base_url"})

_OTHER_LIMIT = "another output limit; use `max_tokens` or `max_completion_tokens`"
_PROVIDER_TOOL = "run by the provider, at a price of its own"
_STORED = "adds a prompt that is stored elsewhere"
_OTHER_MODEL = "lets the provider choose another model"
_THINKING = "a thinking budget without a number of tokens; use `reasoning_effort`"
_NESTED = "holds fields of a provider's own"

# Fields that make some upstream bill what neither the prompt's bytes nor the output limit bound: no closed set, only those of which more
# can be said than that Foresail does not know them.
UNPRICEABLE = {
    "audio": "audio output has no price",
    "cached_content": _STORED,
    "chat_template": "a chat template of its own can repeat the prompt",
    "conversation": _STORED,
    "custom_llm_provider": _OTHER_MODEL,
    "data_sources": _STORED,
    "enable_search": _PROVIDER_TOOL,
    "extra_body": _NESTED,
    "fallback_models": _OTHER_MODEL,
    "fallbacks": _OTHER_MODEL,
    "generation_config": _NESTED,
    "max_gen_len": _OTHER_LIMIT,
    "max_length": _OTHER_LIMIT,
    "max_new_tokens": _OTHER_LIMIT,
    "max_output_tokens": _OTHER_LIMIT,
    "max_reasoning_tokens": _THINKING,
    "max_tokens_to_sample": _OTHER_LIMIT,
    "model_list": _OTHER_MODEL,
    "models": _OTHER_MODEL,
    "n_cmpl": "another number of answers; use `n`",
    "n_predict": _OTHER_LIMIT,
    "num_predict": _OTHER_LIMIT,
    "num_retries": "a provider that tries again bills every try",
    "num_return_sequences": "another number of answers; use `n`",
    "nvext": _NESTED,
    "options": _NESTED,
    "parameters": _NESTED,
    "plugins": _PROVIDER_TOOL,
    "prediction": "rejected parts of a predicted output are billed beyond the output limit",
    "previous_response_id": _STORED,
    "prompt": _STORED,
    "provider": _OTHER_MODEL,
    "reasoning": _THINKING,
    "reasoning_budget": _THINKING,
    "route": _OTHER_MODEL,
    "safe_prompt": _STORED,
    "sampling_params": _NESTED,
    "search_parameters": _PROVIDER_TOOL,
    "thinking": _THINKING,
    "thinking_budget": _THINKING,
    "thinking_config": _THINKING,
    "use_beam_search": "beams are billed beyond the number of answers",
    "web_search": _PROVIDER_TOOL,
    "web_search_options": _PROVIDER_TOOL,
}

# Service tiers that cost no more than the list price.
LISTED_SERVICE_TIERS = frozenset({"auto", "default", "flex"})

# A name that differs from one of these in case only would be read by some upstreams as the field itself, past our limits.
KNOWN = NOT_PROMPT | PROMPT | UNPRICEABLE.keys()

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
TOOL_FIELDS = CLIENT_TOOLS | {"type", "cache_control"}
