"""What the store counts, in vLLM's own statistics (/metrics, and the engine's log)."""

from collections import Counter
from collections.abc import Mapping

from vllm.distributed.kv_transfer.kv_connector.v1.offloading.metrics import OffloadingConnectorStats
from vllm.v1.kv_offload.base import (
    OffloadingCounterMetadata,
    OffloadingGaugeMetadata,
    OffloadingMetricMetadata,
)

from cxlspeckv.vllm.core import Core
from cxlspeckv.vllm.sessions import Sessions
from cxlspeckv.vllm.threads import times

PREFIX = "vllm:cxlspeckv_"
INTERVAL_SECONDS = 1.0

COUNTERS = {
    "hit_blocks": "Blocks found at a request's first lookup, up to its first miss.",
    "missed_blocks": "Blocks of a request from its first miss on.",
    "refused_stores": "Blocks not stored because too many bytes of stores were in flight.",
    "prefetch_useful": "Blocks read ahead that lay in the fastest tier when they were loaded.",
    "prefetch_late": "Blocks read ahead that did not arrive before they were loaded.",
    "prefetch_wasted": "Blocks read ahead whose request ended without loading them.",
}
# name: (attribute of TierStats, words); of each tier.
TIER_COUNTERS = {
    "tier_hits": ("hits", "Blocks loaded from a tier."),
    "tier_read_bytes": ("bytes_read", "Bytes read from a tier's device."),
    "tier_written_bytes": ("bytes_written", "Bytes written to a tier's device."),
    "tier_evictions": ("evictions", "Blocks that a tier gave up."),
    "tier_dropped_stores": ("saves_dropped", "Blocks whose save failed, told of the first tier."),
    "tier_integrity_failures": ("corrupted", "Blocks that failed their checksum."),
    "tier_io_errors": ("io_errors", "Transfers that a tier's device refused or did not answer."),
}
TIER_GAUGES = {
    "tier_used_bytes": ("used", "Bytes of a tier that hold blocks."),
    "tier_pinned_bytes": ("pinned", "Bytes of a tier that are pinned."),
    "tier_plain_bytes": ("plain_bytes", "What the blocks of a tier would take uncompressed."),
    "tier_fenced": ("fenced", "1 while a tier is left alone because its device fails."),
}
# name: (attribute of PrefetchSource, words); of what is staged in the pauses of sessions.
SPECULATION = {
    "speculation_staged_bytes": ("staged", "Plain bytes brought to a faster tier for a session."),
    "speculation_useful_bytes": ("useful", "Of these: there when the session returned."),
    "speculation_late_bytes": ("late", "Of these: still on their way when it returned."),
    "speculation_wasted_bytes": ("wasted", "Of these: gone again, or nobody came in time."),
}
# Counted by workers, which may be other processes.
FAILED_LOADS = PREFIX + "failed_loads"
DROPPED_SAVES = PREFIX + "dropped_saves"
CPU_SECONDS = PREFIX + "cpu_seconds"


def definitions() -> dict[str, OffloadingMetricMetadata]:
    """For vLLM to announce to Prometheus."""
    found: dict[str, OffloadingMetricMetadata] = {
        PREFIX + name: OffloadingCounterMetadata(documentation=words)
        for name, words in COUNTERS.items()}
    for name, (_, words) in TIER_COUNTERS.items():
        found[PREFIX + name] = OffloadingCounterMetadata(documentation=words, labelnames=("tier",))
    for name, (_, words) in TIER_GAUGES.items():
        found[PREFIX + name] = OffloadingGaugeMetadata(documentation=words, labelnames=("tier",))
    for name, (_, words) in SPECULATION.items():
        found[PREFIX + name] = OffloadingCounterMetadata(documentation=words,
                                                         labelnames=("source",))
    found[FAILED_LOADS] = OffloadingCounterMetadata(
        documentation="Blocks that were found but not loaded, and recomputed.",
        labelnames=("reason",))
    found[DROPPED_SAVES] = OffloadingCounterMetadata(
        documentation="Blocks whose store was given up.", labelnames=("reason",))
    found[CPU_SECONDS] = OffloadingCounterMetadata(
        documentation="Processor time of our threads, in all of the engine's processes.",
        labelnames=("thread",))
    return found


class StoreMetrics:
    """Counts for the scheduler. One thread."""

    def __init__(self, core: Core, sessions: Sessions) -> None:
        self._core, self._sessions = core, sessions
        self._counts: Counter[str] = Counter()
        self._seen: dict[tuple[str, str], int] = {}
        self._next = 0.0

    def looked_up(self, hits: int, misses: int) -> None:
        """A request was looked up for the first time."""
        self._counts["hit_blocks"] += hits
        self._counts["missed_blocks"] += misses

    def refused(self, blocks: int) -> None:
        """So many blocks were not taken."""
        self._counts["refused_stores"] += blocks

    def prefetched(self, useful: bool) -> None:
        """A block that was read ahead is loaded now."""
        self._counts["prefetch_useful" if useful else "prefetch_late"] += 1

    def wasted(self, blocks: int) -> None:
        """A request that had blocks read ahead ended without them."""
        self._counts["prefetch_wasted"] += blocks

    def collect(self, now: float) -> OffloadingConnectorStats | None:
        """What changed since the last call that did not give None; None within a second of it."""
        if now < self._next:
            return None
        self._next = now + INTERVAL_SECONDS
        stats = OffloadingConnectorStats()
        for name, count in self._counts.items():
            if count:
                stats.increase_counter(PREFIX + name, count)
        self._counts.clear()
        for number, tier in enumerate(self._core.tier_names):
            values = self._core.store.stats(number)
            for name, (attribute, _) in TIER_COUNTERS.items():
                value = int(getattr(values, attribute))
                # Counted since the store was made, by all who share it: the first look is the base.
                self._seen.setdefault((name, tier), value)
                self._increase(stats, name, tier, value)
            for name, (attribute, _) in TIER_GAUGES.items():
                stats.set_gauge(PREFIX + name, int(getattr(values, attribute)), (tier,))
        speculation = self._sessions.stats()
        for source in ("hinted", "learned"):
            for name, (attribute, _) in SPECULATION.items():
                self._increase(stats, name, source,
                               int(getattr(getattr(speculation, source), attribute)))
        for kind, seconds in times.take().items():
            stats.increase_counter(CPU_SECONDS, seconds, (kind,))
        return stats

    def _increase(self, stats: OffloadingConnectorStats, name: str, label: str, value: int
                  ) -> None:
        before = self._seen.get((name, label), 0)
        if value > before:
            stats.increase_counter(PREFIX + name, value - before, (label,))
            self._seen[name, label] = value


def worker_stats(counts: Mapping[str, Mapping[str, float]]) -> OffloadingConnectorStats | None:
    """What a worker counted since it was asked last, by metric and label, or None."""
    stats = OffloadingConnectorStats()
    for name, by_label in counts.items():
        for label, count in by_label.items():
            stats.increase_counter(name, count, (label,))
    return None if stats.is_empty() else stats
