"""hx once more, from docs/block-format.md: for reference.py."""

import functools
import struct
from fractions import Fraction

from rt_reference import log2_of

SIGNIFICAND = [round(2 ** (i / 64) * 1024) for i in range(64)]
SLOTS = {"hx5120": 5120, "hx4608": 4608, "hx4096": 4096, "hx3584": 3584, "hx3072": 3072}
ESCAPE = 31
# (raw bits, lengths of symbols 0 to 31)
TABLES = [(int(raw), [int(n) for n in lengths]) for raw, lengths in (line.split() for line in """
0 00000000000000312000000000000003
0 00000000000005312400000000000005
0 00000000000005312400000000000005
0 00000000000005312400000000000005
0 00000000000064222350000000000006
0 00000000000764222366000000000007
0 00000000007543323344600000000007
1 00000000000753222460000000000007
1 00000000007743223357000000000007
1 00000000075543323345770000000007
2 00000000000753222477000000000007
2 00000000076543223456600000000007
3 00000000000753222460000000000007
3 00000000007643223366000000000007
3 00000000076443323346770000000007
4 00000000007643223366000000000007""".strip().splitlines())]


def canonical(lengths):
    codes, value, last = {}, 0, 0
    for symbol in sorted((s for s in range(32) if lengths[s]), key=lambda s: (lengths[s], s)):
        value <<= lengths[symbol] - last
        last = lengths[symbol]
        codes[symbol] = f"{value:0{last}b}"
        value += 1
    return codes


CODES = [canonical(lengths) for _, lengths in TABLES]
MOST = [max(lengths) + raw for raw, lengths in TABLES]


