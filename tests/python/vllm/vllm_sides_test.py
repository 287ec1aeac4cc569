"""The manager and the worker together, over a real store and pages of no engine."""

import collections
import os
import pathlib
import threading
import time

import cxlspeckv
import numpy
import pytest
import torch
from cxlspeckv.vllm import threads
from cxlspeckv.vllm.core import KeyMaker
from cxlspeckv.vllm.spec import CxlSpecKVWorker
from cxlspeckv.vllm.transfers import GRACE_SECONDS
from vllm.v1.kv_offload.base import GPULoadStoreSpec
from vllm_support import being_stored, context, corrupt, engine_key, keys_of, page_facts, pool


def test_what_the_worker_stored_the_manager_finds_and_the_worker_loads(side):
    one = side()
    keys = keys_of(1, 2, 3)
    wrote = one.fill([5, 9, 7], seed=1)
    assert one.hits(keys) == ["MISS"] * 3
    assert one.store(keys, [5, 9, 7]) == keys
    assert one.hits(keys) == ["HIT"] * 3
    assert one.load(keys, [20, 22, 21]) == set()
    assert torch.equal(one.read([20, 22, 21]), wrote)


def test_only_the_pages_asked_for_change(side):
    one = side()
    keys = keys_of(1, 2)
    one.fill([3, 4], seed=2)
    one.store(keys, [3, 4])
    before = one.memory.clone()
    one.load(keys, [11, 30])
    changed = (one.memory.view(3, 40, -1) != before.view(3, 40, -1)).any(-1).any(0)
    assert set(changed.nonzero().flatten().tolist()) == {11, 30}


@pytest.mark.parametrize("pages_a_chunk", [1, 2, 3])
def test_chunks_of_several_pages_load_whole_and_in_part(side, pages_a_chunk):
    one = side(blocks_per_chunk=pages_a_chunk)
    keys = keys_of(1, 2)
    count = 2 * pages_a_chunk
    wrote = one.fill(range(2, 2 + count), seed=3)
    output = one.manager.prepare_store(keys, context("r", keys))
    one.run(one.worker.submit_store, output.store_spec, range(2, 2 + count))
    one.manager.complete_store(keys, context("r", keys))
    # The engine has the first page of the first chunk already.
    for first in range(pages_a_chunk):
        target = list(range(20, 20 + count - first))
        assert one.load(keys, target, first=first) == set()
        assert torch.equal(one.read(target), wrote[:, first:])


def test_an_absent_block_is_told_as_its_pages_and_the_others_arrive(side):
    one = side()
    keys = keys_of(1, 2, 3)
    wrote = one.fill([5, 6, 7], seed=4)
    one.store(keys, [5, 6, 7])
    one.core.store.erase(one.core.key_maker.keys([keys[1]]).tobytes())
    assert one.load(keys, [20, 21, 22]) == {21}
    assert torch.equal(one.read([20, 22]), wrote[:, [0, 2]])
    assert one.worker.take_bad_pages() == set()  # told once


def test_a_corrupted_block_is_never_delivered_and_misses_afterwards(side, tmp_path):
    one = side(pool(tmp_path))
    keys = keys_of(*range(8))
    one.fill(range(8), seed=5)
    one.store(keys, range(8))
    one.core.store.flush()
    assert corrupt(tmp_path, every=2) == 4
    bad = one.load(keys, range(20, 28))
    assert len(bad) == 4
    assert one.worker.transfers.failed_loads["corrupted"] == len(bad)
    after = one.hits(keys)
    assert [after[page - 20] for page in sorted(bad)] == ["MISS"] * len(bad)
    good = sorted(set(range(20, 28)) - bad)
    assert torch.equal(one.read(good), one.read([page - 20 for page in good]))


def test_a_load_that_takes_too_long_is_given_up_for_good(side, tmp_path):
    """Also while the manager keeps the block: a request that found it again would never end."""
    one = side({"tiers": [{"uri": f"file:{tmp_path}/pool?size=8M&direct=0&throttle=nvme"}],
                "load_timeout": 1e-5})
    keys = keys_of(1, 2)
    one.fill([5, 6], seed=1)
    one.store(keys, [5, 6])
    assert one.load(keys, [20, 21]) == {20, 21}
    assert one.worker.transfers.failed_loads["timed_out"] == 2
    assert one.hits(keys) == ["MISS"] * 2


def test_a_restart_on_the_pool_starts_with_its_hits(side, tmp_path):
    one = side(pool(tmp_path))
    keys = keys_of(1, 2, 3)
    wrote = one.fill([0, 1, 2], seed=6)
    one.store(keys, [0, 1, 2])
    one.close()
    cxlspeckv.remove_store(str(tmp_path / "pool"))  # as a reboot does
    two = side(pool(tmp_path))
    assert two.hits(keys) == ["HIT"] * 3
    assert two.load(keys, [7, 8, 9]) == set()
    assert torch.equal(two.read([7, 8, 9]), wrote)


