#!/usr/bin/env python3
"""The device contract: checks speckv.toml and writes what is generated from it.

    regtool.py write [ROOT]     writes every generated file below ROOT (default: the repository)
    regtool.py stale [ROOT]     says which of them are not what would be written
    regtool.py check [FILE]     says what is inconsistent in the statement
    regtool.py selftest         breaks the statement in every way and expects to be told

Exit status: 0 all is well, 1 faults (printed), 2 usage. Standard library only.
"""

import copy
import pathlib
import sys
import tomllib

import emit
import layouts

HERE = pathlib.Path(__file__).resolve().parent
STATEMENT = HERE / "speckv.toml"

# Which keys a table may have; what is not known is refused.
KEYS = {
    "": {"contract", "pci", "limits", "bar0", "window", "register", "descriptor", "opcode",
         "flag_fields", "completion", "enum", "record", "address", "score"},
    "window": {"name", "offset", "bytes", "stride", "count", "doc"},
    "register": {"window", "name", "offset", "width", "count", "access", "reset", "fields",
                 "doc"},
    "opcode": {"name", "value", "fields", "flags", "doc"},
    "record": {"name", "bytes", "doc", "fields"},
    "field": {"name", "group", "offset", "width", "fields", "doc"},
    "enum": {"title", "prefix", "mask", "values"},
}


def load(path=STATEMENT):
    with open(path, "rb") as file:
        return tomllib.load(file)


def overlaps(spans):
    """Pairs of names whose (name, first, end) spans share a place."""
    spans = sorted(spans, key=lambda span: span[1])
    for (a, _, end), (b, first, _) in zip(spans, spans[1:]):
        if first < end:
            yield a, b


def unknown_keys(s):
    for kind, rows in (("", [s]), ("window", s["window"]), ("register", s["register"]),
                       ("opcode", s["opcode"]), ("record", s["record"]),
                       ("field", s["descriptor"]["field"] + s["completion"]["field"]),
                       ("enum", s["enum"].values())):
        for row in rows:
            for key in sorted(set(row) - KEYS[kind]):
                yield f"{kind or 'the statement'}: unknown key {key}"


def duplicates(what, names):
    seen = set()
    for name in names:
        if name in seen:
            yield f"{what}: {name} is stated twice"
        seen.add(name)


def window_faults(s):
    size = s["bar0"]["bytes"]
    if size & (size - 1):
        yield f"bar0: {size:#x} bytes are no power of two"
    yield from duplicates("window", [w["name"] for w in s["window"]])
    for w in s["window"]:
        if w["offset"] + w["bytes"] > size:
            yield f"window {w['name']}: ends beyond bar0"
        if w.get("stride", 0) * w.get("count", 0) > w["bytes"]:
            yield f"window {w['name']}: {w['count']} do not fit"
        if w["offset"] % 0x1000:
            yield f"window {w['name']}: does not start on a page"
    for a, b in overlaps((w["name"], w["offset"], w["offset"] + w["bytes"])
                         for w in s["window"]):
        yield f"windows {a} and {b} overlap"
    windows = {w["name"]: w for w in s["window"]}
    limits = s["limits"]
    for name, count in (("queue", limits["queues"]), ("doorbell", limits["queues"]),
                        ("region", limits["regions"]), ("msix_table", s["pci"]["vectors"])):
        if windows[name]["count"] != count:
            yield f"window {name}: its count is not {count}"
    if s["pci"]["vectors"] != limits["queues"] + 1:
        yield "pci: not one vector a queue and one for errors"
    if windows["doorbell"]["stride"] % 0x1000:
        yield "window doorbell: a process could map another's"


def bit_faults(what, fields, width):
    yield from duplicates(what, [f["name"] for f in fields])
    for f in fields:
        high, low = f["bits"]
        if not 0 <= low <= high < width:
            yield f"{what}.{f['name']}: bits [{high}, {low}] do not fit {width}"
    for a, b in overlaps((f["name"], f["bits"][1], f["bits"][0] + 1) for f in fields):
        yield f"{what}: {a} and {b} overlap"