@functools.cache
def power(log):
    return SIGNIFICAND[log % 64] * Fraction(2) ** (log // 64 - 10)


@functools.cache
def inverse(log):
    value, shift = 1 / power(log), Fraction(1)
    while value * shift < 4096:
        shift *= 2
    while value * shift >= 8192:
        shift /= 2
    return round(value * shift) / shift


@functools.cache
def symbol_of(table, x):
    raw, lengths = TABLES[table]
    symbol = (x >> raw) + 15
    return symbol if 0 <= symbol < ESCAPE and lengths[symbol] else ESCAPE


@functools.cache
def bits_of(table, x):
    """The bits of a number in the order of the stream."""
    raw = TABLES[table][0]
    symbol = symbol_of(table, x)
    low = 0 if symbol == ESCAPE else x & ((1 << raw) - 1)
    return CODES[table][symbol] + "".join(str(low >> i & 1) for i in range(raw))


@functools.cache
def cost(table, x):
    return len(bits_of(table, x)) + (16 if symbol_of(table, x) == ESCAPE else 0)


def choose(column):
    """(table, bits) of a channel's numbers."""
    size = sum(map(abs, column))
    log = log2_of(size) - log2_of(len(column)) + 29 if size else 0
    middle = max(0, min(15, (log * 10 + 32) >> 6))
    near = range(max(middle - 1, 0), min(middle + 1, 15) + 1)
    bits, table = min((sum(cost(j, x) for x in column), j) for j in near)
    return table, bits


def lay_out(columns, tables):
    """(words, escapes): each lane's bits in words, in the order in which they are asked for."""
    tokens = len(columns[0])
    lanes, escapes, asked = [""] * 16, [], []
    ahead = [0] * 16
    for first in range(0, tokens, 16):
        for column, table in zip(columns, tables):
            for lane, x in enumerate(column[first : first + 16]):
                if ahead[lane] < MOST[table]:
                    asked.append(lane)
                    ahead[lane] += 16
                bits = bits_of(table, x)
                lanes[lane] += bits
                ahead[lane] -= len(bits)
                if symbol_of(table, x) == ESCAPE:
                    escapes.append(x)
    words, at = [], [0] * 16
    for lane in asked:
        word = lanes[lane][at[lane] : at[lane] + 16]
        at[lane] += 16
        words.append(sum(int(b) << i for i, b in enumerate(word)))
    return words, escapes


class Encoder:
    def __init__(self, number, rows, keys, slot):
        self.number, self.rows, self.keys, self.slot = number, rows, keys, slot
        tokens, channels = len(rows), len(rows[0])
        most = max(b & 0x7FFF for row in rows for b in row)
        top = max(most >> number.mantissa, 1)
        self.exponent = top - 1 + (1 - number.bias - number.mantissa) - (17 - number.mantissa)
        self.unit = Fraction(2) ** self.exponent
        fixed = []
        for row in rows:
            sizes = [int(abs(number.value(b)) / self.unit + Fraction(1, 2)) for b in row]
            fixed.append([-s if b & 0x8000 else s for s, b in zip(sizes, row)])
        self.means, self.gains = [0] * channels, [0] * tokens
        if keys:
            self.means = [(sum(column) + tokens // 2) // tokens for column in zip(*fixed)]
        else:
            rms = [log2_of(sum(x * x for x in row)) // 2 for row in fixed]
            self.gains = [min((max(rms) - r) // 2, 255) for r in rms]
        self.least = max(64 * (max(map(abs, row)).bit_length() + self.exponent - 13) + 1 + 4 * g
                         for row, g in zip(fixed, self.gains))
        away = [[x - m for x, m in zip(row, self.means)] for row in fixed]
        logs = sum(log2_of(sum(x * x for x in column)) - log2_of(tokens) for column in zip(*away))
        self.head = 16 + channels // 2 + (channels if keys else tokens + tokens % 2)
        self.guess = (2 * cut(logs, channels) + 64 * self.exponent + 4 * sum(self.gains) // tokens
                      + 141 - (slot - self.head) * 64 // tokens * 8 // channels)

    def trial(self, log):
        """The unit behind its checksum, or None if it does not fit."""
        steps = [Fraction(m) * self.unit / power(log) for m in self.means]
        means = [(s + Fraction(1, 2)).__floor__() for s in steps]
        wide = any(m > 127 or m < -128 for m in means)
        numbers = []
        for row, g in zip(self.rows, self.gains):
            by = inverse(log - 4 * g)
            numbers.append([round(self.number.value(b) * by) - m for b, m in zip(row, means)])
        columns = list(zip(*numbers))
        tables = [choose(column)[0] for column in columns]
        words, escapes = lay_out(columns, tables)
        out = struct.pack("<BBhHHI", 1, wide, log, len(words) & 0xFFFF, len(escapes) & 0xFFFF, 0)
        out += bytes(a | b << 4 for a, b in zip(tables[::2], tables[1::2]))
        if self.keys:
            out += struct.pack(f"<{len(means)}{'h' if wide else 'b'}", *means)
        else:
            out += bytes(self.gains) + bytes(len(self.gains) % 2)
        out += struct.pack(f"<{len(words)}H{len(escapes)}h", *words, *escapes)
        return out + bytes(self.slot - 4 - len(out)) if len(out) + 4 <= self.slot else None

    def run(self):
        log, stride = max(self.guess, self.least), 4
        good, bad = log, self.least - 1
        if self.trial(log):
            while good > self.least:
                finer = max(good - stride, self.least)
                if not self.trial(finer):
                    bad = finer
                    break
                good, stride = finer, stride * 2
        else:
            while not self.trial(log):
                bad, log, stride = log, log + stride, stride * 2
            good = log
        while good - bad > 1:
            middle = bad + (good - bad) // 2
            good, bad = (middle, bad) if self.trial(middle) else (good, middle)
        return self.trial(good)


def cut(a, b):
    """A quotient without its fraction, as C has it."""
    return a // b if a >= 0 else -(-a // b)


def decode(number, data, tokens, channels, keys):
    _, wide, log, word_count, escape_count, _ = struct.unpack_from("<BBhHHI", data)
    at = 12
    tables = [b >> s & 15 for b in data[at : at + channels // 2] for s in (0, 4)]
    at += channels // 2
    means, gains = [0] * channels, [0] * tokens
    if keys:
        means = struct.unpack_from(f"<{channels}{'h' if wide else 'b'}", data, at)
        at += channels * (2 if wide else 1)
    else:
        gains = data[at : at + tokens]
        at += tokens + tokens % 2
    words = iter(struct.unpack_from(f"<{word_count}H", data, at))
    escapes = iter(struct.unpack_from(f"<{escape_count}h", data, at + 2 * word_count))
    held = [""] * 16
    out = [[0] * channels for _ in range(tokens)]
    for first in range(0, tokens, 16):
        for c, table in enumerate(tables):
            raw = TABLES[table][0]
            symbols = {bits: s for s, bits in CODES[table].items()}
            for lane in range(min(16, tokens - first)):
                if len(held[lane]) < MOST[table]:
                    held[lane] += f"{next(words):016b}"[::-1]
                length = next(n for n in range(1, 8) if held[lane][:n] in symbols)
                symbol, low = symbols[held[lane][:length]], held[lane][length : length + raw]
                held[lane] = held[lane][length + raw :]
                x = (symbol - 15 << raw) + sum(int(b) << i for i, b in enumerate(low))
                x = next(escapes) if symbol == ESCAPE else x
                step = power(log - 4 * gains[first + lane])
                n = max(-8191, min(8191, x + means[c]))
                out[first + lane][c] = number.bits(n * step)
    return [bits for row in out for bits in row]


def code(name, number, units, crc32c):
    """units: (is K, rows of bits) each; (encoded bytes, decoded bits)."""
    encoded, decoded = b"", []
    for keys, rows in units:
        tokens, channels = len(rows), len(rows[0])
        slot = max(tokens * channels * SLOTS[name] // 8192 // 64 * 64, 64)
        data = Encoder(number, rows, keys, slot).run()
        encoded += struct.pack("<I", crc32c(data)) + data
        decoded += decode(number, data, tokens, channels, keys)
    return encoded, decoded
