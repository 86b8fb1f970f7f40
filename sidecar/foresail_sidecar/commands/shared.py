"""What commands of the sidecar that put questions share: how their numbers are read.

Imports only the standard library, so that `foresail --help` stays fast.
"""

from __future__ import annotations

import argparse


def from_1_to(most: int) -> type[int]:
    """Return a parser of whole numbers from 1 to `most`, for an argument's `type`."""

    def parse(text: str) -> int:
        if text.isascii() and text.isdecimal() and 1 <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")

    return parse  # type: ignore[return-value]
