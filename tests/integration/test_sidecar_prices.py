"""A pool's prices by kind of token, from its YAML to what a request is held to and billed at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import yaml
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.upstream import Script, completion, event, piece, running_upstream, says, streams

from foresail_api.compile import Target, compile_policy
from foresail_api.policy import RoutingPolicy
from foresail_api.pool import ModelPool

# The example of docs/concepts/cost-limits.md.
MODEL = """
name: small
contextWindowTokens: 100000
maxOutputTokens: 4096
capabilities: [Vision]
tokenCount: {overheadTokens: 64, maxTokensPerImage: 1000}
price:
  inputPerMillionTokens: "2.50"
  cachedInputPerMillionTokens: "1.25"
  cacheWriteShortPerMillionTokens: "3.125"
  imagePerMillionTokens: "2"
  outputPerMillionTokens: "10"
  tiers:
    - aboveInputTokens: 1000
      inputPerMillionTokens: "5"
      cacheWriteShortPerMillionTokens: "6.25"
      outputPerMillionTokens: "15"
"""
# With its JSON around it, 940 bytes.
PROMPT = "x" * 907


@asynccontextmanager
async def serving(script: Script, cap: str) -> AsyncIterator[tuple[Sidecar, list[Any]]]:
    async with running_upstream(script) as upstream:
        model = yaml.safe_load(MODEL) | {"upstreams": [{"name": "main", "url": upstream.url}]}
        pool = ModelPool.model_validate({"metadata": {"name": "pool"}, "spec": {"models": [model]}})
        spec = {
            "poolRef": {"name": "pool"},
            "aliases": ["auto"],
            "router": {"strategy": "Cheapest"},
            "costLimits": {"perRequest": cap},
            "tenants": {"anonymous": "Allow"},
        }
        policy = RoutingPolicy.model_validate({"metadata": {"name": "policy"}, "spec": spec})
        snapshot = compile_policy(policy, pool, Target.LOCAL).snapshot
        assert snapshot is not None
        async with running_sidecar(snapshot) as sidecar:
            yield sidecar, upstream.asked


async def test_the_worst_case_counts_cache_writes_and_the_dearest_tier() -> None:
    async with serving(says(200, completion("Hi.", None)), "0.009275") as (sidecar, asked):
        body = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}], "n": 2, "max_tokens": 200}
        (candidate,) = (await sidecar.http.post("/v1/route", json=body)).json()["candidates"]
        await sidecar.ask(PROMPT, n=2, max_tokens=200)
    assert (candidate["input_tokens_bound"], candidate["output_limit"]) == (1004, 100)
    assert candidate["worst_case_usd"] == "0.009275"
    assert asked[0].json["max_tokens"] == 100


async def test_a_report_is_settled_by_kind() -> None:
    reported = {
        "prompt_tokens": 900,
        "completion_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 200},
        "cache_creation": {"ephemeral_5m_input_tokens": 200},
    }
    async with serving(says(200, completion("Hi.", reported)), "0.1") as (sidecar, _):
        answer = await sidecar.ask(PROMPT, n=2, max_tokens=100)
    assert answer.headers["x-foresail-cost-usd"] == "0.003375"


async def test_a_long_report_is_settled_in_its_tier() -> None:
    async with serving(says(200, completion("Hi.", {"prompt_tokens": 1001, "completion_tokens": 1})), "0.1") as (
        sidecar,
        _,
    ):
        answer = await sidecar.ask(PROMPT, max_tokens=100)
    assert answer.headers["x-foresail-cost-usd"] == "0.00502"


async def test_a_stream_that_is_cut_is_counted_at_the_dearest_prices() -> None:
    cut = streams(event(piece("y" * 90)), then="cut")
    async with serving(cut, "0.1") as (sidecar, _):
        with pytest.raises(httpx.RemoteProtocolError):
            await sidecar.ask(PROMPT, n=2, max_tokens=100, stream=True)
        counted = await sidecar.metric("foresail_settled_dollars_total", basis="Counted")
    assert counted == 0.007625


async def test_an_image_is_bounded_and_settled_at_its_own_price() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUFB"}}
    reported = {"prompt_tokens": 810, "completion_tokens": 1, "prompt_tokens_details": {"image_tokens": 800}}
    async with serving(says(200, completion("A cat.", reported)), "0.1") as (sidecar, asked):
        body = {"model": "auto", "messages": [{"role": "user", "content": [picture]}], "max_tokens": 1}
        answer = await sidecar.http.post("/v1/chat/completions", json=body)
        two = [picture, {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png"}}]
        refused = await sidecar.http.post(
            "/v1/chat/completions", json={**body, "messages": [{"role": "user", "content": two}]}
        )
    # 10 tokens of text at 2.50, 800 of the image at 2 and one of output at 10 dollars per million.
    assert answer.headers["x-foresail-cost-usd"] == "0.001635"
    assert refused.json()["error"]["code"] == "no_eligible_model"
    assert "`messages[0].content[1]` (image_url) has no bound" in refused.json()["error"]["message"]
    assert len(asked) == 1
