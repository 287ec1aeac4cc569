"""BlockStore: what goes in comes out, and what is wrong is said."""

import contextlib
import gc
import logging
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest

import cxlspeckv as kv
from python_support import Blocks


def test_blocks_come_back(store, blocks):
    assert store.match(blocks.keys) == 0
    operation = store.save(blocks.keys, blocks.source)
    operation.wait()
    assert operation.done and len(operation) == 8
    assert operation.codes().tolist() == [kv.Code.OK] * 8
    assert store.match(blocks.keys) == 8
    store.load(blocks.keys, blocks.target).wait()
    assert np.array_equal(blocks.plain, blocks.out)


def test_a_missing_block_is_not_found_and_the_others_are_loaded(store, blocks):
    store.save(blocks.keys, blocks.source).wait()
    assert store.erase(blocks.key(3)) == 1
    operation = store.load(blocks.keys, blocks.target)
    with pytest.raises(kv.NotFound, match="block 3"):
        operation.wait()
    expected = [kv.Code.OK] * 8
    expected[3] = kv.Code.NOT_FOUND
    assert operation.codes().tolist() == expected
    there = np.arange(8) != 3
    assert np.array_equal(blocks.plain[there], blocks.out[there])
    assert store.match(blocks.keys) == 3
    assert store.lookup(blocks.keys).tolist() == [0, 0, 0, kv.ABSENT, 0, 0, 0, 0]


def test_keys_come_in_every_form(store, blocks):
    store.save(blocks.keys, blocks.source).wait()
    forms = [bytearray(blocks.keys), memoryview(blocks.keys),
             np.frombuffer(blocks.keys, np.uint8).reshape(8, 16),
             [blocks.key(i) for i in range(8)], tuple(memoryview(blocks.key(i)) for i in range(8))]
    for keys in forms:
        assert store.match(keys) == 8
    assert store.match(b"") == 0 and store.lookup([]).size == 0
    for bad in (b"x" * 17, [b"short"], 5, [5], "text"):
        with pytest.raises(kv.InvalidArgument, match="16 bytes"):
            store.match(bad)


def test_some_layers_are_loaded_alone(store, blocks, layout):
    store.save(blocks.keys, blocks.source).wait()
    size = layout.layer_bytes
    place = [[blocks.regions[1], 0, size]]
    store.load(blocks.key(5), place, layers=(1, 1)).wait()
    got = blocks.out.view(np.uint8).reshape(-1)[:size]
    assert np.array_equal(got, blocks.plain[5].view(np.uint8)[size : 2 * size])
    with pytest.raises(kv.InvalidArgument):
        store.load(blocks.key(5), place, layers=(2, 1)).wait()


def test_segments_scatter_and_length_0_is_none(store, blocks, layout):
    """A block in two and in four pieces in one batch."""
    half, quarter = layout.bytes // 2, layout.bytes // 4
    source = blocks.regions[0]
    first = [[source, i * quarter, quarter] for i in range(4)]
    second = [[source, layout.bytes + i * half, half] for i in range(2)] + [[0, 0, 0]] * 2
    store.save(blocks.keys[:32], [first, second]).wait()
    store.load(blocks.keys[:32], blocks.target[:2]).wait()
    assert np.array_equal(blocks.plain[:2], blocks.out[:2])


@pytest.mark.parametrize("segments", [
    [[1, 0]], [[1, 0, 16, 3]], [[1.0, 0.0, 16.0]], [[[[1, 0, 16]]]], [[-1, 0, 16]], [[1, -1, 16]],
    [[1 << 32, 0, 16]], [["a", "b", "c"]], [[1, 0, 16], [1, 0, 16]], []])
def test_bad_segments_are_refused(store, blocks, segments):
    with pytest.raises((kv.InvalidArgument, ValueError)):
        store.save(blocks.key(0), segments)
    assert store.match(blocks.keys) == 0


def test_a_segment_outside_its_region_ends_the_block_alone(store, blocks, layout):
    places = blocks.source
    places[2] = [blocks.regions[0], blocks.plain.nbytes - 1, layout.bytes]
    places[4] = [99, 0, layout.bytes]
    places[6][2] -= 1
    operation = store.save(blocks.keys, places)
    with pytest.raises(kv.InvalidArgument, match="block 2"):
        operation.wait()
    assert operation.codes().tolist() == [0, 0, 1, 0, 1, 0, 1, 0]


