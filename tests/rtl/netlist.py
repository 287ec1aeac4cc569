#!/usr/bin/env python3
"""What yosys makes of one block, for the bench of its source: netlist.py ROOT MODULE OUT [NAME=VALUE...]

Synthesises MODULE of hardware/rtl, with everything inside it and these parameters, into gates and
flip-flops, and writes them to OUT as Verilog of one flat module with the ports of the source. Memories of
at most FLIP_FLOPS bits in all become flip-flops; where there is more they stay arrays, with the
ports that yosys gave them. A latch, what two drive, and any warning are faults.
"""

import pathlib
import re
import sys

import area
import subset

FLIP_FLOPS = 8192
BEGIN = """read_verilog -sv {files}
hierarchy -check -top {top} {parameters}
synth -flatten -top {top} -run begin:fine
check -assert
select -assert-none t:$dlatch t:$adlatch t:$dlatchsr
write_rtlil {out}.il"""
# Single nets: a vector whose bits follow from each other would look like a loop. What techmap
# makes is not in what it was told to map: an adder of three numbers takes it three times.
END = """read_rtlil {out}.il
opt -fast -full
{memories}
opt -undriven -fine
techmap {gates}
techmap {gates}
techmap {gates}
opt -fast
abc -fast
opt -fast
opt_clean -purge
splitnets
check -assert
write_verilog -noattr {out}"""


def bits_of(text):
    """Of all memories in RTLIL."""
    cells = re.findall(r"cell \$mem_v2 .*?\n  end\n", text, re.S)
    return sum(int(re.search(r"\\SIZE (\d+)", cell)[1]) * int(re.search(r"\\WIDTH (\d+)", cell)[1])
               for cell in cells)


def main(arguments):
    if len(arguments) < 3 or not all("=" in a for a in arguments[3:]):
        print(__doc__, file=sys.stderr)
        return 2
    root, module, out = pathlib.Path(arguments[0]).resolve(), *arguments[1:3]
    given = (a.partition("=") for a in arguments[3:])
    words = {"top": module, "out": out,
             "files": " ".join(map(str, subset.files_of([root / "hardware/rtl"], module))),
             "parameters": " ".join(f"-chparam {name} {value}" for name, _, value in given)}
    try:
        area.yosys(".", BEGIN.format(**words))
        kept = bits_of(pathlib.Path(f"{out}.il").read_text(encoding="utf-8")) > FLIP_FLOPS
        area.yosys(".", END.format(**words, memories="" if kept else "memory_map",
                                   gates="t:$mem_v2 %n" if kept else ""))
    except area.Fault as fault:
        print(f"yosys: {module}: {fault}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
