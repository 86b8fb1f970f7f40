"""What the data plane learns from settled requests: how many input tokens each model makes of a prompt's bytes.

Owns the mutable side of it, and how what several processes learned becomes one; decisions get a frozen value. It must not know requests
or where anything is kept.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import astuple, dataclass
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from foresail_router.decision.ratios import InputRatios, Reported

_DECAY = 0.98
_Sum = Annotated[float, Field(gt=0, le=1e18)]
# By model: tokens, bytes, and what the prior still weighs.
_KEPT: Final = TypeAdapter(dict[str, tuple[_Sum, _Sum, Annotated[float, Field(ge=0, le=1e18)]]])


@dataclass(slots=True)
class _Gathered:
    """What was reported of one model since the last merge: how many reports, and their weighted sums."""

    reports: int = 0
    tokens: float = 0.0
    input_bytes: float = 0.0


class Calibrator:
    """Gathers what upstreams report: exponentially weighted sums, long prompts weighing more.

    Not thread-safe; it belongs to one event loop. One small entry per model name that was observed since the last merge, or is served.
    """

    def __init__(self) -> None:
        self.ratios = InputRatios()
        self._gathered: dict[str, _Gathered] = {}

    def observe(self, model: str, input_bytes: int, input_tokens: int) -> None:
        """Learn from one settled request that carried no media. Counts that are not positive are ignored."""
        if input_bytes <= 0 or input_tokens <= 0:
            return
        gathered = self._gathered.setdefault(model, _Gathered())
        gathered.reports += 1
        gathered.tokens = gathered.tokens * _DECAY + input_tokens
        gathered.input_bytes = gathered.input_bytes * _DECAY + input_bytes
        seen = self.ratios.reported.get(model) or Reported()
        now = Reported(
            tokens=seen.tokens * _DECAY + input_tokens,
            input_bytes=seen.input_bytes * _DECAY + input_bytes,
            prior_bytes=seen.prior_bytes * _DECAY,
        )
        self.ratios = InputRatios({**self.ratios.reported, model: now})

    def merge(self, kept: str | None, models: Collection[str]) -> str | None:
        """Go on from what is kept, as if all that was observed since the last merge had been observed after it.

        Returns what is to be kept instead, None if nothing was observed. Only `models` are remembered: those that are served. Of
        two processes that merge at the same moment, one loses what it observed since its last merge; nothing else.
        """
        others = _read(kept)
        merged = {}
        for model in models:
            base, since = others.get(model), self._gathered.get(model)
            known = self.ratios.reported.get(model) if base is None else _continued(base, since)
            if known is not None:
                merged[model] = known
        observed = not self._gathered.keys().isdisjoint(models)
        self._gathered.clear()
        self.ratios = InputRatios(merged)
        return json.dumps({model: astuple(sums) for model, sums in merged.items()}) if observed else None


def _continued(base: Reported, since: _Gathered | None) -> Reported:
    if since is None:
        return base
    left = _DECAY**since.reports
    return Reported(
        tokens=base.tokens * left + since.tokens,
        input_bytes=base.input_bytes * left + since.input_bytes,
        prior_bytes=base.prior_bytes * left,
    )


def _read(kept: str | None) -> dict[str, Reported]:
    """Return what was kept; what cannot be read is nothing, for an estimate is learned again soon."""
    if kept is None:
        return {}
    try:
        return {model: Reported(*sums) for model, sums in _KEPT.validate_json(kept).items()}
    except ValidationError:
        return {}
