"""What the tests share: a small layout, a store, blocks."""

import os
import pathlib

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
