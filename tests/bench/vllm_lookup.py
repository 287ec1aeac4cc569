"""How long the scheduler's side takes for 1,000 keys: prints {name: milliseconds} as JSON."""

import json
import statistics
import time

from vllm.v1.kv_offload.base import LookupResult
from vllm_support import Side, context, engine_key, page_facts

KEYS = 1000


def step(side, keys):
    """The median over steps, in milliseconds, as vLLM asks: key by key until the first miss."""
    seconds = []
    for number in range(200):
        side.manager.on_schedule_end(None)
        asked = context(f"{number}", keys)
        began = time.perf_counter()
        found = 0
        for key in keys:
            if side.manager.lookup(key, asked) is not LookupResult.HIT:
                break
            found += 1
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1e3, found


def main():
    side = Side(page_facts(layers=1), {"tiers": [{"uri": "dram:16M"}]})
    keys = [engine_key(n) for n in range(KEYS)]
    misses, found = step(side, keys)
    assert found == 0
    for first in range(0, KEYS, 40):
        side.store(keys[first:first + 40], list(range(40)))
    hits, found = step(side, keys)
    assert found == KEYS, found
    side.close()
    print(json.dumps({"vllm_lookup_1000_misses": misses, "vllm_lookup_1000_hits": hits}))


if __name__ == "__main__":
    main()
