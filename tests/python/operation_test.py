"""Operations: threads, asyncio, cancellation, and what stays alive."""

import asyncio
import gc
import os
import sys
import threading
import time

import numpy as np
import pytest

import cxlspeckv as kv
from python_support import Blocks


def test_a_wait_ends_in_time_and_changes_nothing(store, blocks, gate):
    operation = store.save(blocks.keys, blocks.source, fence=gate)
    assert gate.asked.wait(30) and not operation.done
    with pytest.raises(kv.TimedOut):
        operation.wait(0.01)
    with pytest.raises(kv.Busy):
        operation.codes()
    with pytest.raises(kv.InvalidArgument):
        operation.wait(-1)
    gate.opened.set()
    operation.wait(30)
    assert store.match(blocks.keys) == 8


def test_the_gil_is_free_during_a_wait(store, blocks, gate):
    """The fence is Python, asked by a thread of the store: it could not run otherwise."""
    operation = store.save(blocks.keys, blocks.source, fence=gate)
    others = []

    def other():
        gate.asked.wait()
        others.append(store.match(blocks.keys))
        gate.opened.set()

    thread = threading.Thread(target=other)
    thread.start()
    operation.wait()
    thread.join()
    assert others == [0] and operation.done


def test_the_gil_is_free_while_an_operation_is_dropped_and_a_store_closes(layout, gate):
    store = kv.BlockStore([layout], ["dram:16M"])
    blocks = Blocks(store, 8, layout)
    store.save(blocks.keys[:16], blocks.source[:1], fence=lambda: True)  # dropped, hence waited for
    operation = store.save(blocks.keys, blocks.source, fence=gate)
    opener = threading.Thread(target=lambda: gate.asked.wait() and gate.opened.set())
    opener.start()
    store.close()  # waits for it
    opener.join()
    assert operation.done and operation.codes().tolist() == [0] * 8


def test_a_fence_that_raises_holds_until_the_deadline(store, blocks, monkeypatch):
    def broken():
        raise RuntimeError("no")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(str(what.exc_value)))
    operation = store.save(blocks.keys, blocks.source, fence=broken, deadline=0.05)
    with pytest.raises(kv.TimedOut):
        operation.wait(30)
    assert store.match(blocks.keys) == 0 and set(told) == {"no"}


def test_cancel_ends_what_has_not_begun(store, blocks, gate):
    operation = store.save(blocks.keys, blocks.source, fence=gate)
    operation.cancel()
    with pytest.raises(kv.Cancelled):
        operation.wait(30)
    assert set(operation.codes().tolist()) == {kv.Code.CANCELLED}


def test_memory_stays_alive_while_an_operation_runs(layout, gate):
    store = kv.BlockStore([layout], ["dram:16M"])
    blocks = Blocks(store, 8, layout)
    expected = blocks.plain.copy()
    operation = store.save(blocks.keys, blocks.source, fence=gate)
    keys = blocks.keys
    blocks.plain = None
    gc.collect()
    scribble = [np.ones(expected.shape, expected.dtype) for _ in range(8)]
    gate.opened.set()
    operation.wait()
    store.load(keys, blocks.target).wait()
    assert np.array_equal(blocks.out, expected) and scribble
    store.close()


def test_layers_ready_grows_to_all(store, blocks, layout):
    store.save(blocks.keys, blocks.source).wait()
    operation = store.load(blocks.keys, blocks.target)
    operation.wait()
    assert [operation.layers_ready(i) for i in range(8)] == [layout.layers] * 8
    with pytest.raises(kv.InvalidArgument):
        operation.layers_ready(8)


def test_await_leaves_the_loop_free(store, blocks, gate):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while not gate.asked.is_set() or ticks < 5:
                ticks += 1
                await asyncio.sleep(0)
            gate.opened.set()

        ticking = asyncio.create_task(tick())
        await store.save(blocks.keys, blocks.source, fence=gate)
        await ticking
        assert ticks >= 5
        await store.load(blocks.keys, blocks.target)
        assert asyncio.get_running_loop()._default_executor is None, "a thread has waited"

    asyncio.run(main())
    assert np.array_equal(blocks.plain, blocks.out)


def test_await_raises_what_wait_raises(store, blocks):
    async def main():
        operation = store.load(blocks.keys, blocks.target)
        with pytest.raises(kv.NotFound):
            await operation
        with pytest.raises(kv.NotFound):
            await operation  # twice is fine
        with pytest.raises(kv.InvalidArgument):
            store.load(blocks.keys, [])
        return operation

    assert asyncio.run(main()).done


def test_an_operation_of_another_thread_can_be_awaited(store, blocks, gate):
    operation = store.save(blocks.keys, blocks.source, fence=gate)

    async def main():
        waiting = asyncio.ensure_future(operation._finish())
        await asyncio.sleep(0)
        assert not waiting.done()
        gate.opened.set()
        await waiting
        assert asyncio.get_running_loop()._default_executor is not None  # no queue knew of it

    asyncio.run(main())
    assert store.match(blocks.keys) == 8


def test_a_cancelled_await_leaves_the_operation_alone(store, blocks, gate):
    async def main():
        operation = store.save(blocks.keys, blocks.source, fence=gate)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(operation._finish(), 0.01)
        gate.opened.set()
        await operation

    asyncio.run(main())
    assert store.match(blocks.keys) == 8


def test_many_at_once(store, layout):
    several = [Blocks(store, 8, layout, seed) for seed in range(20)]

    async def main():
        await asyncio.gather(*(store.save(b.keys, b.source)._finish() for b in several))
        await asyncio.gather(*(store.load(b.keys, b.target)._finish() for b in several))
        assert asyncio.get_running_loop()._default_executor is None, "a thread has waited"

    asyncio.run(main())
    assert all(np.array_equal(b.plain, b.out) for b in several)


def test_loops_leave_no_descriptors(store, blocks):
    async def main():
        await store.save(blocks.keys, blocks.source)

    asyncio.run(main())
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        asyncio.run(main())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_threads_share_a_store(store, layout):
    failures = []

    def work(seed):
        try:
            for turn in range(10):
                mine = Blocks(store, 4, layout, 100 * seed + turn)
                store.save(mine.keys, mine.source).wait()
                store.load(mine.keys, mine.target).wait()
                assert np.array_equal(mine.plain, mine.out)
                assert store.match(mine.keys) == 4 and store.erase(mine.keys) == 4
                for region in mine.regions:
                    store.detach(region)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_thousand_lookups_take_less_than_a_millisecond(store):
    """The scheduler's side of a step. The best of many: the machine has other work."""
    keys = [bytes(16 * [i % 251]) for i in range(1000)]
    best = min(timed(store.lookup, keys) for _ in range(50))
    assert best < 1e-3


def timed(call, *arguments):
    begin = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begin
