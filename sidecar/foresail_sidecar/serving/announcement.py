"""What `foresail serve` prints once it listens: what is served, what it costs, how to call it, what to look after.

Owns the text. It must not know where its values come from.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from decimal import Decimal

from foresail_api.policy import Strategy
from foresail_api.snapshot import Snapshot, SnapshotModel, SnapshotPrice
from foresail_sidecar.configuration.state import ServingState

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  named here, not listened on


def base_url(host: str, port: int) -> str:
    """Return the URL that an OpenAI client on this machine takes as its `base_url`."""
    reachable = _EVERY_ADDRESS.get(host, host)
    return f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}/v1"


def announcement(version: str, state: ServingState, host: str, port: int, warnings: Sequence[str]) -> str:
    """Return the text, in one readable block."""
    snapshot = state.snapshot
    facts = [
        ("policy", f"{snapshot.namespace}/{snapshot.policy}"),
        ("pool", f"{snapshot.pool}, {len(snapshot.models)} model{'s' * (len(snapshot.models) != 1)}"),
        ("strategy", _strategy(state)),
        ("objective", _objective(snapshot) if snapshot.router.strategy == Strategy.LEARNED else ""),
        ("cap", _cap(snapshot)),
        ("tenants", _tenants(state)),
        ("ask for", f"{' or '.join(snapshot.aliases)}; a model's own name passes through"),
        ("URL", base_url(host, port)),
    ]
    lines = [f"Foresail {version} is serving", ""]
    lines += [f"  {name:<11}{value}" for name, value in facts if value]
    lines += ["", *_models(snapshot), "", *_calls(snapshot, base_url(host, port))]
    told = [*_access_warnings(snapshot, host), *warnings]
    lines += ["", *(f"  warning: {warning}" for warning in told)] if told else []
    return "\n".join(lines) + "\n"


def dollars(micro_dollars: int) -> str:
    """Return whole millionths of a dollar as a decimal amount, with at least two decimals."""
    whole, _, decimals = f"{Decimal(micro_dollars).scaleb(-6):f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def _strategy(state: ServingState) -> str:
    if state.artifact is not None:
        return f"{state.snapshot.router.strategy} ({state.artifact.method}, {state.artifact.digest[:19]}…)"
    default = state.snapshot.router.default_model
    return f"{state.snapshot.router.strategy}{f', default model {default}' if default else ''}"


def _objective(snapshot: Snapshot) -> str:
    objective = snapshot.objective
    if objective.kind == "Tradeoff":
        return f"predicted quality against cost, cost weight {objective.percent} %"
    return f"the cheapest model within {objective.percent} % of the best predicted quality"


def _cap(snapshot: Snapshot) -> str:
    cap = snapshot.per_request_nano_dollars
    return "" if cap is None else f"${dollars(cap // 1000)} per request, at worst"


def _tenants(state: ServingState) -> str:
    if state.snapshot.tenants.secret_name is None:
        return ""
    keys = state.tenants.by_hash.values()
    tenants = {key.tenant for key in keys}
    return f"{len(tenants)} with {len(keys)} API key{'s' * (len(keys) != 1)}"


def _models(snapshot: Snapshot) -> list[str]:
    rows = [("model", "$ per million tokens in / out", "context", "upstream")]
    rows += [
        (model.name, _price(model.price), f"{model.context_window_tokens:,}", _upstreams(model))
        for model in snapshot.models
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ["  " + "  ".join([*map(str.ljust, row, widths), row[3]]) for row in rows]


def _price(price: SnapshotPrice | None) -> str:
    if price is None:
        return "unknown"
    each = f" + {dollars(price.request_micro_dollars)} per request" if price.request_micro_dollars else ""
    return f"{dollars(price.input_micro_dollars)} / {dollars(price.output_micro_dollars)}{each}"


def _upstreams(model: SnapshotModel) -> str:
    others = len(model.upstreams) - 1
    return f"{model.upstreams[0].url}{f' and {others} more' if others else ''}"


def _calls(snapshot: Snapshot, url: str) -> list[str]:
    alias = snapshot.aliases[0]
    body = json.dumps({"model": alias, "messages": [{"role": "user", "content": "Hello"}]})
    keyed = snapshot.tenants.secret_name is not None and not snapshot.anonymous_allowed
    key_header = " -H 'authorization: Bearer YOUR-KEY'" if keyed else ""
    key_used = "your API key as its key" if keyed else "its key is not used"
    key = "YOUR-KEY" if keyed else "unused"
    return [
        "  Ask it with curl:",
        f"    curl {url}/chat/completions -H 'content-type: application/json'{key_header} \\",
        f"      -d '{body}'",
        f"  or with OpenAI's SDK ({key_used}):",
        f'    client = openai.OpenAI(base_url="{url}", api_key="{key}")',
        f'    client.chat.completions.create(model="{alias}", messages=[{{"role": "user", "content": "Hello"}}])',
        "  See what it would choose, without asking any model: the same body to",
        f"    {url}/route",
    ]


def _access_warnings(snapshot: Snapshot, host: str) -> list[str]:
    if not snapshot.anonymous_allowed:
        if snapshot.tenants.secret_name is not None:
            return []
        return [
            "every caller gets status 401: name tenants with `tenants.apiKeys` in the policy, or let anybody in who can connect "
            "with `tenants.anonymous: Allow`"
        ]
    if _is_loopback(host):
        return ["anybody on this machine may call and spend: the policy says `tenants.anonymous: Allow`"]
    return [f"anybody who can reach {host} may call and spend: the policy says `tenants.anonymous: Allow`"]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
