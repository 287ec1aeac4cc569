"""The secondary tier under vLLM's own TieringOffloadingManager, with no GPU and no engine."""

import time
import types

import cxlspeckv
import numpy
import pytest
from cxlspeckv.vllm.settings import ConfigError
from vllm.v1.kv_offload.base import LookupResult, ScheduleEndContext
from vllm.v1.kv_offload.tiering.factory import SecondaryTierFactory
from vllm.v1.kv_offload.tiering.manager import (
    CPUPrimaryTierOffloadingManager,
    TieringOffloadingManager,
)
from vllm_support import being_stored, context, engine_key

ROWS, ROW_BYTES = 4, 3 << 20  # of vLLM's host memory


class Region:
    """vLLM's shared region, as far as the manager looks at it."""

    def __init__(self):
        self.rows = numpy.zeros((ROWS, ROW_BYTES), numpy.uint8)

    def create_kv_memoryview(self):
        return memoryview(self.rows)

    def cleanup(self):
        pass


def make(config):
    region = Region()
    spec = types.SimpleNamespace(config=types.SimpleNamespace(
        engine_id="tiering", kv_cache_layout="LBHNC",
        model=types.SimpleNamespace(name="m", dtype="bfloat16"),
        parallel=types.SimpleNamespace(world_size=1)))
    primary = CPUPrimaryTierOffloadingManager(num_chunks=ROWS, mmap_region=region)
    tier = SecondaryTierFactory.create_secondary_tier(
        {"type": "CxlSpecKVTier", "module_path": "cxlspeckv.vllm.tier", "model_id": "m"} | config,
        primary.get_kv_memoryview(), spec)
    return region, tier, TieringOffloadingManager(primary_tier=primary, secondary_tiers=[tier])


@pytest.fixture
def tiering(tmp_path):
    path = tmp_path / "pool"
    made = make({"tiers": [{"uri": f"file:{path}?size=64M&direct=0"}]})
    yield *made, path
    made[2].shutdown()
    cxlspeckv.remove_store(str(path))


def step(manager):
    manager.on_schedule_end(ScheduleEndContext((), ()))


def until(manager, done):
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        step(manager)


def row_of(spec):
    return int(spec.block_ids[0])


def store(region, manager, key, seed):
    """What GPU workers do: fill the row, then say so."""
    asked = context("r", [key])
    manager.on_new_request(asked)
    output = manager.prepare_store([key], asked)
    values = numpy.random.default_rng(seed).integers(0, 256, ROW_BYTES, numpy.uint8)
    region.rows[row_of(output.store_spec)] = values
    manager.complete_store([key], asked)
    step(manager)
    manager.on_request_finished(asked)
    return values


def load(region, manager, key):
    """The row of a hit, promoted if it has to be; None for a miss."""
    asked = context("l", [key])
    manager.on_new_request(asked)
    answers = []

    def resolved():
        answers.append(manager.lookup(key, asked))
        return answers[-1] in (LookupResult.HIT, LookupResult.MISS)

    until(manager, resolved)
    if answers[-1] is LookupResult.MISS:
        manager.on_request_finished(asked)
        return None
    row = region.rows[row_of(manager.prepare_load([key], asked))].copy()
    manager.complete_load([key], asked)
    manager.on_request_finished(asked)
    return row


def test_rows_pushed_out_of_host_memory_come_back(tiering):
    region, tier, manager, _ = tiering
    wrote = {}
    for n in range(3 * ROWS):
        wrote[n] = store(region, manager, engine_key(n), seed=n)
        until(manager, lambda: not tier.has_pending_work())
    region.rows[:] = 0
    for n in range(ROWS):  # long gone from host memory
        assert (load(region, manager, engine_key(n)) == wrote[n]).all()
    assert load(region, manager, engine_key(99)) is None


def test_a_damaged_row_is_a_miss(tiering):
    region, tier, manager, path = tiering
    for n in range(2 * ROWS):
        store(region, manager, engine_key(n), seed=n)
        until(manager, lambda: not tier.has_pending_work())
    text = bytearray(path.read_bytes())
    at = text.index(b"SVKB\x01\x00") + 5000
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes([text[at] ^ 1]))
    found = [load(region, manager, engine_key(n)) is not None for n in range(ROWS)]
    assert found.count(False) == 1


def test_a_request_waits_for_a_store_no_longer_than_for_a_load():
    """Whose it is may be a process that stands still, and is not dead."""
    _, tier, manager = make({"tiers": [{"uri": "dram:16M"}], "load_timeout": 0.2})
    key, asked = engine_key(1), context("r")
    there = being_stored(tier._core, [key])
    began = time.monotonic()
    assert tier.lookup(key, asked) is LookupResult.RETRY
    while (told := tier.lookup(key, asked)) is LookupResult.RETRY:
        assert time.monotonic() - began < 20
    assert told is LookupResult.MISS and time.monotonic() - began >= 0.2
    tier.on_request_finished(asked)
    assert tier.lookup(key, asked) is LookupResult.RETRY  # a request that is new
    there.set()
    assert tier.lookup(key, asked) is LookupResult.HIT
    manager.shutdown()


@pytest.mark.parametrize(("config", "says"), [
    ({"tiers": [{"uri": "dram:16M"}], "model_id": ""}, '"model_id"'),
    ({"tiers": [{"uri": "dram:16M", "codec": "kvq4"}]}, "its codec is"),
    ({"tiers": [{"uri": "dram:16M"}], "root_dir": "/x"}, 'has no "root_dir"'),
])
def test_mistakes(config, says):
    with pytest.raises(ConfigError, match=says):
        make(config)
