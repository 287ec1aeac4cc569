"""hardware/rtl/speckv_pkg.sv and docs/registers.md."""

from layouts import masks, record_fields


def pascal(name):
    return "".join(word.capitalize() for word in name.split("_"))


# ---- SystemVerilog --------------------------------------------------------------------------


def sized(name, width, value):
    return f"  localparam logic [{width - 1}:0] {name} = {width}'h{value:x};\n"


def sv_enum(name, width, rows):
    body = ",\n".join(f"    {pascal(name)}{pascal(n)} = {width}'d{v}" for n, v, *_ in rows)
    return f"  typedef enum logic [{width - 1}:0] {{\n{body}\n  }} {name}_e;\n\n"


def sv_fields(name, fields, size):
    """Where fields lie, as bits: word[NameFieldLow +: NameFieldBits]."""
    width = (8 * size - 1).bit_length()
    return "".join(sized(f"{name}{pascal(f['name'])}Low", width, 8 * f["offset"])
                   + sized(f"{name}{pascal(f['name'])}Bits", width, f["width"])
                   for f in sorted(fields, key=lambda f: f["offset"])) + "\n"


def package(s, origin):
    """Constants, for the subset that lints, simulates and synthesises."""
    c, p = s["contract"], s["pci"]
    text = f"// {origin}\n/* verilator lint_off UNUSEDPARAM */  // no block needs them all\n"
    text += "package speckv_pkg;\n\n"
    text += sized("ContractId", 32, c["id"]) + sized("ContractMajor", 16, c["major"])
    text += sized("ContractMinor", 16, c["minor"]) + sized("PciVendor", 16, p["vendor"])
    text += sized("PciDevice", 16, p["device"]) + sized("PciClass", 24, p["class"]) + "\n"
    for name, value in s["limits"].items():
        text += sized(f"Max{pascal(name)}", 32, value)
    text += "\n"
    for name, value in s["score"].items():
        text += sized(f"Score{pascal(name)}", 32, value)
    width = (s["bar0"]["bytes"] - 1).bit_length()
    text += "\n" + sized("Bar0AddressBits", 32, width)
    for w in s["window"]:
        text += sized(f"{pascal(w['name'])}Window", width, w["offset"])
        if "stride" in w:
            text += sized(f"{pascal(w['name'])}Stride", width, w["stride"])
    for w in s["window"]:
        rows = [r for r in s["register"] if r["window"] == w["name"]]
        local = (w.get("stride", w["bytes"]) - 1).bit_length()
        text += f"\n  // In the {w['name']} window\n" if rows else ""
        for r in rows:
            name = f"{pascal(w['name'])}{pascal(r['name'])}"
            text += sized(name, local, r["offset"])
            if "reset" in r:
                text += sized(f"{name}Reset", r.get("width", 32), r["reset"])
            for f in r.get("fields", []):
                text += sized(f"{name}{pascal(f['name'])}Low", 6, f["bits"][1])
                text += sized(f"{name}{pascal(f['name'])}High", 6, f["bits"][0])
    text += "\n" + sv_enum("op", 8, [(o["name"], o["value"]) for o in s["opcode"]])
    widths = {"status": 15, "hint": 8, "report": 8, "task": 8, "codec": 8, "dtype": 8, "kind": 8,
              "queue_state": 2, "queue_cause": 8, "fatal_cause": 8, "inject": 8, "counter": 8}
    for name, bits in widths.items():
        text += sv_enum(name, bits, s["enum"][name]["values"])
    for name, bits in (("desc_flag", 8), ("feature", 64)):
        for n, v, _ in s["enum"][name]["values"]:
            text += sized(f"{pascal(name)}{pascal(n)}", bits, v)
    text += "\n  // Of a descriptor, a completion, and the records of TELEMETRY, in bits\n"
    text += sv_fields("Desc", s["descriptor"]["field"], s["descriptor"]["bytes"])
    text += sv_fields("Completion", s["completion"]["field"], s["completion"]["bytes"])
    for r in s["record"]:
        text += sv_fields(pascal(r["name"]), record_fields(r), r["bytes"])
    text += "  // Bits that a descriptor of each opcode may set, and what flags add.\n"
    for prefix, table in zip(("Mask", "MaskFlag"), masks(s)):
        for name, words in table.items():
            value = sum(word << (64 * i) for i, word in enumerate(words))
            text += sized(f"{prefix}{pascal(name)}", 512, value)
    at = 0
    text += "\n  // The address of one token's K or V\n"
    for name, bits in s["address"]["fields"]:
        text += sized(f"Address{pascal(name)}Low", 7, at)
        text += sized(f"Address{pascal(name)}Bits", 7, bits)
        at += bits
    return text + sized("AddressBits", 7, at) + "\nendpackage\n/* verilator lint_on UNUSEDPARAM */\n"