def test_what_can_be_attached(store, layout):
    rows = np.zeros((4, 8), np.float32)
    assert store.attach(rows[:, ::2]) != store.attach(bytearray(16))

    class Tensor:
        def __dlpack__(self):
            return rows[::-1, 1:3].__dlpack__()

    region = store.attach(Tensor())
    rows[:] = np.arange(32).reshape(4, 8)
    # Offset 0 is the lowest byte: row 0, column 1; then 3 rows and 2 columns.
    small = kv.BlockLayout(layers=1, kv_heads=1, head_dim=1, tokens=13, dtype="f32", kind="kv")
    with kv.BlockStore([small], ["dram:16M"]) as other:
        region = other.attach(Tensor())
        out = np.zeros(26, np.float32)
        key = kv.hash_key(b"a")
        with pytest.raises(kv.InvalidArgument):  # 26 values do not fit into the extent
            other.save(key, [[region, 0, small.bytes + 4]]).wait()
        assert other.attach(out) > region
        other.save(key, [[region, 0, small.bytes]]).wait()
        other.load(key, [[region + 1, 0, small.bytes]]).wait()
        assert np.array_equal(out, rows.reshape(-1)[1:27])


@pytest.mark.parametrize("bad", [b"read-only", "text", 5, np.zeros(4)[:0],
                                 np.broadcast_to(np.zeros(1), (4,))])
def test_what_cannot_be_attached(store, bad):
    with pytest.raises(kv.InvalidArgument):
        store.attach(bad)


def test_attached_memory_lives_until_it_is_detached(store):
    class Memory(np.ndarray):
        pass

    memory = np.zeros(64, np.uint8).view(Memory)
    alive = weakref.ref(memory)
    region = store.attach(memory)
    del memory
    gc.collect()
    assert alive() is not None
    store.detach(region)
    gc.collect()
    assert alive() is None
    with pytest.raises(kv.NotFound):
        store.detach(region)


def test_a_region_in_use_cannot_be_detached(store, blocks, gate):
    operation = store.save(blocks.keys, blocks.source, fence=gate)
    with pytest.raises(kv.Busy):
        store.detach(blocks.regions[0])
    gate.opened.set()
    operation.wait()
    store.detach(blocks.regions[0])


def test_an_address_keeps_its_owner(store, layout):
    memory = np.ones(layout.bytes, np.uint8)
    address, alive = memory.ctypes.data, weakref.ref(memory)
    region = store.attach_address(address, memory.nbytes, memory)
    del memory
    gc.collect()
    assert alive() is not None
    key = kv.hash_key(b"k")
    store.save(key, [[region, 0, layout.bytes]]).wait()
    with pytest.raises(kv.InvalidArgument):
        store.attach_address(0, 16)


def test_pins_hold_and_let_go(store, blocks):
    store.save(blocks.keys, blocks.source).wait()
    pin, reference = store.pin(blocks.key(0)), store.retain(blocks.key(1))
    assert store.stats(0).pinned > 0
    pin.release()
    pin.release()
    reference.release()
    assert store.stats(0).pinned == 0
    with pytest.raises(kv.NotFound):
        store.pin(bytes(16))


def test_one_pin_holds_what_is_there_of_many(store, blocks):
    store.save(blocks.keys[: 16 * 5], blocks.source[:5]).wait()
    pin = store.pin_present(blocks.keys)
    assert len(pin) == 5
    one = store.pin(blocks.key(0))
    pinned = store.stats(0).pinned
    one.release()
    assert store.stats(0).pinned == pinned  # twice pinned, held once more
    pin.release()
    pin.release()
    assert len(pin) == 0 and store.stats(0).pinned == 0
    assert len(store.pin_present(bytes(16))) == 0
    with pytest.raises(kv.InvalidArgument):
        store.pin_present(b"short")


