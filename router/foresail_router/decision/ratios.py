"""How many input tokens a prompt is expected to have, from what upstreams reported of a model.

An estimate for decisions, never a bound. It must not know requests, prices or clocks, nor how the reports are gathered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from foresail_api.values import value

_PRIOR_TOKENS_PER_BYTE = 0.25
_PRIOR_BYTES = 2000.0
_FEWEST_TOKENS_PER_BYTE = 0.01
_MOST_TOKENS_PER_BYTE = 16.0


@value
class InputMeans:
    """What a model's prompts had on average when outcomes were recorded: billed input tokens, and UTF-8 bytes of the prompt's text."""

    tokens: float
    text_bytes: float

    def expected_tokens(self, text_bytes: int, input_bytes: int) -> float:
        """Return the tokens to expect of a request whose `input_bytes` hold a text of `text_bytes`.

        The mean, and a quarter token for each byte more or less: means alone do not tell a long system prompt from a wasteful tokenizer,
        and the former is the common one. Never less than a quarter token per byte, or what the means say if that is less.
        """
        differing = self.tokens + _PRIOR_TOKENS_PER_BYTE * (text_bytes - self.text_bytes)
        least = min(self.tokens / self.text_bytes, _PRIOR_TOKENS_PER_BYTE) * text_bytes
        return max(differing, least) + _PRIOR_TOKENS_PER_BYTE * max(0, input_bytes - text_bytes)


@value
class Reported:
    """The weighted sums of what was reported of one model: billed input tokens, the bytes of their prompts, and what the prior still weighs."""

    tokens: float = 0.0
    input_bytes: float = 0.0
    prior_bytes: float = _PRIOR_BYTES


@value
class InputRatios:
    """Tokens per byte of each model, from the sums `reported`; of a model that is not in them, what is known from elsewhere."""

    reported: Mapping[str, Reported] = field(default_factory=dict)

    def estimate(self, model: str, input_bytes: int, expected_tokens: float | None = None) -> int:
        """Return the expected number of input tokens, at least 1.

        `expected_tokens` is what is known of such a prompt from elsewhere; it counts until the model has been observed on some prompts.
        Without it an unobserved model counts a quarter token per byte.
        """
        prior = None if expected_tokens is None or input_bytes <= 0 else expected_tokens / input_bytes
        return max(1, round(input_bytes * self.tokens_per_byte(model, prior)))

    def tokens_per_byte(self, model: str, prior: float | None = None) -> float:
        """Return the present ratio of a model, between 0.01 and 16."""
        seen = self.reported.get(model, _NOTHING)
        expected = (_PRIOR_TOKENS_PER_BYTE if prior is None else prior) * seen.prior_bytes
        ratio = (expected + seen.tokens) / (seen.prior_bytes + seen.input_bytes)
        if ratio < _FEWEST_TOKENS_PER_BYTE:
            return _FEWEST_TOKENS_PER_BYTE
        return _MOST_TOKENS_PER_BYTE if ratio > _MOST_TOKENS_PER_BYTE else ratio


_NOTHING = Reported()
