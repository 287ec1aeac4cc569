"""C of the statement: headers of the driver and of the programs that call it."""

from layouts import masks, record_fields


def constant(name, value, doc="", width=0):
    """One #define, with its value in a column of its own; a long comment stands before it."""
    tabs = "\t" * max(1, (width - len("#define ") - len(name) + 7) // 8)
    line, note = f"#define {name}{tabs}{value}", f"/* {doc} */"
    if doc and len((f"{line}\t{note}").expandtabs(8)) > 100:
        return f"{note}\n{line}\n"
    return line + (f"\t{note}" if doc else "") + "\n"


def block(rows):
    """#defines of (name, value, doc) with their values aligned."""
    rows = list(rows)
    width = (max(len("#define ") + len(name) for name, _, _ in rows) // 8 + 1) * 8
    return "".join(constant(name, value, doc, width) for name, value, doc in rows)


def enum_block(e):
    hexadecimal = "{:#x}" if e.get("mask") else "{}"
    return block((f"SPECKV_{e['prefix']}_{name}".upper(), hexadecimal.format(value), doc)
                 for name, value, doc in e["values"])


C_TYPES = {8: "__u8", 16: "__le16", 32: "__le32", 64: "__le64"}


def members(fields, first, end, indent):
    """C members from byte `first` to `end`, gaps filled with reserved bytes."""
    at, gaps, text = first, 0, ""

    def gap(until):
        nonlocal at, gaps
        count, at = until - at, until
        if not count:
            return ""
        gaps += 1
        return f"{indent}__u8 __reserved{gaps if gaps > 1 else ''}[{count}];\n"

    for f in sorted(fields, key=lambda f: f["offset"]):
        text += gap(f["offset"])
        text += f"{indent}{C_TYPES[f['width']]} {f['name']};\n"
        at += f["width"] // 8
    return text + gap(end)


def descriptor_struct(s):
    fields = s["descriptor"]["field"]
    common = [f for f in fields if "group" not in f]
    groups = {}
    for f in fields:
        if "group" in f:
            groups.setdefault(f["group"], []).append(f)
    first = min(f["offset"] for g in groups.values() for f in g)
    end = max(f["offset"] + f["width"] // 8 for g in groups.values() for f in g)
    text = "".join(f"struct speckv_desc_{name} {{\n{members(group, first, end, chr(9))}}};\n\n"
                   for name, group in groups.items())
    text += "struct speckv_desc {\n"
    text += members([f for f in common if f["offset"] < first], 0, first, "\t")
    text += "\tunion {\n"
    text += "".join(f"\t\tstruct speckv_desc_{name} {name};\n" for name in groups)
    text += "\t};\n"
    text += members([f for f in common if f["offset"] >= end], end,
                    s["descriptor"]["bytes"], "\t")
    return text + "};\n"


def plain_struct(name, fields, size):
    return f"struct speckv_{name} {{\n{members(fields, 0, size, chr(9))}}};\n"


def c_header(made, licence, guard, body, includes=()):
    lines = "".join(f"#include {name}\n" for name in includes) + ("\n" if includes else "")
    return (f"/* SPDX-License-Identifier: {licence} */\n/* {made} */\n"
            f"#ifndef {guard}\n#define {guard}\n\n{lines}{body}\n#endif /* {guard} */\n")


UAPI = "GPL-2.0 WITH Linux-syscall-note"
INNER = "GPL-2.0-only OR MIT"


def uapi_codes(s, made):
    """The numbers that programs and the driver share."""
    enums = s["enum"]
    shared = ("desc_flag", "hint", "report", "task", "codec", "dtype", "kind", "status", "feature")
    text = "/* Opcodes */\n"
    text += block((f"SPECKV_OP_{o['name']}".upper(), o["value"], "") for o in s["opcode"])
    for name in shared:
        text += f"\n/* {enums[name]['title']} */\n{enum_block(enums[name])}"
    return c_header(made, UAPI, "_UAPI_SPECKV_CODES_H", text)


def uapi_structures(s, made):
    """What programs and the driver share: descriptors, completions, records."""
    text = ("/* Read and written by the card, hence little-endian: docs/queue-protocol.md. */\n\n"
            "/* One unit of work; each opcode reads some fields, and all else is 0. */\n\n")
    text += descriptor_struct(s)
    text += "\n/* Its answer. status: bit 0 is the phase, the others a completion code. */\n"
    text += plain_struct("cpl", s["completion"]["field"], s["completion"]["bytes"])
    for r in s["record"]:
        text += f"\n/* {r['doc']} */\n" + plain_struct(r["name"], record_fields(r), r["bytes"])
    text += "\n/* The address of one token's K or V: 89 bits in two words, position lowest. */\n"
    text += address_block(s)
    includes = ["<linux/types.h>", '"speckv_codes.h"']
    return c_header(made, UAPI, "_UAPI_SPECKV_DESC_H", text, includes)


def address_block(s):
    rows, at = [], 0
    for name, width in s["address"]["fields"]:
        rows += [(f"SPECKV_ADDRESS_{name}_SHIFT".upper(), at, ""),
                 (f"SPECKV_ADDRESS_{name}_BITS".upper(), width, "")]
        at += width
    return block(rows + [("SPECKV_ADDRESS_BITS", at, "")])


def regs(s, made):
    """Register offsets and fields, for kernel C and for C++."""
    c, p = s["contract"], s["pci"]
    text = block([("SPECKV_CONTRACT_ID", f"{c['id']:#x}", ""),
                   ("SPECKV_CONTRACT_MAJOR", c["major"], ""),
                   ("SPECKV_CONTRACT_MINOR", c["minor"], ""),
                   ("SPECKV_PCI_VENDOR", f"{p['vendor']:#x}", ""),
                   ("SPECKV_PCI_DEVICE", f"{p['device']:#x}", ""),
                   ("SPECKV_PCI_CLASS", f"{p['class']:#x}", ""),
                   ("SPECKV_PCI_MEMORY_BAR", p["memory_bar"], ""),
                   ("SPECKV_PCI_VECTORS", p["vectors"], "")])
    text += "\n" + block((f"SPECKV_MAX_{name}".upper(), value, "")
                         for name, value in s["limits"].items())
    text += "\n/* BAR0 */\n" + block([("SPECKV_BAR0_BYTES", f"{s['bar0']['bytes']:#x}", "")] + [
        row for w in s["window"] for row in
        [(f"SPECKV_{w['name']}_WINDOW".upper(), f"{w['offset']:#x}", "")] +
        ([(f"SPECKV_{w['name']}_STRIDE".upper(), f"{w['stride']:#x}", "")]
         if "stride" in w else [])])
    for w in s["window"]:
        rows = []
        for r in s["register"]:
            if r["window"] != w["name"]:
                continue
            name = f"SPECKV_{w['name']}_{r['name']}".upper()
            access = r["access"] + (", 64 bits" if r.get("width") == 64 else "")
            rows.append((name, f"{r['offset']:#x}", access))
            if "reset" in r:
                rows.append((f"{name}_RESET", f"{r['reset']:#x}", ""))
            for f in r.get("fields", []):
                high, low = f["bits"]
                mask = ((1 << (high - low + 1)) - 1) << low
                wide = "ULL" if r.get("width") == 64 else "U"
                rows.append((f"{name}_{f['name']}".upper(), f"{mask:#x}{wide}", ""))
        if rows:
            text += f"\n/* In the {w['name']} window */\n{block(rows)}"
    return c_header(made, INNER, "SPECKV_REGS_H", text)


def card_codes(s, made):
    """What registers and counters say, the score, and the bits that a descriptor may set."""
    states = ("queue_state", "queue_cause", "fatal_cause", "inject", "counter")
    text = "\n".join(f"/* {s['enum'][name]['title']} */\n{enum_block(s['enum'][name])}"
                     for name in states)
    text += "\n/* The score */\n" + block((f"SPECKV_SCORE_{n}".upper(), v, "")
                                           for n, v in s["score"].items())
    text += "\n/* Bits that a descriptor may set, as eight little-endian words. */\n"
    for prefix, table in zip(("", "FLAG_"), masks(s)):
        for name, words in table.items():
            listed = ", \\\n\t  ".join(", ".join(f"{w:#x}ULL" for w in words[i:i + 3])
                                      for i in range(0, 8, 3))
            text += f"#define SPECKV_MASK_{prefix}{name.upper()} \\\n\t{{ {listed} }}\n"
    return c_header(made, INNER, "SPECKV_CARD_CODES_H", text)
