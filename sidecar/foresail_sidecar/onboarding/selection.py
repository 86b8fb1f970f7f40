"""Chooses a few current chat models of a provider from the price list of `genai-prices`, by rule and not by name.

1. Text chat alone: a price per input and per output token, a known context window, not deprecated, no word in the name that
   says otherwise (`embed`, `audio`, `image`, ...), and of the provider's own brand where it has one.
2. Of each family, which is the name without its numbers, the newest version.
3. Of each brand its newest generation, which is the first number of the version, and the one before if that has fewer than three
   models. What has neither version nor date is left out where others of its brand have one.
4. Of these up to four: the cheapest, the dearest that costs at most 100 times as much, and evenly spaced between them by price; of
   models with equal prices the first by name.

Prices are the dearest of any hour of the day, also those of the tiers that hold for long prompts. A context window ends where a price rises
for which a pool has no tier left. It must not know keys or files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_UP, Decimal
from typing import Any, Protocol

MOST_MODELS = 4
# As many as a pool's `price` may have.
MOST_TIERS = 4
MOST_TIMES_DEARER = 100
ENOUGH_OF_ONE_GENERATION = 3
_SMALLEST_PRICE = Decimal("0.000001")
_LARGEST_CONTEXT = 100_000_000
_USABLE_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9._/]{0,126}[A-Za-z0-9])?")
_WORD_OR_NUMBER = re.compile(r"\d+b(?![a-z0-9])|\d+(?:\.\d+)*|[a-z]+")
_SAME_FAMILY = frozenset({"latest", "preview", "exp", "v"})
_NO_TEXT_CHAT = frozenset(
    re.findall(
        r"\w+",
        """
        agent audio base code coder codex coding completion completions computer cyber decider deep diarize embed embedding embeddings
        guard image instruct live moderation native nemoguard ocr realtime rerank research robotics safeguard safety search speech stt
        transcribe translate translation tts veo video vision vl voice voxtral whisper
        """,
    )
)

# What a pool's prices are called in the list.
_LISTED_AS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write_short": "cache_write_mtok",
    "cache_write_long": "cache_write_1h_mtok",
}


class PriceList(Protocol):
    """One model of `genai_prices`, as far as it is used here."""

    id: str
    context_window: int | None
    deprecated: bool | None

    def is_match(self, model_ref: str) -> bool:
        """Return whether a request may name this model so."""
        ...

    def get_prices(self, request_timestamp: datetime) -> Any:
        """Return the prices at a moment."""
        ...


@dataclass(frozen=True, slots=True)
class ChosenPrices:
    """Prices in US dollars per million tokens, at most 6 decimals.

    Those of reading from the provider's cache and of writing to it, for its usual time and for a long one, are None where none is listed.
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal | None
    cache_write_short: Decimal | None
    cache_write_long: Decimal | None


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """One model with its prices, and with those of requests with more input tokens than a number, the smallest number first.

    `whole_window` is the model's own; `context_window` is smaller where there are more prices than tiers.
    """

    name: str
    prices: ChosenPrices
    tiers: tuple[tuple[int, ChosenPrices], ...]
    context_window: int
    whole_window: int

    @property
    def blended_price(self) -> Decimal:
        """Price of a million tokens of which three in four are input."""
        return (3 * self.prices.input + self.prices.output) / 4


def choose_models(models: Iterable[PriceList], brands: Sequence[str], now: datetime) -> tuple[ChosenModel, ...]:
    """Return the chosen models, cheapest first; none if the price list has none that fit."""
    newest: dict[frozenset[str], tuple[_Name, ChosenModel]] = {}
    for listed in models:
        name = _Name(listed.id)
        chosen = _chosen(listed, now) if name.is_chat(brands) else None
        if chosen is None:
            continue
        kept = newest.get(name.family)
        if kept is None or name.age > kept[0].age:
            newest[name.family] = name, chosen
    current = _current_generations(list(newest.values()))
    by_price: dict[Decimal, ChosenModel] = {}
    for model in sorted(current, key=lambda model: (model.blended_price, model.name)):
        by_price.setdefault(model.blended_price, model)
    affordable = [model for price, model in by_price.items() if price <= MOST_TIMES_DEARER * min(by_price)]
    return _spread(affordable)


