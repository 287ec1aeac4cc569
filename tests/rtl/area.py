#!/usr/bin/env python3
"""What the card costs, as yosys sees it: area.py ROOT [--write]; area.py selftest ROOT

Elaborates speckv_top in its large set, and compares with docs/area.md: the instances, multipliers
and memories of every block, and the look-up tables and flip-flops of the small ones; of all of them
with SPECKV_TEST_SCALE above 1. A latch, what two drive, a memory of another shape, and look-up
tables or flip-flops more than 5 % (and four) away are faults. --write measures everything and
writes the file. selftest makes each of these faults. Exit status 77: yosys is missing.
"""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

TOP = "speckv_top"
SMALL = 500  # LUTs in all; what is larger is mapped only at night
TOLERANCE = 0.05
SLACK = 4  # cells that the mapper may find or not
ELABORATE = """read_verilog -sv {files}
hierarchy -check -top {top}
proc
check -assert
select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$_DLATCH*
opt_clean
memory_dff
memory_collect
json -o card.json t:$mem_v2 t:$mul t:speckv_* t:$paramod*
write_rtlil card.il"""
# Optimised, then gates and 6-input look-up tables; memories and multipliers stay what they are.
MAP = """read_rtlil card.il
select -set these {modules}
select @these
opt
wreduce
opt_clean
techmap @these t:$mul %d t:$mem_v2 %d
opt_clean
abc -lut 6
opt_clean
tee -q -o {out} stat"""
HEAD = """# Area

Written by `python3 tests/rtl/area.py . --write`; the test `rtl.area` compares. {tool} makes
`speckv_top` in its large set of parameters into generic cells: look-up tables of six inputs,
flip-flops, and multipliers and memories as they are written. There is no carry chain and no vendor's
primitive among them, so that a vendor's tool needs fewer look-up tables for what adds and compares;
what decides whether the clock is reached is not here either.

A memory port is *clocked* if yosys finds a register at its address or its data, which block RAM
asks for, also where the block would be as well off with distributed RAM, as the small queues are: a
port that has to show a write of the same cycle then pays for that in look-up tables of its block. The
others are distributed RAM. A memory without write ports is a table of constants.
"""
BLOCKS = "\n## Blocks\n\nEach block without those inside it, all its instances together.\n"
PARTS = "\n## Parts\n\nOne instance each, with everything inside it.\n"
MEMORIES = "\n## Memories\n"
MULTIPLIERS = "\n## Multipliers\n\nBits of the factors; where one is constant, adders may do.\n"


class Fault(Exception):
    """What yosys refuses, or warns of."""


