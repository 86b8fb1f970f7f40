"""A model whose prompts its tokenizer counts: what that changes under a cap, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.configurations import Object, model, policy, pool, write
from tests.support.counted_models import counted_by, tokenizer_content
from tests.support.serving import Served, eventually, serving
from tests.support.upstream import answers, running_upstream

pytestmark = pytest.mark.timeout(120)

# 800 words of 4,000 bytes, at 1 USD per million tokens: as bytes they can cost more than the cap, as tokens a fifth of it. The space before them stays a byte.
BODY = {"model": "auto", "messages": [{"role": "user", "content": " word" * 800}], "max_tokens": 100}
CAP = {"perRequest": "0.002"}
JSON_BYTES, OVERHEAD, FRAME = len('[{"role": "user", "content": ""}]'), 10, 2


async def routed(served: Served) -> Object:
    return dict((await served.http.post("/v1/route", json=BODY)).json()["candidates"][0])


async def test_a_long_prompt_fits_under_a_cap_once_its_tokenizer_is_there(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    async with running_upstream(answers()) as upstream:
        counted = model("m", upstream.url, price="1", tokenCount=counted_by(file))
        write(tmp_path / "all.yaml", pool([counted]), policy(costLimits=CAP))
        async with serving(tmp_path, "-f", tmp_path / "all.yaml") as served:
            assert "its tokenizer" in served.log.read_text()
            candidate = await routed(served)
            assert candidate["eliminated"] == "OverPerRequestCap"
            assert candidate["input_tokens_bound"] == 4000 + JSON_BYTES + OVERHEAD
            file.write_bytes(tokenizer_content())

            async def counts() -> bool:
                return (await routed(served))["eliminated"] is None

            await eventually(counts, "the tokenizer is used", 30)
            assert (await routed(served))["input_tokens_bound"] == 800 + FRAME + 1 + JSON_BYTES + OVERHEAD
            assert (await served.http.post("/v1/chat/completions", json=BODY)).status_code == 200
    assert len(upstream.asked) == 1
