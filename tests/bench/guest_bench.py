#!/usr/bin/env python3
"""What a descriptor costs in a guest that counts instructions: guest_bench.py BUILD --json FILE

tests/guest/bench/ways.cpp measures, in Debian's 6.1 with null_blk beside the driver.
"""

import json
import pathlib
import subprocess
import sys

import figures

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def rows(text):
    for line in text.splitlines():
        name, value, unit, baseline = line.split(" ", 3)
        yield {"name": name, "value": float(value), "unit": unit, "baseline": baseline}


def main(build, _, report):
    command = [sys.executable, "-B", ROOT / "tests/guest/guest.py", ROOT, "bench", "6.1",
               pathlib.Path(build) / "tests/guest/guest_ways"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 77:  # every row of ours, with the reason
        reason = done.stdout.strip().removeprefix("SKIPPED: ")
        found = [{"name": name, "value": None, "skipped": reason}
                 for name, (owner, _, _) in figures.FIGURES.items() if owner == "guest"]
    elif done.returncode:
        return done.returncode
    else:
        print(done.stdout, end="")
        found = list(rows(done.stdout))
    text = json.dumps({"machine": None, "figures": found})
    pathlib.Path(report).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
