"""How many input tokens a prompt is expected to have, learned per model from what upstreams reported.

An estimate for decisions, never a bound. It must not know requests, prices or clocks.
"""

from __future__ import annotations

from dataclasses import dataclass

_PRIOR_TOKENS_PER_BYTE = 0.25
_PRIOR_BYTES = 2000.0
_DECAY = 0.98
_FEWEST_TOKENS_PER_BYTE = 0.01
_MOST_TOKENS_PER_BYTE = 16.0


@dataclass(frozen=True, slots=True)
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


class InputTokenCalibration:
    """Tokens per byte of each model: an exponentially weighted mean over settled requests, long prompts weighing more.

    Not thread-safe; it belongs to one event loop. One small entry per model name ever observed.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float, float]] = {}

    def estimate(self, model: str, input_bytes: int, expected_tokens: float | None = None) -> int:
        """Return the expected number of input tokens, at least 1.

        `expected_tokens` is what is known of such a prompt from elsewhere; it counts until the model has been observed on some prompts.
        Without it an unobserved model counts a quarter token per byte.
        """
        prior = None if expected_tokens is None or input_bytes <= 0 else expected_tokens / input_bytes
        return max(1, round(input_bytes * self.tokens_per_byte(model, prior)))

    def tokens_per_byte(self, model: str, prior: float | None = None) -> float:
        """Return the present ratio of a model, between 0.01 and 16."""
        tokens, bytes_, prior_bytes = self._seen.get(model, (0.0, 0.0, _PRIOR_BYTES))
        expected = (_PRIOR_TOKENS_PER_BYTE if prior is None else prior) * prior_bytes
        return min(max((expected + tokens) / (prior_bytes + bytes_), _FEWEST_TOKENS_PER_BYTE), _MOST_TOKENS_PER_BYTE)

    def observe(self, model: str, input_bytes: int, input_tokens: int) -> None:
        """Learn from one settled request that carried no media. Counts that are not positive are ignored."""
        if input_bytes <= 0 or input_tokens <= 0:
            return
        tokens, bytes_, prior_bytes = self._seen.get(model, (0.0, 0.0, _PRIOR_BYTES))
        self._seen[model] = (tokens * _DECAY + input_tokens, bytes_ * _DECAY + input_bytes, prior_bytes * _DECAY)
