"""hxp once more, from docs/block-format.md and docs/profile-format.md: for reference.py."""

import math
import struct
from fractions import Fraction

import hx_reference as hx
from rt_reference import log2_of

TARGETS = {"hxp5120": 5120, "hxp4096": 4096, "hxp3360": 3360}
SINES = [round(32768 * math.sin(2 * math.pi * i / 1024)) for i in range(1025)]


def half_up(n, shift):
    """n * 2^shift, rounded half up."""
    return (Fraction(n) * Fraction(2) ** shift + Fraction(1, 2)).__floor__()


def within(n, least, most):
    return max(least, min(most, n))


class Profile:
    def __init__(self, data, crc32c):
        (magic, version, self.head_crc, size, self.body_crc, self.layers, self.heads, self.dim,
         self.pairs, targets, _, _, _, _, _) = struct.unpack_from("<QIIQIHHHHHHQQII", data)
        assert magic == 0x464F52504B565053 and version == 1 and size == len(data)
        assert crc32c(data[:12] + bytes(4) + data[16:64]) == self.head_crc
        assert crc32c(data[64:]) == self.body_crc
        count = self.layers * 2 * self.heads
        self.at, self.data = 64, data
        self.frequencies = self.take("I", self.pairs)
        self.targets = self.take("H", targets)
        self.slots = [list(part) for part in self.cut(self.take("H", targets * count), count)]
        self.steps = self.cut(self.take("b", count * self.dim), self.dim)
        self.means = self.cut(self.take("H", count * self.dim), self.dim)
        self.exponents = self.cut(self.take("b", count * 4), 4)
        self.weights = self.cut(self.take("h", count * (4 + 2 * self.dim)), 4 + 2 * self.dim)
        assert self.at == len(data)

    def take(self, kind, count):
        part = struct.unpack_from(f"<{count}{kind}", self.data, self.at)
        self.at += (struct.calcsize(f"<{count}{kind}") + 63) // 64 * 64
        return part

    @staticmethod
    def cut(numbers, width):
        return [numbers[i : i + width] for i in range(0, len(numbers), width)]

    def slot(self, target, index):
        return self.slots[self.targets.index(target)][index] if target in self.targets else target


def sine(phase):
    phase %= 2**32
    i, rest = phase >> 22, phase >> 6 & 0xFFFF
    return SINES[i] + half_up((SINES[i + 1] - SINES[i]) * rest, -16)


def mean_in_units(bits):
    """An f16 in multiples of 2^-18, half away from zero."""
    size = Fraction(bits & 0x3FF) + (1024 if bits & 0x7C00 else 0)
    size *= Fraction(2) ** (max(bits >> 10 & 31, 1) - 25 + 18)
    size = min((size + Fraction(1, 2)).__floor__(), 2**30)
    return -size if bits & 0x8000 else size


class Place:
    """One head's K or V at a position."""

    def __init__(self, profile, layer, value, head, position, crc32c):
        index = (layer * 2 + value) * profile.heads + head
        self.profile, self.keys, self.position = profile, not value, position
        self.steps = profile.steps[index]
        self.exponents, self.weights = profile.exponents[index], profile.weights[index]
        self.means = [mean_in_units(bits) for bits in profile.means[index]]
        self.binding = crc32c(struct.pack("<4I", profile.body_crc, layer, 2 * head + value, position))

    def offsets(self, token):
        if not self.keys:
            return self.means
        out, pairs = list(self.means), self.profile.pairs
        for i in range(pairs):
            phase = (self.position + token) * self.profile.frequencies[i]
            cos, sin = sine(phase + 2**30), sine(phase)
            a, b = self.means[i], self.means[pairs + i]
            out[i] = half_up(a * cos - b * sin, -15)
            out[pairs + i] = half_up(b * cos + a * sin, -15)
        return out

    def log(self, s, channel, gain):
        return s + 4 * self.steps[channel] - 22 * gain


def offset_steps(offset, log):
    by = hx.inverse(log)  # a whole number over a power of two, or such a number
    n = (2 * offset * by.numerator + 2**18 * by.denominator) // (2**19 * by.denominator)
    return within(n, -8191, 8191)


def fixed(number, rows):
    """(fixed-point values, exponent of their unit)."""
    most = max(b & 0x7FFF for row in rows for b in row)
    top = max(most >> number.mantissa, 1)
    exponent = top - 1 + (1 - number.bias - number.mantissa) - (17 - number.mantissa)
    unit = Fraction(2) ** exponent
    sizes = [[int(abs(number.value(b)) / unit + Fraction(1, 2)) for b in row] for row in rows]
    return [[-s if b & 0x8000 else s for s, b in zip(*both)] for both in zip(sizes, rows)], exponent


