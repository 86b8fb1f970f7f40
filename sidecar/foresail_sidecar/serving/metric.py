"""The metric that counts changes of the configuration that could not be served. It must not know what they were."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from foresail_sidecar.configuration.state import ServingHolder


class ConfigurationErrors(Collector):
    """Reads `foresail_configuration_errors_total` from the holder whenever metrics are asked for."""

    def __init__(self, holder: ServingHolder) -> None:
        self._holder = holder

    def collect(self) -> Iterator[Metric]:
        """Yield the one metric."""
        text = "Changes of the configuration that could not be served; what was served before is kept."
        yield CounterMetricFamily("foresail_configuration_errors", text, value=self._holder.configuration_errors)
