"""How long the scheduler's side takes for 1,000 keys: prints {name: milliseconds} as JSON."""

import json
import statistics
import time

from vllm.v1.kv_offload.base import LookupResult
from vllm_support import Side, context, engine_key, page_facts

KEYS, STEPS = 1000, 200
HIT = LookupResult.HIT


def step(side, keys, asked):
    """All that vLLM asks of one request: key by key until the first miss, then what is to be loaded
    and what is to be stored; and what it tells once that is done. Returns the hits."""
    manager, found = side.manager, 0
    for key in keys:
        if manager.lookup(key, asked) is not HIT:
            break
        found += 1
    if found:
        manager.prepare_load(keys[:found], asked)
        manager.complete_load(keys[:found], asked)
    taken = manager.prepare_store(keys, asked).keys_to_store
    assert len(taken) == len(keys) - found
    manager.complete_store(taken, asked)
    manager.on_schedule_end(None)
    return found


def measured(side, keys, hits):
    """The median over steps, in milliseconds."""
    seconds = []
    for number in range(STEPS):
        asked = context(f"{number}", keys)  # vLLM's own
        began = time.perf_counter()
        found = step(side, keys, asked)
        seconds.append(time.perf_counter() - began)
        assert found == hits, found
    return statistics.median(seconds) * 1e3


def main():
    side = Side(page_facts(layers=1), {"tiers": [{"uri": "dram:16M"}]})
    keys = [engine_key(n) for n in range(KEYS)]
    misses = measured(side, keys, 0)
    for first in range(0, KEYS, 40):
        side.store(keys[first:first + 40], list(range(40)))
    hits = measured(side, keys, KEYS)
    side.close()
    print(json.dumps({"vllm_lookup_1000_misses": misses, "vllm_lookup_1000_hits": hits}))


if __name__ == "__main__":
    main()