def test_other_models_layouts_dtypes_ranks_and_groups_never_match():
    made = {KeyMaker(page_facts(**changed)).keys([engine_key(1)], 0).tobytes()
            for changed in ({}, {"model": "n"}, {"dtype": "float16"}, {"layers": 2},
                            {"kv_heads": 4, "head_dim": 8}, {"tokens": 32}, {"blocks_per_chunk": 2},
                            {"world_size": 2}, {"kv_layout": "LBNHC"})}
    assert len(made) == 9
    two = KeyMaker(page_facts(world_size=2))
    ranks = two.keys([engine_key(1)])[0]
    assert ranks.shape == (2, 16)
    assert ranks[0].tobytes() != ranks[1].tobytes()
    assert ranks[1].tobytes() == two.keys([engine_key(1)], 1)[0].tobytes()
    assert (two.keys([engine_key(1, group=1)]) != two.keys([engine_key(1)])).any()


def test_keys_that_are_no_sha256_are_hashed_and_differ():
    maker = KeyMaker(page_facts())
    short = [bytes([n]) * 16 + bytes(4) for n in range(50)]
    long = [bytes([n]) * 64 + bytes(4) for n in range(50)]
    mixed = maker.keys([*short, *long, engine_key(1)])
    assert len({row.tobytes() for row in mixed}) == 101


def test_a_request_hits_only_where_every_rank_has_its_block(side):
    one = side(world_size=2)
    keys = keys_of(1)
    one.fill([0], seed=7)
    assert one.store(keys, [0]) == keys  # rank 0 of two
    assert one.hits(keys) == ["MISS"]


@pytest.mark.parametrize(("rank", "same"), [(1, 3), (0, 2)])
def test_replicas_of_an_engine_find_each_others_blocks(side, rank, same):
    """Data parallel ones, whose launcher may number the workers of all of them."""
    one = side(world_size=2)
    workers = [CxlSpecKVWorker(one.core, one.caches, number, lambda: None)
               for number in (rank, same)]
    spec = one.manager.prepare_store(keys_of(1), context("r", keys_of(1))).store_spec
    wrote = one.fill([4], seed=1)
    one.run(workers[0].submit_store, spec, [4], worker=workers[0])
    one.run(workers[1].submit_load, spec, [5], worker=workers[1])
    assert workers[1].take_bad_pages() == set() and torch.equal(one.read([5]), wrote)
    for worker in workers:
        worker.shutdown()


def test_a_store_in_flight_is_pending_and_not_taken_twice(side):
    one = side()
    keys = keys_of(1, 2)
    taken = one.manager.prepare_store(keys, context("a", keys))
    assert taken.keys_to_store == keys
    assert one.hits(keys) == ["HIT_PENDING"] * 2
    assert one.manager.prepare_store(keys, context("b", keys)).keys_to_store == []
    one.manager.complete_store(keys, context("a", keys))  # dropped: nobody wrote it
    assert one.hits(keys) == ["MISS"] * 2


def test_a_request_waits_for_a_store_no_longer_than_for_a_load(side):
    """Whose it is may be a process that stands still, and is not dead."""
    one = side({"tiers": [{"uri": "dram:16M"}], "load_timeout": 0.2})
    keys = keys_of(1, 2, 3)
    one.store(keys[:1], [1])
    there = being_stored(one.core, keys[1:2])  # by another engine
    taken = one.manager.prepare_store(keys[2:], context("a", keys))  # by this one
    assert taken.keys_to_store == keys[2:]
    began, asked = time.monotonic(), context("b", keys)
    assert one.hits(keys, asked) == ["HIT", "HIT_PENDING", "HIT_PENDING"]
    while (told := one.hits(keys, asked)) != ["HIT", "MISS", "MISS"]:
        assert told[0] == "HIT" and time.monotonic() - began < 20
    assert time.monotonic() - began >= 0.2
    assert one.hits(keys)[1] == "HIT_PENDING"  # each request has its own time
    there.set()
    assert one.hits(keys, asked)[1] == "HIT"


def test_stores_beyond_the_limit_are_refused_at_once(side):
    one = side({"tiers": [{"uri": "dram:16M"}], "max_store_bytes": 3 * page_facts().chunk_bytes})
    keys = keys_of(*range(5))
    assert one.manager.prepare_store(keys, context("a", keys)).keys_to_store == keys[:3]
    assert one.manager.prepare_store(keys[3:], context("b", keys)) is None
    one.manager.complete_store(keys[:3], context("a", keys))
    assert one.manager.prepare_store(keys[3:], context("b", keys)).keys_to_store == keys[3:]
    stats = one.manager.metrics.collect(time.monotonic())
    assert stats.data["data"]["vllm:cxlspeckv_refused_stores"] == {(): 4}


