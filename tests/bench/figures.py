"""Pure arithmetic on measured figures: quantiles, medians with their spread, and rounds of figures by row."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Rounds = Sequence[Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median over rounds with the lowest and the highest round."""

    median: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """Return all three, the spread in brackets; the value alone where all rounds agree in what is shown."""
        middle, low, high = (f"{value:,.{digits}f}" for value in (self.median, self.low, self.high))
        return middle if low == high else f"{middle} ({low} to {high})"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share (0 to 1) of all lies, one of the values; 0 if there are none."""
    if not values:
        return 0.0
    return sorted(values)[int(share * (len(values) - 1) + 0.5)]


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def over_rounds(rounds: Rounds, row: str, figure: str, scale: float = 1.0) -> Spread | None:
    """Return a figure of a row, times `scale`, over all rounds that have it; None if none has."""
    values = [scale * each[row][figure] for each in rounds if figure in each.get(row, {})]
    return spread(values) if values else None
