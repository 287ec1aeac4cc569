#!/usr/bin/env python3
"""What share of block accesses finds its block in the first tier? hit_rates.py SPECKVCTL DATA [PERCENT...]

Replays (`speckvctl trace replay`) chat and the agents' test sessions on a node whose first tier has so
many percent of all distinct blocks (1, 2, 5, 10 and 20), and whose second has room for all; requests
come one at a time and take no time. DATA is the repository's data/. Prints a table in Markdown. Time is
virtual: equal arguments give equal output on any machine.

Exit status: 0; 2 usage, or a replay failed.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

TRACES = {
    "chat": ["mooncake_conversation.jsonl"],
    "agents": ["coding_agents.txt", "--part", "test", "--longest", "14400"],
}
POLICIES = ("lru", "s3fifo", "arc", "retention", "hint-10", "live-retention")
NODE = """name = "one at a time"
[engine]
prefill_tokens_per_second = 1000000000
output_tokens_per_second = 1000000000
request_seconds = 0.000001
[[tier]]
name = "first"
capacity = "{first}"
gigabytes_per_second = 64
latency_us = 0
[[tier]]
name = "rest"
capacity = "{rest}"
gigabytes_per_second = 28
latency_us = 0
"""


def told(speckvctl: str, *arguments: str) -> dict:
    done = subprocess.run([speckvctl, "trace", *arguments, "--json"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stderr, end="", file=sys.stderr)
        sys.exit(2)
    return json.loads(done.stdout)


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    speckvctl, data, *percents = arguments
    print("| trace | capacity |", " | ".join(POLICIES), "|")
    print("|---" * (len(POLICIES) + 2) + "|")
    with tempfile.TemporaryDirectory() as folder:
        node = pathlib.Path(folder, "node.toml")
        for name, (file, *selection) in TRACES.items():
            which = ["--trace", str(pathlib.Path(data, "traces", file)), *selection]
            info = told(speckvctl, "info", *which)
            known = info["reused_accesses"] / info["block_accesses"]
            block = info["distinct_bytes"] // info["blocks"]
            for percent in percents or ("1", "2", "5", "10", "20"):
                first = max(1, info["blocks"] * int(percent) // 100) * block
                node.write_text(NODE.format(first=first, rest=2 * info["distinct_bytes"]), encoding="utf-8")
                rates = [told(speckvctl, "replay", *which, "--tiers", str(node), "--policy", policy)["top_hit_rate"]
                         for policy in POLICIES]
                print(f"| {name} | {percent} % |", " | ".join(f"{rate * known:.3f}" for rate in rates), "|", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
