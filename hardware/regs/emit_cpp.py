"""The contract for the golden engine and its tests, in C++: one function a header."""

from layouts import masks, record_fields

INTEGERS = {8: "std::uint8_t", 16: "std::uint16_t", 32: "std::uint32_t", 64: "std::uint64_t"}
# enum -> its C++ name and underlying type; masks become plain constants.
ENUMS = {"status": ("Answer", 16), "hint": ("Hint", 8), "report": ("Report", 8),
         "task": ("Task", 8),
         "queue_state": ("QueueState", 8), "queue_cause": ("QueueCause", 8),
         "fatal_cause": ("FatalCause", 8), "inject": ("Inject", 8), "counter": ("Counter", 8)}
MASKS = {"desc_flag": ("flag", 8), "feature": ("feature", 64)}


def pascal(name):
    return "".join(word.capitalize() for word in name.split("_"))


def constants(rows, kind="std::uint32_t"):
    return "".join(f"inline constexpr {kind} k{pascal(name)} = {value};\n"
                   for name, value in rows)


def enum(name, bits, rows):
    body = ", ".join(f"{n} = {v}" for n, v, *_ in rows)
    return f"enum class {name} : {INTEGERS[bits]} {{ {body} }};\n"


def codes(s):
    text = enum("Opcode", 8, [(o["name"], o["value"]) for o in s["opcode"]])
    for name, (title, bits) in ENUMS.items():
        text += enum(title, bits, s["enum"][name]["values"])
    names = [n for n, *_ in s["enum"]["counter"]["values"]]
    text += ("// By number.\ninline constexpr std::array<std::string_view, "
             f"{len(names)}> kCounterNames{{{{" + ", ".join(f'"{n}"' for n in names) + "}};\n")
    for name, (space, bits) in MASKS.items():
        rows = [(n, f"{v}U") for n, v, _ in s["enum"][name]["values"]]
        text += f"namespace {space} {{\n{constants(rows, INTEGERS[bits])}}}\n"
    for name in ("codec", "dtype", "kind"):
        rows = [(n, v) for n, v, _ in s["enum"][name]["values"]]
        text += f"namespace {name} {{\n{constants(rows, INTEGERS[8])}}}\n"
    return text


def windows(s):
    rows = [("bar0_bytes", f"{s['bar0']['bytes']:#x}")]
    for w in s["window"]:
        rows.append((f"{w['name']}_window", f"{w['offset']:#x}"))
        if "stride" in w:
            rows.append((f"{w['name']}_stride", f"{w['stride']:#x}"))
    return constants(rows)


def registers(s):
    text = ""
    for w in s["window"]:
        rows = [r for r in s["register"] if r["window"] == w["name"]]
        if not rows:
            continue
        text += f"namespace {w['name']} {{\n"
        for r in rows:
            text += constants([(r["name"], f"{r['offset']:#x}")])
            if "reset" in r:
                text += constants([(r["name"] + "_reset", f"{r['reset']:#x}")])
            for f in r.get("fields", []):
                high, low = f["bits"]
                text += (f"inline constexpr Field k{pascal(r['name'])}{pascal(f['name'])}"
                         f"{{{low}, {high - low + 1}}};\n")
        text += "}\n"
    return text


