#!/usr/bin/env python3
"""Which lines and branches of hardware/rtl the benches reach:
coverage.py ROOT FOLDER [--least PERCENT] [BENCH...]
coverage.py selftest

Builds the benches (all, or those named, such as crc) in FOLDER with Verilator's counters, runs each
of their tests in small, and prints a table, a block a row, and what no test reached, but for what
coverage_waivers.txt gives a reason for. Continuous assignments have no counter. Exit status 1: a
bench fails, a row of the waivers waives nothing, or less than PERCENT of the lines or of the
branches is reached; what is waived is no part of that.
"""

import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

SCALE = "0.02"


def points_of(text):
    """(block, line, branch or line, place) -> count, of one file that Verilator wrote."""
    points = collections.Counter()
    for keys, count in re.findall(r"^C '([^']*)' (\d+)$", text, re.M):
        key = dict(part.split("\2", 1) for part in keys.split("\1") if part)
        file = pathlib.PurePath(key.get("f", ""))
        if file.parent.name != "rtl" or file.parent.parent.name != "hardware":
            continue  # a bench's own module
        kind = key.get("page", "").partition("/")[0].removeprefix("v_")
        if kind not in ("line", "branch"):
            continue
        place = (key.get("n", ""), key.get("o", ""))
        points[(file.stem, int(key["l"]), kind, place)] += int(count)
    return points


def waivers_of(text):
    """[(block, line, reason)]"""
    rows = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    parted = [[part.strip() for part in row.split(" | ")] for row in rows]
    bad = [row for row, parts in zip(rows, parted) if len(parts) != 3 or not all(parts)]
    if bad:
        raise SystemExit(f"not BLOCK | LINE | REASON: {bad[0]}")
    return parted


def report(points, waivers, line_of):
    """(table, what was not reached, waivers without use, reached and to be reached of lines and of
    branches); line_of(block, number) -> text."""
    used = set()
    shares = {"line": [0, 0], "branch": [0, 0]}

    def waived(block, number):
        for i, (of, says, _) in enumerate(waivers):
            if of == block and says == line_of(block, number):
                used.add(i)
                return True
        return False

    rows = collections.defaultdict(lambda: [0, 0, 0, 0, 0])
    missed = []
    for (block, number, kind, (_, what)), count in sorted(points.items()):
        row, at = rows[block], 0 if kind == "line" else 2
        row[at + 1] += 1
        if not count and waived(block, number):
            row[4] += 1
            continue
        shares[kind][1] += 1
        if count:
            row[at] += 1
            shares[kind][0] += 1
        else:
            missed.append(f"{block}.sv:{number}: {what}: {line_of(block, number)}")
    table = [f"{'block':24} {'lines':>11} {'branches':>11} {'waived':>6}"]
    for name, row in [*sorted(rows.items()), ("all", [sum(c) for c in zip(*rows.values())])]:
        table.append(f"{name:24} {row[0]:5}/{row[1]:5} {row[2]:5}/{row[3]:5} {row[4]:6}")
    unused = [f"waives nothing: {' | '.join(w)}" for i, w in enumerate(waivers) if i not in used]
    return table, missed, unused, shares


def below(shares, least):
    """What is said of each kind of which less than that many percent is reached."""
    names = {"line": "lines", "branch": "branches"}
    return [f"{reached} of {every} {names[kind]} are less than {least:g} %"
            for kind, (reached, every) in shares.items() if reached * 100 < every * least]


def percent(text):
    value = float(text)
    if not 0 <= value <= 100:
        raise ValueError
    return value


def tests_of(program):
    done = subprocess.run([program, "--gtest_list_tests"], capture_output=True, text=True,
                          check=True)
    suite = ""
    for line in done.stdout.splitlines():
        if re.match(r"\S+\.(\s|$)", line):
            suite = line.split()[0]
        elif line.startswith("  "):
            yield suite + line.split()[0]