def test_a_full_store_drops_and_evicts_but_never_blocks_or_lies(side):
    one = side({"tiers": [{"uri": "dram:64K"}]})
    keys = keys_of(*range(30))
    for n, key in enumerate(keys):
        one.fill([1], seed=n)
        one.store([key], [1])
    kept = [n for n, answer in enumerate(one.hits(keys)) if answer == "HIT"]
    assert 0 < len(kept) < 30
    for n in kept:
        assert one.load([keys[n]], [2]) == set()
        right = one.fill([3], seed=n)
        assert torch.equal(one.read([2]), right)


def test_blocks_of_a_load_in_flight_are_not_evicted(side):
    one = side({"tiers": [{"uri": "dram:64K"}]})
    held = keys_of(100)
    wrote = one.fill([0], seed=1)
    one.store(held, [0])
    spec = one.manager.prepare_load(held, context("r", held))
    for n in range(30):
        one.fill([1], seed=n)
        one.store(keys_of(n), [1])
    one.run(one.worker.submit_load, spec, [9])
    assert one.worker.take_bad_pages() == set()
    assert torch.equal(one.read([9]), wrote)
    one.manager.complete_load(held, context("r", held))
    for n in range(30, 60):
        one.store(keys_of(n), [1])
    assert one.hits(held) == ["MISS"]


def test_each_tier_has_a_codec_of_its_own(side, tmp_path):
    """Raw above, packed below: what comes from the first tier is as it was, the rest nearly."""
    one = side({"tiers": [{"uri": "dram:64K"}] + pool(tmp_path, codec="kvq4")["tiers"]},
               layers=1, head_dim=64, page_bytes=2 * 16 * 2 * 64 * 2)
    keys = keys_of(*range(30))
    wrote = one.fill(range(30), seed=1)[0].view(torch.bfloat16)
    for key, page in zip(keys, range(30), strict=True):
        one.store([key], [page])
    one.core.store.flush()
    errors = {0: [], 1: []}
    for number, key in enumerate(keys):
        before = one.core.lookup([key])[0]
        assert one.load([key], [35]) == set()
        if one.core.lookup([key])[0] == before:  # else it has moved meanwhile
            back = one.read([35])[0, 0].view(torch.bfloat16)
            errors[before].append((back.float() - wrote[number].float()).abs().max())
    assert max(errors[0]) == 0 < min(errors[1]) and max(errors[1]) < 0.35
    packed = one.core.store.stats(1)
    assert packed.plain_bytes > 1.8 * packed.used


def test_a_thousand_lookups_ask_the_store_once(side):
    one = side()
    keys = keys_of(*range(1000))
    calls = []
    real = one.core.lookup
    one.core.lookup = lambda asked: calls.append(len(asked)) or real(asked)
    assert one.hits(keys) == ["MISS"] * 1000
    assert calls == [1000]


