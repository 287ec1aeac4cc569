"""The numbers of a store for Prometheus. Needs the package prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cxlspeckv.store import BlockStore


class StoreCollector(Collector):
    """Tells what `BlockStore.report()` tells: `REGISTRY.register(StoreCollector(store))`.

    `prefix` begins every name; `labels` are added to every sample, and must differ between
    stores of one registry. Of a closed store there is nothing. Any thread.
    """

    def __init__(
        self,
        store: BlockStore,
        prefix: str = "cxlspeckv",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._labels = dict(labels or {})

    def describe(self) -> Iterator[Metric]:
        """Tell the names without numbers, so that registering does not read the store."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read the store once."""
        families: dict[str, Metric] = {}
        if not self._store.closed:
            for counts, name, label, value_of_label, value in self._store._core.report():
                full = f"{self._prefix}_{name}"
                labels = self._labels | ({label: value_of_label} if label else {})
                if full not in families:
                    kind = CounterMetricFamily if counts else GaugeMetricFamily
                    families[full] = kind(full, _help(name), labels=list(labels))
                sample = full if not counts or full.endswith("_total") else f"{full}_total"
                families[full].add_sample(sample, labels, value)
        return iter(families.values())


def _help(name: str) -> str:
    words = name.removesuffix("_total").replace("_", " ")
    return f"{words[0].upper()}{words[1:]} of a cxlspeckv store."
