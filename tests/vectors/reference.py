#!/usr/bin/env python3
"""A second implementation of the codecs and frames, on exact fractions.

Written from docs/block-format.md, so slow and so plain that it can be read against it. It
checks the vectors in this folder; it changes them only when asked by name.

    reference.py                  compare every file, exit 1 at a difference
    reference.py --write FILE...  recompute what follows from the inputs in FILE
"""

import collections
import math
import pathlib
import struct
import sys
from fractions import Fraction

import hx_reference
import hxp_reference
import rt_reference

HERE = pathlib.Path(__file__).parent
FORMATS = {"f16": (10, 15), "bf16": (7, 127)}
CODECS = {"raw": 1, "int8": 2, "int8_delta_rle": 3, "kvq4": 4, "lossless": 5,
          "rt44": 6, "rt43": 7, "rt33": 8, "rt32": 9, "hx5120": 10, "hx4608": 11, "hx4096": 12,
          "hx3584": 13, "hx3072": 14, "hxp5120": 15, "hxp4096": 16, "hxp3360": 17}
WIDTHS = {"f16": 2, "bf16": 2, "f32": 4, "f8e4m3": 1}


class Number:
    """One 16-bit floating-point format."""

    def __init__(self, dtype):
        self.mantissa, self.bias = FORMATS[dtype]
        self.infinity = 0x7FFF >> self.mantissa << self.mantissa
        self.unit = Fraction(2) ** (1 - self.bias - self.mantissa)

    def value(self, bits):
        biased = (bits & 0x7FFF) >> self.mantissa
        fraction = bits & ((1 << self.mantissa) - 1)
        if biased:
            fraction += 1 << self.mantissa
        size = fraction * self.unit * 2 ** max(biased - 1, 0)
        return -size if bits & 0x8000 else size

    def spacing(self, size):
        """Of the numbers around a magnitude."""
        spacing = self.unit
        while size >= spacing * 2 ** (self.mantissa + 1):
            spacing *= 2
        return spacing

    def bits(self, value, rounding=round):
        """Nearest even, or up with math.ceil; saturates; zero is positive."""
        size = abs(value)
        size = rounding(size / self.spacing(size)) * self.spacing(size)
        steps, exponent = size / self.unit, 0
        while steps >= 2 ** (self.mantissa + 1):
            steps, exponent = steps / 2, exponent + 1
        bits = min((exponent << self.mantissa) + int(steps), self.infinity - 1)
        return bits | (0x8000 if value < 0 and bits else 0)

    def inverse(self, scale):
        """1 / scale to 13 significant bits."""
        value, shift = 1 / self.value(scale), Fraction(1)
        while value * shift < 4096:
            shift *= 2
        while value * shift >= 8192:
            shift /= 2
        return round(value * shift) / shift


def padded(data):
    return data + bytes(-len(data) % 64)


def units(layout, plain):
    """(is K, its rows of bit patterns) of every unit."""
    row, rows = layout["dim"], layout["tokens"]
    words = struct.unpack(f"<{len(plain) // 2}H", plain)
    for at in range(0, len(words), row * rows):
        is_key = layout["kind"] == "kv" and at < layout["heads"] * row * rows
        yield is_key, [words[at + t * row : at + (t + 1) * row] for t in range(rows)]


def int8_row(number, row):
    amax = max(number.value(b & 0x7FFF) for b in row)
    scale = number.bits(amax / 127)
    if scale < 1 << number.mantissa:
        scale = number.bits(amax / 127, math.ceil)
    if scale == 0:
        return 0, [0] * len(row), [0] * len(row)
    inverse = number.inverse(scale)
    steps = [max(-127, min(127, round(number.value(b) * inverse))) for b in row]
    return scale, steps, [number.bits(q * number.value(scale)) for q in steps]


def int8(number, layout, plain):
    encoded, decoded = b"", []
    for _, rows in units(layout, plain):
        done = [int8_row(number, row) for row in rows]
        encoded += padded(b"".join(struct.pack("<H", scale) for scale, _, _ in done))
        encoded += padded(b"".join(struct.pack(f"{len(q)}b", *q) for _, q, _ in done))
        decoded += [bits for _, _, row in done for bits in row]
    return encoded, decoded