def reached(program, points):
    """Runs the tests of one bench, each alone, so that few files lie about; the failed ones."""
    def one(test):
        with tempfile.TemporaryDirectory() as folder:
            scale = os.environ | {"SPECKV_TEST_SCALE": SCALE, "SPECKV_RTL_COVERAGE": folder}
            done = subprocess.run([program, f"--gtest_filter={test}", "--gtest_brief=1"], env=scale,
                                  capture_output=True, text=True, check=False)
            found = collections.Counter()
            for file in pathlib.Path(folder).glob("*.dat"):
                found.update(points_of(file.read_text(encoding="utf-8")))
        return f"{test} fails: {done.stdout[-2000:]}" if done.returncode else None, found

    with ThreadPoolExecutor(int(os.environ.get("CTEST_PARALLEL_LEVEL", os.cpu_count()))) as pool:
        for failure, found in pool.map(one, tests_of(program)):
            points.update(found)
            if failure:
                yield failure


def selftest():
    """Counts of instances are added, kinds told apart, waivers used or told to be of no use."""
    point = "C '\1page\2v_{}/m\1f\2/x/hardware/rtl/m.sv\1l\2{}\1n\2{}\1o\2{}\1h\2top.{}' {}\n"
    text = "".join(point.format(*row) for row in (
        ("line", 3, 1, "block", "a", 0), ("line", 3, 1, "block", "b", 2),
        ("branch", 5, 1, "if", "a", 0), ("branch", 5, 2, "else", "a", 4),
        ("line", 7, 1, "block", "a", 0), ("toggle", 8, 1, "x", "a", 0)))
    points = points_of(text + text.replace("/hardware/", "/tests/"))
    lines = {3: "three", 5: "five", 7: "seven"}
    waivers = waivers_of("# why\nm | seven | it is odd\nm | nine | no such line\n")
    table, missed, unused, shares = report(points, waivers, lambda _, number: lines[number])
    good = (len(points) == 4 and missed == ["m.sv:5: if: five"] and len(unused) == 1
            and "nine" in unused[0] and table[1].split()[1:] == ["1/", "2", "1/", "2", "1"]
            and shares == {"line": [1, 1], "branch": [1, 2]} and below(shares, 50) == []
            and below(shares, 50.1) == ["1 of 2 branches are less than 50.1 %"])
    try:
        waivers_of("m | seven\n")
        good = False
    except SystemExit:
        pass
    print("good" if good else f"not what is expected: {table} {missed} {unused}")
    return 0 if good else 1


def main(arguments):
    if arguments == ["selftest"]:
        return selftest()
    parser = argparse.ArgumentParser(usage="coverage.py ROOT FOLDER [--least PERCENT] [BENCH...]")
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--least", type=percent, default=0.0)
    parser.add_argument("benches", nargs="*")
    given = parser.parse_intermixed_args(arguments)
    root, folder = given.root.resolve(), given.folder.resolve()
    lists = (root / "tests/rtl/CMakeLists.txt").read_text(encoding="utf-8")
    every = re.findall(r"^speckv_rtl_bench\((\w+)", lists, re.M)
    benches = given.benches or every
    for name in set(benches) - set(every):
        print(f"no such bench: {name}; there are: {' '.join(every)}", file=sys.stderr)
        return 2
    for command in (["cmake", "--preset", "dev", "-B", folder, "-DSPECKV_RTL_COVERAGE=ON"],
                    ["cmake", "--build", folder, "--target", *(f"rtl_{b}" for b in benches)]):
        if subprocess.run(command, cwd=root, check=False, stdout=subprocess.DEVNULL).returncode:
            print("cannot be built: " + " ".join(map(str, command)))
            return 1
    points, failures = collections.Counter(), []
    for name in benches:
        failures += reached(folder / "tests/rtl" / f"rtl_{name}", points)
    text = {file.stem: file.read_text(encoding="utf-8").splitlines()
            for file in (root / "hardware/rtl").glob("*.sv")}
    waivers = waivers_of((root / "tests/rtl/coverage_waivers.txt").read_text(encoding="utf-8"))
    table, missed, unused, shares = report(points, waivers,
                                           lambda block, number: text[block][number - 1].strip())
    print("\n".join([*missed, "", *table]))
    faults = failures + (unused if benches == every else []) + below(shares, given.least)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
