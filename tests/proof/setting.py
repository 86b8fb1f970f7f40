"""What the proof runs against: two models with three upstreams, their prices, and budgets over them, as manifests.

Owns the proof's own arithmetic of prices, which shares nothing with the product's: what is proven must not be worked out by
what is to be proven. It must not know processes or ledgers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tests.support.configurations import model, policy, pool, write

UID: Final = "default/policy"
TOTAL: Final = "b|total|"
MINUTE: Final = "b|minute|"
SPAN_MS: Final = 60_000
BUCKET_MS: Final = 1_000
LIMIT: Final = 200
OVERHEAD: Final = 64
MESSAGES: Final = [{"role": "user", "content": "Explain how a heat pump works."}]
PROMPT_TOKENS: Final = len(json.dumps(MESSAGES)) + OVERHEAD


@dataclass(frozen=True)
class Price:
    """Micro-dollars per million tokens, which is a thousandth of a nano-dollar for each token."""

    input: int
    cached: int
    output: int

    def nano(self, input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
        """Return the bill in nano-dollars, rounded up once; `cached_tokens` are a part of the input."""
        plain = input_tokens - cached_tokens
        return -(-(plain * self.input + cached_tokens * self.cached + output_tokens * self.output) // 1000)

    def worst(self) -> int:
        """Return the bill of the proof's prompt and an answer as long as it may be."""
        return self.nano(PROMPT_TOKENS, 0, LIMIT)


# Fractions of a nano-dollar for each token, so that rounding shows.
SMALL: Final = Price(270_333, 135_167, 1_111_111)
LARGE: Final = Price(910_007, 455_003, 3_333_337)
# A whole nano-dollar for each token, so that 300 worst cases are an amount that can be written down.
EVEN: Final = Price(1_000_000, 1_000_000, 1_000_000)


@dataclass(frozen=True)
class Upstream:
    """One upstream process: the model that it is, its name there and its price."""

    name: str
    model: str
    price: Price


@dataclass(frozen=True)
class Setting:
    """Which upstreams there are, and the amounts of the budgets in nano-dollars. `clamps`: an answer may be cut to what is left."""

    upstreams: Sequence[Upstream]
    amounts: Mapping[str, int]
    clamps: bool

    @property
    def least_worst_case(self) -> int:
        """The worst case of the cheapest model."""
        return min(upstream.price.worst() for upstream in self.upstreams)


def exact(requests: int) -> Setting:
    """Return one model whose every answer is reserved whole, and a budget for so many worst cases."""
    return Setting((Upstream("a", "small", EVEN),), {TOTAL: requests * EVEN.worst()}, clamps=False)


def faulty(minute: int, total: int) -> Setting:
    """Return two models, one with two upstreams, a budget of a rolling minute and one for all of the time."""
    upstreams = (Upstream("a", "small", SMALL), Upstream("b", "small", SMALL), Upstream("c", "large", LARGE))
    # Amounts are written in micro-dollars.
    return Setting(upstreams, {TOTAL: total // 1000 * 1000, MINUTE: minute // 1000 * 1000}, clamps=True)


def write_manifests(path: Path, setting: Setting, ports: Mapping[str, int], redis_port: int | None) -> None:
    """Write the pool and the policy into one file; `ports` are those of the upstreams by name."""
    models = []
    for name in dict.fromkeys(upstream.model for upstream in setting.upstreams):
        mine = [upstream for upstream in setting.upstreams if upstream.model == name]
        models.append(
            model(
                name,
                upstreams=[_upstream(each.name, ports[each.name]) for each in mine],
                price=None,
                contextWindowTokens=100_000,
                maxOutputTokens=LIMIT,
                minOutputTokens=16 if setting.clamps else LIMIT,
                tokenCount={"overheadTokens": OVERHEAD},
            )
            | {"price": _price(mine[0].price)}
        )
    costs: dict[str, Any] = {"budgets": [_budget(account, amount) for account, amount in setting.amounts.items()]}
    if redis_port is not None:
        costs["ledger"] = {"type": "Redis", "redis": {"url": f"redis://127.0.0.1:{redis_port}"}}
    spec: dict[str, Any] = {"costLimits": costs, "fallback": {"maxAttempts": 3, "retryBudgetPercent": 100}}
    quickly_back = {"consecutiveFailures": 20, "ejectionSeconds": 1}
    served = pool(models)
    served["spec"]["outlierDetection"] = quickly_back
    write(path, served, policy(**spec))


def dollars(nano: int) -> str:
    """Return an amount in US dollars as manifests write it."""
    return f"{Decimal(nano) / 10**9:.6f}"


def _price(price: Price) -> dict[str, str]:
    fields = {"input": price.input, "cachedInput": price.cached, "output": price.output}
    return {f"{name}PerMillionTokens": f"{Decimal(micro) / 10**6:.6f}" for name, micro in fields.items()}


def _upstream(name: str, port: int) -> dict[str, Any]:
    timeouts = {"firstByteSeconds": 3, "idleSeconds": 3, "totalSeconds": 15}
    return {"name": name, "url": f"http://127.0.0.1:{port}/v1", "timeouts": timeouts}


def _budget(account: str, amount: int) -> dict[str, Any]:
    window = {"rolling": {"seconds": SPAN_MS // 1000}} if account == MINUTE else {"calendar": {"unit": "Month"}}
    return {"name": account.split("|")[1], "amount": dollars(amount), "window": window}
