"""What a request costs: predicted, at worst, and the largest output limit that a cap leaves. Whole numbers only, rounded up once.

Prices are whole micro-dollars per million tokens, costs whole nano-dollars. It must not know how tokens were counted or who asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from foresail_api.common import NANO_DOLLARS
from foresail_api.snapshot import Snapshot, SnapshotModel, SnapshotPrice, SnapshotTokenPrices
from foresail_router.decision.counts import InputBound, TokenCounts
from foresail_router.decision.types import NeutralRequest

# What is settled ends here, so that sums of a request's attempts stay exact wherever whole numbers have 53 bits.
MOST_NANO: Final = 2**53 - 1
# What one attempt may reserve at most: with amounts below 10^15 their sums stay below 2^53, too.
MOST_RESERVED_NANO: Final = 2**50

# One micro-dollar per million tokens is a thousandth of a nano-dollar per token.
_UNITS_PER_NANO_DOLLAR = 1000
_NANO_PER_MICRO_DOLLAR = 1000


def cost_of(price: SnapshotPrice, counts: TokenCounts) -> int:
    """Return the cost of one attempt in nano-dollars, at most `MOST_NANO`. The counts are those of all answers to the prompt together."""
    total = counts.input_tokens
    if counts.plain == total:
        return cost_nano(price, total, counts.output_tokens)
    prices = price.prices_at(total)
    units = (
        counts.plain * prices.input
        + counts.cached * prices.cached_input
        + counts.written * max(prices.cache_write_short, prices.cache_write_long)
        + counts.written_short * prices.cache_write_short
        + counts.written_long * prices.cache_write_long
        + counts.image * prices.image
        + counts.audio * prices.audio
        + counts.output_tokens * prices.output
    )
    return min(MOST_NANO, _nano_dollars(units, price))


def cost_nano(price: SnapshotPrice, input_tokens: int, output_tokens: int) -> int:
    """Return the cost of one attempt whose input is of no special kind, in nano-dollars."""
    prices = price.prices_at(input_tokens)
    nano = _nano_dollars(input_tokens * prices.input + output_tokens * prices.output, price)
    return nano if nano < MOST_NANO else MOST_NANO


def bound_input(model: SnapshotModel, request: NeutralRequest) -> InputBound | None:
    """Return the most input tokens that the model's upstreams can bill, or None where there is no telling.

    That is where the pool declares no overhead, no maximum for a kind of media that the request holds, or where the request itself has no bound.
    """
    if model.overhead_tokens is None or request.unpriceable is not None:
        return None
    text = request.input_bytes * model.max_tokens_per_byte
    if model.tokenizer is not None and request.counted is not None:
        tokens = request.counted.tokens.get(model.tokenizer.digest)
        if tokens is not None:
            text = tokens + max(0, request.input_bytes - request.counted.bytes) * model.max_tokens_per_byte
    text += model.overhead_tokens
    if not request.images and not request.audio_parts:
        return InputBound(text)
    image = _media_tokens(request.images, model.max_tokens_per_image)
    audio = _media_tokens(request.audio_parts, model.max_tokens_per_audio)
    return None if image is None or audio is None else InputBound(text, image, audio)


def worst_case(price: SnapshotPrice, bound: InputBound, choices: int, output_limit: int) -> int:
    """Return the most that an upstream can bill, in nano-dollars: every answer as long as its limit, at the dearest prices that can apply."""
    tokens, tables = choices * output_limit, price.tables
    if len(tables) == 1:
        prices = tables[0][1]
        return _nano_dollars(_input_units(prices, bound, bound.total) + tokens * prices.output, price)
    return _nano_dollars(max([units + tokens * output for units, output in _dearest(price, bound)]), price)


def clamp_output_limit(
    price: SnapshotPrice, bound: InputBound, choices: int, output_limit: int, cap: int
) -> int | None:
    """Return the largest limit up to `output_limit` whose worst case is at most `cap` nano-dollars.

    0 if not one output token fits; None if the input alone can cost more than the cap.
    """
    available = (cap - price.request_micro_dollars * _NANO_PER_MICRO_DOLLAR) * _UNITS_PER_NANO_DOLLAR
    limit = output_limit
    for units, output in _dearest(price, bound):
        if units > available:
            return None
        if output:
            limit = min(limit, (available - units) // (choices * output))
    return limit


def _media_tokens(parts: int, most_of_one: int | None) -> int | None:
    if not parts:
        return 0
    return None if most_of_one is None else parts * most_of_one


def _nano_dollars(units: int, price: SnapshotPrice) -> int:
    return -(-units // _UNITS_PER_NANO_DOLLAR) + price.request_micro_dollars * _NANO_PER_MICRO_DOLLAR


def _dearest(price: SnapshotPrice, bound: InputBound) -> list[tuple[int, int]]:
    """Return, for each tier that the input can fall into, the units that its input can cost there, and those of an output token."""
    total, tables = bound.total, price.tables
    reached = []
    for index, (above, prices) in enumerate(tables):
        if index and above >= total:
            break
        most = min(total, tables[index + 1][0]) if index + 1 < len(tables) else total
        reached.append((_input_units(prices, bound, most), prices.output))
    return reached


def _input_units(prices: SnapshotTokenPrices, bound: InputBound, tokens: int) -> int:
    """Return what `tokens` tokens can cost that the bound allows: as many as can be of the dearest kind, then of the next one."""
    # Media can be billed as text, too.
    text = prices.dearest_text
    if not bound.image and not bound.audio:
        return tokens * text
    units = 0
    for rate, most in sorted(((max(text, prices.image), bound.image), (max(text, prices.audio), bound.audio)))[::-1]:
        taken = min(most, tokens)
        units += taken * rate
        tokens -= taken
    return units + tokens * text


def dollars(nano_dollars: int) -> str:
    """Return an amount as a decimal string of US dollars with up to nine decimals, without trailing zeros."""
    whole, rest = divmod(nano_dollars, NANO_DOLLARS)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class CostReference:
    """What makes costs comparable with qualities: the artifact's best single model and its mean token counts per prompt."""

    model: str
    mean_input_tokens: float
    mean_output_tokens: float

    def nano_dollars(self, snapshot: Snapshot) -> int | None:
        """Return its mean cost per prompt at the snapshot's prices, or None where the pool lacks the model or its price."""
        model = snapshot.model(self.model)
        if model is None or model.price is None:
            return None
        return cost_nano(model.price, ceil(self.mean_input_tokens), ceil(self.mean_output_tokens))
