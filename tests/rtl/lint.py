#!/usr/bin/env python3
"""Reads hardware/rtl with three tools: lint.py ROOT

Verilator with all warnings, each module as a top of its own; iverilog and yosys as second opinions,
on the whole. Any warning is a fault, but for what QUIET names. Exit status 77: a tool is missing.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

VERILATOR = ["verilator", "--lint-only", "-Wall", "--unroll-count", "4096", "--unroll-stmts",
             "200000", "-DSPECKV_ASSERT"]
# Of iverilog, and true: it looks at whole vectors where only a part is read.
QUIET = r"sorry: constant selects in always_\* processes are not (currently|fully) supported"


def output_of(command, folder):
    """Everything that the command says, and whether it failed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr, done.returncode


def verilator(folder, top, package):
    text, code = output_of([*VERILATOR, "-y", ".", "--top-module", top, package, f"{top}.sv"],
                           folder)
    return [f"verilator, {top}: {line}" for line in text.splitlines() if line.strip()] or (
        [f"verilator, {top}: exit status {code}"] if code else [])


def iverilog(folder, files):
    text, code = output_of(["iverilog", "-g2012", "-Wall", "-Wno-timescale", "-t", "null", *files],
                           folder)
    lines = [line for line in text.splitlines() if not re.search(QUIET, line)]
    return [f"iverilog: {line}" for line in lines] or (
        [f"iverilog: exit status {code}"] if code else [])


def yosys(folder, files, tops):
    """Elaborates each top, and finds latches, several drivers, and what is driven by nothing."""
    # Memories become arrays of the default size: small enough to look at, never mapped to gates.
    script = f"read_verilog -sv {' '.join(files)}; " + "".join(
        f"design -save all; hierarchy -check -top {top}; proc; check -assert; "
        f"select -assert-none t:$dlatch t:$adlatch; design -load all; " for top in tops)
    text, code = output_of(["yosys", "-q", "-p", script], folder)
    found = [line for line in text.splitlines() if re.search(r"warning|error", line, re.I)]
    return [f"yosys: {line}" for line in found] or ([f"yosys: {text}"] if code else [])


def roots(folder, modules):
    """Modules that no other instantiates."""
    text = "".join((folder / f"{module}.sv").read_text(encoding="utf-8") for module in modules)
    return [m for m in modules if not re.search(rf"^\s*{m}\s+(#\(|u_\w+)", text, re.M)]


def main(arguments):
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    missing = [tool for tool in ("verilator", "iverilog", "yosys") if not shutil.which(tool)]
    if missing:
        print(f"SKIPPED: not installed: {', '.join(missing)}")
        return 77
    folder = pathlib.Path(arguments[0], "hardware/rtl").resolve()
    files = sorted(file.name for file in folder.glob("*.sv"))
    package = "speckv_pkg.sv"
    files.remove(package)
    modules = [name.removesuffix(".sv") for name in files]
    tops = roots(folder, modules)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        each = [pool.submit(verilator, folder, module, package) for module in modules]
        both = [pool.submit(iverilog, folder, [package, *files]),
                pool.submit(yosys, folder, [package, *files], tops)]
        found = [fault for job in each + both for fault in job.result()]
    for fault in found:
        print(fault)
    print(f"{len(modules)} modules; tops: {' '.join(tops)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
