#!/usr/bin/env python3
"""The Python package against C++: python_bench.py BUILD --json FILE

Loads 64 blocks of 1 MiB from DRAM into NumPy, and the same in C++ (load_rounds.cpp), in turns on
one CPU: the figure is the median of the ratios of pairs. BUILD/tests/python/site is the package.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCKS, TIMES, PAIRS, LOOKUPS = 64, 8, 9, 200
ENTERED = "CXLSPECKV_BENCH_ENTERED"


def enter(build):
    """Goes on with the Python that has NumPy, and the package that was built."""
    tool = ROOT / "python/tools/test_venv.py"
    found = subprocess.run([sys.executable, "-B", tool], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        return found.returncode
    environment = os.environ | {ENTERED: "1", "PYTHONPATH": str(build / "tests/python/site")}
    python = found.stdout.strip()
    os.execve(python, [python, "-B", *sys.argv], environment)


def loads(build):
    """Seconds of a round in Python, and in C++, by pairs that take turns in going first."""
    import numpy as np

    import cxlspeckv as kv

    layout = kv.BlockLayout(layers=1, kv_heads=1, head_dim=128, tokens=2048, dtype="f16")
    memory = np.full((BLOCKS, layout.bytes), 7, np.uint8)
    keys = kv.hash_keys([str(i).encode() for i in range(BLOCKS)], b"bench")
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})  # the child's too
    with (kv.BlockStore([layout], ["dram:96M"]) as store,
          subprocess.Popen([build / "tests/bench/load_rounds"], stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, text=True) as other):
        region = store.attach(memory)
        places = np.array([[region, i * layout.bytes, layout.bytes] for i in range(BLOCKS)])
        store.save(keys, places).wait()

        def ours():
            start = time.perf_counter()
            for _ in range(TIMES):
                store.load(keys, places).wait()
            return time.perf_counter() - start

        def theirs():
            other.stdin.write("\n")
            other.stdin.flush()
            return float(other.stdout.readline())

        ours(), theirs()  # touch the pages
        pairs = []
        for turn in range(PAIRS):
            first, second = (ours, theirs) if turn % 2 else (theirs, ours)
            times = {first: first(), second: second()}
            pairs.append((times[ours], times[theirs]))
        other.stdin.close()
        keys = os.urandom(16_000)
        lookups = []
        for _ in range(LOOKUPS):
            start = time.perf_counter()
            store.lookup(keys)
            lookups.append(time.perf_counter() - start)
    return pairs, statistics.median(lookups)


def main(words):
    build, out = pathlib.Path(words[0]).resolve(), pathlib.Path(words[2])
    if ENTERED not in os.environ:
        return enter(build)
    pairs, lookup = loads(build)
    bytes_moved = BLOCKS * TIMES << 20
    ours, theirs = (bytes_moved / statistics.median(times) / 1e9
                    for times in zip(*pairs, strict=True))
    ratio = statistics.median(cpp / python for python, cpp in pairs)
    figures = [
        {"name": "python_load_against_cpp", "value": ratio, "unit": "ratio",
         "baseline": f"{ours:.2f} GB/s in Python, {theirs:.2f} in C++"},
        {"name": "python_lookup_1000_keys", "value": lookup * 1e3, "unit": "ms",
         "baseline": "keys that are not there, in one buffer"},
    ]
    for figure in figures:
        print(f"{figure['name']:40} {figure['value']:10.3f} {figure['unit']}  ({figure['baseline']})")
    out.write_text(json.dumps({"machine": None, "figures": figures}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