# ---- Markdown -------------------------------------------------------------------------------


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line).rstrip() + " |\n"
                   for line in lines).replace("|  |", "| |")


def bits_of(field):
    high, low = field["bits"]
    return f"{high}:{low}" if high != low else str(low)


def register_rows(s, window):
    for r in s["register"]:
        if r["window"] != window:
            continue
        count = f"[{r['count']}]" if "count" in r else ""
        fields = ", ".join(f"`{f['name']}` {bits_of(f)}" for f in r.get("fields", []))
        reset = f" Reset: {r['reset']:#x}." if "reset" in r else ""
        yield (f"{r['offset']:#05x}", f"`{r['name']}`{count}", r.get("width", 32), r["access"],
               fields, r["doc"] + reset)


def registers(s, origin):
    """The contract's tables, for people."""
    text = f"<!-- {origin} -->\n# Registers, descriptors and codes\n\n"
    text += ("How they are used: [queue-protocol.md](queue-protocol.md). Stated once in\n"
             "`hardware/regs/speckv.toml`; C, C++, SystemVerilog and this page are generated.\n"
             "All numbers are little-endian; what is not listed reads as 0 and ignores writes.\n\n")
    text += "## Windows of BAR0\n\n" + table(
        ["offset", "bytes", "window", "each", "what"],
        [(f"{w['offset']:#x}", f"{w['bytes']:#x}", f"`{w['name']}`",
          f"{w['count']} x {w['stride']:#x}" if "stride" in w else "", w["doc"])
         for w in s["window"]])
    for w in s["window"]:
        rows = list(register_rows(s, w["name"]))
        if rows:
            text += f"\n## Registers: {w['name']}\n\n" + table(
                ["offset", "register", "bits", "access", "fields", "what"], rows)
    text += "\n## Descriptors\n\n64 bytes. A field with a group is one use of the argument bytes.\n\n"
    text += table(["byte", "field", "bits", "group", "what"],
                  [(f["offset"], f"`{f['name']}`", f["width"], f.get("group", ""),
                    f.get("doc", "")) for f in s["descriptor"]["field"]])
    text += "\n## Opcodes\n\n" + table(
        ["value", "opcode", "what", "fields", "flags"],
        [(o["value"], f"`{o['name']}`", o["doc"], ", ".join(o["fields"]),
          ", ".join(o.get("flags", []))) for o in s["opcode"]])
    text += "\n" + "".join(f"The flag `{flag}` adds {', '.join(names)}.\n"
                            for flag, names in s["flag_fields"].items())
    text += "\n## Completions\n\n16 bytes.\n\n" + table(
        ["byte", "field", "bits", "what"],
        [(f["offset"], f"`{f['name']}`", f["width"], f.get("doc", ""))
         for f in s["completion"]["field"]])
    for e in s["enum"].values():
        text += f"\n## {e['title']}\n\n" + table(
            ["value", "name", "what"],
            [(f"{v:#x}" if e.get("mask") else v, f"`{n}`", doc) for n, v, doc in e["values"]])
    for r in s["record"]:
        text += f"\n## Record: {r['name']}\n\n{r['bytes']} bytes. {r['doc']}\n\n" + table(
            ["byte", "field", "bits", "what"],
            [(at, f"`{n}`", width, doc) for n, at, width, doc in r["fields"]])
    at, rows = 0, []
    for name, width in s["address"]["fields"]:
        rows.append((f"{at + width - 1}:{at}", f"`{name}`"))
        at += width
    text += (f"\n## Addresses\n\nOne token's K or V: {at} bits in a word of "
             f"{s['address']['word']}, the others 0.\n\n") + table(["bits", "field"], rows)
    text += "\n## Limits\n\n" + table(["limit", "value"],
                                       [(f"`{n}`", v) for n, v in s["limits"].items()])
    return text
