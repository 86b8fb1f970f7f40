"""Scoring of pools, the choice of configurations, comparisons, targets and files, on predictions that are given."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foresail_api.errors import UserError
from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.records import Prompt
from foresail_router.evaluation.benchmark.cells import CellFacts, StoredCell, cell_path, read_cell, write_cell
from foresail_router.evaluation.benchmark.comparing import HINDSIGHT, compare, compare_pairs
from foresail_router.evaluation.benchmark.grid import (
    Cell,
    Grid,
    Variant,
    code_digest,
    parse_variants,
    registered_variants,
)
from foresail_router.evaluation.benchmark.money import cost_figures, single_figures
from foresail_router.evaluation.benchmark.pool import ScoredPool, route, score_pool
from foresail_router.evaluation.benchmark.prepared import prepare, read_pool, write_pool
from foresail_router.evaluation.benchmark.quality import (
    calibration_figures,
    length_figures,
    quality_figures,
    uncertainty_figures,
)
from foresail_router.evaluation.benchmark.results import Comparison, PoolResult, RunFacts, Summary, Target
from foresail_router.evaluation.benchmark.selection import choose_configuration, outside_folds
from foresail_router.evaluation.benchmark.summary import Drawn, chosen_cells, configuration_gains, summarise_pool
from foresail_router.evaluation.benchmark.targets import Evidence, judge
from foresail_router.evaluation.metrics.resampling import Estimate
from foresail_router.evaluation.presentation.files import write_reports
from foresail_router.strategies.base import AnswerEmbeddings, Predictions

COUNT = 200
MODELS = ("dear", "cheap")
KIND = np.arange(COUNT) % 2
FOLDS = (np.arange(COUNT) // 2) % 5
# The dear model is always right; the cheap one on every second prompt.
SCORE = np.column_stack([np.ones(COUNT), (KIND == 0).astype(float)])
COST = np.tile([10.0, 1.0], (COUNT, 1))
TOKENS = np.tile([100.0, 50.0], (COUNT, 1)) + (np.arange(COUNT) % 10)[:, None]


def outcomes(**changes: np.ndarray) -> OutcomeMatrix:
    prompts = tuple(Prompt(f"p{number:03d}", f"prompt {number}", f"kind {KIND[number]}") for number in range(COUNT))
    parts = {
        "score": SCORE,
        "input_tokens": np.full_like(SCORE, 5.0),
        "output_tokens": TOKENS,
        "cost_usd": COST,
    } | changes
    return OutcomeMatrix(prompts, MODELS, **parts)


def predictions(quality: np.ndarray = SCORE, spread: np.ndarray | None = None, p90: float = 108.0) -> Predictions:
    same = np.full_like(quality, 50.0)
    spread = np.full_like(quality, 0.1) if spread is None else spread
    return Predictions(quality, spread, same, same, same, np.tile([p90, p90 - 50], (len(quality), 1)), same)


def pool(**changes: np.ndarray) -> ScoredPool:
    return score_pool("s:p", outcomes(**changes), FOLDS, 5)


def test_one_who_knows_gets_all_the_quality_for_half_of_the_calls() -> None:
    scored = pool()
    routed = route(scored, (predictions(),))
    figures, resampled = cost_figures(scored, routed, arena=True)
    # Every second prompt goes to the cheap model: (10 + 1) / 2 of 10.
    assert figures["match_cost_ratio"].value == pytest.approx(0.55)
    assert figures["match_gain"].value == 0
    assert figures["matched"].value == 1
    assert figures["match_fell_back"].value == 0
    low, high = figures["match_cost_ratio"].low, figures["match_cost_ratio"].high
    assert low is not None
    assert high is not None
    assert low < 0.55 < high
    assert np.median(resampled) == pytest.approx(0.55, abs=0.02)
    assert figures["quality_at_best_cost"].value == 1
    # From (1, 0.5) by a straight line to (5.5, 1), then flat to 10.
    assert figures["aiq"].value == pytest.approx((4.5 * 0.75 + 4.5) / 9)


def test_one_who_knows_nothing_falls_back_on_the_best_single_model() -> None:
    scored = pool()
    routed = route(scored, (predictions(np.tile([0.4, 0.5], (COUNT, 1))),))
    figures, _ = cost_figures(scored, routed, arena=False)
    assert figures["match_cost_ratio"].value == 1
    assert figures["match_fell_back"].value == 5
    assert "arena" not in figures
    gains, gap = quality_figures(scored, routed)
    assert gains["gain_hindsight"].value == pytest.approx(-50)
    assert gains["gap_closed"].value == pytest.approx(-1)
    assert gap.shape == (scored.resamples.resamples,)


def test_single_models_set_the_mark_for_a_router() -> None:
    figures = single_figures(pool())
    assert figures["cheapest_within_1_point_cost_ratio"].value == 1
    # 1 point below the best on the line from (1, 0.5) to (10, 1).
    assert figures["hull_of_singles_1_point_below_cost_ratio"].value == pytest.approx((10 - 9 * 0.02) / 10)
    assert figures["hull_of_singles_1_point_below_gain"].value == pytest.approx(-1)


def test_prompts_without_a_cost_of_every_model_leave_the_cost_figures_alone() -> None:
    cost = COST.copy()
    cost[:40, 0] = np.nan
    scored = pool(cost_usd=cost)
    routed = route(scored, (predictions(),))
    figures, _ = cost_figures(scored, routed, arena=True)
    assert figures["match_cost_ratio"].value == pytest.approx(0.55)
    assert quality_figures(scored, routed)[0]["quality"].value == 1
    free = pool(cost_usd=np.full_like(COST, np.nan))
    assert not free.has_costs
    assert route(free, (predictions(),)).cost is None


def test_calibration_lengths_and_uncertainty_of_a_pool() -> None:
    scored = pool()
    wrong = KIND == 1
    # It takes the cheap model throughout, says that it is right, and is unsure where it is not.
    quality = np.tile([0.5, 1.0], (COUNT, 1))
    routed = route(scored, (predictions(quality, np.where(wrong, 0.4, 0.1)[:, None] * np.ones(2)),))
    figures, bins = calibration_figures(scored, routed)
    assert figures["chosen_error"].value == pytest.approx(0.5)
    # The one bin that holds rows of both models cancels out.
    assert figures["ece"].value == pytest.approx(0.5, abs=0.03)
    assert figures["brier"].value == pytest.approx((0.25 + 0.5) / 2)
    assert figures["brier_gain"].value == pytest.approx((0.25) / 2 - 0.375)
    assert bins.rows.sum() == 2 * COUNT
    lengths, each = length_figures(scored, routed)
    assert lengths["coverage"].value == pytest.approx(0.9)
    assert each == pytest.approx([0.9, 0.9])
    unsure = uncertainty_figures(scored, routed)
    assert unsure["regret"].value == pytest.approx(0.5)
    assert unsure["regret_fallback_30%"].value == pytest.approx(0.2)
    assert unsure["regret_kept_30%"].value == pytest.approx(0.2 / 0.7)
    assert length_figures(pool(output_tokens=np.full_like(TOKENS, np.nan)), routed) == ({}, [])


def test_two_models_are_a_strong_and_a_weak_one() -> None:
    figures, _ = quality_figures(pool(), route(pool(), (predictions(),)))
    # Half of the calls recover the whole gap, on a straight line.
    assert figures["apgr"].value == pytest.approx(0.75)
    assert (figures["cpt50"].value, figures["cpt80"].value) == (pytest.approx(0.25), pytest.approx(0.4))


def test_comparisons_are_paired_and_corrected() -> None:
    scored = pool()
    worse = SCORE[:, 1]
    lines = {
        line.other: line
        for line in compare(scored, {"good": np.ones(COUNT), "poor": worse, "same": np.ones(COUNT)}, "good")
    }
    assert lines["poor"].points.value == pytest.approx(50)
    assert lines["poor"].p_holm < 0.01
    assert lines["same"].p_holm == 1
    assert lines[HINDSIGHT].points.value == 0
    assert compare(scored, {"poor": worse}, "good") == ()


def test_a_variant_is_compared_with_its_own_counterpart_too() -> None:
    qualities = {"with": np.ones(COUNT), "without": SCORE[:, 1], "alike": np.ones(COUNT)}
    lines = compare_pairs(pool(), qualities, [("without", "with"), ("alike", "with"), ("with", "not fitted")])
    assert [(line.focus, line.other) for line in lines] == [("without", "with"), ("alike", "with")]
    assert lines[0].points.value == pytest.approx(-50)
    # Corrected over the two pairs alone.
    assert [line.p_holm for line in lines] == [2 * lines[0].p, 1.0]
    assert compare_pairs(pool(), qualities, []) == ()


def test_the_configuration_is_chosen_on_other_pools_outside_the_fold() -> None:
    gains = {
        "a": {0: np.array([9.0, 9.0]), 1: np.array([0.0, 0.0])},
        "b": {0: np.array([1.0, 2.0]), 1: np.array([2.0, 1.0])},
        "c": {0: np.array([5.0, 5.0])},
    }
    # The scored pool's own preference has no say; a pool on which one of them could not be fitted neither.
    assert [choose_configuration(gains, "a", fold) for fold in (0, 1)] == [1, 0]
    assert choose_configuration(gains, "c", 0) == 0
    assert choose_configuration({"a": gains["a"]}, "a", 0) == 0
    assert choose_configuration({"a": {}}, "a", 0) is None
    score, folds = np.array([[1.0, 0.0], [0.0, 0.5], [0.0, 0.5]]), np.array([0, 1, 1])
    # Outside fold 0 the worst was chosen of models half a point apart, outside fold 1 the best: chance is 0, the oracle 100.
    np.testing.assert_allclose(outside_folds(np.array([1.0, 0.0, 0.0]), score, folds, 2), [-100, 100])
    assert outside_folds(np.ones(2), np.ones((2, 2)), np.array([0, 1]), 2).tolist() == [0.0, 0.0]


def run_facts() -> RunFacts:
    return RunFacts(10.0, 5.0, 9.0, 100.0, 300.0, True, 5, 0, 2, 1, 5, "text")


def summary() -> Summary:
    variants = (Variant("good", "knn", ({},), True), Variant("poor", "knn", ({}, {"changed": 1}), False))
    grid = Grid(("s:p",), variants, 1, 5)
    scored = pool()
    poor = np.tile([0.4, 0.5], (COUNT, 1))

    def find(cell: Cell) -> StoredCell | None:
        if cell.configuration == 1:
            return StoredCell(CellFacts(error="too few prompts"), None)
        rows = cell.fold == FOLDS
        return StoredCell(
            CellFacts(1.0, 0.9, 0.1, 0.2, 0.3), predictions((SCORE if cell.variant == "good" else poor)[rows])
        )

    tables = {"s:p": (SCORE, FOLDS)}
    selected = [
        (variant, chosen_cells(grid, variant, configuration_gains(grid, variant, tables, find), "s:p"))
        for variant in variants
    ]
    selected.append((Variant("none <b>&", "knn", ({},), False), None))
    drawn = Drawn()
    result = summarise_pool(
        scored, FOLDS, selected, find, focus="good", reasons={"none <b>&": "no <tasks> & labels"}, drawn=drawn
    )
    targets = judge(Evidence("good", [result], drawn, {}, ["poor"], run_facts()))
    return Summary(
        "good",
        (result,),
        {"mean gap closed, all pools": {"good": result.variants[0].figures["gap_closed"]}},
        targets,
        run_facts(),
    )


def test_a_pool_is_summed_up_with_references_and_failures() -> None:
    (result,) = summary().pools
    good, poor, none = result.variants
    assert good.configurations == (0,) * 5
    assert poor.configurations == (0,) * 5
    assert none.failed == "no <tasks> & labels"
    assert good.figures["fit_seconds"].value == 1
    assert result.references["oracle (reference)"]["gap_closed"].value == 1
    assert result.references["known label (reference)"]["quality"].value == 1
    assert result.references["cheapest"]["quality"].value == 0.5
    assert good.tasks is not None
    assert good.tasks.tasks == ("kind 0", "kind 1")
    assert [single.best_in_folds for single in result.singles] == [5, 0]
    # RouterBench: the router's hull from (1, 0.5) by (5.5, 1), flat to the dear model's 10.
    assert good.figures["aiq_routerbench"].value == pytest.approx((4.5 * 0.75 + 4.5) / 10)


def test_a_fold_takes_as_long_as_its_slowest_configuration_does() -> None:
    # The second configuration, which was chosen, found what the first one had fitted.
    variant = Variant("quick", "knn", ({}, {"changed": 1}), False)
    scored = pool()

    def find(cell: Cell) -> StoredCell | None:
        seconds = (30.0 + cell.fold, 0.5)[cell.configuration]
        return StoredCell(CellFacts(seconds, seconds, 0.1, 0.2, 0.3), predictions(SCORE[cell.fold == FOLDS]))

    cells = [cell for cell in Grid(("s:p",), (variant,), 1, 5).cells("s:p", variant) if cell.configuration == 1]
    result = summarise_pool(scored, FOLDS, [(variant, cells)], find, focus="quick", reasons={}, drawn=Drawn())
    figures = result.variants[0].figures
    assert figures["fit_seconds"].value == 32
    assert figures["fit_seconds_most"].value == figures["fit_cpu_seconds_most"].value == 34


def test_a_pool_without_a_gap_has_no_gap_closed_in_its_report(tmp_path: Path) -> None:
    scored = pool(score=np.ones((COUNT, 2)))
    result = summarise_pool(scored, FOLDS, [], lambda _: None, focus="good", reasons={}, drawn=Drawn())
    write_reports(tmp_path, replace(summary(), pools=(result,)))
    assert "NaN" not in (tmp_path / "report.json").read_text()


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_reports(tmp_path / "file", summary())


def test_the_page_stands_alone_and_escapes_names(tmp_path: Path) -> None:
    write_reports(tmp_path, summary())
    page = (tmp_path / "report.html").read_text()
    # Names of XML vocabularies are no addresses that a browser opens.
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page)) - {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert addresses == set()
    assert not re.search(r"<(script|link|img|image|iframe|object|use[^>]+href=\"[^#])", page)
    assert all(target.startswith("#") for target in re.findall(r'(?:href|src)="([^"]*)"', page))
    assert "url(" not in re.sub(r"url\(#", "", page)
    assert "<b>&" not in page
    assert "none &lt;b&gt;&amp; was not fitted: no &lt;tasks&gt; &amp; labels" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for title in (
        "Cost and quality",
        "Calibration",
        "Length coverage per model",
        "Chosen models by task",
        "Decision latency",
    ):
        assert title in page


def test_json_and_csv_hold_the_same_figures(tmp_path: Path) -> None:
    write_reports(tmp_path, summary())
    data = json.loads((tmp_path / "report.json").read_text())
    good = data["pools"][0]["variants"][0]
    lines = (tmp_path / "report.csv").read_text().splitlines()
    assert lines[0] == "pool,name,kind,figure,value,low,high"
    figure = good["figures"]["match_cost_ratio"]
    assert f"s:p,good,strategy,match_cost_ratio,{figure['value']},{figure['low']},{figure['high']}" in lines
    assert "good" in (tmp_path / "report.txt").read_text()


def test_targets_are_judged_where_their_pools_were_run() -> None:
    result = summary().pools[0]
    named = replace(result, name="mmlu_pro:default")
    targets = {target.name: target for target in judge(Evidence("good", [named], Drawn(), {}, [], run_facts()))}
    # It is no better than the best single model, but much cheaper than it.
    assert targets["above the hindsight best single, mmlu_pro:default"].met is False
    assert targets["cost to match, mmlu_pro:default"].met is False
    assert targets["cost to match, mmlu_pro:default"].measured.startswith("0.550x")
    assert targets["fit of a fold of mmlu_pro"].met is True
    assert targets["peak memory"].met is True
    assert "mean gap closed over four pools" not in targets


def test_being_worse_nowhere_is_one_claim_about_all_pools_it_concerns() -> None:
    result = summary().pools[0]

    def named(name: str, p: float) -> PoolResult:
        lost = Comparison("good", HINDSIGHT, Estimate(-1.0, -2.0, -0.1), p, 1.0)
        return replace(result, name=name, comparisons=(lost, replace(lost, other="poor", p=0.001)))

    pools = [named("zeroeval:priced", 0.02), named("bfcl:api_priced", 0.03), named("routellm:default", 0.03)]
    # Neither a pool with a gain of its own nor one that is not targeted belongs to the claim.
    beside = [named("mmlu_pro:default", 0.0005), named("swebench_verified:default", 0.0005)]

    def judged(pools: list[PoolResult]) -> dict[str, Target]:
        targets = judge(Evidence("good", [*pools, *beside], Drawn(), {}, [], run_facts()))
        return {target.name.split()[-1]: target for target in targets if target.name.startswith("not worse")}

    assert {name: target.met for name, target in judged(pools[:1]).items()} == {"zeroeval:priced": False}
    together = judged(pools)
    assert {target.met for target in together.values()} == {True}
    assert together["zeroeval:priced"].measured == "-1.00 [-2.00, -0.10], p 0.060 over 3 pools"
    assert judged([named("zeroeval:priced", 0.01), *pools[1:]])["zeroeval:priced"].met is False


def test_a_cell_comes_back_as_it_was_written_and_a_torn_one_not_at_all(tmp_path: Path) -> None:
    cell = Cell("s:p", "a/b", "knn", 0, {}, 0, 1)
    path = cell_path(tmp_path, cell, "0" * 64)
    assert path.is_relative_to(tmp_path / "cells")
    assert read_cell(path) is None
    write_cell(path, CellFacts(1.5, state_bytes=7), predictions())
    stored = read_cell(path)
    assert stored
    assert stored.predictions
    assert stored.facts.fit_seconds == 1.5
    np.testing.assert_array_equal(stored.predictions.quality, SCORE)
    path.write_bytes(path.read_bytes()[:-40])
    assert read_cell(path) is None
    write_cell(path, CellFacts(error="too few prompts"), None)
    failed = read_cell(path)
    assert failed == StoredCell(CellFacts(error="too few prompts"), None)


def test_a_cells_key_follows_from_data_settings_seed_fold_and_code() -> None:
    cell = Cell("s:p", "v", "knn", 0, {"a": 1}, 0, 1)
    changes = [{"settings": {"a": 2}}, {"seed": 1}, {"fold": 2}, {"strategy": "ridge"}]
    keys = {replace(cell, **change).key("data") for change in changes} | {cell.key("data"), cell.key("other data")}
    assert len(keys) == 6
    assert replace(cell, variant="renamed").key("data") == cell.key("data")
    assert code_digest("knn") != code_digest("ridge")


def test_variants_change_the_default_configuration() -> None:
    (variant,) = parse_variants({"near": {"strategy": "mlp", "settings": {"epochs": 2}, "against": "mlp"}})
    (plain,) = registered_variants(["mlp"])
    assert variant.configurations == ({**plain.configurations[0], "epochs": 2},)
    assert variant.against == "mlp"
    assert not variant.baseline
    assert plain.baseline
    for content, message in (
        ([], "is not of the form"),
        ({"a": {"settings": {}}}, "variant 'a' is not of the form"),
        ({"a": {"strategy": "nope"}}, "unknown strategy 'nope'; choose among knn"),
        ({"a": {"strategy": "knn", "against": 3}}, "variant 'a' is not of the form"),
        ({"a": {"strategy": "knn", "settings": 3}}, "the settings of variant 'a' are not an object"),
        ({"a": {"strategy": "knn", "settings": {"neighbors": 3}}}, "variant 'a': .*'neighbors'; knn knows: neighbours"),
        (
            {"a": {"strategy": "mlp", "settings": {"epoch": 3}}},
            "variant 'a': .*'epoch'; mlp knows: decay, dropout, epochs",
        ),
        ({"a": {"strategy": "best-single", "settings": {"x": 3}}}, "variant 'a': .*'x'; best-single knows: none"),
        ({"a": {"strategy": "fused", "settings": {"penalt": 3}}}, "variant 'a': .*'penalt'; it has: .*penalty"),
        ({"a": {"strategy": "task-aware", "settings": {"bet": 3}}}, "variant 'a': .*'bet' .*it has: beta, "),
        ({"a": {"strategy": "latent-lookahead", "settings": {"joined": True}}}, "variant 'a': .*'joined'; .*joint"),
        (
            {"a": {"strategy": "latent-lookahead", "settings": {"share": "x"}}},
            "variant 'a': .*another kind than they may",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            parse_variants(content)


def test_a_prepared_pool_comes_back_from_its_files(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(COUNT, 4)).astype(np.float32)
    answers = AnswerEmbeddings(np.ones((COUNT, 2, 4), dtype=np.float16), np.ones((COUNT, 2), dtype=np.bool_))
    pool = prepare("s:p", outcomes(), lambda _: vectors, lambda _: answers, folds=5, folds_by="text")
    write_pool(tmp_path / "pool.safetensors", pool)
    for with_answers in (False, True):
        back = read_pool(tmp_path / "pool.safetensors", "s:p", with_answers=with_answers)
        assert back.fingerprint(with_answers=with_answers) == pool.fingerprint(with_answers=with_answers)
        assert back.outcomes.prompts == pool.outcomes.prompts
    assert pool.fingerprint(with_answers=True) != pool.fingerprint(with_answers=False)


def test_folds_by_task_leave_whole_tasks_out() -> None:
    tasks = [f"task {number % 12}" for number in range(COUNT)]
    data = replace(
        outcomes(),
        prompts=tuple(replace(prompt, task=task) for prompt, task in zip(outcomes().prompts, tasks, strict=True)),
    )
    vectors = np.ones((COUNT, 4), dtype=np.float32)
    pool = prepare("x", data, lambda _: vectors, lambda _: None, folds=2, folds_by="task")
    sides: dict[str, set[int]] = {}
    for task, fold in zip(tasks, pool.folds.tolist(), strict=True):
        sides.setdefault(task, set()).add(fold)
    assert all(len(folds) == 1 for folds in sides.values())
    with pytest.raises(ValueError, match=r"fold [01] of 2 is empty"):
        prepare(
            "x",
            data.rows(np.array(tasks) == "task 1"),
            lambda _: vectors[:17],
            lambda _: None,
            folds=2,
            folds_by="task",
        )