def pairs(differences):
    out, at = b"", 0
    while at < len(differences):
        end = at + 1
        while end < len(differences) and end - at < 255 and differences[end] == differences[at]:
            end += 1
        out += bytes([differences[at], end - at])
        at = end
    return out


def int8_delta_rle(number, layout, plain):
    lengths, body, decoded = [], b"", []
    for _, rows in units(layout, plain):
        scales, sizes, data = b"", b"", b""
        for row in rows:
            scale, steps, values = int8_row(number, row)
            differences = bytes((b - a) % 256 for a, b in zip([0] + steps, steps))
            packed = pairs(differences)
            packed = packed if len(packed) < len(row) else differences
            scales += struct.pack("<H", scale)
            sizes += struct.pack("<H", len(packed))
            data += packed
            decoded += values
        lengths.append(len(padded(scales + sizes + data)))
        body += padded(scales + sizes + data)
    return padded(struct.pack(f"<{len(lengths)}I", *lengths)) + body, decoded


def group(number, bits):
    values = [number.value(b) for b in bits]
    low, high = min(values), max(values)
    scale = number.bits((high - low) / 15, math.ceil)
    least = number.bits(number.spacing(max(abs(low), abs(high))))
    scale = max(scale, least)
    inverse = number.inverse(scale)
    zero = -round(low * inverse)
    steps = [max(0, min(15, round(v * inverse) + zero)) for v in values]
    decoded = [number.bits((q - zero) * number.value(scale)) for q in steps]
    return struct.pack("<Hh", scale, zero), steps, decoded


def kvq4(number, layout, plain):
    encoded, decoded, _, _ = kvq4_planes(number, layout, plain)
    return encoded, decoded


def both_planes(number, layout, plain):
    """kvq4's layer and the second plane behind it; values from both."""
    first, _, second, decoded = kvq4_planes(number, layout, plain)
    return first + second, decoded


def rests(number, head, bits, steps):
    """The second nibbles of a group, and its values from both."""
    scale, zero = struct.unpack("<Hh", head)
    inverse, size = number.inverse(scale), number.value(scale)
    second, values = [], []
    for b, q in zip(bits, steps):
        parts = 16 * (q - zero)
        second.append(max(0, min(15, round(16 * number.value(b) * inverse) - parts + 8)))
        values.append(number.bits((parts + second[-1] - 8) * size / 16))
    return second, values


def kvq4_planes(number, layout, plain):
    """(first plane, values from it, second plane, values from both)"""
    width = layout["dim"] if layout["dim"] <= 256 else 64
    first, coarse, second, fine = b"", [], b"", []

    def rows_of(parts, is_key):
        if is_key:
            return [v for row in zip(*parts) for v in row]
        return [v for part in parts for v in part]

    def packed(nibbles):
        return padded(bytes(a | b << 4 for a, b in zip(nibbles[::2], nibbles[1::2])))

    for is_key, rows in units(layout, plain):
        parts = [list(column) for column in zip(*rows)] if is_key else [
            row[i : i + width] for row in rows for i in range(0, len(row), width)]
        groups = [group(number, part) for part in parts]
        more = [rests(number, g[0], part, g[1]) for g, part in zip(groups, parts)]
        first += padded(b"".join(g[0] for g in groups))
        first += packed(rows_of([g[1] for g in groups], is_key))
        coarse += rows_of([g[2] for g in groups], is_key)
        second += packed(rows_of([m[0] for m in more], is_key))
        fine += rows_of([m[1] for m in more], is_key)
    return first, coarse, second, fine


def code_lengths(counts, most):
    """Package-merge: the lengths of an optimal code of at most `most` bits, by symbol."""
    leaves = sorted((count, (symbol,)) for symbol, count in counts.items())
    items = []
    for _ in range(most):
        pairs = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(items[::2], items[1::2])]
        items = sorted(leaves + pairs, key=lambda item: item[0])  # stable: leaves first
    return collections.Counter(s for item in items[: 2 * len(leaves) - 2] for s in item[1])


