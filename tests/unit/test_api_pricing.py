"""Prices by kind of token and tiers: what is absent follows another price, and everything becomes whole numbers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from foresail_api.compile import pool_models
from foresail_api.manifests import describe
from foresail_api.pool import ModelPool
from foresail_api.snapshot import SnapshotModel, SnapshotTokenPrices

PLAIN = {"inputPerMillionTokens": "2", "outputPerMillionTokens": "8"}
TIER = {"aboveInputTokens": 1000, "inputPerMillionTokens": "4", "outputPerMillionTokens": "16"}


def compiled(price: dict[str, Any], **fields: Any) -> SnapshotModel:
    model = {
        "name": "small",
        "upstreams": [{"name": "main", "url": "https://models.example/v1"}],
        "contextWindowTokens": 8192,
        "maxOutputTokens": 1024,
        "price": price,
        **fields,
    }
    pool = ModelPool.model_validate({"metadata": {"name": "pool"}, "spec": {"models": [model]}})
    return pool_models(pool)[0]


def tables(price: dict[str, Any]) -> tuple[tuple[int, SnapshotTokenPrices], ...]:
    compiled_price = compiled(price).price
    assert compiled_price is not None
    return compiled_price.tables


def prices(**changes: int) -> SnapshotTokenPrices:
    every = dict.fromkeys(SnapshotTokenPrices.model_fields, 2000000) | {"output": 8_000_000}
    return SnapshotTokenPrices(**(every | changes))


def test_what_has_no_price_of_its_own_costs_what_plain_input_does() -> None:
    assert tables(PLAIN) == ((0, prices()),)


def test_a_long_write_costs_what_a_short_one_does() -> None:
    short = {"cacheWriteShortPerMillionTokens": "2.5"}
    expected = prices(cache_write_short=2_500_000, cache_write_long=2_500_000)
    tier = PLAIN | short | {"aboveInputTokens": 5}
    assert tables(PLAIN | short | {"tiers": [tier]}) == ((0, expected), (5, expected))


def test_every_price_is_taken_as_it_is_also_zero() -> None:
    each = {
        "cachedInputPerMillionTokens": "0",
        "cacheWriteShortPerMillionTokens": "2.5",
        "cacheWriteLongPerMillionTokens": "4",
        "imagePerMillionTokens": "3",
        "audioPerMillionTokens": "0.000001",
    }
    expected = prices(cached_input=0, cache_write_short=2_500_000, cache_write_long=4_000_000, image=3_000_000, audio=1)
    assert tables(PLAIN | each) == ((0, expected),)
    assert tables(PLAIN | {"tiers": [PLAIN | each | {"aboveInputTokens": 5}]})[1] == (5, expected)


def test_tiers_rise_however_they_are_written_and_follow_their_own_input() -> None:
    written = PLAIN | {
        "imagePerMillionTokens": "3",
        "tiers": [TIER | {"aboveInputTokens": 5000, "inputPerMillionTokens": "6"}, TIER],
    }
    (_, base), (first, low), (second, high) = tables(written)
    assert (base.image, first, second) == (3_000_000, 1000, 5000)
    assert low == prices(**dict.fromkeys(SnapshotTokenPrices.model_fields, 4_000_000) | {"output": 16_000_000})
    assert (high.input, high.image, high.cache_write_long) == (6_000_000, 6_000_000, 6_000_000)


@pytest.mark.parametrize(("tokens", "input_price"), [(0, 2), (1000, 2), (1001, 4), (5000, 4), (5001, 6)])
def test_a_tier_holds_above_its_number(tokens: int, input_price: int) -> None:
    higher = TIER | {"aboveInputTokens": 5000, "inputPerMillionTokens": "6"}
    price = compiled(PLAIN | {"tiers": [TIER, higher]}).price
    assert price is not None
    assert price.prices_at(tokens).input == input_price * 10**6


def test_the_maxima_of_media_are_taken_over() -> None:
    model = compiled(PLAIN, tokenCount={"maxTokensPerImage": 1600, "maxTokensPerAudio": 50_000})
    assert (model.max_tokens_per_image, model.max_tokens_per_audio) == (1600, 50_000)
    assert compiled(PLAIN).max_tokens_per_image is None


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (PLAIN | {"tiers": [TIER, TIER]}, "`aboveInputTokens` must be unique in this list: 1000 appears"),
        (PLAIN | {"tiers": [TIER | {"aboveInputTokens": 8192}]}, "must be less than `contextWindowTokens`"),
        (PLAIN | {"tiers": [{"aboveInputTokens": 1, "inputPerMillionTokens": "1"}]}, "outputPerMillionTokens"),
        (PLAIN | {"tiers": [TIER | {"aboveInputTokens": 0}]}, "aboveInputTokens"),
        (PLAIN | {"tiers": [TIER | {"aboveInputTokens": number} for number in range(1, 6)]}, "tiers"),
        (PLAIN | {"imagePerMillionTokens": "1.0000001"}, "imagePerMillionTokens"),
        (PLAIN | {"tiers": [TIER | {"perRequest": "1"}]}, "perRequest"),
    ],
)
def test_a_price_that_cannot_be_is_named(price: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        compiled(price)
    assert words in " ".join(describe(caught.value))
