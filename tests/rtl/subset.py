#!/usr/bin/env python3
"""The subset of SystemVerilog that lints, simulates and synthesises alike (hardware/README.md).

subset.py ROOT checks hardware/rtl; subset.py selftest breaks every rule once.
"""

import pathlib
import re
import sys

# What Verilator, iverilog or yosys get wrong or do not know.
WORDS = {
    "return": r"\breturn\b",
    "break or continue": r"\b(break|continue)\b",
    "an interface": r"\b(interface|modport)\b",
    "an import": r"\bimport\b",
    "foreach": r"\bforeach\b",
    "inside": r"\binside\b",
    "$bits": r"\$bits\b",
    "a type parameter": r"\bparameter\s+type\b",
    "an assignment pattern": r"'\s*\{",
    "a streaming operator": r"\{\s*(<<|>>)",
    "an unpacked array port": r"\b(input|output)\b[^,;)]*\w\s+\[[^\]]*\]\s*[,)\n]",
    "an array of several packed dimensions": r"\blogic\s*(signed\s*)?\[[^\]]*\]\s*\[",
    "always": r"\balways\s+@\s*\*|\balways\s*\*",
    "an initial value of a register": r"^\s*logic\b[^;(]*=",
    "a delay": r"(?<![\w.(])#\s*\d",
    "a latch": r"\balways_latch\b",
}


def code_only(text):
    """Comments and strings blanked, line numbers kept."""
    return re.sub(r"//[^\n]*|/\*.*?\*/|\"[^\"\n]*\"",
                  lambda m: "\n" * m.group().count("\n") or " ", text, flags=re.S)


def files_of(folders, module):
    """The file of a module, and of all that it is made of; the package first."""
    found, todo = {}, [module]
    while todo:
        name = todo.pop()
        file = next((f for f in (folder / f"{name}.sv" for folder in folders) if f.is_file()), None)
        if file and name not in found:
            found[name] = file
            todo += re.findall(r"\b(?:speckv|axi)_\w+", code_only(file.read_text(encoding="utf-8")))
    return sorted(found.values(), key=lambda file: (file.stem != "speckv_pkg", file.name))


def blocks(text, start):
    """(line, body) of every block that begins with `start`: one statement, or begin to end."""
    for match in re.finditer(start, text):
        depth, at = 0, match.end()
        for token in re.finditer(r"\b(begin|end|case|endcase)\b|;", text[at:]):
            word = token.group()
            depth += {"begin": 1, "case": 1, "end": -1, "endcase": -1}.get(word, 0)
            if depth == 0 and not re.match(r"\s*else\b", text[at + token.end():]):
                yield text.count("\n", 0, match.start()) + 1, text[at:at + token.end()]
                break


def faults_of(name, text):
    """The faults of one file."""
    code = code_only(text)
    for what, pattern in WORDS.items():
        for match in re.finditer(pattern, code, re.M):
            yield f"{name}:{code.count(chr(10), 0, match.start()) + 1}: {what}"
    for line, body in blocks(code, r"\balways_ff\s*@\s*\([^)]*\)"):
        if re.search(r"\b(for|while|repeat)\b", body):
            yield f"{name}:{line}: a loop in always_ff"
        if re.search(r"[^<>=!]=[^=]", body):
            yield f"{name}:{line}: a blocking assignment in always_ff"
    for line, body in blocks(code, r"\balways_comb\b"):
        if re.search(r"(?:;|\bbegin|\belse|\))\s*[\w.]+(\[[^\]]*\])?\s*<=", body):
            yield f"{name}:{line}: a non-blocking assignment in always_comb"
    modules = re.findall(r"^\s*(?:module|package)\s+(\w+)", code, re.M)
    if modules != [pathlib.PurePosixPath(name).stem]:
        yield f"{name}:1: has {modules}, not one module of the file's name"
    if not re.match(r"// (Generated|" + re.escape(pathlib.PurePosixPath(name).stem) + r" -- \w)",
                    text):
        yield f"{name}:1: does not begin with what the module is for"
    for line, row in enumerate(text.splitlines(), 1):
        if len(row) > 100 and "do not edit" not in text[:200]:
            yield f"{name}:{line}: more than 100 columns"


HEAD = "// m -- a module\nmodule m (input logic clk_i);\n"
BROKEN = [
    "function int f(); return 1; endfunction", "initial begin break; end",
    "interface i; endinterface", "import p::*;", "always_comb foreach (a[i]) x = 1;",
    "assign x = a inside {1, 2};", "assign x = $bits(y);", "assign x = '{1, 2};",
    "assign x = {<<8{y}};", "logic [3:0][7:0] x;", "always @* x = 1;", "logic x = 1;",
    "assign #1 x = y;", "always_latch x = y;",
    "always_ff @(posedge clk_i) begin\n for (int i = 0; i < 3; i++) x_q[i] <= y;\n end",
    "always_ff @(posedge clk_i) x_q = y;", "always_comb begin x <= y; end",
    "endmodule\nmodule other;", "assign x = " + "y + " * 30 + "y;",
]
KEPT = ["assign x = y <= z;", "always_comb begin if (y <= z) x = 1; else x = y <= 2; end",
        "always_ff @(posedge clk_i) begin if (!rst_ni) x_q <= '0; else x_q <= x_d; end",
        "logic [7:0] mem [0:3]; speckv_fifo #(.Width(8)) u_fifo (.clk_i(clk_i));",
        "always_ff @(posedge clk_i) if (x == y) mem[a] <= d;  // return"]


def selftest():
    """Every rule finds what breaks it and passes what keeps it."""
    for code in BROKEN:
        if not list(faults_of("m.sv", f"{HEAD}{code}\nendmodule\n")):
            yield f"does not find: {code}"
    for bad in ("module m; endmodule\n", HEAD.replace("clk_i)", "x [0:3])") + "endmodule\n"):
        if not list(faults_of("m.sv", bad)):
            yield f"does not find: {bad}"
    for code in KEPT:
        yield from faults_of("m.sv", f"{HEAD}{code}\nendmodule\n")


def main(arguments):
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    if arguments[0] == "selftest":
        found = list(selftest())
    else:
        files = sorted(pathlib.Path(arguments[0], "hardware/rtl").glob("*.sv"))
        found = [fault for file in files
                 for fault in faults_of(file.name, file.read_text(encoding="utf-8"))]
        print(f"{len(files)} files")
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
