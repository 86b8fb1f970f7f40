"""The metrics of several processes as one: each process keeps its own in files of a shared directory, and any of them can show all.

Owns those files' names and how their values are put together. It must not know which metrics there are.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, values
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.values import MultiProcessValue

# Where the library looks for the directory.
DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

# What a gauge is set to that is not there any more, for what processes keep in files cannot be taken out.
GONE: Final = math.nan

_TRIES = 3


def keep_in_files_as(slot: str) -> None:
    """Keep the metrics of this process in files that are named after `slot`. To be called before the first metric is made.

    A process that takes the place of one that ended goes on with its counters; so there are never more files than places.
    """
    values.ValueClass = MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


def forget_gauges_of(slot: str, directory: Path) -> None:
    """Have the gauges of a process that ended count no longer."""
    mark_process_dead(slot, str(directory))  # type: ignore[no-untyped-call]


def merged_registry(directory: Path) -> CollectorRegistry:
    """Return a registry that shows what all processes keep in `directory`."""
    registry = CollectorRegistry()
    registry.register(_Merged(directory))
    return registry


class _Merged(Collector):
    """Adds counters and histograms up, gauges as each was made to be; what is gone is left out, as is an info that is 0 everywhere."""

    def __init__(self, directory: Path) -> None:
        self._collector = MultiProcessCollector(None, str(directory))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        for metric in self._read():
            if metric.type == "gauge":
                info = metric.name.endswith("_info")
                metric.samples = [
                    sample for sample in metric.samples if not math.isnan(sample.value) and (sample.value or not info)
                ]
            yield metric

    def describe(self) -> Iterator[Metric]:
        """Promise nothing: what there is depends on what was counted."""
        return iter(())

    def _read(self) -> list[Metric]:
        for _ in range(_TRIES - 1):
            try:
                return list(self._collector.collect())  # type: ignore[no-untyped-call]
            except struct.error:
                # A file is there that its process has not given its size yet.
                continue
        return list(self._collector.collect())  # type: ignore[no-untyped-call]
