"""`foresail init`: a pool and a policy for the provider keys that the environment holds, ready for `foresail serve`.

Owns the flags and what is printed; a key never is. It must not know the rule that chooses models.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from foresail_api.console import Command
from foresail_api.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foresail_sidecar.onboarding.manifests import ProviderModels
    from foresail_sidecar.onboarding.providers import FoundKey


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        default=Path("foresail"),
        help="where to write (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")


def _run(arguments: argparse.Namespace) -> int:
    import importlib.metadata
    import os
    from datetime import UTC, datetime

    import genai_prices.data

    from foresail_sidecar.onboarding.files import write_all
    from foresail_sidecar.onboarding.manifests import POLICY, ProviderModels, pool_text
    from foresail_sidecar.onboarding.providers import find_keys
    from foresail_sidecar.onboarding.selection import choose_models

    directory: Path = arguments.directory
    version = importlib.metadata.version("genai-prices")
    listed = {provider.id: provider.models for provider in genai_prices.data.providers}
    keys, chosen = [], []
    for found in find_keys(os.environ):
        provider = found.provider
        models = choose_models(listed.get(provider.name, ()), provider.brands, datetime.now(UTC))
        if models:
            keys.append(found)
            chosen.append(ProviderModels(provider, models))
        else:
            print(
                f"{found.variable} is left out: genai-prices {version} lists no current chat model of {provider.name}"
            )
    if not chosen:
        raise UserError(
            "no provider with a key has a model in the price list; write a pool by hand, see the documentation"
        )
    write_all(
        directory, {"pool.yaml": pool_text(chosen, version), "policy.yaml": POLICY}, keys, overwrite=arguments.force
    )
    print(_summary(directory, keys, chosen, version))
    return 0


def _summary(directory: Path, keys: Sequence[FoundKey], chosen: Sequence[ProviderModels], version: str) -> str:
    from foresail_sidecar.onboarding.files import SECRETS, key_file
    from foresail_sidecar.onboarding.manifests import amount

    rows = [("model", "$ per million tokens in / out", "context", "provider")]
    rows += [
        (
            model.name,
            f"{amount(model.prices.input)} / {amount(model.prices.output)}{' and more' if model.tiers else ''}",
            f"{model.context_window:,}",
            group.provider.name,
        )
        for group in chosen
        for model in group.models
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = "\n".join("  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    files = "\n".join(f"  {key_file(directory, found)}" for found in keys)
    return f"""\
Found {", ".join(found.variable for found in keys)}. Prices and context windows are from genai-prices {version}:

{table}

Wrote {directory / "pool.yaml"} and {directory / "policy.yaml"}.
Wrote your keys into files that only you can read, and that git ignores:
{files}

Serve them:
  foresail serve -f {directory} --secrets {directory / SECRETS}"""


command = Command(
    help="write a pool and a policy for the provider keys in the environment", configure=_configure, run=_run
)