def canonical(lengths):
    """The codes as texts of bits."""
    codes, value, last = {}, 0, 0
    for symbol in sorted(lengths, key=lambda s: (lengths[s], s)):
        value <<= lengths[symbol] - last
        last = lengths[symbol]
        codes[symbol] = f"{value:0{last}b}"
        value += 1
    return codes


def pack_bits(text):
    """Bytes from the lowest bit up."""
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8][::-1], 2) for at in range(0, len(text), 8))


def plane(rows):
    """One byte of every value of a unit: (descriptor, part)."""
    counts = collections.Counter(b for row in rows for b in row)
    raw = b"".join(rows)
    if len(counts) == 1:
        return struct.pack("<BBHI", 1, raw[0], 0, 0), b""
    lengths = code_lengths(counts, 11)
    codes = canonical(lengths)
    streams = [pack_bits("".join(codes[b] for row in rows[i::4] for b in row)) for i in range(4)]
    head = bytes(lengths[s] | lengths[s + 1] << 4 for s in range(0, 256, 2))
    part = head + struct.pack("<4I", *map(len, streams)) + b"".join(streams)
    if len(part) >= len(raw):
        return struct.pack("<BBHI", 0, 0, 0, len(raw)), raw
    return struct.pack("<BBHI", 2, 0, 0, len(part)), part


def lossless(layout, plain):
    width = WIDTHS[layout["dtype"]]
    bits, row, size = 8 * width, layout["dim"] * width, layout["dim"] * width * layout["tokens"]
    entries, body, units = b"", b"", len(plain) // size
    first = len(padded(bytes(8 * units)))
    for at in range(0, len(plain), size):
        rows = []
        for start in range(at, at + size, row):
            values = [int.from_bytes(plain[i : i + width], "little")
                      for i in range(start, start + row, width)]
            rows.append([(v << 1 | v >> (bits - 1)) % 2**bits for v in values])
        planes = [plane([bytes(v >> shift & 255 for v in row) for row in rows])
                  for shift in range(bits - 8, -1, -8)]
        unit = padded(b"".join(p[0] for p in planes) + b"".join(p[1] for p in planes))
        body += unit
        entries += struct.pack("<II", first + len(body), crc32c(unit))
    return padded(entries) + body


