"""How long the parts of a decision take alone, as a process: the encoder's forward pass, its tokenizer, the strategy after the encoder.

Reads `{"artifact", "texts"}` from standard input and writes a list of milliseconds per part. It must not know requests.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from foresail_router.artifact.router import open_encoder, open_strategy
from foresail_router.artifact.store import read_artifact
from foresail_router.features.encoder import OnnxEncoder
from foresail_router.features.tokens import PromptTokenizer
from foresail_router.features.weights import MAX_TOKENS, load_package
from foresail_router.strategies.base import Features

_WARM_UP = 20


def measured(artifact: Path, texts: Sequence[str]) -> dict[str, list[float]]:
    """Return milliseconds by part, one of each per text but for the first few."""
    read = read_artifact(artifact)
    encoder, strategy = open_encoder(read, threads=1), open_strategy(read)
    if not isinstance(encoder, OnnxEncoder):
        raise TypeError("an artifact for serving has an ONNX encoder")
    tokenizer = PromptTokenizer(load_package().tokenizer, max_tokens=MAX_TOKENS)
    times: dict[str, list[float]] = {"tokenizer": [], "forward": [], "strategy": []}
    # In the order of a decision, each prompt once: a forward pass leaves nothing of the others in the nearest caches.
    for text in texts:
        began = time.perf_counter()
        rows = tokenizer.ids([text])
        tokenised = time.perf_counter()
        vectors = encoder.run(rows)
        passed = time.perf_counter()
        strategy.predict(Features([text], vectors))
        ended = time.perf_counter()
        for name, seconds in zip(times, (tokenised - began, passed - tokenised, ended - passed), strict=True):
            times[name].append(1000 * seconds)
    times["forward_repeated"] = [_milliseconds(encoder, rows) for _ in texts]
    return {name: values[_WARM_UP:] for name, values in times.items()}


def _milliseconds(encoder: OnnxEncoder, rows: list[list[int]]) -> float:
    began = time.perf_counter()
    encoder.run(rows)
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    wanted = json.load(sys.stdin)
    json.dump(measured(Path(wanted["artifact"]), wanted["texts"]), sys.stdout)


if __name__ == "__main__":
    main()
