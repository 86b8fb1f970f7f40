"""The part of `compile` about prices: from decimal dollars as users write them to the whole numbers of a snapshot. Pure.

Owns what an absent price of a tier follows. It must not know the rest of either kind.
"""

from __future__ import annotations

from foresail_api.common import micro_dollars
from foresail_api.pricing import Price, PriceTier
from foresail_api.snapshot import SnapshotPrice, SnapshotTier, SnapshotTokenPrices


def compiled_price(price: Price | None) -> SnapshotPrice | None:
    """Return the prices of a model, its tiers in rising order; None where it has none."""
    if price is None:
        return None
    return SnapshotPrice(
        input_micro_dollars=micro_dollars(price.input_per_million_tokens),
        output_micro_dollars=micro_dollars(price.output_per_million_tokens),
        request_micro_dollars=micro_dollars(price.per_request),
        cached_input_micro_dollars=_optional(price.cached_input_per_million_tokens),
        cache_write_short_micro_dollars=_optional(price.cache_write_short_per_million_tokens),
        cache_write_long_micro_dollars=_optional(price.cache_write_long_per_million_tokens),
        image_micro_dollars=_optional(price.image_per_million_tokens),
        audio_micro_dollars=_optional(price.audio_per_million_tokens),
        tiers=tuple(_tier(tier) for tier in sorted(price.tiers, key=lambda tier: tier.above_input_tokens)),
    )


def _tier(tier: PriceTier) -> SnapshotTier:
    plain = tier.input_per_million_tokens
    short = tier.cache_write_short_per_million_tokens or plain
    prices = SnapshotTokenPrices(
        input=micro_dollars(plain),
        output=micro_dollars(tier.output_per_million_tokens),
        cached_input=micro_dollars(tier.cached_input_per_million_tokens or plain),
        cache_write_short=micro_dollars(short),
        cache_write_long=micro_dollars(tier.cache_write_long_per_million_tokens or short),
        image=micro_dollars(tier.image_per_million_tokens or plain),
        audio=micro_dollars(tier.audio_per_million_tokens or plain),
    )
    return SnapshotTier(above_input_tokens=tier.above_input_tokens, prices=prices)


def _optional(amount: str | None) -> int | None:
    return None if amount is None else micro_dollars(amount)
