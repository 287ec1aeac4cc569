#!/usr/bin/env python3
"""docs/integration.md names each port and parameter of speckv_top as it is.

ports.py ROOT compares the tables with hardware/rtl/speckv_top.sv and tests/rtl/CMakeLists.txt;
ports.py selftest makes each fault that there can be.
"""

import collections
import pathlib
import re
import sys


def source_of(code):
    """Ports, name -> (direction, bits), and parameters, name -> value, of a module."""
    ports = {name: (way, str(int(high) + 1) if high else "1") for way, high, name in re.findall(
        r"^ +(input|output) +logic +(?:\[(\d+):0\] +)?(\w+)", code, re.M)}
    return ports, dict(re.findall(r"^ +parameter +int +(\w+) += +(\d+)", code, re.M))


def small_of(cmake):
    """What the simulated card's parameters are set to."""
    call = re.search(r"speckv_verilate\(rtl_card\b([^)]*)\)", cmake)
    return dict(re.findall(r"-G(\w+)=(\d+)", call[1])) if call else {}


def rows_of(text, first):
    """Rows of all tables whose first column is called `first`."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")]
                          for line in table.splitlines()]
        if head[0] == first:
            yield from rows


def faults_of(text, code, cmake):
    ports, parameters = source_of(code)
    if not ports or not parameters:
        yield "speckv_top.sv: no ports or no parameters were found"
    seen = collections.Counter()
    for names, way, bits, *_ in rows_of(text, "port"):
        for name in re.findall(r"`(\w+)`", names):
            seen[name] += 1
            if name not in ports:
                yield f"{name}: no such port"
            elif ports[name] != (way, bits):
                yield f"{name}: {way}, {bits} bits; it is {' '.join(ports[name])}"
    yield from (f"{name}: is in {seen[name]} rows" for name in ports if seen[name] != 1)
    small, seen = small_of(cmake), set()
    for name, large, simulated, *_ in rows_of(text, "parameter"):
        name = name.strip("`")
        seen.add(name)
        if parameters.get(name) != large:
            yield f"{name}: large {large}; it is {parameters.get(name)}"
        if small.get(name, "") != simulated:
            yield f"{name}: small {simulated}; it is {small.get(name, 'as large')}"
    yield from (f"{name}: not in the table" for name in parameters if name not in seen)


CODE = ("  parameter int Size = 8,\n  parameter int More = 2\n"
        "  input  logic         a_i,\n  output logic [511:0] b_o\n")
CMAKE = "speckv_verilate(rtl_card\n  -GMore=1)\n"
TEXT = ("| parameter | large | small | what |\n|---|---|---|---|\n| `Size` | 8 | | |\n"
        "| `More` | 2 | 1 | |\n\n| port | direction | bits | what |\n|---|---|---|---|\n"
        "| `a_i` | input | 1 | |\n| `b_o` | output | 512 | |\n")
BROKEN = [(TEXT, "| `a_i` | input | 1 | |\n", ""), (TEXT, "`a_i`", "`c_i`"), (TEXT, "512", "64"),
          (TEXT, "input", "output"), (TEXT, "`b_o`", "`a_i`, `b_o`"), (TEXT, "8 | |", "9 | |"),
          (TEXT, "8 | |", "8 | 4 |"), (TEXT, "2 | 1 |", "2 | |"), (TEXT, "`More`", "`Less`"),
          (TEXT, "| port |", "| signal |")]


def selftest():
    yield from (f"where nothing is wrong: {fault}" for fault in faults_of(TEXT, CODE, CMAKE))
    for text, old, new in BROKEN:
        if not list(faults_of(text.replace(old, new, 1), CODE, CMAKE)):
            yield f"does not find {new!r} for {old!r}"
    for code in (CODE + "  output logic         d_o\n", CODE.replace("= 8", "= 9"), ""):
        if not list(faults_of(TEXT, code, CMAKE)):
            yield f"does not find what the source says otherwise: {code!r}"
    if not list(faults_of(TEXT, CODE, "")):
        yield "does not find that the small set changed"


def main(arguments):
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    if arguments[0] == "selftest":
        found = list(selftest())
    else:
        root = pathlib.Path(arguments[0])
        found = list(faults_of(*((root / name).read_text(encoding="utf-8") for name in (
            "docs/integration.md", "hardware/rtl/speckv_top.sv", "tests/rtl/CMakeLists.txt"))))
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