def test_tenants_have_quotas(store, blocks, layout):
    store.set_quota(7, 3 * layout.bytes)
    operation = store.save(blocks.keys, blocks.source, tenant=7)
    with pytest.raises(kv.NoSpace):
        operation.wait()
    saved = operation.codes().tolist().count(kv.Code.OK)
    assert 1 <= saved <= 3 and 0 < store.tenant_bytes(7) <= 3 * layout.bytes
    assert store.purge(7) == saved
    assert store.match(blocks.keys) == 0


def test_numbers_and_codecs(store, blocks):
    store.set_codec(0, "int8")
    store.save(blocks.keys, blocks.source).wait()
    stats, report = store.stats(0), store.report()
    assert stats.blocks == 8 and stats.plain_bytes == blocks.plain.nbytes
    assert stats.plain_bytes / stats.used > 1.7
    assert report['tier_blocks{tier="dram0"}'] == 8
    store.load(blocks.keys, blocks.target).wait()
    worst = np.abs(blocks.plain.astype(float) - blocks.out.astype(float)).max()
    assert 0 < worst < 0.1
    with pytest.raises(kv.NotFound, match="no codec"):
        store.set_codec(0, "zip")
    with pytest.raises(kv.NotFound):
        store.set_codec(9, "raw")
    with pytest.raises(kv.NotFound):
        store.stats(1)


def test_two_tiers_and_a_restart(layout, tmp_path):
    tiers = ["dram:1M", {"uri": f"file:{tmp_path}/pool?size=32M", "codec": "raw", "name": "disk"}]
    with kv.BlockStore([layout], tiers) as store:
        first = Blocks(store, 8, layout)
        store.save(first.keys, first.source, durable=True).wait()
        store.flush()
    with kv.BlockStore([layout], tiers) as store:
        again = Blocks(store, 8, layout)
        assert store.match(again.keys) == 8
        assert set(store.lookup(again.keys).tolist()) == {1}
        store.load(again.keys, again.target).wait()
        assert np.array_equal(first.plain, again.out)
        until = time.monotonic() + 60
        while set(store.lookup(again.keys).tolist()) != {0}:  # a hint, which may be dropped
            assert time.monotonic() < until
            with contextlib.suppress(kv.Busy):
                store.promote(again.keys)
            time.sleep(0.01)  # sleeps: the store moves blocks on its own threads, untold
        assert store.stats(0).promotions_in >= 8


def test_two_processes_share_a_store(layout, tmp_path):
    name = f"shm:/cxlspeckv-test-{tmp_path.name}-{id(layout)}"
    script = """
import sys, numpy as np, cxlspeckv as kv
layout = kv.BlockLayout(layers=2, kv_heads=2, head_dim=64, tokens=16, dtype="f16")
with kv.BlockStore([layout], ["dram:16M"], name=sys.argv[1]) as store:
    memory = np.full(layout.bytes, 7, np.uint8)
    store.save(kv.hash_key(b"k"), [[store.attach(memory), 0, layout.bytes]]).wait()
"""
    try:
        with kv.BlockStore([layout], ["dram:16M"], name=name) as store:
            subprocess.run([sys.executable, "-c", script, name], check=True, timeout=60)
            out = np.zeros(layout.bytes, np.uint8)
            store.load(kv.hash_key(b"k"), [[store.attach(out), 0, layout.bytes]]).wait()
            assert (out == 7).all()
    finally:
        kv.remove_store(name)
    with pytest.raises(kv.NotFound):
        kv.remove_store(name)


