"""`foresail crds`: prints, writes or checks the CustomResourceDefinitions.

It must not know their schemas.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from foresail_api.console import Command
from foresail_api.crd import KINDS, render
from foresail_api.errors import UserError


def _configure(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--write", metavar="DIR", type=Path, help="write one file per kind into DIR instead of printing")
    where.add_argument(
        "--check", metavar="DIR", type=Path, help="exit with status 1 if the files in DIR differ from the models"
    )


def _run(arguments: argparse.Namespace) -> int:
    texts = {kind.file_name: render(kind) for kind in KINDS}
    if arguments.write:
        try:
            arguments.write.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                (arguments.write / name).write_text(text)
        except OSError as error:
            raise UserError(
                f"--write {arguments.write}: cannot be written: {error.strerror}; name a folder of yours"
            ) from None
    elif arguments.check:
        stale = [name for name, text in texts.items() if _read(arguments.check / name) != text]
        if stale:
            print(f"{', '.join(stale)} differ from the models; run: foresail crds --write {arguments.check}")
            return 1
    else:
        print("---\n".join(texts.values()), end="")
    return 0


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


command = Command(help="print the CustomResourceDefinitions of both kinds", configure=_configure, run=_run)