class _Name:
    """What a model's name tells: its brand, its family and its version."""

    def __init__(self, identifier: str) -> None:
        self._usable = _USABLE_NAME.fullmatch(identifier) is not None
        parts = _WORD_OR_NUMBER.findall(identifier.lower().rsplit("/", 1)[-1])
        self._words = [part for part in parts if not part[0].isdigit()]
        numbers = [part for part in parts if part[0].isdigit() and not part.endswith("b")]
        # A number of three digits or more is a date (0709, 2507, 20260115) or a size, not a version.
        self.version = tuple(int(digit) for part in numbers if len(part.split(".")[0]) < 3 for digit in part.split("."))
        self.dates = tuple(int(part) for part in numbers if part.isdigit() and len(part) >= 3)
        self.brand = self._words[0] if self._words else ""
        self.family = frozenset(self._words) - _SAME_FAMILY

    @property
    def age(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Sorts versions of a family, the newest last."""
        return self.version, self.dates

    def is_chat(self, brands: Sequence[str]) -> bool:
        """Return whether the name speaks of a text chat model of one of the brands."""
        return self._usable and _NO_TEXT_CHAT.isdisjoint(self._words) and (not brands or self.brand in brands)


def _chosen(listed: PriceList, now: datetime) -> ChosenModel | None:
    if listed.deprecated or not listed.context_window or not listed.is_match(listed.id):
        return None
    hours = [listed.get_prices(now + timedelta(hours=hour)) for hour in range(24)]
    found = {kind: [getattr(prices, name, None) for prices in hours] for kind, name in _LISTED_AS.items()}
    if None in found["input"] or None in found["output"]:
        return None
    whole = min(listed.context_window, _LARGEST_CONTEXT)
    tiers = [tier for prices in found.values() for price in prices for tier in getattr(price, "tiers", ())]
    rises = sorted({tier.start for tier in tiers if tier.start < whole})
    return ChosenModel(
        name=listed.id,
        prices=_prices(found, 0),
        tiers=tuple((start, _prices(found, start)) for start in rises[:MOST_TIERS]),
        context_window=whole if len(rises) <= MOST_TIERS else rises[MOST_TIERS],
        whole_window=whole,
    )


def _prices(found: Mapping[str, Sequence[Any]], above_input_tokens: int) -> ChosenPrices:
    """Return the dearest of each kind at any hour, for more input tokens than that."""

    def dearest(kind: str) -> Decimal | None:
        listed = [price for price in found[kind] if price is not None]
        return _rounded(max(_price_above(price, above_input_tokens) for price in listed)) if listed else None

    return ChosenPrices(
        input=dearest("input") or Decimal(0),
        output=dearest("output") or Decimal(0),
        cached_input=dearest("cached_input"),
        cache_write_short=dearest("cache_write_short"),
        cache_write_long=dearest("cache_write_long"),
    )


def _price_above(price: Any, input_tokens: int) -> Decimal:
    reached = [tier for tier in getattr(price, "tiers", ()) if tier.start <= input_tokens]
    if reached:
        return Decimal(max(reached, key=lambda tier: tier.start).price)
    return Decimal(getattr(price, "base", price))


def _rounded(price: Decimal) -> Decimal:
    return price.quantize(_SMALLEST_PRICE, ROUND_UP).normalize()


def _current_generations(named: list[tuple[_Name, ChosenModel]]) -> list[ChosenModel]:
    sizes = Counter((name.brand, name.version[0]) for name, _ in named if name.version)
    oldest: dict[str, int] = {}
    for brand in {brand for brand, _ in sizes}:
        newest = max(generation for other, generation in sizes if other == brand)
        oldest[brand] = newest if sizes[brand, newest] >= ENOUGH_OF_ONE_GENERATION else newest - 1
    kept = []
    for name, model in named:
        if (
            name.brand not in oldest
            or (name.version and name.version[0] >= oldest[name.brand])
            or (not name.version and name.dates)
        ):
            kept.append(model)
    return kept


def _spread(models: list[ChosenModel]) -> tuple[ChosenModel, ...]:
    if len(models) <= MOST_MODELS:
        return tuple(models)
    last = len(models) - 1
    return tuple(models[round(step * last / (MOST_MODELS - 1))] for step in range(MOST_MODELS))
