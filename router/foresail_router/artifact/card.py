"""The model card of an artifact: what it is, what it was trained on, how well it does, what it is not for.

Pure, and without the time or the place of training: the same router has the same card.
"""

from __future__ import annotations

from foresail_router.artifact.manifest import Manifest, ModelFacts, PackagedEncoder

_TEXT = """# A Foresail router

Foresees, for a prompt and each of {count} models, the quality of the answer and its length in tokens, both with an uncertainty.
Strategy: `{strategy}`. Encoder: {encoder}.

## Trained on

{prompts} prompts with graded answers (fingerprint `{fingerprint}`); {held_out} more were held out by their text.{assumed}
None of the prompts or answers is part of this artifact: it holds embeddings, scores and lengths.

| model | mean quality | outcomes | mean output tokens | USD per million tokens, input / output |
|---|---|---|---|---|
{models}

`{reference}` is the best single model of the training side; its mean token counts are what the cost weight compares with.
Prices are those that the training data's costs imply. Foresail serves with the prices of the `ModelPool`, not with these.

## On the held-out prompts

{metrics}

## For what it is, and is not

It knows the models above and prompts like those that it was trained on. For others its estimates fall back to the models' means and
its uncertainty grows. It does not judge whether a prompt is safe or an answer is true. Embeddings can reveal what a text is about:
treat the artifact like the prompts it was trained on.
"""
_METRIC_NAMES = {
    "prompts": "held-out prompts with an outcome of every model",
    "router_quality": "mean quality of the router, cost left aside",
    "best_single_quality": "mean quality of the best single model on the same prompts",
    "oracle_quality": "mean quality of the best answer to each prompt",
    "points": "router against best single, in points",
    "points_low": "lower end of its 95 % interval",
    "points_high": "upper end of its 95 % interval",
}
_CALIBRATION_NAMES = {
    "gap_closed": "way from chance to the oracle that the router goes, as a share",
    "ece": "calibration error of quality (ECE, 15 bins of equal mass)",
    "brier_gain": "Brier score below that of each model's training mean",
    "chosen_error": "quality of the chosen model, predicted minus realised",
    "coverage": "share of answers no longer than their 90 % quantile",
    "pinball_gain": "pinball loss below that of each model's training quantile, as a share",
}
_COST_NAMES = {
    "match_cost_ratio": "cost to match: cost over the best single's, at the largest lambda that keeps its quality",
    "match_gain": "difference in quality there, in points",
    "matched": "matched (1 where the lower end of that difference is above -1 point)",
    "aiq": "AIQ: mean height of the hull of cost and quality, from the cheapest model's cost to the best single's",
    "aiq_log": "AIQ over the logarithm of cost",
}


def model_card(manifest: Manifest) -> str:
    """Return the card as Markdown."""
    encoder = manifest.encoder
    by_reference = (
        f"`{encoder.package}` {encoder.version}, to be installed"
        if isinstance(encoder, PackagedEncoder)
        else "contained"
    )
    return _TEXT.format(
        count=len(manifest.models),
        strategy=manifest.strategy,
        encoder=f"{by_reference}, at precision `{encoder.precision}`",
        prompts=manifest.training.prompts,
        fingerprint=manifest.training.fingerprint,
        held_out=manifest.training.held_out_prompts,
        assumed="" if manifest.training.output_tokens == "reported" else " No length was known: lengths are assumed.",
        models="\n".join(_row(model) for model in manifest.models),
        reference=manifest.reference.model,
        metrics=_metrics(manifest),
    )


def _row(model: ModelFacts) -> str:
    price = model.price
    shown = "" if price is None else f"{price.input_per_million_tokens_usd:g} / {price.output_per_million_tokens_usd:g}"
    name = model.name.replace("|", "\\|")
    return f"| {name} | {model.mean_quality:.4f} | {model.outcomes} | {model.mean_output_tokens:.0f} | {shown} |"


def _metrics(manifest: Manifest) -> str:
    metrics = manifest.metrics
    if not metrics:
        return "Nothing was measured: no held-out prompt has an outcome of every model."
    rows = [f"| {text} | {metrics[name]:g} |" for name, text in _METRIC_NAMES.items() if name in metrics]
    rows += [*_rows(_CALIBRATION_NAMES, manifest.calibration), *_rows(_COST_NAMES, manifest.costs)]
    note = ""
    if manifest.costs:
        note = (
            "\n\nCost to match and AIQ are as `foresail benchmark` defines them, on recorded costs: their trade-offs are chosen on four "
            "fifths of the held-out prompts and\nmeasured on the last, five times; best single and cheapest model are those of training."
        )
    return "\n".join(["| measure | value |", "|---|---|", *rows]) + note


def _rows(names: dict[str, str], figures: dict[str, float]) -> list[str]:
    rows = []
    for name, text in names.items():
        if name in figures:
            low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
            interval = "" if low is None or high is None else f" [{low:g}, {high:g}]"
            rows.append(f"| {text} | {figures[name]:g}{interval} |")
    return rows