def register_faults(s):
    for w in s["window"]:
        rows = [r for r in s["register"] if r["window"] == w["name"]]
        yield from duplicates(f"window {w['name']}", [r["name"] for r in rows])
        end = w.get("stride", w["bytes"])
        spans = []
        for r in rows:
            what, width = f"{w['name']}.{r['name']}", r.get("width", 32)
            bytes_ = width // 8 * r.get("count", 1)
            spans.append((r["name"], r["offset"], r["offset"] + bytes_))
            if width not in (32, 64) or r["offset"] % (width // 8):
                yield f"{what}: {width} bits at {r['offset']:#x}"
            if r["offset"] + bytes_ > end:
                yield f"{what}: ends beyond its window"
            if r["access"] not in ("ro", "rw", "wo"):
                yield f"{what}: access {r['access']}"
            if r.get("reset", 0) >> width:
                yield f"{what}: its reset value has more bits"
            yield from bit_faults(what, r.get("fields", []), width)
        for a, b in overlaps(spans):
            yield f"window {w['name']}: {a} and {b} overlap"
    known = {w["name"] for w in s["window"]}
    for r in s["register"]:
        if r["window"] not in known:
            yield f"register {r['name']}: no window {r['window']}"


def field_faults(what, fields, size):
    for f in fields:
        if f["width"] not in (8, 16, 32, 64) or f["offset"] % (f["width"] // 8):
            yield f"{what}.{f['name']}: {f['width']} bits at {f['offset']}"
        if f["offset"] + f["width"] // 8 > size:
            yield f"{what}.{f['name']}: ends beyond {size} bytes"
    for a, b in overlaps((f["name"], f["offset"], f["offset"] + f["width"] // 8)
                         for f in fields):
        yield f"{what}: {a} and {b} overlap"


def descriptor_faults(s):
    size, fields = s["descriptor"]["bytes"], s["descriptor"]["field"]
    yield from duplicates("descriptor", [f["name"] for f in fields])
    common = [f for f in fields if "group" not in f]
    for group in sorted({f["group"] for f in fields if "group" in f}):
        yield from field_faults("descriptor", common + [f for f in fields
                                                        if f.get("group") == group], size)
    by_name = {f["name"]: f for f in fields}
    flags = [row[0] for row in s["enum"]["desc_flag"]["values"]]
    used = set(layouts.EVERY)
    yield from duplicates("opcode", [o["name"] for o in s["opcode"]])
    yield from duplicates("opcode value", [o["value"] for o in s["opcode"]])
    for flag in sorted(set(s["flag_fields"]) ^ set(flags)):
        yield f"flag {flag}: not both stated and used"
    for o in s["opcode"]:
        names = o["fields"] + [f for flag in o.get("flags", [])
                               for f in s["flag_fields"].get(flag, [])]
        for name in sorted(set(names) - set(by_name)) + sorted(set(o.get("flags", [])) -
                                                               set(flags)):
            yield f"opcode {o['name']}: no field or flag {name}"
        if o["value"] >= 32:
            yield f"opcode {o['name']}: the register opcodes has no bit for it"
        mine = [by_name[n] for n in set(names) if n in by_name]
        yield from field_faults(f"opcode {o['name']}",
                                mine + [by_name[n] for n in layouts.EVERY], size)
        used |= set(names)
    for name in sorted(set(by_name) - used):
        yield f"descriptor.{name}: no opcode reads it"


def enum_faults(s):
    room = {"status": 15, "desc_flag": 8, "hint": 8, "report": 8, "task": 8, "codec": 6,
            "dtype": 8, "kind": 8, "feature": 64, "queue_state": 2, "queue_cause": 7, "fatal_cause": 7,
            "inject": 8, "counter": 32}
    for name, e in s["enum"].items():
        yield from duplicates(f"enum {name}", [row[0] for row in e["values"]])
        yield from duplicates(f"enum {name} value", [row[1] for row in e["values"]])
        if name not in room:
            yield f"enum {name}: no field is known for it"
            continue
        for row in e["values"]:
            if row[1] >> room[name]:
                yield f"enum {name}.{row[0]}: {row[1]} does not fit its field"
            if e.get("mask") and row[1] & (row[1] - 1):
                yield f"enum {name}.{row[0]}: not one bit"
    counters = next(r for r in s["register"] if r["name"] == "counter")["count"]
    if any(row[1] >= counters for row in s["enum"]["counter"]["values"]):
        yield "enum counter: more than there are registers"


def layout_faults(s):
    yield from field_faults("completion", s["completion"]["field"], s["completion"]["bytes"])
    for r in s["record"]:
        rows = [{"name": n, "offset": at, "width": width} for n, at, width, _ in r["fields"]]
        yield from duplicates(f"record {r['name']}", [f["name"] for f in rows])
        yield from field_faults(f"record {r['name']}", rows, r["bytes"])


def address_faults(s):
    """Every bit of an address has a place, and none is cut off on the way."""
    widths = {name: width for name, width in s["address"]["fields"]}
    if widths != {"request": 32, "layer": 16, "head": 8, "position": 32, "kind": 1}:
        yield f"address: its fields are {widths}"
    total = sum(widths.values())
    fields = {f["name"]: f["width"] for f in s["descriptor"]["field"]}
    records = {f"{r['name']}.{row[0]}": row[2] for r in s["record"] for row in r["fields"]}
    for what, room in (("a word", s["address"]["word"]),
                       ("descriptor", fields["address_low"] + fields["address_high"]),
                       ("candidate", records["candidate.address_low"] +
                        records["candidate.address_high"])):
        if total > room:
            yield f"address: {total} bits do not fit the {room} of {what}"
    score = s["score"]
    if 4 * 255 * 255 >> score["bits"] or score["bits"] > records["candidate.score"]:
        yield "score: its bits do not hold four products"


CHECKS = (unknown_keys, window_faults, register_faults, descriptor_faults, enum_faults,
          layout_faults, address_faults)


def faults(statement):
    found = [fault for check in CHECKS for fault in check(statement)]
    return list(dict.fromkeys(found))


def entry(rows, name):
    return next(row for row in rows if row["name"] == name)


# What is done to the statement -> a part of the sentence that must follow.
BREAKS = {
    "a ring over the registers": (
        lambda s: s["window"].append({"name": "ring", "offset": 0x800, "bytes": 0x1000}),
        "overlap"),
    "a doorbell page of two queues": (
        lambda s: entry(s["window"], "doorbell").update(stride=0x800), "could map another's"),
    "a window beyond the bar": (
        lambda s: entry(s["window"], "doorbell").update(bytes=0x80000), "beyond bar0"),
    "one register over another": (
        lambda s: entry(s["register"], "weights").update(offset=0x06A), "0x6a"),
    "a register on top of another": (
        lambda s: entry(s["register"], "weights").update(offset=0x06C), "overlap"),
    "a register over the counters": (
        lambda s: entry(s["register"], "counter").update(count=1000), "beyond its window"),
    "two fields of a register on one bit": (
        lambda s: entry(s["register"], "control")["fields"][0].update(bits=[1, 0]), "overlap"),
    "a field beyond its register": (
        lambda s: entry(s["register"], "limits")["fields"][0].update(bits=[32, 25]), "fit"),
    "two common fields overlap": (
        lambda s: entry(s["descriptor"]["field"], "src_region").update(offset=4), "overlap"),
    "an argument over the address": (
        lambda s: entry(s["descriptor"]["field"], "crc").update(offset=48), "overlap"),
    "a field out of its natural place": (
        lambda s: entry(s["descriptor"]["field"], "pattern").update(offset=36), "at 36"),
    "an opcode with overlapping arguments": (
        lambda s: entry(s["opcode"], "fill")["fields"].append("room"), "overlap"),
    "an opcode with an unknown field": (
        lambda s: entry(s["opcode"], "nop")["fields"].append("depth"), "no field"),
    "one value for two opcodes": (
        lambda s: entry(s["opcode"], "fence").update(value=5), "twice"),
    "a field that nobody reads": (
        lambda s: entry(s["opcode"], "fill")["fields"].remove("pattern"), "no opcode"),
    "a code too large for its field": (
        lambda s: s["enum"]["status"]["values"].append(["x", 1 << 15, ""]), "fit its field"),
    "a flag of two bits": (
        lambda s: s["enum"]["desc_flag"]["values"].append(["x", 12, ""]), "not one bit"),
    "an address cut to 64 bits": (
        lambda s: entry(s["descriptor"]["field"], "address_high").update(width=16), "bits do not fit"),
    "a candidate without room for an address": (
        lambda s: entry(s["record"], "candidate")["fields"][1].__setitem__(2, 16),
        "bits do not fit"),
    "an address with a field too few": (
        lambda s: s["address"]["fields"].pop(), "its fields are"),
    "a score that wraps": (lambda s: s["score"].update(bits=16), "four products"),
    "overlapping fields of a record": (
        lambda s: entry(s["record"], "telemetry")["fields"][1].__setitem__(1, 0), "overlap"),
    "a key that nobody knows": (lambda s: s["window"][0].update(colour="red"), "unknown key"),
    "fewer vectors than queues": (lambda s: s["pci"].update(vectors=64), "vector"),
}


def selftest():
    good = load()
    yield from (f"the statement itself: {fault}" for fault in faults(good))
    for name, (harm, told) in BREAKS.items():
        bad = copy.deepcopy(good)
        harm(bad)
        found = faults(bad)
        if not any(told in fault for fault in found):
            yield f"{name}: not found, only {found}"


def stale(root):
    statement = load()
    for name, text in emit.files(statement).items():
        path = root / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield f"{name}: stale; run python3 hardware/regs/regtool.py write"


def write(root):
    statement = load()
    found = faults(statement)
    if not found:
        for name, text in emit.files(statement).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
    return found


def main(arguments):
    root = HERE.parent.parent
    match arguments:
        case ["write", *rest] if len(rest) <= 1:
            found = write(pathlib.Path(rest[0]) if rest else root)
        case ["stale", *rest] if len(rest) <= 1:
            found = list(stale(pathlib.Path(rest[0]) if rest else root))
        case ["check", *rest] if len(rest) <= 1:
            found = faults(load(rest[0] if rest else STATEMENT))
        case ["selftest"]:
            found = list(selftest())
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
