"""`python -m tests.bench.encoders`: the sentence encoder on several runtimes: forward pass, drift of its vectors, effect on decisions.

Each runtime is a process on the gateway's core, one thread. What a drift does is seen through a fused router that was trained on the
float32 encoder's vectors and is then given the other's. OpenVINO runs in an environment of its own: `--openvino-python`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.bench import routed_page
from tests.bench.places import GATEWAY_CORE, on_core
from tests.bench.routed_figures import middle, quantile, spread

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.sources import load_data
from foresail_router.data.splits import fold_of
from foresail_router.evaluation.metrics.calibration import reliability
from foresail_router.features.cache import CachedEncoder
from foresail_router.features.encoder import Vectors, packaged_encoder
from foresail_router.features.onnx_graph import build_graph
from foresail_router.features.tokens import PromptTokenizer
from foresail_router.features.weights import MAX_TOKENS, Precision, load_package
from foresail_router.strategies.base import Features, Strategy, TrainingSet, find_strategy

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "benchmarks" / "results" / "encoders.json"
WORKER = Path(__file__).with_name("encoder_worker.py")
TOKENS = (16, 64, 128, 256)
RUNTIMES = {
    "onnxruntime": ("float32", "int8"),
    "torch": ("float32", "bfloat16", "int8"),
    "openvino": ("float32", "bfloat16", "int8-weights", "int8", "int8-bfloat16"),
}
_MOST_TRAINING, _MOST_HELD_OUT, _TIMED = 2000, 600, 40
_RUN_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Sides:
    """A training side, and held-out prompts of which every outcome is known."""

    training: OutcomeMatrix
    held_out: OutcomeMatrix


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; `--write` also writes the figures and the page that shows them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "examples" / "demo" / "data", help="a data directory")
    parser.add_argument("--source", help="which long-form source, where the directory holds those")
    parser.add_argument("--openvino-python", type=Path, help="a Python that has openvino and nncf")
    parser.add_argument("--keep", type=Path, help="directory that keeps vectors for the next time (default: none)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help=f"write {TARGET.relative_to(ROOT)} and its page")
    options = parser.parse_args(arguments)
    pythons = {"onnxruntime": Path(sys.executable), "torch": Path(sys.executable)}
    if options.openvino_python is not None:
        pythons["openvino"] = options.openvino_python
    with tempfile.TemporaryDirectory(prefix="foresail-bench-") as scratch:
        folder = Path(options.keep or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        figures = measure(folder, split(load_data(options.data, options.source)), pythons, options.rounds)
    figures["facts"] |= {"data": options.source or options.data.parent.name}
    print(json.dumps(figures, indent=1))
    if options.write:
        TARGET.write_text(json.dumps(figures, indent=1) + "\n")
        routed_page.main()
    return 0


def split(data: OutcomeMatrix) -> Sides:
    """Return a sample of each side, the same at every call."""
    draw = np.random.default_rng(0)
    training, held_out = data.rows(data.side("train", "val")), data.rows(data.side("test") & data.complete)
    return Sides(_sample(training, _MOST_TRAINING, draw), _sample(held_out, _MOST_HELD_OUT, draw))


def measure(folder: Path, sides: Sides, pythons: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Return forward passes by runtime and length, and what each runtime's vectors do to a router trained on float32."""
    _prepare(folder, sides)
    variants = [(name, precision) for name in pythons for precision in RUNTIMES[name]]
    times: dict[tuple[str, str], list[dict[str, list[float]]]] = {variant: [] for variant in variants}
    for number in range(rounds):
        for variant in variants:
            times[variant].append(_run(pythons[variant[0]], folder, *variant))
        print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    strategy = _fitted(folder, sides.training, "float32")
    exact = np.load(folder / "onnxruntime-float32.npy")
    usual = _effect(strategy, sides.held_out, exact, exact)
    rows = {}
    for name, precision in variants:
        vectors = np.load(folder / f"{name}-{precision}.npy")
        rows[f"{name} {precision}"] = {
            "p50": {length: spread([middle(each[length]) for each in times[name, precision]]) for length in _names()},
            "p99": {
                length: spread([quantile(each[length], 0.99) for each in times[name, precision]]) for length in _names()
            },
            **_effect(strategy, sides.held_out, vectors, exact),
        }
    matched = _effect(
        _fitted(folder, sides.training, "int8"),
        sides.held_out,
        np.load(folder / "onnxruntime-int8.npy"),
        exact,
        strategy,
    )
    facts = {
        "rounds": rounds,
        "prompts": len(sides.training.prompts),
        "held_out": len(sides.held_out.prompts),
        "models": len(sides.training.models),
    }
    return {"facts": facts, "runtimes": rows, "usual": usual, "trained_on_int8": matched}


