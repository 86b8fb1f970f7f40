"""A benchmark's result as one HTML file that needs nothing else: its style and its plots stand in it, and it runs no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from foresail_router.evaluation.benchmark.results import Comparison, PoolResult, Summary, VariantResult
from foresail_router.evaluation.metrics.resampling import Estimate
from foresail_router.evaluation.presentation import plots
from foresail_router.evaluation.presentation.figures import TABLES, Column, answered, method_titles, present

_CSS = """
:root { --ink: #1f2933; --grey: #616e7c; --line: #e4e7eb; --pale: #f5f7fa; --blue: #1f6feb; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1280px; padding: 2rem 1.5rem 4rem; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; } h2 { margin: 3rem 0 .5rem; padding-top: 1rem; border-top: 2px solid var(--line); }
h3 { margin: 1.6rem 0 .4rem; font-size: 1rem; } p { max-width: 62rem; } .note { color: var(--grey); font-size: .9rem; }
nav a { margin-right: 1rem; white-space: nowrap; } a { color: var(--blue); text-decoration: none; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--grey); font-weight: 600; background: var(--pale); } th:first-child, td:first-child { text-align: left; }
table.words td, table.words th { text-align: left; white-space: normal; }
tr.focus td { background: #eaf2ff; font-weight: 600; } tr.reference td { color: var(--grey); font-style: italic; }
.plots { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; margin: 1rem 0; }
figure { margin: 0; padding: .4rem; border: 1px solid var(--line); border-radius: 6px; } svg { max-width: 100%; height: auto; }
.met { color: #2f855a; font-weight: 600; } .missed { color: #c53030; font-weight: 600; } .open { color: var(--grey); }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--blue); }
"""
_INTRODUCTION = (
    "Every prompt is tested once, by a router that was fitted on the other folds; prompts of the same text are always in one fold. "
    "Configurations are chosen on the other pools, trade-offs on the other folds. Brackets are 95 % intervals of a bootstrap over text "
    "groups, paired. Oracle and known-label routing are references, not baselines, and known-label routing is no upper bound."
)


def summary_html(summary: Summary) -> str:
    """Return the whole page."""
    run = summary.run
    facts = (
        f"{run.cells} fits ({run.cells_found} found done), {run.folds} folds by {run.folds_by}, {run.seeds} seed"
        f"{'s' if run.seeds > 1 else ''}; {run.seconds / 60:.1f} minutes in {run.processes} processes, "
        f"{run.cpu_seconds / 60:.1f} minutes of CPU; {run.memory}."
    )
    links = " ".join(f'<a href="#{_anchor(pool.name)}">{escape(pool.name)}</a>' for pool in summary.pools)
    body = [
        "<h1>Routers, measured</h1>",
        f"<p>{_INTRODUCTION}</p><p class=note>{escape(facts)}</p><nav>{links}</nav>",
        *_targets(summary),
        *_overview(summary),
        *_methods(summary),
        *(part for pool in summary.pools for part in _pool(pool, summary)),
    ]
    return page("Foresail benchmark", body)


def _methods(summary: Summary) -> Iterator[str]:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(title)}</td></tr>" for name, title in method_titles(summary)
    )
    yield "<h2>What each name stands for</h2>"
    yield f"<div class=scroll><table class=words><thead><tr><th>name</th><th>method</th></tr></thead><tbody>{rows}</tbody></table></div>"


def page(title: str, body: Sequence[str]) -> str:
    """Return an HTML page of these parts."""
    head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return f"{head}{view}<style>{_CSS}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"


def table(header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], *, words: bool = False) -> str:
    """Return a table; each row has a class (or none) and its cells, which are escaped here."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = [
        f"<tr{f' class={kind}' if kind else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for kind, cells in rows
    ]
    kind = " class=words" if words else ""
    return f"<div class=scroll><table{kind}><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def figures(*drawings: str) -> str:
    """Return plots side by side, where there is room."""
    return f"<div class=plots>{''.join(f'<figure>{drawing}</figure>' for drawing in drawings)}</div>"


def _targets(summary: Summary) -> Iterator[str]:
    if not summary.targets:
        return
    yield f"<h2>Targets of {escape(summary.focus)}</h2>"
    words = {True: "met", False: "missed", None: "open"}
    rows = "".join(
        f"<tr><td>{escape(target.name)}</td><td>{escape(target.asked)}</td><td>{escape(target.measured)}</td>"
        f"<td class={words[target.met]}>{words[target.met]}</td></tr>"
        for target in summary.targets
    )
    head = "<tr><th>target</th><th>asked</th><th>measured</th><th></th></tr>"
    yield f"<div class=scroll><table class=words><thead>{head}</thead><tbody>{rows}</tbody></table></div>"


def _overview(summary: Summary) -> Iterator[str]:
    yield "<h2>All pools</h2>"
    names = list(dict.fromkeys(variant.name for pool in summary.pools for variant in pool.variants))
    column = Column("gain_hindsight", "", "+.2f")
    rows = []
    for name in names:
        found = [pool.variant(name) for pool in summary.pools]
        cells = ["not fitted" if variant is None else column.text(variant.figures) for variant in found]
        rows.append(("focus" if name == summary.focus else "", [name, *cells]))
    yield "<h3>Points above the hindsight best single model, cost left aside</h3>"
    yield table(["", *(pool.name for pool in summary.pools)], rows)
    for title, found_means in summary.means.items():
        geometric = "geometric" in title
        shown = Column("mean", title, ".3f" if geometric else ".1f", 1 if geometric else 100)
        ordered = sorted(found_means.items(), key=lambda item: item[1].value, reverse=not geometric)
        yield f"<h3>{escape(title[0].upper() + title[1:])}{'' if geometric else ', in %'}</h3>"
        yield table(
            ["", "value"],
            [("focus" if name == summary.focus else "", [name, shown.text({"mean": mean})]) for name, mean in ordered],
        )
    yield figures(plots.latency(summary))


def _pool(pool: PoolResult, summary: Summary) -> Iterator[str]:
    focus = pool.variant(summary.focus)
    other = _best_other(pool, summary.focus)
    yield f'<h2 id="{_anchor(pool.name)}">{escape(pool.name)}</h2>'
    yield (
        f"<p class=note>{pool.prompts} prompts in {pool.groups} text groups, {len(pool.singles)} models; {pool.priced_prompts} prompts have "
        f"a cost of every model. Best single in training: {escape(pool.best_single)}; in hindsight: {escape(pool.hindsight_best)}{answered(pool)}.</p>"
    )
    drawings = [plots.gains(pool, summary.focus)]
    if focus is not None:
        models = [single.name for single in pool.singles]
        if focus.curve:
            drawings.insert(0, plots.cost_quality(pool, focus, other))
        bins = [(variant.name, variant.bins) for variant in (focus, other) if variant is not None]
        drawings.append(plots.calibration(pool.name, bins))
        if any(value is not None for value in focus.length_coverage):
            drawings.append(plots.length_coverage(pool.name, models, focus.length_coverage))
        if focus.tasks is not None:
            drawings.append(plots.task_map(pool.name, models, focus.tasks))
    yield figures(*drawings)
    yield from _tables(pool, summary.focus)
    yield from _comparisons(pool)


def _tables(pool: PoolResult, focus: str) -> Iterator[str]:
    rows: list[tuple[str, str, Mapping[str, Estimate]]] = [
        ("reference", name, found) for name, found in pool.references.items() if "quality" in found
    ]
    rows += [("focus" if variant.name == focus else "", variant.name, variant.figures) for variant in pool.variants]
    for title, wanted in TABLES:
        columns = present(wanted, [found for _, _, found in rows])
        shown = [row for row in rows if any(column.figure in row[2] for column in columns)]
        if columns and shown:
            yield f"<h3>{escape(title)}</h3>"
            yield table(
                ["", *(column.heading for column in columns)],
                [(kind, [name, *(column.text(found) for column in columns)]) for kind, name, found in shown],
            )
    singles = pool.references.get("single models")
    if singles:
        within = Column("cheapest_within_1_point_cost_ratio", "").text(singles)
        below = Column("hull_of_singles_1_point_below_cost_ratio", "").text(singles)
        yield (
            f"<p class=note>Without a router: the cheapest single model within 1 point of the best costs {within} of it, the hull of single "
            f"models reaches 1 point below the best at {below}.</p>"
        )
    for variant in pool.variants:
        if variant.failed is not None:
            yield f"<p class=note>{escape(variant.name)} was not fitted: {escape(variant.failed)}</p>"


def _comparisons(pool: PoolResult) -> Iterator[str]:
    if pool.comparisons:
        yield f"<details><summary>{escape(pool.comparisons[0].focus)} against each other one</summary>"
        yield _compared([(line.other, line) for line in pool.comparisons])
        yield "</details>"
    if pool.pairs:
        yield "<h3>Each against its counterpart</h3>"
        yield _compared([(f"{line.focus} minus {line.other}", line) for line in pool.pairs])


def _compared(lines: Sequence[tuple[str, Comparison]]) -> str:
    points = Column("points", "", "+.2f")
    rows = [
        ("", [name, points.text({"points": line.points}), f"{line.p:.4f}", f"{line.p_holm:.4f}"])
        for name, line in lines
    ]
    return table(["", "points", "p", "p, Holm-corrected"], rows)


def _best_other(pool: PoolResult, focus: str) -> VariantResult | None:
    others = [variant for variant in pool.variants if variant.failed is None and variant.name != focus]
    return max(others, key=lambda variant: variant.figures["gain_hindsight"].value, default=None)


def _anchor(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
