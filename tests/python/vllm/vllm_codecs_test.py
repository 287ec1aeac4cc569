"""What lossy codecs do to pages, which they know by channel and by token."""

import os
import pathlib
import platform

import cxlspeckv
import pytest
import torch
from cxlspeckv import codecs
from cxlspeckv.vllm.facts import KERNELS
from vllm import _custom_ops
from vllm_support import engine_key


@pytest.mark.parametrize("codec", ["kvq4", "int8"])
def test_lossy_codecs_see_channels(side, codec):
    """Large channels of K must not hurt the others: only true if the codec knows where they lie."""
    one = side({"tiers": [{"uri": "dram:16M", "codec": codec}]}, layers=1, head_dim=64,
               page_bytes=2 * 16 * 2 * 64 * 2)
    values = torch.randn(2, 16, 2, 64, generator=torch.Generator().manual_seed(1))
    values[:, :, 0, 5] *= 50  # one channel of K
    one.tensors[0][4] = values.to(torch.bfloat16).flatten().view(torch.int8)
    one.store([engine_key(1)], [4])
    assert one.load([engine_key(1)], [8]) == set()
    back = one.tensors[0][8].view(torch.bfloat16).view(2, 16, 2, 64).float()
    error = (back - values).abs()
    others = torch.ones(64, dtype=torch.bool)
    others[5] = False
    if codec == "kvq4":  # a group is a channel of K, a token of V
        assert error[:, :, 0, others].max() < 0.35
    assert error[:, :, 1].max() < 0.35  # V knows nothing of K's large channel
    assert one.core.store.stats(0).used * 1.8 < one.facts.chunk_bytes


def page_of_the_engine(keys, values, kernel):
    """[token][head][channel] twice -> the page that vLLM's own kernel makes of them."""
    tokens, heads, channels = keys.shape
    page = torch.zeros(1, heads, 2 * tokens, channels, dtype=keys.dtype)  # as its backend views it
    _custom_ops.cpu_attn_reshape_and_cache(keys, values, *page.chunk(2, dim=2),
                                           torch.arange(tokens), kernel)
    return page.flatten()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("codec", ["kvq4", "int8", "rt44", "hx4096", "lossless"])
@pytest.mark.parametrize(("kernel", "channels"), [
    ("vec16", 64), ("vec16", 80), ("vec16", 128), ("amx", 64), ("amx", 96), ("amx", 128)])
@pytest.mark.skipif(platform.machine() != "x86_64", reason="these kernels are of x86")
def test_codecs_see_tokens_and_channels_in_pages_that_the_engine_wrote(side, kernel, codec, dtype,
                                                                       channels):
    """What comes back is the page of what the codec makes of the same K and V in plain order.
    (AMX's order needs no AMX: its kernel writes it with ordinary instructions.)"""
    tokens, heads, kind = 128, 2, getattr(torch, dtype)
    one = side({"tiers": [{"uri": "dram:16M", "codec": codec}]}, layers=1, kind=KERNELS[kernel],
               kv_heads=heads, dtype=dtype, head_dim=channels, tokens=tokens,
               page_bytes=2 * heads * tokens * channels * 2)
    rows = torch.randn(2, heads, tokens, channels, generator=torch.Generator().manual_seed(1))
    rows[0, :, :, 5] *= 50  # one channel of K
    rows = rows.to(kind)

    def page_of(rows):
        return page_of_the_engine(*rows.transpose(1, 2).contiguous(), kernel)

    page = page_of(rows)
    one.tensors[0][4] = page.view(torch.int8)
    one.store([engine_key(1)], [4])
    assert one.load([engine_key(1)], [8]) == set()
    layout = cxlspeckv.BlockLayout(layers=1, kv_heads=heads, head_dim=channels, tokens=tokens,
                                   dtype={"bfloat16": "bf16", "float16": "f16"}[dtype])
    bits = codecs.encode(codec, layout, rows.view(torch.int16).numpy())
    coded = torch.from_numpy(codecs.decode(codec, layout, bits).view("i2")).view(kind)
    found = one.tensors[0][8].view(kind)
    assert torch.equal(found, page_of(coded))
    assert torch.equal(found, page) == (codec == "lossless")
    assert one.core.store.stats(0).used * 1.1 < one.facts.chunk_bytes


def test_a_profile_and_the_place_of_a_block_reach_the_codec(side):
    """What comes back is what the codec makes of each layer, told the profile and the position."""
    profile = pathlib.Path(os.environ["CXLSPECKV_ROOT"]) / "data" / "smollm2-135m-instruct.svkprof"
    layers, heads, tokens, channels = 30, 3, 64, 64
    one = side({"tiers": [{"uri": "dram:64M", "codec": "hxp4096"}], "profile": str(profile)},
               layers=layers, kind="transposed", kv_heads=heads, head_dim=channels, tokens=tokens,
               page_bytes=2 * heads * tokens * channels * 2)
    keys, pages = [engine_key(n) for n in (1, 2, 3)], [4, 6, 5]
    plain = one.fill(pages, seed=1).view(torch.bfloat16).view(
        layers, len(pages), heads, 2, tokens * channels)
    one.store(keys, pages)
    assert one.load(keys, [10, 11, 12]) == set()
    found = one.read([10, 11, 12]).view(torch.bfloat16).view(plain.shape)
    layout = cxlspeckv.BlockLayout(layers=layers, kv_heads=heads, head_dim=channels, tokens=tokens)

    def coded(layer, block, **known):
        """The values of a layer after the codec, in the order of the engine's pages."""
        k, v = plain[layer, block].unbind(1)
        rows = torch.stack([k.unflatten(1, (channels, tokens)).mT, v.unflatten(1, (tokens, channels))])
        bits = codecs.encode("hxp4096", layout, rows.contiguous().view(torch.int16).numpy(),
                             layer=layer, profile=profile.read_bytes(), **known)
        back = torch.from_numpy(codecs.decode("hxp4096", layout, bits, layer=layer,
                                              profile=profile.read_bytes(), **known).view("i2"))
        k, v = back.view(torch.bfloat16)
        return torch.stack([k.mT.flatten(1), v.flatten(1)], dim=1)

    for layer in (0, 7, 29):
        for block, position in enumerate((0, tokens, 2 * tokens)):
            assert torch.equal(found[layer, block], coded(layer, block, first_position=position))
    assert not torch.equal(found[7, 1], coded(7, 1, first_position=0))
    assert not torch.equal(found[7, 1], coded(7, 1))
