"""What upstreams write down of every request that they accept, before they answer it.

Owns the format of a line and its reading. It must not know what is answered.

One line: the attempt's id, the number of the request at its process, input, cached and output tokens, nano-dollars. A stream adds a
line before each of its pieces; the last one of a request is its bill.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tests.proof.setting import Price


class Journal:
    """The journal of one process. A line is in the system's hands when `bill` returns: only a fall of the machine loses it."""

    def __init__(self, path: Path, price: Price) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._price = price
        self._accepted = 0

    def accepted(self) -> str:
        """Return a number for a new request."""
        self._accepted += 1
        return f"{os.getpid()}.{self._accepted}"

    def bill(self, attempt: str, number: str, input_tokens: int, cached_tokens: int, output_tokens: int) -> None:
        """Write down what a request costs up to now."""
        nano = self._price.nano(input_tokens, cached_tokens, output_tokens)
        os.write(self._file, f"{attempt} {number} {input_tokens} {cached_tokens} {output_tokens} {nano}\n".encode())


def read_bills(paths: Iterable[Path]) -> dict[str, int]:
    """Return the nano-dollars of each attempt over all journals. An attempt that was sent twice is billed twice."""
    bills: dict[str, dict[str, int]] = {}
    for path in paths:
        for line in path.read_text().splitlines() if path.exists() else ():
            attempt, number, *_, nano = line.split(" ")
            bills.setdefault(attempt, {})[f"{path.name} {number}"] = int(nano)
    return {attempt: sum(of_requests.values()) for attempt, of_requests in bills.items()}
