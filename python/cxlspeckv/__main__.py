"""`python -m cxlspeckv`: what this machine offers, and whether it works.

`python -m cxlspeckv profile MODEL TEXT...` measures a model instead (calibrate.py).
Data goes to stdout, messages to stderr. Exit status: 0 all passed, 1 something failed.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np

import cxlspeckv as kv
from cxlspeckv import _core, codecs

LAYOUT = kv.BlockLayout(layers=2, kv_heads=2, head_dim=64, tokens=64, dtype="f16")
BLOCKS = 16
# The largest error of a value that a codec may make, as a share of the largest value: half a
# step, and rounding (docs/block-format.md has the exact bounds).
ALLOWED = {
    "raw": 0.0,
    "int8": 1 / 200,
    "int8_delta_rle": 1 / 200,
    "kvq4": 1 / 14,
    "lossless": 0.0,
}
UNBOUNDED = 1 / 2  # rt and hx bound the energy of the error, not each value's


def devices(folder: str) -> list[dict[str, Any]]:
    """Open a small device of every kind that this machine can have."""
    shared = f"cxlspeckv-selftest-{os.getpid()}"
    nodes = sorted(pathlib.Path("/sys/devices/system/node").glob("node[0-9]*"))
    uris = ["dram:16M", *(f"numa:{node.name[4:]}?size=16M" for node in nodes)]
    uris += [
        f"{name}?size=16M" for name in (f"shm:/{shared}", f"dax:{folder}/d", f"file:{folder}/f")
    ]
    found = []
    for uri in uris:
        try:
            found.append({"uri": uri, **_core.describe_device(uri)})
        except kv.Error as error:
            found.append({"uri": uri, "refused": str(error)})
    pathlib.Path("/dev/shm", shared).unlink(missing_ok=True)
    return found


def trial(uri: str, codec: str) -> dict[str, Any]:
    """Save blocks, load them in another order, compare, and forget them."""
    values = np.random.default_rng(20).normal(size=(BLOCKS, LAYOUT.bytes // 2)).astype(np.float16)
    loaded = np.zeros_like(values)
    tokens = np.arange(BLOCKS * LAYOUT.tokens)
    keys = kv.KeyChain("selftest", LAYOUT, os.urandom(16)).append_blocks(tokens)
    rows = np.arange(BLOCKS, dtype=np.int64)
    with kv.BlockStore([LAYOUT], [{"uri": uri, "codec": codec}]) as store:
        size = LAYOUT.bytes
        source, target = store.attach(values), store.attach(loaded)
        place = np.stack([np.full(BLOCKS, source), rows * size, np.full(BLOCKS, size)], axis=1)
        store.save(keys, place).wait()
        stats = store.stats(0)
        place[:, 0] = target
        store.load(keys, place).wait()
        store.erase(keys)
        if store.match(keys) != 0:
            raise kv.Internal("erased blocks are still there")
    largest = float(np.abs(values.astype(np.float32)).max())
    error = float(np.abs(values.astype(np.float32) - loaded.astype(np.float32)).max())
    if error > ALLOWED.get(codec, UNBOUNDED) * largest:
        raise kv.Internal(f"a value is off by {error:.3g} of at most {largest:.3g}")
    return {"ratio": round(stats.plain_bytes / max(stats.used, 1), 2)}


def self_test(uris: list[str]) -> list[dict[str, Any]]:
    """Run every codec on every device."""
    outcomes = []
    for uri in uris:
        for codec in codecs.names():
            outcome: dict[str, Any] = {"device": uri.split(":")[0], "codec": codec}
            try:
                outcome |= {"result": "passed", **trial(uri, codec)}
            except kv.Error as error:
                outcome |= {"result": f"failed: {error}"}
            outcomes.append(outcome)
    return outcomes


def show(report: dict[str, Any]) -> None:
    """Print the report for a person."""
    print(f"cxlspeckv {report['version']}, NumPy {np.__version__}, {os.cpu_count()} CPUs")
    print(f"codecs: {', '.join(report['codecs'])}; policies: {', '.join(report['policies'])}")
    for device in report["devices"]:
        words = [word for word in ("memory", "persistent", "shared") if device.get(word)]
        note = device.get("refused") or device.get("note") or ""
        print(f"{device['uri'].split(':')[0]:6} {', '.join(words) or '-':28} {note}".rstrip())
    for outcome in report["selftest"]:
        ratio = f"ratio {outcome['ratio']}" if "ratio" in outcome else ""
        print(f"{outcome['device']:6} {outcome['codec']:16} {outcome['result']} {ratio}".rstrip())


def main(words: list[str]) -> int:
    """Run the command line."""
    if words[:1] == ["profile"]:
        from cxlspeckv import calibrate  # PyTorch and transformers, for this alone

        return calibrate.main(words[1:])
    parser = argparse.ArgumentParser(
        prog="python -m cxlspeckv", description="What this machine offers, and a self-test."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(words)
    number = _core.version()
    with tempfile.TemporaryDirectory() as folder:
        found = devices(folder)
        opened = [device["uri"] for device in found if "refused" not in device]
        report: dict[str, Any] = {
            "version": f"{number >> 16}.{number >> 8 & 255}.{number & 255}",
            "codecs": list(codecs.names()),
            "policies": list(kv.policies()),
            "devices": found,
            "selftest": self_test(opened),
        }
    pathlib.Path("/dev/shm", f"cxlspeckv-selftest-{os.getpid()}").unlink(missing_ok=True)
    print(json.dumps(report, indent=1)) if arguments.json else show(report)
    return int(any(outcome["result"] != "passed" for outcome in report["selftest"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
