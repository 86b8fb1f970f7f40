"""What the data plane learns from settled requests: how many input tokens each model makes of a prompt's bytes.

Owns the mutable side of it; decisions get a frozen value. It must not know requests or where anything is kept.
"""

from __future__ import annotations

from foresail_router.decision.ratios import InputRatios, Reported

_DECAY = 0.98


class Calibrator:
    """Gathers what upstreams report: exponentially weighted sums, long prompts weighing more.

    Not thread-safe; it belongs to one event loop. One small entry per model name ever observed.
    """

    def __init__(self) -> None:
        self.ratios = InputRatios()

    def observe(self, model: str, input_bytes: int, input_tokens: int) -> None:
        """Learn from one settled request that carried no media. Counts that are not positive are ignored."""
        if input_bytes <= 0 or input_tokens <= 0:
            return
        seen = self.ratios.reported.get(model) or Reported()
        now = Reported(
            tokens=seen.tokens * _DECAY + input_tokens,
            input_bytes=seen.input_bytes * _DECAY + input_bytes,
            prior_bytes=seen.prior_bytes * _DECAY,
        )
        self.ratios = InputRatios({**self.ratios.reported, model: now})
