"""rt once more, from docs/block-format.md: for reference.py."""

import struct
from fractions import Fraction

SIGNIFICAND = [round(2 ** (i / 16) * 1024) for i in range(16)]
SIGNS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63)
RATES = {"rt44": (4, 4), "rt43": (4, 3), "rt33": (3, 3), "rt32": (3, 2)}
# rate: 16 log2 of eight times the root mean square they fit, and the levels
LEVELS = {
    2: (145, (-125, -72, -41, -13, 13, 41, 72, 125)),
    3: (139, (-127, -92, -69, -53, -39, -28, -16, -6, 6, 16, 28, 39, 53, 69, 92, 127)),
    4: (133, (-127, -105, -90, -79, -69, -62, -55, -48, -42, -36, -30, -25, -19, -14, -8, -3, 3, 8, 14, 19, 25, 30, 36, 42, 48, 55, 62, 69, 79, 90, 105, 127)),
}


def power(log):
    return SIGNIFICAND[log % 16] * Fraction(2) ** (log // 16 - 10)


def log2_of(value):
    value = max(value, 1)
    octave = value.bit_length() - 1
    cut = value >> (octave - 10) if octave >= 10 else value << (10 - octave)
    return 16 * octave + max(i for i, s in enumerate(SIGNIFICAND) if s <= cut)


def turned(channel):
    return SIGNS[channel // 64 % 4] >> channel % 64 & 1


def block_of(channels):
    return min(channels & -channels, 256)


def hadamard(row, block):
    row = list(row)
    half = 1
    while half < block:
        for i in range(len(row)):
            if not i & half:
                row[i], row[i + half] = row[i] + row[i + half], row[i] - row[i + half]
        half *= 2
    return row


def padded(data):
    return data + bytes(-len(data) % 64)


def subset(state, now):
    """state: the last three trellis bits, the latest lowest."""
    return ((now ^ state ^ state >> 2) & 1) << 1 | (state >> 1 & 1)


def trellis(values, rate):
    """The best path: (trellis bits, level numbers within their subsets)."""
    levels = LEVELS[rate][1]
    cost = [0] + [8192] * 7
    back = []
    for at, value in enumerate(values):
        best = []
        for s in range(4):
            of = [8 * x for x in levels[s::4]]
            f = sum(value > (a + b) // 2 for a, b in zip(of, of[1:]))
            best.append((min(abs(value - of[f]) >> (4 - rate), 255) ** 2 >> 5, f))
        following, step = [], []
        for s in range(8):
            first, second = s >> 1, s >> 1 | 4
            a = cost[first] + best[subset(first, s & 1)][0]
            b = cost[second] + best[subset(second, s & 1)][0]
            before = second if b < a else first
            following.append(min(a, b))
            step.append((before, best[subset(before, s & 1)][1]))
        cost = following
        back.append(step)
        if at % 16 == 15:
            cost = [c - min(cost) for c in cost]
    state = cost.index(min(cost))
    bits, numbers = [], []
    for step in reversed(back):
        bits.append(state & 1)
        numbers.append(step[state][1])
        state = step[state][0]
    return bits[::-1], numbers[::-1]


def pack(bits):
    return bytes(sum(b << i for i, b in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))


def encode(number, rows, keys, rate):
    tokens, channels = len(rows), len(rows[0])
    most = max(b & 0x7FFF for row in rows for b in row)
    top = max(most >> number.mantissa, 1)
    exponent = top - 1 + (1 - number.bias - number.mantissa) - (17 - number.mantissa)
    unit = Fraction(2) ** exponent
    fixed = []
    for row in rows:
        sizes = [int(abs(number.value(b)) / unit + Fraction(1, 2)) for b in row]
        fixed.append([-s if b & 0x8000 else s for s, b in zip(sizes, row)])
    means, weights = [0] * channels, [0] * channels
    if keys:
        means = [(sum(column) + tokens // 2) // tokens for column in zip(*fixed)]
        fixed = [[x - m for x, m in zip(row, means)] for row in fixed]
        logs = [log2_of(sum(x * x for x in column)) for column in zip(*fixed)]
        weights = [max(-8, min(7, (n - sum(logs) // channels + 8) >> 4)) for n in logs]
    block = block_of(channels)
    coefficients = []
    for row in fixed:
        done = []
        for c, x in enumerate(row):
            log = -4 * weights[c]
            down = 10 - log // 16
            factor = SIGNIFICAND[log % 16] * (-1 if turned(c) else 1)
            done.append((x * factor + (1 << (down - 1))) >> down)
        coefficients.append(hadamard(done, block))
    shift = max(0, max(abs(y) for row in coefficients for y in row).bit_length() - 19)
    coefficients = [[y >> shift for y in row] for row in coefficients]
    energies = [sum(y * y for y in row) for row in coefficients]
    rms = [(log2_of(e) - log2_of(channels)) >> 1 if e else None for e in energies]
    top = max((r for r in rms if r is not None), default=0)
    log, levels = LEVELS[rate]
    halved = 1 if block == 256 else 0
    base = 49 - log + 16 * (shift + exponent - (block.bit_length() - 1) + halved)
    while True:
        steps = [Fraction(m) * unit / power(base + top + 4 * w) for m, w in zip(means, weights)]
        zeros = [(s + Fraction(1, 2)).__floor__() for s in steps]
        if not keys or max(map(abs, zeros)) <= 4095:
            break
        top += 16
    out = struct.pack("<Hh", 1, base + top) + bytes(56)
    if keys:
        out += padded(bytes(a & 15 | (b & 15) << 4 for a, b in zip(weights[::2], weights[1::2])))
        out += padded(struct.pack(f"<{channels}h", *zeros))
    gains = [255 if r is None else min(top - r, 254) for r in rms]
    body = b""
    for row, e in zip(coefficients, gains):
        scale = 0 if e == 255 else power(log - top + e)
        values = [max(-1280, min(1280, (y * scale + Fraction(1, 2)).__floor__())) for y in row]
        bits, numbers = trellis(values, rate)
        body += pack(bits) + b"".join(pack([n >> j & 1 for n in numbers]) for j in range(rate - 1))
    return out + padded(bytes(gains)) + padded(body)


def decode(number, data, tokens, channels, keys, rate):
    """data: the unit behind its checksum; the rows' bits."""
    scale = struct.unpack_from("<h", data, 2)[0]
    at, zeros, weights = 60, [0] * channels, [0] * channels
    if keys:
        nibbles = [b >> s & 15 for b in data[at : at + channels // 2] for s in (0, 4)]
        weights = [n - 16 if n > 7 else n for n in nibbles]
        at += len(padded(bytes(channels // 2)))
        zeros = struct.unpack_from(f"<{channels}h", data, at)
        at += len(padded(bytes(channels * 2)))
    gains = data[at : at + tokens]
    at += len(padded(gains))
    levels, block = LEVELS[rate][1], block_of(channels)
    out = []
    for token in range(tokens):
        row = data[at : at + channels // 8 * rate]
        at += len(row)
        planes = [[b >> i & 1 for b in row[j * channels // 8 : (j + 1) * channels // 8]
                   for i in range(8)] for j in range(rate)]
        state, values = 0, []
        for c in range(channels):
            f = sum(planes[j][c] << (j - 1) for j in range(1, rate))
            values.append(levels[4 * f + subset(state, planes[0][c])])
            state = (state << 1 | planes[0][c]) & 7
        values = hadamard(values, block)
        if block == 256:
            values = [(v + 1) >> 1 for v in values]
        e = gains[token]
        gain = 0 if e == 255 else SIGNIFICAND[15 - e % 16] << 4 >> e // 16
        for c, v in enumerate(values):
            v = -v if turned(c) else v
            if keys:
                v, step = ((v * gain + 16384) >> 15) + zeros[c], power(scale + 4 * weights[c])
            else:
                v, step = 0 if e == 255 else v, power(scale - e - 1)
            out.append(number.bits(max(-8191, min(8191, v)) * step))
    return out


def code(name, number, units, crc32c):
    """units: (is K, rows of bits) each; (encoded bytes, decoded bits)."""
    encoded, decoded = b"", []
    for keys, rows in units:
        rate = RATES[name][0 if keys else 1]
        data = encode(number, rows, keys, rate)
        encoded += struct.pack("<I", crc32c(data)) + data
        decoded += decode(number, data, len(rows), len(rows[0]), keys, rate)
    return encoded, decoded
