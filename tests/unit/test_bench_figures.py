"""Figures of the gateway's benchmark: quantiles, medians with their spread, targets, tables, and the page that is written from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench import page
from tests.bench.disk import commit_milliseconds
from tests.bench.figures import over_rounds, quantile, spread
from tests.bench.results import FILE, Results
from tests.bench.tables import facts_text, rows_table, targets_table
from tests.bench.targets import judged

FACTS = {"date": "2026-01-02", "machine": "a machine", "cores": [0, 1], "load_average": [0.5, 0.75]}


def results(tmp_path: Path, part: str, *rounds: dict[str, dict[str, float]]) -> Results:
    made = Results.read(tmp_path / "gateway.json")
    made.begin(part, [], resume=False)
    for number, rows in enumerate(rounds):
        for row, figures in rows.items():
            made.add(part, number, row, figures)
    made.state(part, FACTS)
    return made


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (51.0, 99.0, 100.0)
    assert quantile([7.0], 0.99) == 7.0
    assert quantile([], 0.5) == 0.0


def test_a_median_shows_its_spread_unless_all_rounds_agree() -> None:
    assert spread([3.0, 1.0, 2.0]).text(1) == "2.0 (1.0 to 3.0)"
    assert spread([1234.4, 1234.1]).text(0) == "1,234"


def test_rounds_without_a_figure_are_left_out() -> None:
    rounds = [{"a": {"x": 1.0}}, {"b": {"x": 9.0}}, {"a": {"x": 3.0, "y": 0.0}}]
    found = over_rounds(rounds, "a", "x", scale=10)
    assert found == spread([10.0, 30.0])
    assert over_rounds(rounds, "c", "x") is None


def test_targets_are_judged_by_the_median_within_rounds(tmp_path: Path) -> None:
    ours = {"cpu_ms_1kb": 0.5, "per_second_1kb": 3000.0, "added_p50_ms_1kb": 3.0, "commit_p50_ms": 2.5}
    kept = results(
        tmp_path,
        "json",
        {"foresail-sqlite": ours, "litellm": {"per_second_1kb": 100.0}},
        {"foresail-sqlite": ours | {"commit_p50_ms": 0.5}, "litellm": {"per_second_1kb": 200.0}},
        {"foresail-sqlite": ours | {"commit_p50_ms": 2.4}, "litellm": {"per_second_1kb": 110.0}},
    )
    verdicts = {each.target.name: each for each in judged({"json": kept.rounds("json")})}
    assert verdicts["CPU per JSON request, SQLite"].met is False
    assert verdicts["requests a second and core, SQLite"].met is True
    assert verdicts["requests a second, times LiteLLM's"].measured == spread([30.0, 15.0, 3000 / 110])
    beyond = verdicts["added p50 beyond a durable commit, one connection, SQLite"]
    assert beyond.met is True
    assert beyond.measured is not None
    assert beyond.measured.median == pytest.approx(0.6)
    assert verdicts["requests a second, times Portkey's"].met is None
    text = targets_table(kept)
    assert "Missed: CPU per JSON request, SQLite." in text
    assert "| CPU per JSON request, SQLite | <= 0.4 ms | 0.500 | **missed** |" in text
    assert "| requests a second, times Portkey's | >= 3 x | not measured |  |" in text


def test_a_table_names_what_is_missing_and_what_failed(tmp_path: Path) -> None:
    kept = results(tmp_path, "streams", {"aiohttp": {"busy_per_second": 400.0, "busy_cpu_ms": 0.5, "refused": 3.0}})
    kept.miss("portkey", "npm: FileNotFoundError")
    kept.fail("streams", "litellm", "round 1: it said 500")
    names = {"aiohttp": "relay", "litellm": "LiteLLM", "portkey": "Portkey"}
    text = rows_table(kept, "streams", names)
    assert "|  | streams/s, 256 connections | CPU per stream, ms |" in text
    assert "| relay | 400 | 0.50 |" in text
    assert "relay refused 3 requests." in text
    assert "| Portkey | not installed here |  |" in text
    assert "LiteLLM: round 1: it said 500." in text
    assert "Portkey: npm: FileNotFoundError." in text
    assert "not measured" in rows_table(kept, "memory", names).lower()


def test_facts_say_where_and_when(tmp_path: Path) -> None:
    kept = results(tmp_path, "json", {"direct": {"p50_ms_1kb": 20.1}}, {})
    assert facts_text(kept).startswith("- json: 1 round on 2026-01-02, a machine, gateway on core 0")


def test_a_run_that_is_resumed_keeps_rounds_and_a_new_one_forgets_only_its_rows(tmp_path: Path) -> None:
    kept = results(tmp_path, "json", {"a": {"x": 1.0}, "b": {"x": 2.0}}, {"a": {"x": 3.0}})
    kept.fail("json", "a", "it ended")
    kept.begin("json", ["a", "b"], resume=True)
    assert kept.has("json", 1, "a")
    assert not kept.has("json", 1, "b")
    assert kept.failures("json") == {}
    kept.begin("json", ["a"], resume=False)
    assert kept.rounds("json") == [{"b": {"x": 2.0}}]
    kept.add("json", 0, "a", {"x": 0.123456})
    assert Results.read(tmp_path / "gateway.json").rounds("json")[0]["a"] == {"x": 0.1235}


def test_the_page_shows_the_kept_figures() -> None:
    text = page.PAGE.read_text()
    assert text.count("<!-- table: gateway ") == 9
    assert page.rendered(text, Results.read(FILE)) == text


def test_commits_are_measured_on_the_disk_of_the_folder(tmp_path: Path) -> None:
    p50, p99 = commit_milliseconds(tmp_path, 5)
    assert 0 < p50 <= p99
    assert len(list(tmp_path.glob("commits-*"))) >= 1
