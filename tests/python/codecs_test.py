"""Codecs, keys and addresses: the same bytes as in C++, checked against what is written down."""

import hashlib
import os
import pathlib
import random
import struct

import numpy as np
import pytest

import cxlspeckv as kv
from cxlspeckv import codecs

VECTORS = pathlib.Path(os.environ["CXLSPECKV_ROOT"]) / "tests/vectors"


HEX = ("profile", "plain", "encoded", "decoded")
NAMES = {"heads": "kv_heads", "dim": "head_dim"}  # where the files and BlockLayout differ


def cases(file):
    """The cases of a file of golden vectors (tests/vectors/README.md), as dicts."""
    case, word = {}, ""
    for line in (VECTORS / file).read_text(encoding="utf-8").splitlines():
        first, _, rest = line.partition(" ")
        if line == "" or first == "#":
            continue
        if first == "case" and case:
            yield case
            case = {}
        if first in HEX or rest:
            word = first
            case[word] = rest
        else:
            case[word] += line
    yield case


def layout_of(case):
    fields = dict(field.split("=") for field in case["layout"].split())
    return kv.BlockLayout(**{NAMES.get(name, name): int(value) if value.isdigit() else value
                             for name, value in fields.items()})


@pytest.mark.parametrize("codec", ["int8", "int8_delta_rle", "kvq4", "lossless", "rt", "hx", "hxp"])
def test_golden_vectors(codec):
    count = 0
    for case in cases(f"codec_{codec}.txt"):
        layout = layout_of(case)
        profile, plain, encoded, decoded = (bytes.fromhex(case.get(k, "")) for k in HEX)
        name, position = case["codec"], case.get("position")
        known = {"layer": int(case.get("layer", 0)), "profile": profile,
                 "first_position": position and int(position)}
        wrote = codecs.encode(name, layout, np.frombuffer(plain, np.uint8), **known)
        assert wrote.tobytes() == encoded, case["case"]
        got = codecs.decode(name, layout, encoded, **known)
        assert got.tobytes() == decoded, case["case"]
        assert got.shape == codecs.layer_shape(layout)
        assert len(encoded) <= codecs.max_layer_bytes(name, layout)
        count += 1
    assert count >= 4


def test_what_codecs_refuse():
    layout = kv.BlockLayout(layers=1, kv_heads=1, head_dim=64, tokens=16, dtype="f16")
    values = np.ones(codecs.layer_shape(layout), codecs.dtype_of(layout))
    assert codecs.names()[0] == "raw" and codecs.supports("int8", layout)
    with pytest.raises(kv.NotFound):
        codecs.encode("zip", layout, values)
    for bad in (values[0], values[:, :, ::2], np.zeros(0, np.uint8)):
        with pytest.raises(kv.InvalidArgument):
            codecs.encode("int8", layout, bad)
    with pytest.raises(kv.InvalidArgument):
        codecs.encode("int8", layout, values, layer=1)
    with pytest.raises(kv.Unsupported):
        codecs.encode("int8", layout, values * np.float16(np.nan))
    good = codecs.encode("int8", layout, values)
    for bad in (good[:-1], b"", bytes(7)):
        with pytest.raises(kv.Corrupted):
            codecs.decode("int8", layout, bad)


def test_shapes_and_types_follow_the_layout():
    shapes = {"kv": (2, 3, 16, 64), "latent": (3, 16, 64), "interleaved": (3, 16, 2, 64),
              "transposed": (3, 2, 16 * 64), "tiled": (3, 2, 16 * 64)}
    widths = {"f16": 2, "bf16": 2, "f32": 4, "f8e4m3": 1}
    for kind, shape in shapes.items():
        for dtype, width in widths.items():
            if kind == "tiled" and width != 2:
                continue
            layout = kv.BlockLayout(layers=2, kv_heads=3, head_dim=64, tokens=16, dtype=dtype,
                                    kind=kind)
            assert codecs.layer_shape(layout) == shape
            assert codecs.dtype_of(layout).itemsize == width
            assert int(np.prod(shape)) * width == layout.layer_bytes
            plain = np.arange(layout.layer_bytes, dtype=np.uint8)
            back = codecs.decode("raw", layout, codecs.encode("raw", layout, plain))
            assert back.dtype == codecs.dtype_of(layout) and back.tobytes() == plain.tobytes()