def structure(name, fields, size, doc):
    """A struct with every field, and its way from and to little-endian bytes. A field that
    is 0 is not written, because another may lie in the same place. Bytes of no field are
    kept in reserved members, named after their place."""
    covered = {at for f in fields for at in range(f["offset"], f["offset"] + f["width"] // 8)}
    gaps = [at for at in range(size) if at not in covered and (at == 0 or at - 1 in covered)]
    for first in gaps:
        bytes_ = next(n for n in range(1, 9) if first + n == size or first + n in covered)
        fields = fields + [{"name": f"reserved{first}", "offset": first, "width": 8 * bytes_}]
    text = f"// {doc}\nstruct {name} {{\n"
    text += f"  static constexpr std::size_t kBytes = {size};\n"
    text += "".join(f"  {INTEGERS[f['width']]} {f['name']} = 0;\n" for f in fields)
    text += f"  bool operator==(const {name}&) const = default;\n"
    text += f"  static {name} load(const std::byte* from) noexcept {{\n    {name} d;\n"
    text += "".join(f"    d.{f['name']} = load_le<{INTEGERS[f['width']]}>(from + {f['offset']});\n"
                    for f in fields)
    text += "    return d;\n  }\n"
    text += "  void store(std::byte* to) const noexcept {\n    std::memset(to, 0, kBytes);\n"
    text += "".join(f"    if ({f['name']} != 0) store_le(to + {f['offset']}, {f['name']});\n"
                    for f in fields)
    return text + "  }\n};\n"


def mask_tables(s):
    opcodes, flags = masks(s)
    by_value = {o["value"]: opcodes[o["name"]] for o in s["opcode"]}

    def row(words):
        return "{" + ", ".join(f"{w:#x}" for w in words) + "}"

    text = "using Mask = std::array<std::uint64_t, 8>;\n"
    text += "// By opcode; an opcode that does not exist has no bits at all.\n"
    text += f"inline constexpr std::array<Mask, {max(by_value) + 1}> kMasks{{{{\n"
    text += "".join(f"    {row(by_value.get(v, [0] * 8))},\n" for v in range(max(by_value) + 1))
    text += "}};\n"
    for name, words in flags.items():
        text += f"inline constexpr Mask kMask{pascal(name)}{row(words)};\n"
    return text


def address(s):
    text, at = "namespace address {\n", 0
    for name, width in s["address"]["fields"]:
        text += f"inline constexpr Field k{pascal(name)}{{{at}, {width}}};\n"
        at += width
    return text + f"inline constexpr unsigned kBits = {at};\n}}\n"


def header(origin, name, what, body, includes):
    lines = "".join(f"#include {i}\n" if i else "\n" for i in includes)
    return (f"// clang-format off\n// {origin}\n"
            f"// engine/{name} -- {what} (docs/queue-protocol.md).\n#pragma once\n\n{lines}\n"
            f"namespace speckv::engine {{\n\n{body}\n}}  // namespace speckv::engine\n")


def contract_codes(s, origin):
    c = s["contract"]
    text = constants([("contract_id", f"{c['id']:#x}"), ("contract_major", c["major"]),
                      ("contract_minor", c["minor"]), ("vectors", s["pci"]["vectors"])])
    text += constants((f"max_{name}", value) for name, value in s["limits"].items())
    text += constants((f"score_{name}", value) for name, value in s["score"].items())
    return header(origin, "codes.hpp", "identity, limits and numbers with a meaning",
                  text + "\n" + codes(s),
                  ["<array>", "<cstdint>", "<string_view>"])


FIELD = """// Bits of a register, of an address or of a word in memory.
struct Field {
  unsigned low = 0, width = 0;
  constexpr std::uint64_t mask() const noexcept {
    return (width == 64 ? 0 : 1ULL << width) - 1;
  }
  constexpr std::uint64_t get(std::uint64_t word) const noexcept {
    return (word >> low) & mask();
  }
  constexpr std::uint64_t put(std::uint64_t value) const noexcept {
    return (value & mask()) << low;
  }
};

"""


def contract_bar0(s, origin):
    body = FIELD + windows(s) + "\n" + registers(s) + "\n" + address(s)
    return header(origin, "bar0.hpp", "where the registers lie, and their fields", body,
                  ["<cstdint>"])


STRUCTURES = ["<array>", "<cstddef>", "<cstdint>", "<cstring>", "", '"base/endian.hpp"']


def contract_descriptor(s, origin):
    text = structure("Descriptor", s["descriptor"]["field"], s["descriptor"]["bytes"],
                     "One unit of work. Which fields count is decided by the opcode.") + "\n"
    text += mask_tables(s) + "\n"
    text += structure("CompletionEntry", s["completion"]["field"], s["completion"]["bytes"],
                      "Its answer. status: bit 0 is the phase, the others an Answer.")
    text += "namespace completion {\n"
    for f in s["completion"]["field"]:
        for bits in f.get("fields", []):
            high, low = bits["bits"]
            text += (f"inline constexpr Field k{pascal(f['name'])}{pascal(bits['name'])}"
                     f"{{{low}, {high - low + 1}}};\n")
    return header(origin, "descriptor.hpp", "what is asked of a card, and its answer",
                  text + "}\n", STRUCTURES + ['"engine/bar0.hpp"'])


def contract_records(s, origin):
    body = "\n".join(structure(pascal(r["name"]), record_fields(r), r["bytes"], r["doc"])
                     for r in s["record"])
    return header(origin, "records.hpp", "what a card writes when asked for a report", body,
                  STRUCTURES[1:])
