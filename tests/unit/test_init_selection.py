"""Which models `foresail init` chooses from a price list, and at what prices."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import genai_prices.data
import pytest
import yaml
from genai_prices.types import Tier, TieredPrices

from foresail_sidecar.onboarding.manifests import ProviderModels, pool_text
from foresail_sidecar.onboarding.providers import PROVIDERS
from foresail_sidecar.onboarding.selection import (
    MOST_MODELS,
    MOST_TIMES_DEARER,
    ChosenModel,
    ChosenPrices,
    choose_models,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class Listed:
    """A model as the price list holds one."""

    id: str
    prices: Any = field(default_factory=lambda: priced(1, 2))
    context_window: int | None = 100_000
    deprecated: bool | None = None

    def is_match(self, model_ref: str) -> bool:
        return model_ref == self.id

    def get_prices(self, request_timestamp: datetime) -> Any:
        return self.prices(request_timestamp) if callable(self.prices) else self.prices


def priced(input_price: Any, output_price: Any, **more: Any) -> Any:
    return SimpleNamespace(input_mtok=_decimal(input_price), output_mtok=_decimal(output_price), **more)


def _decimal(price: Any) -> Any:
    return price if price is None or isinstance(price, TieredPrices) else Decimal(str(price))


def chosen(*models: Listed, brands: tuple[str, ...] = ()) -> list[str]:
    return [model.name for model in choose_models(models, brands, NOW)]


def only(model: Listed) -> ChosenModel:
    (found,) = choose_models([model], (), NOW)
    return found


def with_prices(**prices: float) -> list[Listed]:
    return [Listed(name.replace("_", "-"), priced(price, price)) for name, price in prices.items()]


def test_the_newest_version_of_each_family_stays() -> None:
    models = [Listed(f"acme-{version}-mini") for version in ("3", "3-5-latest", "3-20250101", "3-5-preview")]
    assert chosen(*models, Listed("acme-mini-3-7")) == ["acme-mini-3-7"]


def test_old_generations_go_once_the_newest_is_large_enough() -> None:
    old = with_prices(acme_4_tiny=1, acme_4_huge=9)
    assert chosen(*old, *with_prices(acme_5_small=2, acme_5_large=3)) == [
        "acme-4-tiny", "acme-5-small", "acme-5-large", "acme-4-huge",
    ]  # fmt: skip
    newest = with_prices(acme_5_small=2, acme_5_medium=3, acme_5_large=4)
    assert chosen(*old, *newest) == ["acme-5-small", "acme-5-medium", "acme-5-large"]
    assert chosen(*with_prices(acme_2_tiny=1, acme_5_small=2)) == ["acme-5-small"]


def test_dates_and_sizes_are_no_versions() -> None:
    assert chosen(Listed("acme-4-0709"), Listed("acme-4.7")) == ["acme-4.7"]
    assert chosen(Listed("acme-large-2407"), Listed("acme-large-2512")) == ["acme-large-2512"]
    assert chosen(*with_prices(acme_oss_120b=1, acme_5=2)) == ["acme-5"]
    assert chosen(*with_prices(acme_small_2603=1, acme_medium_3=2)) == ["acme-small-2603", "acme-medium-3"]


def test_only_a_providers_own_brand_and_text_chat() -> None:
    others = ["other-5", "acme-5-audio", "acme-embed-5", "ft:acme-5", "acme-5-image-mini", "~acme-5"]
    assert chosen(*map(Listed, others), Listed("acme-5"), brands=("acme",)) == ["acme-5"]
    assert chosen(Listed("maker/acme-5"), Listed("maker/other-1")) == ["maker/acme-5"]


@pytest.mark.parametrize(
    "model",
    [
        Listed("acme-5", deprecated=True),
        Listed("acme-5", context_window=None),
        Listed("acme-5", priced(None, 1)),
        Listed("acme-5", priced(1, None)),
    ],
)
def test_what_cannot_be_used_or_priced_is_left_out(model: Listed) -> None:
    assert chosen(model) == []


def test_a_few_are_spread_from_the_cheapest_to_the_dearest() -> None:
    many = [Listed(f"acme-{name}-5", priced(price, price)) for price, name in enumerate("abcdefghijk", start=1)]
    assert chosen(*many) == ["acme-a-5", "acme-d-5", "acme-h-5", "acme-k-5"]


def test_what_costs_far_more_than_the_cheapest_is_left_out() -> None:
    assert chosen(*with_prices(acme_a_5=1, acme_b_5=100, acme_c_5=101)) == ["acme-a-5", "acme-b-5"]


def test_of_equal_prices_the_first_by_name() -> None:
    assert chosen(*with_prices(acme_b_5=1, acme_a_5=1, acme_c_5=2)) == ["acme-a-5", "acme-c-5"]


def tiered(base: str, *tiers: tuple[int, str]) -> TieredPrices:
    return TieredPrices(base=Decimal(base), tiers=[Tier(start=start, price=Decimal(price)) for start, price in tiers])


def test_a_price_that_rises_with_the_prompt_has_tiers_with_the_prices_of_every_kind() -> None:
    reads = tiered("0.1", (50_000, "0.4"))
    model = only(Listed("acme-5", priced(tiered("1", (20_000, "2")), 3, cache_read_mtok=reads)))
    assert model.prices == ChosenPrices(Decimal(1), Decimal(3), Decimal("0.1"), None, None)
    assert model.tiers == (
        (20_000, ChosenPrices(Decimal(2), Decimal(3), Decimal("0.1"), None, None)),
        (50_000, ChosenPrices(Decimal(2), Decimal(3), Decimal("0.4"), None, None)),
    )
    assert model.context_window == model.whole_window == 100_000


def test_the_window_ends_where_a_price_rises_for_which_no_tier_is_left() -> None:
    rises = tiered("1", *((10_000 * step, str(1 + step)) for step in range(1, 7)))
    model = only(Listed("acme-5", priced(rises, 3)))
    assert [above for above, _ in model.tiers] == [10_000, 20_000, 30_000, 40_000]
    assert (model.context_window, model.whole_window) == (50_000, 100_000)


def test_a_tier_that_no_prompt_reaches_is_left_out() -> None:
    assert only(Listed("acme-5", priced(tiered("1", (100_000, "2")), 3))).tiers == ()


def test_the_dearest_hour_counts() -> None:
    def by_hour(moment: datetime) -> Any:
        return priced(5, 6) if moment.hour == 3 else priced(1, 2)

    model = only(Listed("acme-5", by_hour))
    assert (model.prices.input, model.prices.output) == (5, 6)


def test_the_prices_of_a_cache_are_taken_where_they_are_listed() -> None:
    cached = priced(
        1, 2, cache_read_mtok=Decimal("0.1"), cache_write_mtok=Decimal("1.25"), cache_write_1h_mtok=Decimal(2)
    )
    prices = only(Listed("acme-5", cached)).prices
    assert (prices.cached_input, prices.cache_write_short) == (Decimal("0.1"), Decimal("1.25"))
    assert prices.cache_write_long == 2
    prices = only(Listed("acme-5")).prices
    assert (prices.cached_input, prices.cache_write_short, prices.cache_write_long) == (None, None, None)


def test_prices_are_rounded_up_to_six_decimals() -> None:
    assert only(Listed("acme-5", priced("0.00000049", 1))).prices.input == Decimal("0.000001")


def test_the_pool_says_tiers_and_what_is_not_listed() -> None:
    model = only(Listed("acme-5", priced(tiered("1", (20_000, "2")), 3, cache_read_mtok=Decimal("0.1"))))
    text = pool_text([ProviderModels(PROVIDERS[0], (model,))], "1.0")
    assert "price:  # not in the price list: cacheWriteShort, cacheWriteLong\n" in text
    (written,) = yaml.safe_load(text)["spec"]["models"]
    assert written["price"] == {
        "inputPerMillionTokens": "1.00",
        "cachedInputPerMillionTokens": "0.10",
        "outputPerMillionTokens": "3.00",
        "tiers": [
            {
                "aboveInputTokens": 20_000,
                "inputPerMillionTokens": "2.00",
                "cachedInputPerMillionTokens": "0.10",
                "outputPerMillionTokens": "3.00",
            }
        ],
    }


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_the_real_price_list_gives_each_provider_some(provider: Any) -> None:
    listed = next(entry.models for entry in genai_prices.data.providers if entry.id == provider.name)
    found = choose_models(listed, provider.brands, datetime.now(UTC))
    assert 1 <= len(found) <= MOST_MODELS
    assert found == tuple(sorted(found, key=lambda model: model.blended_price))
    assert found[-1].blended_price <= MOST_TIMES_DEARER * found[0].blended_price
    assert all(model.context_window >= 8192 for model in found)
