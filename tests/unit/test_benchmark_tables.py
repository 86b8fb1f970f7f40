from __future__ import annotations

import json
from pathlib import Path

import pytest
from hack import benchmark_tables

CSV = """pool,name,kind,figure,value,low,high
a:default,single models,reference,cheapest_within_1_point_cost_ratio,0.9,0.8,1.0
a:default,ours,strategy,gain_hindsight,1.25,0.5,2.0
a:default,other,strategy,gain_hindsight,0.25,-0.5,1.0
a:default,ours,strategy,match_cost_ratio,0.5,0.4,0.6
a:default,ours,strategy,matched,1.0,,
a:default,other,strategy,match_cost_ratio,0.25,0.2,0.3
a:default,other,strategy,matched,0.0,,
a:default,ours - other,comparison,points,1.0,0.1,1.9
a:default,"other, half - ours, half",pair,points,-0.5,-1.5,0.5
a:default,"other, half - ours, half",pair,p_holm,0.25,,
,ours,mean over pools,"mean gap closed, all pools",0.5,0.4,0.6
,other,mean over pools,"mean gap closed, all pools",0.4,0.3,0.5
"""
REPORT = {
    "focus": "ours",
    "run": {
        "seconds": 60.0,
        "fitting_seconds": 30.0,
        "cpu_seconds": 120.0,
        "peak_total_mib": 1024.0,
        "memory_watched": True,
        "cells": 10,
        "cells_found": 0,
        "processes": 2,
        "seeds": 1,
        "folds": 5,
        "folds_by": "text",
    },
    "targets": [{"name": "gain", "asked": ">= 1", "measured": "+1.25", "met": True}],
    "pools": [
        {
            "name": "a:default",
            "prompts": 1000,
            "priced_prompts": 1000,
            "groups": 990,
            "best_single": "m",
            "hindsight_best": "m",
            "answered_models": 0.5,
            "answered_outcomes": 0.25,
            "variants": [
                {
                    "name": name,
                    "strategy": {"other": "latent-lookahead"}.get(name, name),
                    "baseline": name == "other",
                    "failed": None,
                    "configurations": [0],
                }
                for name in ("ours", "other")
            ],
        }
    ],
}
EXPERIMENT = {
    "experiment": {},
    "models": ["m"],
    "comparisons": {"causal": {"seeds": [0], "with_minus_without_points": 0.5, "interval_points": [-1.0, 2.0]}},
    "runs": [
        {
            "variant": "causal",
            "response_modelling": True,
            "learning_rate": 0.0002,
            "seed": 0,
            "validation_score": 0.62,
            "seconds": 120.0,
            "test": {"gain_over_hindsight_best_points": 0.5, "gap_closed": 0.25},
        }
    ],
}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    (run / "report.csv").write_text(CSV)
    (run / "report.json").write_text(json.dumps(REPORT))
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "results.json").write_text(json.dumps(EXPERIMENT))
    monkeypatch.setattr(benchmark_tables, "RESULTS", tmp_path / "results")
    benchmark_tables.take("all", run)
    benchmark_tables.take("language", tmp_path / "experiment")
    return tmp_path / "results"


def table(results: Path, name: str, kind: str) -> list[str]:
    page = f"before\n<!-- table: {name} {kind} -->\nold\n<!-- end of table -->\nafter\n"
    lines = benchmark_tables.render_page(page, results).splitlines()
    assert (lines[0], lines[-1], "old" in lines) == ("before", "after", False)
    return lines[2:-2]


def test_the_best_comes_first_and_what_differs_from_zero_is_bold(results: Path) -> None:
    rows = table(results, "all", "quality")
    assert rows[2:4] == ["| ours | **+1.25** | 50.0 |", "| other | +0.25 | 40.0 |"]


def test_a_cost_at_which_quality_is_not_matched_is_in_brackets(results: Path) -> None:
    rows = table(results, "all", "cost")
    assert "| ours | 0.500 |  |" in rows
    assert "| other | (0.250) |  |" in rows


def test_an_ablation_shows_what_leaving_out_changes(results: Path) -> None:
    assert "| other | +0.25 (-1.00 [-1.90, -0.10]) |" in table(results, "all", "ablation")


def test_an_ablation_with_a_counterpart_is_compared_with_that(results: Path) -> None:
    assert (
        table(results, "all", "ablation")[-1] == "| *other, half* minus *ours, half* | -0.50 [-1.50, +0.50], p 0.250 |"
    )


def test_gains_of_strategies_that_learn_from_answers_stand_beside_the_share_that_has_them(results: Path) -> None:
    rows = table(results, "all", "answers")
    assert rows[0] == "| pool | models with answers, % | outcomes with answers, % | other, points |"
    assert rows[-1] == "| a | 50 | 25 | +0.25 [-0.50, +1.00] |"


def test_memory_that_was_not_watched_is_an_upper_bound(results: Path) -> None:
    assert "a run of 1.0 minutes, 2 of CPU; peak memory 1.00 GiB in all" in table(results, "all", "effort")[0]
    facts = json.loads((results / "all.json").read_text())
    facts["run"]["memory_watched"] = False
    (results / "all.json").write_text(json.dumps(facts))
    assert "peak memory at most 1.00 GiB" in table(results, "all", "effort")[0]


@pytest.mark.parametrize("kind", sorted(benchmark_tables._KINDS))
def test_every_kind_of_table_can_be_written_from_a_small_run(results: Path, kind: str) -> None:
    assert table(results, "all", kind)


def test_trainings_with_and_without_are_listed_with_their_difference(results: Path) -> None:
    rows = table(results, "language", "lookahead")
    assert rows[2] == "| causal | with | 0.0002 | 0 | 62.00 | +0.50 | 25.0 | 2 |"
    assert rows[-1] == "- causal, with minus without, 1 seed(s): +0.50 points [-1.00, +2.00]"


def test_a_run_that_is_not_there_leaves_its_table_blank(results: Path) -> None:
    assert table(results, "absent", "quality") == ["*Not run yet.*"]


@pytest.mark.parametrize("page", benchmark_tables.PAGES, ids=lambda page: page.name)
def test_the_pages_show_the_committed_figures(page: Path) -> None:
    text = page.read_text()
    assert "<!-- table: " in text
    assert benchmark_tables.render_page(text) == text, "run: python hack/benchmark_tables.py"
