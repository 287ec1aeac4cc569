"""Blocks in attached memory, a gate for operations, a wait for prefetchers."""

import threading
import time

import numpy as np

import cxlspeckv as kv


class Blocks:
    """Random blocks in attached memory, with keys and segments."""

    def __init__(self, store, count, layout, seed=1):
        self.store, self.layout, self.count = store, layout, count
        random = np.random.default_rng(seed)
        self.plain = random.normal(size=(count, layout.bytes // 2)).astype(np.float16)
        self.out = np.zeros_like(self.plain)
        tokens = random.integers(0, 1 << 32, count * layout.tokens, dtype=np.uint64)
        self.keys = kv.KeyChain("a model", layout).append_blocks(tokens)
        self.regions = store.attach(self.plain), store.attach(self.out)

    def places(self, which):
        size = self.layout.bytes
        return np.array([[self.regions[which], i * size, size] for i in range(self.count)])

    @property
    def source(self):
        return self.places(0)

    @property
    def target(self):
        return self.places(1)

    def key(self, index):
        return self.keys[16 * index : 16 * index + 16]


class Gate:
    """A fence that holds operations up until it is opened, and knows whether it was asked."""

    def __init__(self):
        self.opened, self.asked = threading.Event(), threading.Event()

    def __call__(self):
        self.asked.set()
        return self.opened.is_set()


def until_idle(prefetcher):
    """As an engine does that calls at each of its steps, for 30 s at most."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        prefetcher.advance()
        if prefetcher.stats().in_flight == 0:
            return
    raise AssertionError("what is in flight was never finished")