def yosys(folder, script):
    done = subprocess.run(["yosys", "-q", "-p", script.replace("\n", "; ")], cwd=folder, text=True,
                          capture_output=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode or re.search(r"warning|error", said, re.I):
        raise Fault(said.strip() or f"exit status {done.returncode}")


class Card:
    """The elaborated design, and what its modules were mapped to."""

    def __init__(self, rtl, folder, top):
        package = rtl / "speckv_pkg.sv"
        files = [package, *(f for f in sorted(rtl.glob("*.sv")) if f != package)]
        yosys(folder, ELABORATE.format(files=" ".join(map(str, files)), top=top))
        text = (pathlib.Path(folder) / "card.json").read_text(encoding="utf-8")
        modules = json.loads(text)["modules"]
        self.folder = folder
        self.cells = {}
        # By the name of a module with its parameters; one without such cells is not listed.
        self.inside, self.memories, self.factors = (collections.defaultdict(t) for t in
                                                    (collections.Counter, list, list))
        for name, module in modules.items():
            cells = list(module["cells"].values())
            self.inside[name] = collections.Counter(
                c["type"] for c in cells if not re.match(r"\$(mem|mul)", c["type"]))
            self.memories[name] = [shape(c["parameters"]) for c in cells if c["type"] == "$mem_v2"]
            self.factors[name] = [sorted(number(c["parameters"], f"{side}_WIDTH") for side in "AB")
                                  for c in cells if c["type"] == "$mul"]
        self.top = top
        self.count = self.instances(top)

    @staticmethod
    def block(name):
        return re.search(r"\bspeckv_(\w+)", name)[1]

    def instances(self, root):
        """How often each module is in one of `root`, itself included."""
        count = collections.Counter({root: 1})
        for name, times in self.inside[root].items():
            for module, n in self.instances(name).items():
                count[module] += times * n
        return count

    def map(self, blocks=None):
        """LUTs and flip-flops of these blocks' modules; of all of them."""
        names = [n for n in self.count if blocks is None or self.block(n) in blocks]
        jobs = min(len(names), os.cpu_count())
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(self.map_some, range(jobs), [names[i::jobs] for i in range(jobs)]))

    def map_some(self, job, names):
        out = f"cells{job}.txt"
        yosys(self.folder, MAP.format(modules=" ".join(names), out=out))
        text = (pathlib.Path(self.folder) / out).read_text(encoding="utf-8")
        _, *modules = re.split(r"^=== (.+) ===$", text, flags=re.M)
        for name, said in zip(modules[::2], modules[1::2]):
            luts = flops = 0
            for cell, n in re.findall(r"^ +(\S+) +(\d+)$", said.partition("cells:")[2], re.M):
                if cell == "$lut":
                    luts += int(n)
                elif re.match(r"\$_S?DFF", cell):
                    flops += int(n)
                elif not re.match(r"\$(mem_v2|mul|paramod.*)$|speckv_", cell):
                    raise Fault(f"{name}: {n} cells {cell} are neither mapped nor counted")
            self.cells[name] = (luts, flops)
        missing = set(names) - set(self.cells)
        if missing:
            raise Fault(f"yosys says nothing of {' '.join(sorted(missing))}")

    def tables(self):
        """What docs/area.md states: heading -> rows of cells; None where nothing was mapped."""
        blocks, memories = {}, collections.Counter()
        factors = collections.Counter()
        for name, n in self.count.items():
            row = blocks.setdefault(self.block(name), [0, 0, 0, 0, 0])
            luts, flops = self.cells.get(name, (None, None))
            bits = sum(words * width for words, width, *_ in self.memories[name])
            add = (1, luts, flops, len(self.factors[name]), bits)
            row[:] = [None if None in (r, a) else r + n * a for r, a in zip(row, add)]
            for memory in self.memories[name]:
                memories[(self.block(name), *memory)] += n
            for pair in self.factors[name]:
                factors[(self.block(name), *pair)] += n
        rows = [[b, *row] for b, row in sorted(blocks.items())]
        total = [None if None in column else sum(column) for column in list(zip(*rows))[1:]]
        return {BLOCKS: [["block", "instances", "LUTs", "flip-flops", "multipliers", "memory bits"],
                         *rows, ["all", *total]],
                PARTS: [["part of", "part", "instances", "LUTs", "flip-flops", "memory bits"],
                        *self.parts()],
                MEMORIES: [["block", "words", "bits", "read ports, clocked", "read ports, others",
                            "write ports", "constant", "memories"],
                           *([*key, n] for key, n in sorted(memories.items()))],
                MULTIPLIERS: [["block", "bits", "by bits", "multipliers"],
                              *([*key, n] for key, n in sorted(factors.items()))]}

    def parts(self):
        for around in (self.top, *(n for n in self.inside[self.top] if self.block(n) == "mover")):
            for name, n in sorted(self.inside[around].items(), key=lambda i: self.block(i[0])):
                all_in = self.instances(name).items()
                mapped = all(m in self.cells for m, _ in all_in)
                luts, flops = (sum(k * self.cells[m][i] for m, k in all_in) if mapped else None
                               for i in (0, 1))
                bits = sum(k * words * width for m, k in all_in
                           for words, width, *_ in self.memories[m])
                yield [self.block(around), self.block(name), n, luts, flops, bits]


def number(parameters, name):
    return int(parameters[name], 2)


def shape(p):
    """(words, bits, clocked read ports, others, write ports, whether it has contents)."""
    clocked = p["RD_CLK_ENABLE"][-number(p, "RD_PORTS"):].count("1") if number(p, "RD_PORTS") else 0
    return (number(p, "SIZE"), number(p, "WIDTH"), clocked, number(p, "RD_PORTS") - clocked,
            number(p, "WR_PORTS"), "no" if set(p["INIT"]) <= {"x"} else "yes")


def text_of(tables, tool):
    def lines(rows):
        head, *rest = rows
        yield f"| {' | '.join(head)} |"
        yield "|---" * len(head) + "|"
        for row in rest:
            yield "| " + " | ".join(f"{c:,}" if isinstance(c, int) else c for c in row) + " |"
    return HEAD.format(tool=tool) + "".join(
        heading + "\n" + "\n".join(lines(rows)) + "\n" for heading, rows in tables.items())


def rows_of(text, heading):
    """The rows of one table of the file: cells as they stand, without commas."""
    after = text.partition(heading.strip().splitlines()[0] + "\n")[2].partition("\n## ")[0]
    return [[c.strip().replace(",", "") for c in line.strip("|").split(" | ")]
            for line in after.splitlines() if line.startswith("| ")][1:]


def differences(text, tables):
    """What the file and the measured tables do not agree on."""
    for heading, (head, *rows) in tables.items():
        where = heading.split()[1]
        near = [i for i, column in enumerate(head) if column in ("LUTs", "flip-flops")]
        exact = [i for i in range(len(head)) if i not in near]
        written = {tuple(row[i] for i in exact): row for row in rows_of(text, heading)}
        for row in rows:
            key = tuple(str(row[i]) for i in exact)
            old = written.pop(key, None)
            if old is None:
                yield f"{where}: not in the file: {dict(zip((head[i] for i in exact), key))}"
                continue
            for i in near:
                most = max(SLACK, TOLERANCE * int(old[i]))
                if row[i] is not None and abs(row[i] - int(old[i])) > most:
                    yield f"{where}: {' '.join(key)}: {head[i]}: {old[i]} before, {row[i]} now"
        for key in written:
            yield f"{where}: only in the file: {dict(zip((head[i] for i in exact), key))}"


