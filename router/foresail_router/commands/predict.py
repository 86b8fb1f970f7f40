"""`foresail predict`: a router's estimates for a file of prompts, as parquet, for tools of one's own.

It must not know how estimates are made.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import foresail_router.commands.shared as shared
from foresail_api.console import Command
from foresail_api.errors import UserError

if TYPE_CHECKING:
    from foresail_router.artifact.costs import Price
    from foresail_router.artifact.router import Router
    from foresail_router.data.records import Prompt

_BATCH = 256


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="ARTIFACT", type=Path, help="directory that `foresail train` wrote")
    parser.add_argument(
        "prompts", metavar="PROMPTS", type=Path, help="parquet or JSONL with string columns id and prompt"
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="parquet file to write")
    parser.add_argument(
        "--pool-file",
        metavar="FILE",
        type=Path,
        help="YAML with a ModelPool whose prices to use (default: the prices that the training data implied)",
    )
    shared.add_threads_argument(parser)


def _run(arguments: argparse.Namespace) -> int:
    from foresail_router.artifact.costs import artifact_prices
    from foresail_router.artifact.router import open_router
    from foresail_router.artifact.store import read_artifact
    from foresail_router.data.records import read_prompts

    started = time.monotonic()
    if arguments.output.suffix != ".parquet":
        raise UserError(f"-o {arguments.output}: is written as parquet; name it .parquet")
    artifact = read_artifact(arguments.artifact)
    prices = artifact_prices(artifact.manifest) if arguments.pool_file is None else _pool_prices(arguments.pool_file)
    for model in artifact.manifest.model_names:
        if model not in prices:
            shared.say(f"no price: cost_usd of {model} is null")
    prompts = read_prompts(arguments.prompts, other_columns=True)
    router = open_router(artifact, threads=arguments.threads)
    with shared.ticking(None, "predicting") as tick:
        count = _write(arguments.output, router, prices, prompts, tick)
    print(f"{arguments.output}: {count} prompts x {len(artifact.manifest.models)} models")
    shared.say(f"done in {time.monotonic() - started:.1f} s")
    return 0


def _pool_prices(path: Path) -> dict[str, Price]:
    from foresail_api.manifests import load_manifests
    from foresail_router.artifact.costs import Price

    pools = list(load_manifests([path]).pools.values())
    if len(pools) != 1:
        raise UserError(f"--pool-file {path}: holds {len(pools)} objects of kind ModelPool; give a file with one")
    priced = [(model.name, model.price) for model in pools[0].spec.models if model.price is not None]
    return {
        name: Price(
            float(price.input_per_million_tokens), float(price.output_per_million_tokens), float(price.per_request)
        )
        for name, price in priced
    }


def _write(path: Path, router: Router, prices: dict[str, Price], prompts: Iterator[Prompt], tick: Any) -> int:
    import itertools

    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = ["quality", "quality_std", "output_tokens"]
    numbers += [f"output_tokens_{quantile}" for quantile in ("p05", "p50", "p90", "p95")]
    numbers.append("cost_usd")
    schema = pa.schema([("id", pa.string()), ("model", pa.string()), *((name, pa.float64()) for name in numbers)])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    count = 0
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            while batch := list(itertools.islice(prompts, _BATCH)):
                writer.write_table(pa.table(_columns(router, prices, batch), schema=schema))
                count += len(batch)
                tick(len(batch))
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _columns(router: Router, prices: dict[str, Price], prompts: list[Prompt]) -> dict[str, Any]:
    import numpy as np

    from foresail_router.artifact.costs import predicted_costs

    texts = [prompt.prompt for prompt in prompts]
    predictions = router.predict(texts)
    costs = predicted_costs(router.manifest, prices, texts, predictions.output_tokens).ravel()
    models = router.manifest.model_names
    return {
        "id": [prompt.id for prompt in prompts for _ in models],
        "model": [model for _ in prompts for model in models],
        "quality": predictions.quality.ravel(),
        "quality_std": predictions.quality_std.ravel(),
        "output_tokens": predictions.output_tokens.ravel(),
        "output_tokens_p05": predictions.output_tokens_p05.ravel(),
        "output_tokens_p50": predictions.output_tokens_p50.ravel(),
        "output_tokens_p90": predictions.output_tokens_p90.ravel(),
        "output_tokens_p95": predictions.output_tokens_p95.ravel(),
        "cost_usd": [None if np.isnan(cost) else float(cost) for cost in costs],
    }


command = Command(help="write a router's estimates for a file of prompts", configure=_configure, run=_run)
