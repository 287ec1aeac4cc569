"""A tiered, compressed home for the KV cache of language models.

A `BlockStore` keeps sealed blocks of K and V, named by content, in tiers: DRAM, CXL memory,
files. What was saved once is found again by any request, from whatever tier it has sunk to.

>>> layout = BlockLayout(layers=2, kv_heads=2, head_dim=64, tokens=16, dtype="f16")
>>> with BlockStore(layouts=[layout], tiers=["dram:16M"]) as store:
...     memory = numpy.zeros(layout.bytes, numpy.uint8)
...     region = store.attach(memory)
...     key = KeyChain("a model", layout).append(range(16))
...     store.save(key, [[region, 0, layout.bytes]]).wait()
...     store.match(key)
1
"""

from cxlspeckv import codecs
from cxlspeckv._core import (
    BlockLayout,
    KeyChain,
    Pin,
    TierStats,
    View,
    hash_key,
    hash_keys,
    policies,
)
from cxlspeckv.address import Address
from cxlspeckv.allocator import CxlSpeckvKVAllocator
from cxlspeckv.engine import Block, BlockController, Engine, Hint, StepPlan, Weights
from cxlspeckv.errors import (
    Busy,
    Cancelled,
    Code,
    Corrupted,
    DeviceError,
    Error,
    Internal,
    InvalidArgument,
    NoSpace,
    NotFound,
    TimedOut,
    Unsupported,
)
from cxlspeckv.operation import Operation
from cxlspeckv.prefetcher import Prefetcher, PrefetchSource, PrefetchStats
from cxlspeckv.sequence import Sequence
from cxlspeckv.store import ABSENT, PENDING, BlockStore, remove_store
from cxlspeckv.stream_prefetcher import StreamPrefetcher, StreamStats

__all__ = [
    "ABSENT",
    "PENDING",
    "Address",
    "Block",
    "BlockController",
    "BlockLayout",
    "BlockStore",
    "Busy",
    "Cancelled",
    "Code",
    "Corrupted",
    "CxlSpeckvKVAllocator",
    "DeviceError",
    "Engine",
    "Error",
    "Hint",
    "Internal",
    "InvalidArgument",
    "KeyChain",
    "NoSpace",
    "NotFound",
    "Operation",
    "Pin",
    "PrefetchSource",
    "PrefetchStats",
    "Prefetcher",
    "Sequence",
    "StepPlan",
    "StreamPrefetcher",
    "StreamStats",
    "TierStats",
    "TimedOut",
    "Unsupported",
    "View",
    "Weights",
    "codecs",
    "hash_key",
    "hash_keys",
    "policies",
    "remove_store",
]