def blake(person, *parts):
    """docs/block-format.md, Keys: integers in 8 bytes, texts after their length."""
    def n(x):
        return struct.pack("<Q", x)

    data = b"".join(part if kind == "raw" else n(part) if kind == "n" else n(len(part)) + part
                    for kind, part in parts)
    return hashlib.blake2b(data, digest_size=16, person=person.ljust(16, b"\0")).digest()


def test_keys_are_those_of_the_document():
    layout = kv.BlockLayout(layers=5, kv_heads=3, head_dim=64, tokens=4, dtype="f32", kind="latent")
    chain = kv.KeyChain("a model", layout, b"salt")
    start = blake(b"speckv start 1", ("f", b"a model"), ("f", b"salt"), ("n", 5), ("n", 3),
                  ("n", 64), ("n", 4), ("n", 2), ("n", 1))
    assert chain.last == start
    tokens = [7, 0, 1 << 31, (1 << 32) - 1]
    next_block = blake(b"speckv block 1", ("raw", start), ("n", 4), ("raw", struct.pack("<4I", *tokens)))
    assert chain.append(tokens) == next_block
    assert kv.hash_key(b"k" * 36, b"salt") == blake(b"speckv engine 1", ("f", b"salt"), ("f", b"k" * 36))


# bit: position 0, kind 32, head 33, layer 41, request 57 (docs and address.hpp).
def packed(a):
    return a.position | a.kind << 32 | a.head << 33 | a.layer << 41 | a.request << 57


def test_addresses_are_a_bijection_of_89_bits():
    limits = (1 << 32, 1 << 16, 1 << 8, 1 << 32, 2)
    numbers = random.Random(5)
    seen = {}
    for turn in range(20_000):
        fields = [numbers.choice((0, 1, limit - 1, numbers.randrange(limit))) for limit in limits]
        address = kv.Address(*fields)
        number = address.pack()
        assert number == packed(address) and 0 <= number < 1 << 89
        assert kv.Address.unpack(number) == address
        assert seen.setdefault(number, address) == address, turn
    for bit in range(89):
        assert kv.Address.unpack(1 << bit).pack() == 1 << bit


@pytest.mark.parametrize("fields", [(1 << 32, 0, 0, 0, 0), (0, 1 << 16, 0, 0, 0), (0, 0, 256, 0, 0),
                                    (0, 0, 0, 1 << 32, 0), (0, 0, 0, 0, 2), (-1, 0, 0, 0, 0)])
def test_no_field_is_cut(fields):
    with pytest.raises(kv.InvalidArgument):
        kv.Address(*fields).pack()


def test_no_packed_address_has_more_bits():
    for bad in (1 << 89, -1, 1 << 128):
        with pytest.raises(kv.InvalidArgument):
            kv.Address.unpack(bad)


def test_a_second_plane_makes_kvq4_finer():
    layout = kv.BlockLayout(layers=1, kv_heads=2, head_dim=64, tokens=32, dtype="f16")
    plain = np.random.default_rng(8).normal(size=codecs.layer_shape(layout)).astype("f2")
    first = codecs.encode("kvq4", layout, plain)
    second = codecs.encode_second_plane(layout, plain, first)
    assert second.nbytes == plain.size // 2
    lost = [float(((back.astype(float) - plain) ** 2).sum())
            for back in (codecs.decode("kvq4", layout, first),
                         codecs.decode_planes(layout, first, second))]
    assert lost[1] < lost[0] / 150
    with pytest.raises(kv.Corrupted):
        codecs.decode_planes(layout, first, second[:-1])
    with pytest.raises(kv.Corrupted):
        codecs.encode_second_plane(layout, plain, first[:-1])
    with pytest.raises(kv.InvalidArgument):
        codecs.encode_second_plane(layout, plain[:1], first)
    wide = kv.BlockLayout(layers=1, kv_heads=2, head_dim=64, tokens=32, dtype="f32")
    with pytest.raises(kv.Unsupported):
        codecs.decode_planes(wide, first, second)
