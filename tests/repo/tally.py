#!/usr/bin/env python3
"""Reads CTest's JUnit report: a line per failed and skipped test, then the three counts.

A file of pytest is one test for CTest; its last line says how many it was.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree


def reason(case):
    """What a skipped test said: gtest's text after "Skipped", or its last line."""
    output = case.findtext("system-out") or ""
    skipped = re.search(r": Skipped\n(.+)", output)
    lines = [line for line in output.splitlines() if line.strip()]
    return (skipped.group(1) if skipped else lines[-1] if lines else "no reason given").strip()


def of_pytest(case):
    """(passed, skipped) of a file of pytest and why tests were skipped, or (1, 0)."""
    output = case.findtext("system-out") or ""
    counts = re.search(r"^pytest: (\d+) passed, 0 failed, (\d+) skipped$", output, re.M)
    for why in re.findall(r"^SKIPPED (.+)", output, re.M) if counts else ():
        print(f"SKIPPED {case.get('name')}: {why}")
    return map(int, counts.groups()) if counts else (1, 0)


def main(path):
    passed = failed = skipped = 0
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name, state = case.get("name"), case.get("status")
        if state == "run":
            ran, left_out = of_pytest(case)
            passed, skipped = passed + ran, skipped + left_out
        elif state == "notrun" and case.find("skipped").get("message", "").startswith("SKIP_"):
            skipped += 1
            print(f"SKIPPED {name}: {reason(case)}")
        else:  # failed, timed out, disabled, or its executable is missing
            failed += 1
            print(f"FAILED {name}")
    print(passed, failed, skipped)


if __name__ == "__main__":
    main(sys.argv[1])
