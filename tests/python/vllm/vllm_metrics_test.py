"""What is counted, as it arrives in /metrics: from a manager and a worker through vLLM's own metrics."""

import functools
import os
import time
import types

import cxlspeckv
import numpy
import pytest
from cxlspeckv import PrefetchSource, PrefetchStats
from cxlspeckv.vllm import metrics, threads
from cxlspeckv.vllm.connector import CxlSpecKVConnector
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from vllm.config import KVTransferConfig
from vllm.v1.kv_offload.base import LookupResult
from vllm_support import (
    Client,
    context,
    corrupt,
    keys_of,
    ours,
    page_facts,
    pushed_down,
    until_staged,
)


class Prometheus:
    """What vLLM makes of a connector for its /metrics, in a registry of its own."""

    def __init__(self):
        self.registry, self.now = CollectorRegistry(), 0.0
        kinds = {kind: functools.partial(kind, registry=self.registry)
                 for kind in (Counter, Gauge, Histogram)}
        engine = types.SimpleNamespace(kv_transfer_config=KVTransferConfig(**ours([])))
        self._metrics = CxlSpecKVConnector.build_prom_metrics(
            engine, kinds, ["model_name", "engine"], {0: ["m", "0"]})

    def take(self, one):
        """What a scheduler and a worker tell after a second."""
        self.now += 2 * metrics.INTERVAL_SECONDS
        worker = types.SimpleNamespace(_worker=one.worker)
        for told in (one.manager.metrics.collect(self.now),
                     CxlSpecKVConnector.get_kv_connector_stats(worker)):
            if told is not None:
                self._metrics.observe(told.data)

    def samples(self):
        """By name, without those that vLLM counts itself, and then by our label."""
        found = {}
        for metric in self.registry.collect():
            for sample in metric.samples:
                if metric.name.startswith(metrics.PREFIX) and not sample.name.endswith("_created"):
                    label = ",".join(value for key, value in sample.labels.items()
                                     if key not in ("model_name", "engine"))
                    found.setdefault(metric.name, {})[label] = sample.value
        return found

    def read_ahead(self):
        """Useful, late, wasted."""
        found = self.samples()
        return [found.get(f"{metrics.PREFIX}prefetch_{word}", {}).get("", 0)
                for word in ("useful", "late", "wasted")]


@pytest.fixture
def prometheus():
    return Prometheus()


def waits(one, keys, name="waits"):
    """What the scheduler asks of a request in a step, and in another in which it still waits."""
    asked = context(name, keys)
    for _ in range(2):
        assert one.manager.lookup(keys[0], asked) is LookupResult.HIT
        one.manager.on_schedule_end(None)
    return asked


def test_reading_ahead_is_counted_by_what_came_of_it(side, tmp_path, prometheus):
    one, keys = pushed_down(side, tmp_path), keys_of(*range(4))
    asked = waits(one, keys)
    deadline = time.monotonic() + 10
    while set(one.core.lookup(keys[:2]).tolist()) != {0}:
        assert time.monotonic() < deadline, "nothing was promoted"
    one.load(keys[:2], [20, 21], name="waits")
    one.manager.on_request_finished(asked)
    prometheus.take(one)
    assert prometheus.read_ahead() == [2, 0, 2]


def test_what_did_not_arrive_before_its_load_is_late(side, tmp_path, prometheus):
    one, keys = pushed_down(side, tmp_path), keys_of(*range(4))
    one.core.store.promote = lambda keys: None  # a device that takes its time
    asked = waits(one, keys)
    assert one.load(keys, range(20, 24), name="waits") == set()
    one.manager.on_request_finished(asked)
    prometheus.take(one)
    assert prometheus.read_ahead() == [0, 4, 0]


