"""Chooses a few current chat models of a provider from the price list of `genai-prices`, by rule and not by name.

1. Text chat alone: a price per input and per output token, a known context window, not deprecated, no word in the name that
   says otherwise (`embed`, `audio`, `image`, ...), and of the provider's own brand where it has one.
2. Of each family, which is the name without its numbers, the newest version.
3. Of each brand its newest generation, which is the first number of the version, and the one before if that has fewer than three
   models. What has neither version nor date is left out where others of its brand have one.
4. Of these up to four: the cheapest, the dearest that costs at most 100 times as much, and evenly spaced between them by price; of
   models with equal prices the first by name.

Prices are the dearest of any hour of the day. Where a price rises with the length of the prompt, the context window ends where it rises.
It must not know keys or files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_UP, Decimal
from typing import Any, Protocol

MOST_MODELS = 4
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
class ChosenModel:
    """One model with its prices in US dollars per million tokens, at most 6 decimals, and where they hold.

    `context_window` is where the price would rise, if that is before the model's own window ends: then `whole_window` is that.
    The prices of reading from the provider's cache and of writing to it, for its usual time and for a long one, are None where none is listed.
    """

    name: str
    input_price: Decimal
    output_price: Decimal
    context_window: int
    whole_window: int
    cached_input_price: Decimal | None
    cache_write_price: Decimal | None
    long_cache_write_price: Decimal | None

    @property
    def blended_price(self) -> Decimal:
        """Price of a million tokens of which three in four are input."""
        return (3 * self.input_price + self.output_price) / 4


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
    inputs, outputs = ([getattr(prices, f"{kind}_mtok", None) for prices in hours] for kind in ("input", "output"))
    if any(price is None for price in (*inputs, *outputs)):
        return None
    reads, writes, long_writes = (
        [price for prices in hours if (price := getattr(prices, f"cache_{kind}_mtok", None)) is not None]
        for kind in ("read", "write", "write_1h")
    )
    rises = [
        tier.start
        for price in (*inputs, *outputs, *reads, *writes, *long_writes)
        for tier in getattr(price, "tiers", ())
    ]
    whole = min(listed.context_window, _LARGEST_CONTEXT)
    return ChosenModel(
        name=listed.id,
        input_price=_dearest(inputs),
        output_price=_dearest(outputs),
        context_window=min([whole, *rises]),
        whole_window=whole,
        cached_input_price=_dearest(reads) if reads else None,
        cache_write_price=_dearest(writes) if writes else None,
        long_cache_write_price=_dearest(long_writes) if long_writes else None,
    )


def _dearest(prices: Sequence[Any]) -> Decimal:
    return _rounded(max(_base(price) for price in prices))


def _base(price: Any) -> Decimal:
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