@pytest.mark.parametrize("pages_a_chunk", [1, 3])
def test_a_load_is_one_submission_and_so_is_a_store(side, pages_a_chunk):
    one = side(blocks_per_chunk=pages_a_chunk)
    keys, pages, calls = keys_of(*range(10)), range(10 * pages_a_chunk), []
    for name in ("save", "load"):
        def count(asked, *rest, name=name, call=getattr(one.core.store, name), **options):
            calls.append((name, len(asked) // 16))
            return call(asked, *rest, **options)
        setattr(one.core.store, name, count)
    taken = one.manager.prepare_store(keys, context("r", keys))
    one.run(one.worker.submit_store, taken.store_spec, pages)
    one.manager.complete_store(keys, context("r", keys))
    assert one.load(keys, pages) == set()
    assert calls == [("save", 10), ("load", 10)]


def test_a_device_that_does_not_answer_never_holds_a_step_up(side, tmp_path):
    """The first store lies with it, the others behind: a step that needs their pages drops them."""
    one = side({"tiers": [{"uri": f"file:{tmp_path}/pool?size=8M&direct=0&throttle=nvme"}]})
    asked = threading.Event()
    save = one.core.store.save
    one.core.store.save = lambda keys, places, **options: save(
        keys, places, fence=lambda: asked.set() or False, **options)
    keys = keys_of(*range(3))
    for number, key in enumerate(keys):
        taken = one.manager.prepare_store([key], context("r", keys))
        one.jobs += 1
        places = GPULoadStoreSpec([number], [1], [0])
        assert one.worker.submit_store(number, places, taken.store_spec)  # at once
    assert asked.wait(60)
    assert one.worker.get_finished() == []
    began = time.monotonic()
    one.worker.wait({0, 1, 2})
    assert GRACE_SECONDS <= time.monotonic() - began
    assert len(one.worker.get_finished()) == 3
    assert one.worker.transfers.dropped_saves == {"cancelled": 3}
    one.manager.complete_store(keys, context("r", keys))
    assert one.hits(keys) == ["MISS"] * 3
    one.core.store.save = save
    assert one.store(keys, range(3)) == keys and one.hits(keys) == ["HIT"] * 3


def test_waiting_for_a_store_ends_it(side):
    one = side()
    keys = keys_of(*range(30))
    one.fill(range(30), seed=1)
    for key, page in zip(keys, range(30), strict=True):
        output = one.manager.prepare_store([key], context("r", keys))
        names = one.core.key_maker.keys(output.keys_to_store, 0)
        one.worker.transfers.submit(page, False, names, numpy.array([page]), 0)
    one.worker.wait(set(range(30)))
    one.memory.zero_()  # the engine may reuse the pages now
    assert len(one.worker.get_finished()) == 30
    one.manager.complete_store(keys, context("r", keys))
    hits = [n for n, answer in enumerate(one.hits(keys)) if answer == "HIT"]
    assert hits
    one.load([keys[n] for n in hits], hits)
    kept = one.read(hits)
    assert torch.equal(kept, one.fill(range(30), seed=1)[:, hits])


def test_closing_ends_every_thread(side):
    before = threading.active_count()
    one = side()
    assert threading.active_count() > before
    one.close()
    assert threading.active_count() == before


def of_the_system(thread):
    """The name that the kernel has for a thread of this process."""
    return pathlib.Path(f"/proc/self/task/{thread}/comm").read_text(encoding="utf-8").strip()


def our_threads():
    """By number, those of the library, too."""
    found = {int(thread): of_the_system(thread) for thread in os.listdir("/proc/self/task")}
    return {thread: name for thread, name in found.items() if name.startswith("cxlspeckv-")}


def test_our_threads_are_not_bound_to_the_cores_that_compute(side):
    everywhere = os.sched_getaffinity(0)
    if len(everywhere) < 2:
        pytest.skip("one core")
    mine = pathlib.Path("/proc/thread-self/comm").read_bytes()
    os.sched_setaffinity(0, {min(everywhere)})  # as vLLM does to a worker
    try:
        side()
        ours = our_threads()
        assert set(ours.values()) == {"cxlspeckv-load", "cxlspeckv-store", "cxlspeckv-mover"}
        assert all(os.sched_getaffinity(thread) == everywhere for thread in ours)
        assert os.sched_getaffinity(0) == {min(everywhere)}
        assert threading.get_native_id() not in ours
        assert pathlib.Path("/proc/thread-self/comm").read_bytes() == mine
    finally:
        os.sched_setaffinity(0, everywhere)


def test_the_time_of_all_our_threads_is_told_and_of_no_others(side, tmp_path):
    one = side(pool(tmp_path))
    threads.times.take(0)
    before = time.process_time()
    one.store(keys_of(*range(40)), range(40))
    all_of_it = time.process_time() - before
    told = threads.times.take(0)
    assert told["mover"] > 0 and told["store"] > 0
    assert told["mover"] + told["store"] < all_of_it
    burnt, ended = threading.Semaphore(0), threading.Event()

    def burn():
        while time.thread_time() < 0.1:
            pass
        burnt.release()
        ended.wait()  # one that has ended is not seen any more

    burners = [threading.Thread(target=burn) for _ in range(2)]
    burners[0].start()
    with threads.ours("load"):
        burners[1].start()
    for _ in burners:
        burnt.acquire()
    assert threads.times.take(60) == {}  # told a while ago
    assert 0.1 <= threads.times.take(0)["load"] < 0.2  # that of the other is not in it
    ended.set()
    for burner in burners:
        burner.join()


@pytest.mark.parametrize("is_load", [True, False])
def test_counts_are_taken_while_they_grow_and_none_is_lost(side, is_load):
    """By the engine's thread, from threads of ours."""
    one = side()
    rounds, told = 200, collections.Counter()
    keys = one.core.key_maker.keys(keys_of(1), 0)
    if not is_load:
        one.core.store.save = refuse
    for number in range(rounds):
        one.worker.transfers.submit(number, is_load, keys, numpy.array([1]), 0)
        told.update(sum(one.worker.transfers.take_counts(), collections.Counter()))
    for job in one.worker.transfers._jobs.values():
        job.ended.wait()
    told.update(sum(one.worker.transfers.take_counts(), collections.Counter()))
    assert told == {"not_found" if is_load else "internal": rounds}


def refuse(*_, **__):
    raise cxlspeckv.Busy("no")
