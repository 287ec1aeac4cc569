#!/usr/bin/env python3
"""Proves one block: prove.py ROOT NAME DEPTH

tests/rtl/formal/prove_NAME.sv holds the properties. They are shown for every run of DEPTH cycles
after power-on (bounded model checking with z3), and each cover point is reached within them. Then
each change of SABOTAGE is made to the block, and one of the two has to fail. Exit status 77: a tool is
missing.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

SUPPORT = ("queue_properties.sv", "reset_first.sv")
# block -> (file, what it says, what it says instead)
SABOTAGE = {
    "fifo": [("speckv_fifo", "!(same_place && out_valid_o)", "1'b1"),
             ("speckv_fifo", "out_valid_o && out_ready_i", "out_ready_i"),
             ("speckv_fifo", "mem[tail_q[Bits-1:0]] <=", "mem[head_q[Bits-1:0]] <=")],
    "credit_fifo": [("speckv_credit_fifo", "!taken_q[Bits]", "1'b1"),
                    ("speckv_credit_fifo", "- {{Bits{1'b0}}, pop}", "")],
    "arbiter": [("speckv_arbiter", "held_q != '0 ? held_q : pick", "pick"),
                ("speckv_arbiter", "preferred != '0 ? preferred : request_i", "request_i"),
                ("speckv_arbiter", "candidates & (~candidates +", "candidates & (candidates +")],
    "lite": [("speckv_lite", "|| (b_valid_o && !b_ready_i)", ""),
             ("speckv_lite", "r_valid_o ? r_data_o : read_data_i", "read_data_i"),
             ("speckv_lite", "aw_q ? aw_addr_q : aw_addr_i", "aw_addr_i"),
             ("speckv_lite", "(start_write && whole_q)", "start_write"),
             ("speckv_lite", "idle && ar_q && !r_valid_o", "idle && ar_q"),
             ("speckv_lite", "(busy_q && writing_q && done_i)", "(busy_q && done_i)")],
    "tlb": [("speckv_tlb", "{1'b1, query_region_i,", "{1'b1, fill_region_i,"),
            ("speckv_tlb", "flush_i || (sweep_q &&", "(sweep_q &&"),
            ("speckv_tlb", "line_q <= mem[entry_i[Bits+2:3]]", "line_q <= mem[query_line_i[Bits-1:0]]"),
            ("speckv_tlb", "place_q != '1", "place_q == '1"),
            ("speckv_tlb", "fill_data_i[64*i+12 +: 52]", "fill_data_i[64*i+11 +: 52]")],
    "translate": [("speckv_translate", "Bit < shift_i", "Bit <= shift_i"),
                  ("speckv_translate", "in_valid_i && paged_i && can_reserve", "in_valid_i && paged_i"),
                  ("speckv_translate", "list_i + index[15:0]", "list_i | index[15:0]"),
                  ("speckv_translate", "{address, length2_q}", "{address, length1_q}")],
}


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def compile_model(root, name, folder):
    """The block and its properties as SMT2; the RTL lies in `folder`."""
    formal = root / "tests/rtl/formal"
    sources = [*sorted(pathlib.Path(folder).glob("*.sv")), *(formal / part for part in SUPPORT),
               formal / f"prove_{name}.sv"]
    script = (f"read_verilog -formal -sv -DSPECKV_ASSERT {' '.join(map(str, sources))}; "
              f"prep -top prove_{name} -flatten; memory; opt_clean; write_smt2 -wires model.smt2")
    code, text = run(["yosys", "-q", "-p", script], folder)
    if code:
        sys.exit(f"yosys: {text}")


def check(folder, depth, *words):
    return run(["yosys-smtbmc", "--unroll", "-s", "z3", "-t", str(depth), *words, "model.smt2"], folder)


def main(arguments):
    if len(arguments) != 3 or arguments[1] not in SABOTAGE:
        print(__doc__, file=sys.stderr)
        return 2
    missing = [tool for tool in ("yosys", "yosys-smtbmc", "z3") if not shutil.which(tool)]
    if missing:
        print(f"SKIPPED: not installed: {', '.join(missing)}")
        return 77
    root, name, depth = pathlib.Path(arguments[0]).resolve(), arguments[1], int(arguments[2])
    blocks = ("fifo", "credit_fifo", "arbiter", "lite", "tlb", "translate")
    with tempfile.TemporaryDirectory() as folder:
        for block in blocks:
            shutil.copy(root / f"hardware/rtl/speckv_{block}.sv", folder)
        compile_model(root, name, folder)
        for words, what in (((), "does not hold"), (("-c",), "not all cover points are reached")):
            code, text = check(folder, depth, *words)
            if code:
                print(f"{what}:\n{text}")
                return 1
        for module, old, new in SABOTAGE[name]:
            file = pathlib.Path(folder, f"{module}.sv")
            text = file.read_text(encoding="utf-8")
            if text.count(old) != 1:
                print(f"{module}.sv does not say once: {old}")
                return 1
            file.write_text(text.replace(old, new), encoding="utf-8")
            compile_model(root, name, folder)
            if check(folder, depth)[0] == 0 and check(folder, depth, "-c")[0] == 0:
                print(f"holds even with: {new}")
                return 1
            file.write_text(text, encoding="utf-8")
    print(f"{name}: holds for {depth} cycles; {len(SABOTAGE[name])} changes found")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