def _sample(data: OutcomeMatrix, most: int, draw: np.random.Generator) -> OutcomeMatrix:
    return data.rows(np.sort(draw.permutation(len(data.prompts))[:most]))


def _names() -> list[str]:
    return [str(tokens) for tokens in TOKENS]


def _prepare(folder: Path, sides: Sides) -> None:
    source = load_package()
    for precision in ("float32", "int8"):
        graph = build_graph(source.weights, source.shape, int8=precision == "int8")
        (folder / f"{precision}.onnx").write_bytes(graph)
    sizes = {"heads": np.asarray(source.shape.heads), "epsilon": np.asarray(source.shape.epsilon)}
    np.savez(folder / "weights.npz", allow_pickle=False, **source.weights, **sizes)
    tokenizer = PromptTokenizer(source.tokenizer, max_tokens=MAX_TOKENS)
    draw = np.random.default_rng(1)
    first, last = 2000, 20_000  # whole words of the vocabulary
    timed = {str(tokens): draw.integers(first, last, (_TIMED, tokens)) for tokens in TOKENS}
    texts, calibration = (_padded(tokenizer.ids(side.texts)) for side in (sides.held_out, sides.training))
    np.savez(folder / "ids.npz", allow_pickle=False, texts=texts, calibration=calibration, **timed)


def _padded(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    padded = np.full((len(rows), MAX_TOKENS), -1, dtype=np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded


def _run(python: Path, folder: Path, runtime: str, precision: str) -> dict[str, list[float]]:
    with on_core(GATEWAY_CORE):
        done = subprocess.run(
            [python, WORKER, folder, runtime, precision],
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise SystemExit(f"{runtime} {precision} failed: {done.stderr.strip()[-2000:]}")
    return dict(json.loads(done.stdout[done.stdout.rindex('{"16"') :]))


def _fitted(folder: Path, training: OutcomeMatrix, precision: Precision) -> Strategy:
    encoder = CachedEncoder(packaged_encoder(precision, threads=1), folder / "cache")
    vectors = encoder.encode(list(training.texts))
    folds = np.array([fold_of(text) for text in training.texts], dtype=np.int64)
    features = Features(training.texts, vectors)
    return find_strategy("fused").fit(TrainingSet(features, training, folds), seed=0, progress=lambda _: None)


def _effect(
    strategy: Strategy, held_out: OutcomeMatrix, vectors: Vectors, exact: Vectors, other: Strategy | None = None
) -> dict[str, Any]:
    """Return drift from the exact vectors, and what becomes of choices and calibration; `other` chose on the exact ones."""
    cosines = (vectors * exact).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(exact, axis=1)
    quality = strategy.predict(Features(held_out.texts, vectors)).quality
    before = (other or strategy).predict(Features(held_out.texts, exact)).quality
    chosen, usual = quality.argmax(axis=1), before.argmax(axis=1)
    rows = np.arange(len(chosen))
    realised = held_out.score[rows, chosen] - held_out.score[rows, usual]
    return {
        "cosine_mean": round(float(cosines.mean()), 5),
        "cosine_least": round(float(cosines.min()), 5),
        "changed": round(float((chosen != usual).mean()), 4),
        "quality": round(float(held_out.score[rows, chosen].mean()), 4),
        "points": round(100 * float(realised.mean()), 3),
        "points_error": round(100 * float(realised.std() / np.sqrt(len(realised))), 3),
        "ece": round(reliability(quality, held_out.score).error, 4),
        "moved": round(float(np.abs(quality - before).mean()), 5),
    }


if __name__ == "__main__":
    raise SystemExit(main())
