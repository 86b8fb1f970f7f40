"""The figures of routed decisions say what was measured, and their page shows them."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.bench import routed_page
from tests.bench.routed_figures import load_figures, quantile, spread
from tests.bench.routed_load import asked


def answer(decision: float, basis: str = "Learned", error: str | None = None, status: int = 200) -> dict[str, Any]:
    return {"late": 0.1, "latency": 30, "status": status, "decision": decision, "basis": basis, "error": error}


def late(decision: float) -> dict[str, Any]:
    return answer(decision, "FailOpenCheapest", "DeadlineExceeded")


def test_shares_and_times_of_one_run() -> None:
    figures = load_figures(
        [*(answer(10.0 + step) for step in range(6)), late(1.0), late(2.0), late(3.0), late(251.0)], 250
    )
    assert (figures["requests"], figures["scored"], figures["at_once"]) == (10, 0.6, 0.75)
    assert (figures["decision_most"], figures["refused_p50"], figures["scored_p99"]) == (251.0, 3.0, 15.0)


def test_what_was_not_caused_by_the_load_is_no_figure() -> None:
    with pytest.raises(ValueError, match="ArtifactNotLoaded"):
        load_figures([answer(1.0, "FailOpenCheapest", "ArtifactNotLoaded")], 250)
    with pytest.raises(ValueError, match="status \\[503\\]"):
        load_figures([answer(1.0, status=503)], 250)


def test_quantiles_and_spreads() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([], 0.99) == 0.0
    assert spread([3.0, 1.0, 2.00049]) == [2.0, 1.0, 3.0]


def figures() -> dict[str, Any]:
    rows = {
        "60": load_figures([answer(9.0)] * 20, 250),
        "240": load_figures([*[answer(200.0)] * 10, *[late(0.5)] * 10], 250),
    }
    by_rate = {
        rate: {name: value if name == "requests" else spread([value]) for name, value in row.items()}
        for rate, row in rows.items()
    }
    alone = {"tokenizer": 0.1, "forward": 7.0, "strategy": 1.0, "forward_repeated": 6.5}
    return {
        "facts": {
            "date": "2026-01-02",
            "machine": "a machine",
            "models": 4,
            "deadline_milliseconds": 250,
            "rounds": 1,
            "load_average": [0.5, 0.75],
        },
        "alone": {name: spread([value]) for name, value in alone.items()},
        "one_at_a_time": spread([8.8]),
        "beyond_forward": spread([1.8]),
        "beyond_repeated_forward": spread([2.3]),
        "repeated": spread([0.2]),
        "by_rate": by_rate,
    }


def test_the_page_shows_targets_parts_and_rates() -> None:
    shown = routed_page.targets(figures())
    assert "| **missed** | a new prompt of 128 tokens" in shown
    assert (
        "|  | 60 new prompts a second: scored within the deadline | >= 99% | 100.0 (100.0 to 100.0) % of 20 |" in shown
    )
    assert "| the rest: parsing, eliminating, pricing, deciding, two changes of thread | 0.70 |" in routed_page.parts(
        figures()
    )
    assert "| 240 | 50.0 (50.0 to 50.0) |" in routed_page.by_rate(figures())
    assert "a router of 4 models, deadline 250 ms" in routed_page.method(figures())


def test_the_same_figures_are_drawn_the_same() -> None:
    drawn = routed_page.drawn(figures())
    assert drawn == routed_page.drawn(figures())
    assert "scored within the deadline" in drawn
    assert not re.search(r"\d{4}-\d\d-\d\dT", drawn)


async def test_the_load_sends_when_it_is_due_and_reports_each_answer_in_order() -> None:
    async def serve(request: web.Request) -> web.Response:
        number = int(await request.read())
        await asyncio.sleep(0.2 if number == 0 else 0)
        return web.Response(text="ok", headers={"X-Foresail-Overhead-Ms": str(number), "X-Foresail-Basis": "Learned"})

    application = web.Application()
    application.router.add_post("/v1/chat/completions", serve)
    async with TestServer(application) as server:
        answers = await asked(f"127.0.0.1:{server.port}", [b"0", b"1", b"2"], 1000.0, seed=1)
    assert [each["decision"] for each in answers] == [0.0, 1.0, 2.0]
    assert {each["basis"] for each in answers} == {"Learned"}
    # The first answer takes longest, and nobody waited for it.
    assert answers[0]["latency"] > answers[2]["latency"]
