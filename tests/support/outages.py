"""How long a Redis is away in tests: a moment, or as long as the documentation promises, with FORESAIL_REAL_OUTAGES=1 in the environment."""

from __future__ import annotations

import os

_REAL = os.environ.get("FORESAIL_REAL_OUTAGES", "") not in ("", "0")

STOP_SECONDS = 30.0 if _REAL else 2.1
STALL_SECONDS = 5.0 if _REAL else 0.5

# Of processes that die or live while it is stopped: shorter than the stop, and that of the product at most.
LEASE_MS = int(min(15.0, STOP_SECONDS * 0.95) * 1000)
