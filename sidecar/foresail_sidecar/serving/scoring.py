"""How the one scoring process of several workers is started. It must not know who scores, nor when it is wanted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SHARED_SOCKET: Final = "scorer.sock"


def scoring_command(directory: Path) -> Sequence[str]:
    """Return the command of a process that scores behind the socket in `directory` and ends when its standard input does."""
    path = directory / SHARED_SOCKET
    return (sys.executable, "-m", "foresail_router.engine.process", "--socket", str(path), "--end-with-stdin")
