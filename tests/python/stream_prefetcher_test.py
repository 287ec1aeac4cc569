"""Stream prefetchers: what followed once is there the next time; what is refused."""

import math

import pytest

import cxlspeckv as kv
from python_support import until_idle


def use(prefetcher, stream, page, key):
    prefetcher.touched(stream, page, key)
    until_idle(prefetcher)


def test_what_followed_once_is_there_the_next_time(tiers, below, layout):
    with kv.StreamPrefetcher(tiers, rule="fixed", depth=2) as prefetcher:
        for page, key in enumerate(below):
            use(prefetcher, 1, page, key)
        assert list(tiers.lookup(below)) == [1] * len(below)
        assert prefetcher.stats().asked == 0
        for page, key in enumerate(below):
            assert tiers.lookup(key)[0] == (1 if page == 0 else 0)
            use(prefetcher, 2, page, key)
        stats = prefetcher.stats()
        assert (stats.touched, stats.missed) == (2 * len(below), len(below) + 1)
        assert stats.useful == stats.asked == len(below) - 1
        assert (stats.depth, stats.pauses, stats.wasted) == (2, 0, 0)
        assert 0 < stats.peak_in_flight <= 2 * layout.bytes
        prefetcher.ended(2)
        prefetcher.ended(77)


@pytest.mark.parametrize("wrong", [
    {"rule": "greedy"}, {"depth": 0}, {"depth": 17}, {"confidence": 1.5}, {"confidence": -0.5},
    {"confidence": math.nan}, {"patience": 0}, {"streams": 0}, {"streams": 2**20 + 1},
    {"symbols": 0}, {"symbols": 2**28 + 1}, {"layout": 1}, {"most_in_flight": 1},
    {"learning_bytes": 0}, {"bytes_per_second": 0.0}, {"bytes_per_second": math.nan}])
def test_options_that_make_no_sense_are_refused(tiers, wrong):
    with pytest.raises(kv.InvalidArgument):
        kv.StreamPrefetcher(tiers, **wrong)


def test_weights_are_checked(tiers):
    with pytest.raises(kv.Corrupted):
        kv.StreamPrefetcher(tiers, lstm=bytes(64))


def test_one_tier_has_nothing_to_stage(store):
    with pytest.raises(kv.InvalidArgument, match="one tier"):
        kv.StreamPrefetcher(store)


def test_calls_that_make_no_sense_are_refused(tiers, below):
    prefetcher = kv.StreamPrefetcher(tiers)
    for stream, symbol in ((-1, 0), (2**64, 0), (0, -1), (0, 2**32)):
        with pytest.raises(TypeError):
            prefetcher.touched(stream, symbol, below[0])
    for key in (b"no key", b"".join(below)):
        with pytest.raises(kv.InvalidArgument):
            prefetcher.touched(1, 1, key)
    assert prefetcher.stats().touched == 0


def test_calls_after_close_are_refused(tiers, below):
    prefetcher = kv.StreamPrefetcher(tiers)
    prefetcher.touched(1, 0, below[0])
    prefetcher.close()
    prefetcher.close()
    ended = kv.StreamPrefetcher(tiers)
    tiers.close()
    for it in (prefetcher, ended):
        for call in (it.advance, it.stats, lambda it=it: it.ended(1),
                     lambda it=it: it.touched(1, 0, below[0])):
            with pytest.raises(kv.InvalidArgument, match="closed"):
                call()