def measure(rtl, top, blocks=None):
    with tempfile.TemporaryDirectory() as folder:
        card = Card(rtl, folder, top)
        card.map(blocks)
        return card.tables()


def compare(root):
    text = (root / "docs/area.md").read_text(encoding="utf-8")
    whole = float(os.environ.get("SPECKV_TEST_SCALE", "1")) > 1
    rows = rows_of(text, BLOCKS)
    small = None if whole else {block for block, _, luts, *_ in rows if int(luts) <= SMALL}
    tables = measure(root / "hardware/rtl", TOP, small)
    found = list(differences(text, tables))
    for fault in found:
        print(fault)
    if found:
        print("If that is meant: python3 tests/rtl/area.py . --write")
    blocks = len(tables[BLOCKS]) - 2
    print(f"{blocks} blocks; look-up tables and flip-flops of " + (
        "all" if whole else f"{len(small)}; those of {blocks - len(small)} only in the nightly run"))
    return 1 if found else 0


# block -> changes: (what it says, what it says instead, what has to be said of it)
SABOTAGE = {
    "watchdog": [("assign still_d   = !working_i || moves_i ?",
                  "always_latch if (working_i) still_d = moves_i ?", "assert|latch"),
                 ("assign still_d   = !working_i || moves_i ?",
                  "always_comb if (working_i) still_d = moves_i ?", "latch"),
                 ("assign expired_o ", "assign expired_o = moves_i;\n  assign expired_o ",
                  "driver|assert|warning"),
                 ("else         still_q <= still_d;\n  end",
                  "else         still_q <= still_d;\n  end\n"
                  "  always_ff @(posedge clk_i) if (moves_i) still_q <= '0;",
                  "driver|assert|warning"),
                 ("parameter int Cycles = 40000000", "parameter int Cycles = 4000",
                  "LUTs|flip-flops")],
    "fifo": [("parameter int Depth = 4", "parameter int Depth = 8", "Memories"),
             ("always_ff @(posedge clk_i) if (push) mem",
              "logic [Width-1:0] now_q;\n  always_ff @(posedge clk_i) now_q <= mem[tail_q[Bits-1:0]];\n"
              "  assign in_ready_o = now_q[0];\n  always_ff @(posedge clk_i) if (push) mem",
              "driver|Memories"),
             ("assign out_data_o  = mem[head_q[Bits-1:0]];",
              "assign out_data_o  = mem[head_q[Bits-1:0]] ^ mem[~head_q[Bits-1:0]];", "Memories"),
             ("parameter int Width = 8", "parameter int Width = 16", "Memories")],
}


def selftest(root):
    """Each change has to be found, and what is unchanged has to pass."""
    faults = 0
    for block, changes in SABOTAGE.items():
        source = (root / f"hardware/rtl/speckv_{block}.sv").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            rtl = pathlib.Path(folder)
            shutil.copy(root / "hardware/rtl/speckv_pkg.sv", rtl)
            file = rtl / f"speckv_{block}.sv"
            text = None
            for old, new, said in [("", "", None), *changes]:
                if old and source.count(old) != 1:
                    print(f"{block} does not say once: {old}")
                    faults += 1
                    continue
                file.write_text(source.replace(old, new) if old else source, encoding="utf-8")
                try:
                    tables = measure(rtl, f"speckv_{block}")
                    text = text or text_of(tables, "yosys")
                    found = "\n".join(differences(text, tables))
                except Fault as fault:
                    found = str(fault)
                if (said is None and found) or (said and not re.search(said, found, re.I)):
                    print(f"{block}: {new or 'unchanged'}: {found or 'nothing is found'}")
                    faults += 1
    return 1 if faults else 0


def main(arguments):
    if not shutil.which("yosys"):
        print("SKIPPED: not installed: yosys")
        return 77
    if len(arguments) == 2 and arguments[0] == "selftest":
        return selftest(pathlib.Path(arguments[1]).resolve())
    if not 1 <= len(arguments) <= 2 or arguments[1:] not in ([], ["--write"]):
        print(__doc__, file=sys.stderr)
        return 2
    root = pathlib.Path(arguments[0]).resolve()
    try:
        if arguments[1:]:
            version = subprocess.run(["yosys", "-V"], capture_output=True, text=True, check=True)
            tool = " ".join(version.stdout.split()[:2])
            text = text_of(measure(root / "hardware/rtl", TOP), tool)
            (root / "docs/area.md").write_text(text, encoding="utf-8")
            return 0
        return compare(root)
    except Fault as fault:
        print(f"yosys: {fault}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