@pytest.mark.parametrize(("tiers", "error", "text"), [
    ([], kv.InvalidArgument, "tier"),
    (["nowhere:1G"], kv.InvalidArgument, "nowhere"),
    (["dram:1G?x=1"], kv.InvalidArgument, "x"),
    ([{"codec": "raw"}], kv.InvalidArgument, '"uri" is missing'),
    ([{"uri": "dram:16M", "codek": "raw"}], kv.InvalidArgument, "codek"),
    ([{"uri": "dram:16M", "codec": "zip"}], kv.NotFound, "raw, int8"),
    ([{"uri": "dram:16M", "policy": "luck"}], kv.NotFound, "lru"),
    ([{"uri": "dram:16M", "admission": "never"}], kv.InvalidArgument, "always"),
    ([{"uri": "dram:16M", "capacity": "much"}], kv.InvalidArgument, "size"),
    ([{"uri": "dram:16M", "capacity": -1}], kv.InvalidArgument, "capacity"),
    ([{"uri": "dram:16M", "layers": [{"first": 0, "codec": 5}]}], kv.InvalidArgument, "codec"),
    ([{"uri": "dram:16M", "layers": [{"last": 0}]}], kv.InvalidArgument, "last"),
    ([["dram:16M"]], kv.InvalidArgument, "mapping"),
    ([{"uri": 5}], kv.InvalidArgument, "text"),
])
def test_bad_configurations_are_one_clear_line(layout, tiers, error, text):
    with pytest.raises(error) as caught:
        kv.BlockStore([layout], tiers)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_a_closed_store_answers_so(layout, gate):
    store = kv.BlockStore([layout], ["dram:16M"])
    blocks = Blocks(store, 8, layout)
    operation = store.save(blocks.keys, blocks.source)
    pin = None
    operation.wait()
    pin = store.pin(blocks.key(0))
    store.close()
    store.close()
    assert store.closed and operation.done and operation.codes().tolist() == [0] * 8
    operation.wait()
    pin.release()
    for call in (lambda: store.match(blocks.keys), store.flush, store.report,
                 lambda: store.attach(bytearray(8)), lambda: store.load(blocks.keys, blocks.target)):
        with pytest.raises(kv.InvalidArgument, match="closed"):
            call()


def test_layouts_are_values(layout):
    same = kv.BlockLayout(layers=2, kv_heads=2, head_dim=64, tokens=16, dtype="f16", kind="kv")
    assert same == layout and hash(same) == hash(layout) and eval(repr(same), vars(kv)) == same
    assert same != kv.BlockLayout(layers=2, kv_heads=2, head_dim=64, tokens=16) and same != 5
    assert same.bytes == 2 * same.layer_bytes == 2 * 2 * 2 * 16 * 64 * 2
    for bad in ({"layers": 0}, {"dtype": "f64"}, {"kind": "x"}, {"head_dim": 1 << 31}):
        with pytest.raises(kv.InvalidArgument):
            kv.BlockLayout(**{"layers": 1, "kv_heads": 1, "head_dim": 64} | bad)


def test_key_chains_name_the_past(layout):
    chain = kv.KeyChain("m", layout)
    start = chain.last
    keys = chain.append_blocks(range(40))  # two blocks; 8 tokens are left over
    assert len(keys) == 32 and chain.last == keys[16:]
    chain.rewind(start)
    assert chain.append(np.arange(16, dtype=np.uint16)) == keys[:16]
    other = chain.copy()
    assert chain.append(range(16, 32)) == other.append(list(range(16, 32))) == keys[16:]
    distinct = {kv.KeyChain(model, layout, salt).append(range(16))
                for model in ("m", "n") for salt in (b"", b"s")}
    assert len(distinct) == 4
    for bad in ([-1], [1 << 32], [1.5], [[1]], ["a"]):
        with pytest.raises(kv.InvalidArgument):
            chain.append(bad)


def test_engine_keys_are_hashed_with_their_salt():
    assert kv.hash_key(b"a") != kv.hash_key(b"a", b"salt") != kv.hash_key(b"b", b"salt")
    assert kv.hash_keys([b"a", b"b"], b"s") == kv.hash_key(b"a", b"s") + kv.hash_key(b"b", b"s")


def test_the_log_is_told_what_a_person_should_know(layout, tmp_path, caplog):
    lines = []
    uri = f"file:{tmp_path}/pool?size=16M&engine=pread"
    with kv.BlockStore([layout], [uri], log=lambda level, text: lines.append((level, text))):
        assert any(level == logging.WARNING and "pread" in text for level, text in lines)
    with kv.BlockStore([layout], [uri]):
        assert any(record.name == "cxlspeckv" and "pread" in record.message
                   for record in caplog.records)


def test_importing_brings_no_engine():
    heavy = "torch", "transformers", "vllm", "prometheus_client"
    code = f"import sys, cxlspeckv; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