def predict(place, keys, values):
    """Gains of the tokens; keys, values: (fixed-point rows, exponent)."""
    (ks, ku), (vs, vu), w, e = keys, values, place.weights, place.exponents
    d, most = len(ks[0]), 2**40
    found = []
    for k, v in zip(ks, vs):
        size_k = log2_of(sum(x * x for x in k)) + 32 * ku
        size_v = log2_of(sum(x * x for x in v)) + 32 * vu
        terms = (half_up(w[0] * size_v + w[1] * size_k, e[0]), half_up(w[2] * size_v**2, e[1]),
                 half_up(sum(a * x for a, x in zip(w[4 : 4 + d], k)), e[2] + ku),
                 half_up(sum(a * x for a, x in zip(w[4 + d :], v)), e[3] + vu))
        found.append(sum(within(term, -most, most) for term in terms))
    mean = sum(found) // len(found)
    return [within(8 + (p - mean) // 5632, 0, 15) for p in found]


class Encoder:
    def __init__(self, number, place, rows, other, room):
        self.place, self.slot = place, room
        self.values = [[number.value(b) for b in row] for row in rows]
        own, twin = fixed(number, rows), fixed(number, other)
        self.tokens, self.channels = len(rows), len(rows[0])
        self.gains = predict(place, *((own, twin) if place.keys else (twin, own)))
        self.offsets = [place.offsets(t) for t in range(self.tokens)]
        self.head = 16 + self.channels // 2 + 2 + (self.tokens + 1) // 2
        self.head += 0 if place.keys else (self.tokens + 3) // 4
        self.head += self.head % 2
        self.compare(*own)

    def compare(self, fixed_rows, exponent):
        """Order, classes, their tables' offsets, and where to look for the step."""
        tokens, channels, place = self.tokens, self.channels, self.place
        away = [[y - within(half_up(m, -18 - exponent), -(2**20), 2**20)
                 for y, m in zip(row, means)] for row, means in zip(fixed_rows, self.offsets)]
        size = self.gains if place.keys else [
            log2_of(sum(z * z for z in row)) + 11 * g for row, g in zip(away, self.gains)]
        ranked = sorted(range(tokens), key=lambda t: (size[t], t))
        self.classes = [0] * tokens
        for at, t in enumerate(ranked):
            self.classes[t] = 4 * at // tokens
        self.order = ranked if place.keys else sorted(
            range(tokens), key=lambda t: (self.classes[t], t))
        self.count = [self.classes.count(v) for v in range(4)]
        finer = [[(z * hx.power(22 * g)).__floor__() for z in row]
                 for row, g in zip(away, self.gains)]
        logs = [sum(log2_of(sum(finer[t][c] ** 2 for t in range(tokens) if self.classes[t] == v))
                    - log2_of(self.count[v]) for c in range(channels)) for v in range(4)]
        mean = sum(logs) // 4
        self.tables = [within((10 * (a - mean) + 64 * channels) // (128 * channels), -8, 7)
                       for a in logs]
        self.guess = ((2 * mean - 4 * sum(place.steps)) // channels + 64 * exponent + 141
                      - (self.slot - self.head) * 512 // (channels * tokens))
        self.least = max(-12800, max(
            64 * (abs(y).bit_length() + exponent - 13) + 1 - place.log(0, c, g)
            for row, g in zip(fixed_rows, self.gains) for c, y in enumerate(row)))

    def choose(self, column):
        sizes = [0] * 4
        for t, x in zip(self.order, column):
            sizes[self.classes[t]] += abs(x)
        logs = [log2_of(s) - log2_of(n) + 29 if s else 0 for s, n in zip(sizes, self.count)]
        middle = within(sum(10 * a - 64 * o for a, o in zip(logs, self.tables)) + 128 >> 8, 0, 15)
        near = range(max(middle - 2, 0), min(middle + 2, 15) + 1)
        return min((sum(hx.cost(self.table(j, t), x) for t, x in zip(self.order, column)), j)
                   for j in near)[1]

    def table(self, j, token):
        return within(j + self.tables[self.classes[token]], 0, 15)

    def trial(self, s):
        """The unit behind its checksum, or None if it does not fit."""
        place, columns = self.place, []
        for c in range(self.channels):
            column = []
            for t in self.order:
                log = place.log(s, c, self.gains[t])
                n = round(self.values[t][c] * hx.inverse(log))
                column.append(n - offset_steps(self.offsets[t][c], log))
            columns.append(column)
        chosen = [self.choose(column) for column in columns]
        tables = [[self.table(j, t) for t in self.order] for j in chosen]
        words, escapes = lay_out(columns, tables)
        out = struct.pack("<BBhHHI", 1, 2, s, len(words) & 0xFFFF, len(escapes) & 0xFFFF,
                          place.binding)
        out += packed(chosen, 4) + packed([o & 15 for o in self.tables], 4)
        out += packed(self.gains, 4) + (b"" if place.keys else packed(self.classes, 2))
        out += bytes(self.head - 4 - len(out))
        out += struct.pack(f"<{len(words)}H{len(escapes)}h", *words, *escapes)
        return out + bytes(self.slot - 4 - len(out)) if len(out) + 4 <= self.slot else None

    run = hx.Encoder.run


def packed(numbers, bits):
    each, out = 8 // bits, []
    for at in range(0, len(numbers), each):
        out.append(sum(n << bits * i for i, n in enumerate(numbers[at : at + each])))
    return bytes(out)


def unpacked(data, count, bits):
    each = 8 // bits
    return [data[i // each] >> i % each * bits & (1 << bits) - 1 for i in range(count)]


def lay_out(columns, tables):
    """As in hx, with a table for each number."""
    lanes, escapes, asked, ahead = [""] * 16, [], [], [0] * 16
    for first in range(0, len(columns[0]), 16):
        for column, table in zip(columns, tables):
            for lane, (x, j) in enumerate(zip(column[first : first + 16], table[first:])):
                if ahead[lane] < hx.MOST[j]:
                    asked.append(lane)
                    ahead[lane] += 16
                bits = hx.bits_of(j, x)
                lanes[lane] += bits
                ahead[lane] -= len(bits)
                if hx.symbol_of(j, x) == hx.ESCAPE:
                    escapes.append(x)
    words, at = [], [0] * 16
    for lane in asked:
        word = lanes[lane][at[lane] : at[lane] + 16]
        at[lane] += 16
        words.append(sum(int(b) << i for i, b in enumerate(word)))
    return words, escapes


def decode(number, place, data, tokens, channels):
    _, _, s, word_count, escape_count, _ = struct.unpack_from("<BBhHHI", data)
    at = 12
    chosen = unpacked(data[at:], channels, 4)
    at += channels // 2
    offsets = [(o ^ 8) - 8 for o in unpacked(data[at:], 4, 4)]
    gains = unpacked(data[at + 2 :], tokens, 4)
    at += 2 + (tokens + 1) // 2
    rank = gains
    if not place.keys:
        rank = unpacked(data[at:], tokens, 2)
        at += (tokens + 3) // 4
    at += at % 2
    order = sorted(range(tokens), key=lambda t: (rank[t], t))
    words = iter(struct.unpack_from(f"<{word_count}H", data, at))
    escapes = iter(struct.unpack_from(f"<{escape_count}h", data, at + 2 * word_count))
    held, out = [""] * 16, [[0] * channels for _ in range(tokens)]
    means = [place.offsets(t) for t in range(tokens)]
    for first in range(0, tokens, 16):
        for c in range(channels):
            for lane, t in enumerate(order[first : first + 16]):
                which = 4 * (first + lane) // tokens if place.keys else rank[t]
                j = within(chosen[c] + offsets[which], 0, 15)
                raw, symbols = hx.TABLES[j][0], {bits: n for n, bits in hx.CODES[j].items()}
                if len(held[lane]) < hx.MOST[j]:
                    held[lane] += f"{next(words):016b}"[::-1]
                length = next(n for n in range(1, 8) if held[lane][:n] in symbols)
                symbol, low = symbols[held[lane][:length]], held[lane][length : length + raw]
                held[lane] = held[lane][length + raw :]
                x = (symbol - 15 << raw) + sum(int(b) << i for i, b in enumerate(low))
                x = next(escapes) if symbol == hx.ESCAPE else x
                log = place.log(s, c, gains[t])
                n = within(x + offset_steps(means[t][c], log), -8191, 8191)
                out[t][c] = number.bits(n * hx.power(log))
    return [bits for row in out for bits in row]


def code(name, number, units, crc32c, profile, layer, position):
    """units: (is K, rows of bits) each, K's first. profile: bytes, or None without a place."""
    units = list(units)
    model = Profile(profile, crc32c) if profile and position is not None else None
    directory = bytes((2 * len(units) + 15) // 16 * 16)
    slots, body, decoded = [], b"", []
    for u, (keys, rows) in enumerate(units):
        tokens, channels = len(rows), len(rows[0])
        rate = TARGETS[name]
        if model:
            value, head = divmod(u, model.heads)
            place = Place(model, layer, value, head, position, crc32c)
            rate = model.slot(rate, (layer * 2 + value) * model.heads + head)
        slot = max(tokens * channels * rate // 8192 // 64 * 64, 64)
        slots.append(slot // 64)
        room = slot - (0 if u else len(directory))
        if model:
            other = units[(u + model.heads) % len(units)][1]
            data = Encoder(number, place, rows, other, room).run()
            decoded += decode(number, place, data, tokens, channels)
        else:
            data = hx.Encoder(number, rows, keys, room).run()
            decoded += hx.decode(number, data, tokens, channels, keys)
        body += struct.pack("<I", crc32c(data)) + data
    head = struct.pack(f"<{len(slots)}H", *slots)
    return head + directory[len(head) :] + body, decoded
