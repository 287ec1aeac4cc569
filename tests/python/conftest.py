"""What the tests share: a small layout, a store, blocks."""

import os
import pathlib

import numpy as np
import pytest

import cxlspeckv as kv
from python_support import Blocks, Gate


@pytest.fixture
def layout():
    return kv.BlockLayout(layers=2, kv_heads=2, head_dim=64, tokens=16, dtype="f16")


@pytest.fixture
def store(layout):
    with kv.BlockStore([layout], ["dram:16M"]) as opened:
        yield opened


@pytest.fixture
def tiers(layout):
    with kv.BlockStore([layout], ["dram:256K", "soft:4M"]) as opened:
        yield opened


@pytest.fixture
def below(tiers, layout):
    """Keys of four blocks that only the slow tier has: the fast one was full, and held."""
    memory = np.zeros(layout.bytes, np.uint8)
    where = [[tiers.attach(memory), 0, layout.bytes]]

    def save(name):
        key = kv.hash_key(name, b"")
        tiers.save(key, where).wait()
        return key

    fillers, pins = [], []
    while True:
        fillers.append(save(b"filler %d" % len(fillers)))
        if tiers.lookup(fillers[-1])[0] != 0:
            break
        pins.append(tiers.pin(fillers[-1]))
    keys = [save(b"block %d" % n) for n in range(4)]
    assert list(tiers.lookup(keys)) == [1] * len(keys)
    for pin in pins:
        pin.release()
    tiers.erase(fillers)
    return keys


@pytest.fixture
def gate():
    fence = Gate()
    yield fence
    fence.opened.set()


@pytest.fixture
def blocks(store, layout):
    return Blocks(store, 8, layout)


@pytest.fixture
def root():
    return pathlib.Path(os.environ["CXLSPECKV_ROOT"])