def code(name, layout, plain, profile=None, layer=0, position=None):
    """One layer: (encoded bytes, decoded bytes)."""
    if name in ("raw", "lossless"):
        return lossless(layout, plain) if name == "lossless" else plain, plain
    number = Number(layout["dtype"])
    if name in rt_reference.RATES:
        encoded, decoded = rt_reference.code(name, number, units(layout, plain), crc32c)
    elif name in hx_reference.SLOTS:
        encoded, decoded = hx_reference.code(name, number, units(layout, plain), crc32c)
    elif name in hxp_reference.TARGETS:
        encoded, decoded = hxp_reference.code(name, number, units(layout, plain), crc32c, profile,
                                              layer, position)
    else:
        codec = {"int8": int8, "int8_delta_rle": int8_delta_rle, "kvq4": kvq4,
                 "kvq4_planes": both_planes}[name]
        encoded, decoded = codec(number, layout, plain)
    return encoded, struct.pack(f"<{len(decoded)}H", *decoded)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def checks(name, layout, encoded):
    """What a frame of version 2 has behind a layer: checksums of units that have none of their own."""
    count = layout["heads"] * (2 if layout["kind"] == "kv" else 1)
    if name == "int8":
        sizes = [len(encoded) // count] * count
    elif name == "int8_delta_rle":
        sizes = struct.unpack_from(f"<{count}I", encoded)
    elif name == "kvq4":
        tokens, dim = layout["tokens"], layout["dim"]
        rows = tokens * (dim // 64 if dim > 256 else 1)
        groups = [dim] * (count - layout["heads"]) + [rows] * layout["heads"]
        sizes = [len(padded(bytes(4 * g))) + len(padded(bytes(tokens * dim // 2))) for g in groups]
    else:
        return b""
    ends = [len(encoded) - sum(sizes[i + 1 :]) for i in range(count)]
    return padded(b"".join(struct.pack("<I", crc32c(encoded[end - size : end]))
                           for end, size in zip(ends, sizes)))


def frame(case):
    """The whole frame of a case whose codec is a list, one a layer."""
    layout, plain = case["layout"], case["plain"]
    names = case["codec"].split(",")
    size = len(plain) // len(names)
    entries, body, decoded, version = b"", b"", b"", 1
    for index, name in enumerate(names):
        part, values = code(name, layout, plain[index * size : (index + 1) * size])
        lines = checks(name, layout, part) if "version" not in case else b""
        version = 2 if lines else version
        entries += struct.pack("<IIHHI", len(part), crc32c(part), CODECS[name], len(lines) // 64,
                               crc32c(lines) if lines else 0)
        body += padded(part) + lines
        decoded += values
    header = padded(bytes(48) + entries)
    fixed = struct.pack("<IHHQQQQI", 0x424B5653, version, len(names), case["key"] >> 64,
                        case["key"] % 2**64, len(plain), len(header) + len(body),
                        case["position"])
    header = fixed + bytes(4) + header[48:]
    header = fixed + struct.pack("<I", crc32c(header)) + header[48:]
    return header + body, decoded


# ---- Files: "word rest" lines; hexadecimal lines follow plain, encoded and decoded --------


def read(path):
    cases, field = [], None
    for line in path.read_text(encoding="ascii").splitlines():
        word, _, rest = line.partition(" ")
        if not line or word == "#":
            continue
        if word == "case":
            cases.append({"case": rest})
        elif word == "layout":
            parts = dict(part.split("=") for part in rest.split())
            cases[-1]["layout"] = {
                k: v if k in ("dtype", "kind") else int(v) for k, v in parts.items()
            }
        elif word == "key":
            cases[-1]["key"] = int(rest, 16)
        elif word in ("position", "version"):
            cases[-1][word] = int(rest)
        elif word == "codec":
            cases[-1]["codec"] = rest
        elif word == "layer":
            cases[-1]["layer"] = int(rest)
        elif word in ("profile", "plain", "encoded", "decoded"):
            field = word
            cases[-1][field] = b""
        else:
            cases[-1][field] += bytes.fromhex(line)
    return cases


def expected(case):
    if "key" in case:
        return frame(case)
    return code(case["codec"], case["layout"], case["plain"], case.get("profile"),
                case.get("layer", 0), case.get("position"))


def write(path, cases):
    comment = [line for line in path.read_text(encoding="ascii").splitlines() if line[:1] == "#"]
    lines = comment
    for case in cases:
        case["encoded"], case["decoded"] = expected(case)
        lines += ["", f"case {case['case']}", f"codec {case['codec']}"]
        lines.append("layout " + " ".join(f"{k}={v}" for k, v in case["layout"].items()))
        if "key" in case:
            lines.append(f"key {case['key']:032x}")
        lines += [f"{word} {case[word]}" for word in ("layer", "position", "version") if word in case]
        for field in ("profile", "plain", "encoded", "decoded"):
            if field not in case:
                continue
            lines.append(field)
            data = case[field].hex()
            lines += [data[at : at + 96] for at in range(0, len(data), 96)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def main(arguments):
    if arguments[:1] == ["--write"] and len(arguments) > 1:
        for name in arguments[1:]:
            write(HERE / name, read(HERE / name))
            print(f"{name}: written; look at what changed before you commit it")
        return 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    wrong = 0
    for path in sorted(HERE.glob("codec_*.txt")):
        for case in read(path):
            good = expected(case) == (case["encoded"], case["decoded"])
            wrong += not good
            print(f"{path.name} {case['case']}: {'ok' if good else 'DIFFERS'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
