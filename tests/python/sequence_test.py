"""Sequences: append, write, seal, fork, truncate, view."""

import contextlib
import gc

import numpy as np
import pytest

import cxlspeckv as kv


def rows_of(layout, tokens, seed):
    random = np.random.default_rng(seed)
    return random.normal(size=(2, layout.kv_heads, tokens, layout.head_dim)).astype(np.float16)


def fill(sequence, layout, tokens, seed=0):
    """Append tokens one piece at a time, and return what was written: [layer] of rows."""
    written = [[] for _ in range(layout.layers)]
    while len(tokens):
        first = len(sequence)
        taken = sequence.append(tokens)
        for layer in range(layout.layers):
            rows = rows_of(layout, taken, (seed, first, layer))
            sequence.write(layer, first, rows)
            written[layer].append(rows)
        tokens = tokens[taken:]
    return [np.concatenate(pieces, axis=2) for pieces in written]


def read(sequence, layout):
    view = sequence.view()
    return [np.concatenate([view.layer(b, layer) for b in range(len(view))], axis=2)
            [:, :, : len(sequence)] for layer in range(layout.layers)]


def test_what_is_written_is_seen(store, layout):
    sequence = kv.Sequence(store, model="m")
    written = fill(sequence, layout, np.arange(40))
    assert len(sequence) == 40 and sequence.tail_first == 32 and len(sequence.keys) == 32
    assert np.array_equal(sequence.tokens, np.arange(40))
    for got, wanted in zip(read(sequence, layout), written, strict=True):
        assert np.array_equal(got, wanted)


def test_another_sequence_adopts_the_prefix_and_no_other_tenant_does(store, layout):
    first = kv.Sequence(store, model="m", salt=b"a")
    written = fill(first, layout, np.arange(40))
    second, stranger = kv.Sequence(store, model="m", salt=b"a"), kv.Sequence(store, model="m")
    assert second.adopt(np.arange(40)) == 32 and stranger.adopt(np.arange(40)) == 0
    assert np.array_equal(read(second, layout)[1], written[1][:, :, :32])
    with pytest.raises(kv.InvalidArgument):
        second.adopt(range(16))


def test_a_fork_shares_the_past_and_goes_its_own_way(store, layout):
    parent = kv.Sequence(store, model="m")
    before = fill(parent, layout, np.arange(20))
    child = parent.fork()
    fill(parent, layout, np.arange(5), seed=1)
    mine = fill(child, layout, np.arange(100, 108), seed=2)
    assert child.keys[:16] == parent.keys[:16] and len(child) == 28
    got = read(child, layout)[0]
    assert np.array_equal(got[:, :, :20], before[0]) and np.array_equal(got[:, :, 20:], mine[0])


def test_truncate_reopens_a_block(store, layout):
    sequence = kv.Sequence(store, model="m")
    before = fill(sequence, layout, np.arange(40))
    sequence.truncate(18)
    after = fill(sequence, layout, np.arange(500, 504), seed=3)
    got = read(sequence, layout)[0]
    assert np.array_equal(got[:, :, :18], before[0][:, :, :18])
    assert np.array_equal(got[:, :, 18:], after[0])


def test_staged_blocks_are_viewed(layout, tmp_path):
    """More sequences than the fast tier holds: what has sunk comes back as it was."""
    tiers = ["dram:512K", f"file:{tmp_path}/pool?size=32M"]
    with kv.BlockStore([layout], tiers) as store:
        several = [kv.Sequence(store, model=str(i)) for i in range(12)]
        written = [fill(one, layout, np.arange(64), seed) for seed, one in enumerate(several)]
        assert store.stats(1).blocks > 0
        for one, wanted in zip(several, written, strict=True):
            with contextlib.suppress(kv.Busy):
                one.stage()
            assert np.array_equal(read(one, layout)[1], wanted[1])


def test_rows_that_are_not_in_the_tail_are_refused(store, layout):
    sequence = kv.Sequence(store)
    fill(sequence, layout, np.arange(20))
    good = rows_of(layout, 2, 1)
    for layer, position, rows in ((0, 15, good), (0, 19, good), (0, 20, good), (9, 16, good),
                                  (0, 16, good[:, :, ::2][:, ::-1]), (0, 16, good.reshape(-1)[:7])):
        with pytest.raises((kv.InvalidArgument, kv.NotFound)):
            sequence.write(layer, position, rows)
    with pytest.raises(kv.InvalidArgument, match="full"):
        sequence.seal()


def test_views_keep_their_blocks(store, layout):
    sequence = kv.Sequence(store, model="m")
    written = fill(sequence, layout, np.arange(16))
    array = sequence.view().layer(0, 1)
    assert not array.flags.writeable and array.shape == (2, 2, 16, 64)
    with pytest.raises(kv.Busy):
        sequence.release()
    with pytest.raises(kv.Busy):
        store.close()
    del sequence
    gc.collect()
    assert np.array_equal(array, written[1]) and not store.closed
    del array
    gc.collect()
    store.close()


def test_a_released_sequence_answers_so(store, layout):
    with kv.Sequence(store) as sequence:
        fill(sequence, layout, np.arange(4))
    with pytest.raises(kv.InvalidArgument, match="released"):
        sequence.append([1])
    other = kv.Sequence(store)
    store.close()
    with pytest.raises(kv.InvalidArgument, match="closed"):
        other.append([1])
    with pytest.raises(kv.InvalidArgument, match="closed"):
        kv.Sequence(store)


def test_a_sequence_needs_memory_with_the_raw_codec(layout):
    with kv.BlockStore([layout], [{"uri": "dram:16M", "codec": "int8"}]) as store:
        with pytest.raises(kv.Unsupported):
            kv.Sequence(store)
