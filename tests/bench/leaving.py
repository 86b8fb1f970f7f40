"""Cancellation: how long after the client left the upstream sees it, before and after the first token. It must not know of other parts."""

from __future__ import annotations

import json

from tests.bench.gateways import Row
from tests.bench.places import ran
from tests.bench.setting import KILOBYTE, Bench, Figures

_MOMENTS = {"before": {"delay": "60s"}, "after": {"delay": "0s"}}


def measure(bench: Bench, row: Row, calm: Figures) -> Figures:
    """Leave streams before and after their first chunk; what was never seen within a second is counted, not averaged."""
    figures: Figures = {}
    with bench.started(row) as target:
        for moment, behaviour in _MOMENTS.items():
            bench.mock.set(chunks=1, hold=True, **behaviour)
            flags = {
                "count": bench.lengths.cancels,
                "upstream": bench.mock.address,
                "size": KILOBYTE,
                "first": bench.first(),
            }
            flags |= {"after_first": moment == "after", **target.flags()}
            report = json.loads(ran(bench.wire, "cancel", target.address, flags))
            figures |= {f"{moment}_{name}": value for name, value in report.items()}
    return figures
