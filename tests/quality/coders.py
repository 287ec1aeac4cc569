"""What the keys and values of a pass go through: the shipped library, and published schemes.

A coder takes K and V of whole blocks, float16 [heads, tokens, channels], their layer and the position of
the first token, and gives them back as a reader would see them. `ratio()` counts everything that
a reader needs.
"""

import numpy as np

import cxlspeckv as kv
from cxlspeckv import codecs

BLOCK = 64


class Shipped:
    """A codec of the library, through its Python bindings."""

    def __init__(self, name):
        self.name = name
        self.wants_profile = name.startswith("hxp")
        self.layers, self.profile = 1, b""
        self.bytes = self.values = 0

    def use(self, layers, profile):
        """From now on, blocks of a model with that profile."""
        if self.wants_profile:
            self.layers, self.profile = layers, profile
        self.bytes = self.values = 0

    def __call__(self, k, v, layer, first):
        heads, tokens, channels = k.shape
        layout = kv.BlockLayout(layers=self.layers, kv_heads=heads, head_dim=channels, tokens=BLOCK,
                                dtype="f16")
        layer = layer if self.wants_profile else 0
        blocks = [self._block(layout, np.stack([k, v])[:, :, at : at + BLOCK], layer, first + at)
                  for at in range(0, tokens, BLOCK)]
        both = np.concatenate(blocks, axis=2)
        return both[0], both[1]

    def _block(self, layout, plain, layer, first):
        known = {"layer": layer, "first_position": first, "profile": self.profile}
        encoded = codecs.encode(self.name, layout, np.ascontiguousarray(plain), **known)
        self.bytes += len(encoded)
        self.values += plain.size
        return codecs.decode(self.name, layout, encoded, **known)

    def ratio(self):
        """Of all blocks since `use`."""
        return 2 * self.values / self.bytes


def affine(values, axis, group, levels):
    """Asymmetric levels between the ends of groups along an axis; both ends in float16."""
    x = np.moveaxis(values.astype(np.float32), axis, -1)
    cut = x.reshape(*x.shape[:-1], -1, group)
    low, high = cut.min(-1, keepdims=True), cut.max(-1, keepdims=True)
    step = np.maximum(((high - low) / (levels - 1)).astype(np.float16), np.float16(6e-8))
    step, low = step.astype(np.float32), low.astype(np.float16).astype(np.float32)
    q = np.clip(np.round((cut - low) / step), 0, levels - 1)
    return np.moveaxis((q * step + low).reshape(x.shape), -1, axis).astype(np.float16)


class Kivi:
    """KIVI: K in groups of tokens a channel, V in groups of channels a token."""

    def __init__(self, bits, group):
        self.name, self.bits, self.group = f"kivi{bits}_g{group}", bits, group

    def __call__(self, k, v, layer, first):
        return (affine(k, 1, self.group, 2**self.bits), affine(v, 2, self.group, 2**self.bits))

    def ratio(self):
        return 16 / (self.bits + 32 / self.group)


E2M1 = np.array([-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


def e4m3(x):
    size = np.abs(x)
    exponent = np.clip(np.floor(np.log2(np.maximum(size, 2.0**-9))), -6, 8)
    step = np.exp2(exponent - 3)
    return np.sign(x) * np.minimum(np.round(size / step) * step, 448)


class Nvfp4:
    """4-bit floats in groups of 16 under an E4M3 scale, one float32 scale a tensor."""

    name = "nvfp4"

    def __call__(self, k, v, layer, first):
        return self._one(k), self._one(v)

    @staticmethod
    def _one(values):
        x = values.astype(np.float32)
        whole = max(float(np.abs(x).max()) / (448 * 6), 1e-30)
        cut = x.reshape(*x.shape[:-1], -1, 16)
        scale = e4m3(np.abs(cut).max(-1, keepdims=True) / 6 / whole)
        scale = np.maximum(scale, 2.0**-9) * whole
        level = E2M1[np.searchsorted((E2M1[1:] + E2M1[:-1]) / 2, cut / scale)]
        return (level * scale).reshape(x.shape).astype(np.float16)

    def ratio(self):
        return 16 / 4.5


class TurboQuantLike:
    """Signs turned, a Hadamard transform of each row, its norm in float16, and the eleven
    levels of least squares for a normal distribution (3.5 bits)."""

    name = "turboquant_like"

    def __init__(self):
        grid = np.linspace(-6, 6, 24001)
        weight = np.exp(-grid * grid / 2)
        levels = np.linspace(-2.5, 2.5, 11)
        for _ in range(2000):
            near = np.searchsorted((levels[1:] + levels[:-1]) / 2, grid)
            levels = np.bincount(near, weight * grid, 11) / np.bincount(near, weight, 11)
        self.levels = levels.astype(np.float32)

    def __call__(self, k, v, layer, first):
        return self._one(k), self._one(v)

    def _one(self, values):
        x = values.astype(np.float32)
        size = x.shape[-1]
        turn = np.array([[1.0]])
        while len(turn) < size:
            turn = np.block([[turn, turn], [turn, -turn]])
        signs = np.where(np.random.default_rng(7).random(size) < 0.5, -1, 1)
        turn = (signs[:, None] * turn / np.sqrt(size)).astype(np.float32)
        y = x @ turn
        rms = np.maximum(np.sqrt((y * y).mean(-1, keepdims=True)), 1e-8)
        level = self.levels[np.searchsorted((self.levels[1:] + self.levels[:-1]) / 2, y / rms)]
        gain = (y * level).sum(-1, keepdims=True) / np.maximum((level * level).sum(-1, keepdims=True), 1e-8)
        self.size = size
        return ((level * gain.astype(np.float16).astype(np.float32)) @ turn.T).astype(np.float16)

    def ratio(self):
        return 16 / (3.5 + 16 / self.size)


def baselines():
    return [Kivi(4, 32), Kivi(2, 32), Nvfp4(), TurboQuantLike()]
