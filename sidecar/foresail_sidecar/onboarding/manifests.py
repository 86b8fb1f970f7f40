"""The text of the two files that `foresail init` writes, with comments that say what to look after.

Owns their wording. It must not know keys, prices' source, or where the files go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from foresail_api.pool import OutputLimitField
from foresail_sidecar.onboarding.providers import Provider
from foresail_sidecar.onboarding.selection import ChosenModel, ChosenPrices

SECRET_KEY = "api-key"  # noqa: S105  the name of a key, not the key
# No price list tells the longest answer; every current chat model gives this much, and a higher limit would be refused by some.
SAFE_OUTPUT_TOKENS = 8192

_POOL_HEAD = """\
# The models that requests can be routed to. Written by `foresail init` from the price list genai-prices {version}:
# check prices with your provider. What the list does not tell is chosen with care and marked below:
#   price            where no price of cached input or of cache writes is listed, such tokens count as input,
#                    and long cache writes as short ones
#   maxOutputTokens  raise it to what the provider documents, if you need longer answers
#   capabilities     add what a model can do, for example [Tools, ParallelTools, JSONSchema, Vision]; a request that needs more
#                    than text goes only to models that say so
#   tokenCount       a cost cap (`costLimits.perRequest` of the policy) needs `tokenCount: {{overheadTokens: N}}`, the tokens that
#                    the provider adds to a request
apiVersion: foresail.dev/v1alpha1
kind: ModelPool
metadata:
  name: models
spec:
  models:
"""

POLICY = """\
# How requests are routed between the models of pool.yaml.
apiVersion: foresail.dev/v1alpha1
kind: RoutingPolicy
metadata:
  name: default
spec:
  poolRef:
    name: models
  # Clients ask for this name; a model's own name passes through to it.
  aliases: [auto]
  router:
    # The cheapest model that can answer. No prompt is read for that: every decision says so.
    # `Default` with `defaultModel: NAME` takes one model wherever it can answer.
    # `Learned` sends each prompt to the model that is worth it; it needs an artifact: see `foresail train --help`.
    strategy: Cheapest
  tenants:
    # Anybody who can connect is answered: keep `foresail serve` on 127.0.0.1, as it is by itself. Without this line callers get 401.
    anonymous: Allow
"""


@dataclass(frozen=True, slots=True)
class ProviderModels:
    """The models that were chosen of one provider."""

    provider: Provider
    models: tuple[ChosenModel, ...]


def pool_text(chosen: Sequence[ProviderModels], version: str) -> str:
    """Return `pool.yaml`. A name that two providers use is told apart by the provider's."""
    text = _POOL_HEAD.format(version=version)
    taken: set[str] = set()
    for group in chosen:
        for model in group.models:
            name = model.name if model.name not in taken else f"{group.provider.name}/{model.name}"
            taken.add(name)
            text += _model_text(name, model, group.provider)
    return text


def amount(price: Decimal) -> str:
    """Return a price as a decimal number with at least two decimals."""
    whole, _, decimals = f"{price:f}".partition(".")
    return f"{whole}.{decimals.ljust(2, '0')}"


def _model_text(name: str, model: ChosenModel, provider: Provider) -> str:
    lines = [
        f"- name: {name}",
        "  upstreams:",
        f"    - name: {provider.name}",
        f"      url: {provider.url}",
        *([] if name == model.name else [f"      model: {model.name}"]),
        *_limit_field(provider),
        "      auth:",
        "        secretRef: {" + f"name: {provider.name}, key: {SECRET_KEY}" + "}",
        f"  price:{_price_remark(model.prices)}",
        *_prices(model.prices, "    "),
        *_tiers(model),
        f"  contextWindowTokens: {model.context_window}{_window_remark(model)}",
        f"  maxOutputTokens: {min(SAFE_OUTPUT_TOKENS, model.context_window)}  # not in the price list",
    ]
    return "".join(f"    {line}\n" for line in lines)


def _limit_field(provider: Provider) -> list[str]:
    usual = provider.output_limit_field == OutputLimitField.MAX_TOKENS
    return [] if usual else [f"      outputLimitField: {provider.output_limit_field}"]


def _listed(prices: ChosenPrices) -> dict[str, Decimal | None]:
    return {
        "input": prices.input,
        "cachedInput": prices.cached_input,
        "cacheWriteShort": prices.cache_write_short,
        "cacheWriteLong": prices.cache_write_long,
        "output": prices.output,
    }


def _prices(prices: ChosenPrices, indent: str) -> list[str]:
    return [
        f'{indent}{name}PerMillionTokens: "{amount(price)}"'
        for name, price in _listed(prices).items()
        if price is not None
    ]


def _price_remark(prices: ChosenPrices) -> str:
    missing = [name for name, price in _listed(prices).items() if price is None]
    return f"  # not in the price list: {', '.join(missing)}" if missing else ""


def _tiers(model: ChosenModel) -> list[str]:
    if not model.tiers:
        return []
    lines = ["    tiers:"]
    for above, prices in model.tiers:
        lines += [f"      - aboveInputTokens: {above}", *_prices(prices, "        ")]
    return lines


def _window_remark(model: ChosenModel) -> str:
    if model.context_window == model.whole_window:
        return ""
    return f"  # the model takes {model.whole_window}, but longer prompts cost more than the prices above"
