"""How many input tokens a prompt is expected to have, learned per model from what upstreams reported.

An estimate for decisions, never a bound. It must not know requests, prices or clocks.
"""

from __future__ import annotations

_PRIOR_TOKENS_PER_BYTE = 0.25
_PRIOR_BYTES = 2000.0
_DECAY = 0.98
_FEWEST_TOKENS_PER_BYTE = 0.01
_MOST_TOKENS_PER_BYTE = 16.0


class InputTokenCalibration:
    """Tokens per byte of each model: an exponentially weighted mean over settled requests, long prompts weighing more.

    Not thread-safe; it belongs to one event loop. One small entry per model name ever observed.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}

    def estimate(self, model: str, input_bytes: int) -> int:
        """Return the expected number of input tokens, at least 1; a model not yet observed counts a quarter token per byte."""
        return max(1, round(input_bytes * self.tokens_per_byte(model)))

    def tokens_per_byte(self, model: str) -> float:
        """Return the present ratio of a model, between 0.01 and 16."""
        tokens, bytes_ = self._seen.get(model, (_PRIOR_TOKENS_PER_BYTE, 1.0))
        return min(max(tokens / bytes_, _FEWEST_TOKENS_PER_BYTE), _MOST_TOKENS_PER_BYTE)

    def observe(self, model: str, input_bytes: int, input_tokens: int) -> None:
        """Learn from one settled request that carried no media. Counts that are not positive are ignored."""
        if input_bytes <= 0 or input_tokens <= 0:
            return
        tokens, bytes_ = self._seen.get(model, (_PRIOR_TOKENS_PER_BYTE * _PRIOR_BYTES, _PRIOR_BYTES))
        self._seen[model] = (tokens * _DECAY + input_tokens, bytes_ * _DECAY + input_bytes)
