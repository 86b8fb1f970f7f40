"""Where the demo's models listen, as pool.yaml says, and what they print once they answer."""

from __future__ import annotations

from typing import Final

BASE_PORT: Final = 18101
READY: Final = "all models answer"
