"""Prefetchers: hints, statistics, and what is refused with which exception."""

import math

import pytest

import cxlspeckv as kv
from python_support import until_idle


def test_what_is_hinted_is_there_when_its_session_comes(tiers, below, layout):
    with kv.Prefetcher(tiers, chunk_bytes=2 * layout.bytes) as prefetcher:
        prefetcher.finished(5, below, input_tokens=64, output_tokens=5, calls_tool=True)
        assert 0 < prefetcher.advance() < 1
        assert list(tiers.lookup(below)) == [1] * len(below)
        prefetcher.hint(5, eta=0.5)
        until_idle(prefetcher)
        assert list(tiers.lookup(below)) == [0] * len(below)
        assert prefetcher.stats().hinted.unread == len(below) * layout.bytes
        prefetcher.arrived(5)
        stats = prefetcher.stats()
        assert stats.hinted.useful == stats.hinted.staged == len(below) * layout.bytes
        assert stats.hinted.chunks == 2 and stats.learned.chunks == 0 and stats.failed == 0
        assert (stats.sessions, stats.blocks) == (1, len(below))
        assert stats.peak_in_flight == 2 * layout.bytes
        prefetcher.ended(5)
        assert prefetcher.stats().sessions == 0


def test_what_is_not_to_be_staged_stays_where_it_is(tiers, below):
    with kv.Prefetcher(tiers, stage=False) as prefetcher:
        prefetcher.finished(5, below)
        prefetcher.hint(5, eta=0.5)
        until_idle(prefetcher)
        assert list(tiers.lookup(below)) == [1] * len(below)
        stats = prefetcher.stats()
        assert stats.hinted.chunks == stats.hinted.retained == stats.learned.retained == 0


def test_off_is_off(tiers, below):
    prefetcher = kv.Prefetcher(tiers, hinted=False)
    prefetcher.finished(1, below)
    prefetcher.hint(1, 1)
    prefetcher.arrived(1)
    assert prefetcher.advance() == math.inf
    assert prefetcher.stats().sessions == 0


@pytest.mark.parametrize("wrong", [
    {"layout": 1}, {"chunk_bytes": 0}, {"most_in_flight": 0}, {"learning_bytes": 0},
    {"hint_life": -1.0}, {"unread_life": math.nan}, {"sessions": 0}, {"sessions": 65537},
    {"blocks": 0}, {"bytes_per_second": [1e9]}, {"bytes_per_second": [1e9, -1]}])
def test_options_that_make_no_sense_are_refused(tiers, wrong):
    with pytest.raises(kv.InvalidArgument):
        kv.Prefetcher(tiers, **wrong)


def test_one_tier_has_nothing_to_stage(store):
    with pytest.raises(kv.InvalidArgument, match="one tier"):
        kv.Prefetcher(store)


def test_calls_that_make_no_sense_are_refused(tiers, below):
    prefetcher = kv.Prefetcher(tiers, blocks=len(below) - 1)
    for call in (lambda: prefetcher.arrived(1), lambda: prefetcher.ended(1),
                 lambda: prefetcher.hint(1, 1)):
        with pytest.raises(kv.NotFound):
            call()
    with pytest.raises(kv.InvalidArgument):
        prefetcher.finished(1, below)
    prefetcher.finished(1, [])
    for eta, confidence in ((-1, 1), (math.nan, 1), (math.inf, 1), (1, 1.5), (1, -0.5),
                            (1, math.nan)):
        with pytest.raises(kv.InvalidArgument):
            prefetcher.hint(1, eta, confidence)
    with pytest.raises(TypeError):
        prefetcher.arrived(-1)
    with pytest.raises(kv.InvalidArgument):
        prefetcher.finished(1, b"no key")


def test_calls_after_close_are_refused(tiers, below):
    prefetcher = kv.Prefetcher(tiers)
    prefetcher.finished(1, below)
    prefetcher.close()
    prefetcher.close()
    ended = kv.Prefetcher(tiers)
    tiers.close()
    for it in (prefetcher, ended):
        for call in (it.advance, it.stats, lambda it=it: it.arrived(1),
                     lambda it=it: it.ended(1), lambda it=it: it.hint(1, 1),
                     lambda it=it: it.finished(1, below)):
            with pytest.raises(kv.InvalidArgument, match="closed"):
                call()


def test_the_environment_asks_for_a_recording(tiers, below, monkeypatch, tmp_path):
    into = tmp_path / "trace"
    monkeypatch.setenv("CXLSPECKV_TRACE", str(into))
    with kv.Prefetcher(tiers) as prefetcher:
        prefetcher.finished(1, below)
        with pytest.warns(UserWarning, match="cannot make"):
            kv.Prefetcher(tiers).close()
    assert into.read_text().count("\nR ") == 1