def test_requests_and_stores_are_counted(side, prometheus):
    one = side({"tiers": [{"uri": "dram:16M", "name": "fast"}],
                "max_store_bytes": 3 * page_facts().chunk_bytes})
    prometheus.take(one)
    keys = keys_of(*range(5))
    assert one.store(keys[:2], [0, 1]) == keys[:2]
    assert one.store(keys[2:] + keys_of(7), [2, 3, 4, 5]) == keys[2:]  # and one refused
    assert one.hits([*keys, *keys_of(8, 9)]) == ["HIT"] * 5 + ["MISS"] * 2
    assert one.load(keys, range(20, 25)) == set()
    one.core.store.erase(one.core.key_maker.keys(keys[:1]).tobytes())
    assert one.load(keys[:1], [20]) == {20}
    prometheus.take(one)
    found = prometheus.samples()

    def value(name, label=""):
        return found[metrics.PREFIX + name][label]

    assert (value("hit_blocks"), value("missed_blocks"), value("refused_stores")) == (5, 2, 1)
    assert value("failed_loads", "not_found") == 1
    size = 5 * page_facts().chunk_bytes
    assert value("tier_hits", "fast") == 5
    assert size <= value("tier_written_bytes", "fast") <= 1.2 * size
    assert size <= value("tier_read_bytes", "fast") <= 1.2 * size
    assert 4 * page_facts().chunk_bytes == value("tier_plain_bytes", "fast")
    assert value("tier_plain_bytes", "fast") <= value("tier_used_bytes", "fast")
    assert value("tier_pinned_bytes", "fast") == 0 and value("tier_fenced", "fast") == 0


def test_what_is_staged_for_a_session_is_counted(side, tmp_path, prometheus):
    one, keys = pushed_down(side, tmp_path), keys_of(0, 1)
    client = Client(one)
    client.request(keys, session="s", eta=0.2)
    until_staged(one, keys)
    client.request(keys, session="s")
    prometheus.take(one)
    found, size = prometheus.samples(), 2 * page_facts().chunk_bytes
    assert found[metrics.PREFIX + "speculation_staged_bytes"] == {"hinted": size}
    assert found[metrics.PREFIX + "speculation_useful_bytes"] == {"hinted": size}


def refuse(*_, **__):
    raise cxlspeckv.Busy("no")


def test_whatever_is_announced_arrives(side, tmp_path, prometheus, monkeypatch):
    """Each of the names, so that none is there to stay at zero whatever happens."""
    monkeypatch.setattr(threads, "times", threads.ProcessorTimes())
    one = pushed_down(side, tmp_path, max_store_bytes=4 * page_facts().chunk_bytes)
    assert one.hits(keys_of(0, 900)) == ["HIT", "MISS"]
    finished = waits(one, keys_of(1, 2), "finished")
    one.manager.on_request_finished(finished)  # wasted
    waits(one, keys_of(3), "arrived")
    deadline = time.monotonic() + 10
    while one.core.lookup(keys_of(3))[0] != 0:
        assert time.monotonic() < deadline, "nothing was promoted"
    one.load(keys_of(3), [20], name="arrived")  # useful
    one.core.store.promote = lambda keys: None
    waits(one, keys_of(4), "late")
    one.load(keys_of(4), [20], name="late")
    taken = one.manager.prepare_store(keys_of(*range(500, 505)), context("r"))  # one is refused
    one.manager.complete_store(taken.keys_to_store, context("r"))
    one.core.store.flush()
    assert corrupt(tmp_path, every=1) > 0
    assert one.load(keys_of(5), [20]) == {20}
    os.truncate(tmp_path / "pool", 0)
    assert one.load(keys_of(6), [20]) == {20}
    with pytest.raises(cxlspeckv.TimedOut):
        one.core.store.save(bytes(16), one.worker._pages.segments(numpy.array([[9]])),
                            fence=lambda: False, deadline=0.01).wait()
    staged = PrefetchSource(chunks=1, displaced=0, staged=4, useful=1, late=1, wasted=1, unread=1,
                            pauses=0, retained=0)
    one.manager.sessions.stats = lambda: PrefetchStats(
        learned=staged, hinted=staged, in_flight=0, peak_in_flight=1, sessions=1, blocks=1, failed=0)
    one.core.store.save = refuse
    one.store(keys_of(600), [9])
    prometheus.take(one)
    found = {name: sum(by_label.values()) for name, by_label in prometheus.samples().items()}
    gauges = {metrics.PREFIX + name for name in metrics.TIER_GAUGES}
    assert found.keys() == metrics.definitions().keys()
    assert {name for name, count in found.items() if not count} <= gauges
