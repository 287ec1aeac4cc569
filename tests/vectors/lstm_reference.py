#!/usr/bin/env python3
"""Computes every answer of lstm.txt from docs/lstm-format.md, and compares.

`lstm_reference.py` checks the whole numbers exactly, and the floats, which PyTorch gave, within
1e-4 of a float64 LSTM. `lstm_reference.py --write` (with PyTorch) writes the answers of all cases.
"""

import pathlib
import struct
import sys

try:
    import numpy as np
except ImportError:
    print("SKIPPED: needs NumPy")
    sys.exit(77)

FILE = pathlib.Path(__file__).with_name("lstm.txt")
HIDDEN, SHORTEST = 128, 1e-4


def numbers(seed, count):
    """s = s * 1664525 + 1013904223 modulo 2^32, the first `count` after the seed."""
    out = np.array([(seed * 1664525 + 1013904223) % 2**32], np.uint32)
    factor, term = 1664525, 1013904223
    while len(out) < count:  # x[i + n] = factor * x[i] + term
        out = np.concatenate([out, out * np.uint32(factor) + np.uint32(term)])
        term = (factor * term + term) % 2**32
        factor = factor * factor % 2**32
    return out[:count]


class Case:
    def __init__(self, fields):
        self.name, (inputs, vocabulary, shortlist, cluster) = fields["case"], fields["shape"]
        self.inputs, self.vocabulary, self.shortlist, self.cluster = inputs, vocabulary, shortlist, cluster
        self.tail = vocabulary - shortlist if vocabulary else 0
        self.clusters = -(-self.tail // cluster) if self.tail else 0
        self.outputs = shortlist + self.clusters
        seed, self.steps, self.best = fields["run"]
        scale = fields["scale"]
        sizes = [vocabulary * inputs, 512 * (inputs + HIDDEN), 512, 512 * 2 * HIDDEN, 512,
                 self.outputs * HIDDEN, self.outputs, self.tail * HIDDEN, self.tail]
        raw = numbers(seed, sum(sizes) + self.steps * max(inputs, 1))
        parts = np.split(raw, np.cumsum(sizes))
        def floats(part, most):
            return (((part >> 8) / 2**23 - 1) * most).astype(np.float32)
        self.embedding = floats(parts[0], 1.0).reshape(vocabulary, inputs)
        self.layers = [(floats(parts[1], scale).reshape(512, -1), floats(parts[2], scale)),
                       (floats(parts[3], scale).reshape(512, -1), floats(parts[4], scale))]
        self.head = floats(parts[5], scale).reshape(-1, HIDDEN), floats(parts[6], scale)
        self.last = floats(parts[7], scale).reshape(-1, HIDDEN), floats(parts[8], scale)
        left = parts[9]
        if vocabulary:
            self.classes = left[:self.steps] % vocabulary
            self.features = self.embedding[self.classes]
        else:
            self.features = floats(left, 1.2).reshape(self.steps, inputs)


def away(x):
    return np.trunc(x + np.copysign(0.5, x))


def as_input(x):
    most = np.float32(127 / 128)
    return away(np.clip(x, -most, most).astype(np.float64) * 128).astype(np.int64)


class Matrix:
    def __init__(self, weight, bias, unit=1.0):
        w, b = weight.astype(np.float64) * unit, bias.astype(np.float64) * unit
        shift = 24
        while shift > 1 and (np.abs(w).max() / 127 * 2.0 ** (shift + 5) > 255
                             or np.abs(b).max() * 2.0 ** (shift + 12) > 2**30):
            shift -= 1
        self.shift = shift
        self.multiplier = np.maximum(1, np.ceil(np.abs(w).max(1) / 127 * 2.0 ** (shift + 5))).astype(np.int64)
        self.weight = np.clip(away(w * 2.0 ** (shift + 5) / self.multiplier[:, None]), -127, 127).astype(np.int64)
        self.bias = away(b * 2.0 ** (shift + 12)).astype(np.int64)

    def __call__(self, x):
        return (self.multiplier * (self.weight @ x) + self.bias + (1 << (self.shift - 1))) >> self.shift


A = np.array([round(32768 / (1 + np.exp(-i / 8))) for i in range(65)])
B = np.array([round(32768 / 2 ** (i / 32)) for i in range(33)])


def sat(x):
    return np.clip(x, -32767, 32767)


def times(a, b):
    return (a * b + 2**14) >> 15


def sigmoid(x):
    size = np.abs(sat(x))
    i = size >> 9
    y = A[i] + times(A[i + 1] - A[i], size % 512 * 64)
    return np.where(x < 0, 32768 - y, y)


def tanh(x):
    return 2 * sigmoid(sat(2 * sat(x))) - 32768


def weights(logits):
    d = logits.max() - logits
    j = (d >> 7) % 32
    w = (B[j] - (((B[j] - B[j + 1]) * (d % 128) + 64) >> 7)) >> np.minimum(d >> 12, 62)
    return np.where(d >> 12 > 15, 0, w)


def shares(logits):
    w = weights(logits)
    return w * 65536 // w.sum()


def first(logits, k):
    return np.argsort(-logits, kind="stable")[:k]


class Whole:
    def __init__(self, case):
        self.case = case
        self.layers = [Matrix(*layer) for layer in case.layers]
        log2e = 1.4426950408889634
        self.head = Matrix(*case.head, log2e)
        self.parts = [Matrix(case.last[0][i:i + case.cluster], case.last[1][i:i + case.cluster], log2e)
                      for i in range(0, case.tail, case.cluster or 1)]

    def run(self):
        """The state after each step, as 16-bit cells and 8-bit outputs of both layers."""
        c, h = np.zeros((2, HIDDEN), np.int64), np.zeros((2, HIDDEN), np.int64)
        for x in as_input(self.case.features):
            for layer in range(2):
                i, f, g, o = self.layers[layer](np.concatenate([x, h[layer]])).reshape(4, HIDDEN)
                c[layer] = sat(times(sigmoid(f), c[layer]) + ((times(sigmoid(i), tanh(g)) + 4) >> 3))
                h[layer] = x = np.clip((times(sigmoid(o), tanh(c[layer])) + 128) >> 8, -127, 127)
            yield c, h

    def answer(self, h):
        logits = self.head(h)
        p = shares(logits)
        if not self.case.vocabulary:
            return [int(x) for x in p]
        k, found = self.case.best, []
        for place in 1 + first(logits[1:], k):
            if place < self.case.shortlist:
                found.append((-int(p[place]), int(place)))
                continue
            cluster = int(place) - self.case.shortlist
            within = self.parts[cluster](h)
            q, base = shares(within), self.case.shortlist + cluster * self.case.cluster
            found += [(-int(p[place] * q[i] // 65536), base + int(i)) for i in first(within, k)]
        return [number for p, symbol in sorted(found)[:k] for number in (symbol, -p)]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def whole_lines(case):
    net, trail = Whole(case), b""
    for c, h in net.run():
        trail += struct.pack("<I", crc32c(c.astype("<i2").tobytes() + h.astype("i1").tobytes()))
    yield f"states {trail.hex()}"
    yield f"h {h.astype('i1').tobytes().hex()}"
    yield "answer " + " ".join(map(str, net.answer(h[1])))


def float_answer(case):
    """The logits of the head after the last step, in float64."""
    c, h = np.zeros((2, HIDDEN)), np.zeros((2, HIDDEN))
    for x in np.clip(case.features.astype(np.float64), -127 / 128, 127 / 128):
        for layer in range(2):
            w, b = case.layers[layer]
            i, f, g, o = (w.astype(np.float64) @ np.concatenate([x, h[layer]]) + b).reshape(4, HIDDEN)
            c[layer] = c[layer] / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            h[layer] = x = np.tanh(c[layer]) / (1 + np.exp(-o))
    return case.head[0].astype(np.float64) @ h[1] + case.head[1]


def torch_answer(case):
    import torch  # only where vectors are written
    net = torch.nn.LSTM(case.inputs, HIDDEN, 2)
    with torch.no_grad():
        for layer, (w, b) in enumerate(case.layers):
            split = w.shape[1] - HIDDEN
            getattr(net, f"weight_ih_l{layer}").copy_(torch.from_numpy(w[:, :split].copy()))
            getattr(net, f"weight_hh_l{layer}").copy_(torch.from_numpy(w[:, split:].copy()))
            getattr(net, f"bias_ih_l{layer}").copy_(torch.from_numpy(b))
            getattr(net, f"bias_hh_l{layer}").zero_()
        out, _ = net(torch.from_numpy(np.clip(case.features, -127 / 128, 127 / 128).astype(np.float32)))
        return (torch.from_numpy(case.head[0]) @ out[-1] + torch.from_numpy(case.head[1])).numpy()


def parse(text):
    """Each case's fields, and the lines that state it."""
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if not lines:
            continue
        words = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines}
        fields = {"case": words["case"], "scale": float(words["scale"]),
                  "shape": [int(w) for w in words["shape"].split()],
                  "run": [int(w) for w in words["run"].split()]}
        yield fields, words


def main(arguments):
    text = FILE.read_text(encoding="utf-8")
    head = "".join(line + "\n" for line in text.splitlines() if line.startswith("#"))
    written, faults = [], 0
    for fields, words in parse(text):
        case = Case(fields)
        lines = list(whole_lines(case))
        if arguments == ["--write"]:
            logits = " ".join(f"{x:.9g}" for x in torch_answer(case)[:32])
            if words.get("float") == "none":
                logits = "none"
            known = [f"{name} {words[name]}" for name in ("case", "shape", "scale", "run")]
            written.append("\n".join([*known, *lines, f"float {logits}"]) + "\n")
            continue
        wrong = [line for line in lines if line.split(" ", 1)[1] != words[line.split(" ", 1)[0]]]
        far = 0
        if words["float"] != "none":
            given = np.array([float(x) for x in words["float"].split()])
            far = np.abs(float_answer(case)[:32] - given).max()
        if wrong or far > SHORTEST:
            print(f"{case.name}: {[line[:60] for line in wrong]}, floats {far:.2g} apart")
            faults += 1
    if written:
        FILE.write_text(head + "\n" + "\n".join(written), encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
