"""TieredCache against the stock cache, on a real model: the same logits, the same tokens."""

import os
import pathlib
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

import cxlspeckv as kv
from cxlspeckv.hf import TieredCache

ROOT = pathlib.Path(os.environ["CXLSPECKV_ROOT"])
TEXT = ("In the middle of the journey of our life I found myself within a dark wood, for the "
        "straight way was lost. Ah, how hard a thing it is to say what that wood was. ")


@pytest.fixture(scope="module")
def folder():
    done = subprocess.run([sys.executable, ROOT / "python/tools/vllm_engine.py", "model"],
                          stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("the model cannot be had here")
    assert done.returncode == 0
    return done.stdout.strip()


@pytest.fixture(scope="module")
def model(folder):
    torch.set_num_threads(1)  # two wait for each other on a busy machine
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def cache(model, tmp_path):
    """The fast tier holds a few blocks, the rest goes to a file."""
    made = TieredCache(model.config, tiers_of(tmp_path), block_tokens=16)
    yield made
    made.close()


def tiers_of(folder):
    return ["dram:1M", f"file:{folder}/pool?size=256M"]


def prompt(tokenizer, tokens):
    ids = tokenizer(TEXT * (tokens // 20), return_tensors="pt").input_ids[:, :tokens]
    assert ids.shape[1] == tokens
    return ids


@torch.no_grad()
def logits(model, ids, cache, steps):
    """Of a prefill in two pieces and greedy decoding, all of them."""
    half = ids.shape[1] // 2
    found = [model(ids[:, :half], past_key_values=cache).logits]
    found.append(model(ids[:, half:], past_key_values=cache).logits)
    for _ in range(steps):
        following = found[-1][:, -1:].argmax(-1)
        found.append(model(following, past_key_values=cache).logits)
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_raw_gives_the_logits_of_the_stock_cache_bit_for_bit(model, tokenizer, tmp_path, dtype):
    ids = prompt(tokenizer, 61)
    model.to(dtype)
    try:
        cache = TieredCache(model.config, tiers_of(tmp_path), block_tokens=16)
        ours = logits(model, ids, cache, 10)
        stock = logits(model, ids, DynamicCache(config=model.config), 10)
        assert cache.get_seq_length() == 71 and torch.equal(ours, stock)
        assert cache.store.stats(1).blocks > 0, "nothing has left the fast tier"
        cache.close()
    finally:
        model.to(torch.float32)


def generate(model, ids, cache, **how):
    return model.generate(ids, attention_mask=torch.ones_like(ids), past_key_values=cache,
                          do_sample=False, max_new_tokens=12, pad_token_id=0, **how)


def test_generate_greedy_and_with_beams(model, tokenizer, cache):
    ids = prompt(tokenizer, 40)
    stock = generate(model, ids, DynamicCache(config=model.config))
    assert torch.equal(generate(model, ids, cache), stock)
    cache.reset()
    beams = generate(model, ids, DynamicCache(config=model.config), num_beams=4)
    ours = generate(model, ids, cache, num_beams=4)
    assert torch.equal(ours, beams) and cache.layers[0].batch_size == 4


def test_beams_share_their_past(model, tokenizer, cache):
    """Four rows that were one have the blocks of one."""
    with torch.no_grad():
        model(prompt(tokenizer, 64), past_key_values=cache)
    before = sum(cache.store.stats(tier).blocks for tier in range(2))
    cache.batch_repeat_interleave(4)
    assert sum(cache.store.stats(tier).blocks for tier in range(2)) == before
    cache.reorder_cache(torch.tensor([3, 3, 0, 1]))
    cache.batch_select_indices(torch.tensor([0, 2]))
    assert cache.layers[5].batch_size == 2
    cache.reset()
    assert all(cache.store.stats(tier).blocks == 0 for tier in range(2)), "blocks have leaked"


@torch.no_grad()
def test_crop_goes_back_within_and_across_blocks(model, tokenizer, cache):
    ids = prompt(tokenizer, 70)
    stock = DynamicCache(config=model.config)
    for one in (cache, stock):
        model(ids, past_key_values=one)
    for remove in (3, 30, 0, 16):
        for one in (cache, stock):
            one.crop(-remove)
        assert cache.get_seq_length() == stock.get_seq_length()
        more = ids[:, :5]
        assert torch.equal(model(more, past_key_values=cache).logits,
                           model(more, past_key_values=stock).logits), remove


@torch.no_grad()
def test_layers_can_be_prefetched_and_forgotten(model, tokenizer, cache):
    ids = prompt(tokenizer, 64)
    stock = DynamicCache(config=model.config)
    for one in (cache, stock):
        model(ids, past_key_values=one)
    loads, load = [], cache.store.load

    def counted(keys, places):
        loads.append(keys)
        return load(keys, places)

    cache.store.load = counted
    cache.offload(0)
    cache.prefetch(7)
    assert loads == [keys_of(cache, 7)]
    cache.prefetch(7)  # is on its way
    assert len(loads) == 1
    cache.offload(7)
    cache.prefetch(7)
    assert loads == [keys_of(cache, 7)] * 2
    cache.prefetch(len(cache))  # the first again
    assert loads[2:] == [keys_of(cache, 0)]
    loads.clear()
    assert torch.equal(model(ids[:, :3], past_key_values=cache).logits,
                       model(ids[:, :3], past_key_values=stock).logits)
    # Each layer once, the next one's while attention reads this one; the last brings the first.
    assert loads == [keys_of(cache, layer) for layer in [*range(1, len(cache)), 0]]


def keys_of(cache, layer):
    """Of the blocks that are sealed."""
    return b"".join(block.key for row in cache.layers[layer].rows for block in row)


@torch.no_grad()
def test_a_context_longer_than_memory_allows(model, tokenizer, tmp_path):
    """The stock cache of 600 tokens in float32 takes 28 MB; ours a sixth, its fast tier counted."""
    ids = prompt(tokenizer, 600)
    stock = DynamicCache(config=model.config)
    tiers = ["dram:1M", *tiers_of(tmp_path)[1:]]
    cache = TieredCache(model.config, tiers, block_tokens=32)
    last = []
    for one in (stock, cache):
        for piece in ids.split(200, dim=1):
            out = model(piece, past_key_values=one, logits_to_keep=1).logits
        last.append(out)
    assert torch.equal(*last)
    stock_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in stock.layers)
    ours = cache.resident_bytes + cache.store.stats(0).capacity
    assert stock_bytes >= 6 * ours
    cache.close()


def test_a_lossy_codec_stays_close(model, tokenizer, tmp_path):
    ids = prompt(tokenizer, 96)
    tiers = [{"uri": "dram:16M", "codec": "int8"}]
    model.to(torch.bfloat16)
    try:
        cache = TieredCache(model.config, tiers, block_tokens=16)
        ours, stock = (logits(model, ids, c, 0).float().log_softmax(-1)
                       for c in (cache, DynamicCache(config=model.config)))
        divergence = (stock.exp() * (stock - ours)).sum(-1).mean()
        assert 0 < divergence < 0.05
        assert cache.store.stats(0).plain_bytes > 1.6 * cache.store.stats(0).used
        cache.close()
    finally:
        model.to(torch.float32)


@torch.no_grad()
def test_what_cannot_be_is_said(model, tokenizer, tmp_path):
    ids = prompt(tokenizer, 64)
    full = TieredCache(model.config, ["dram:256K"], block_tokens=16)
    with pytest.raises(kv.NoSpace):
        model(ids, past_key_values=full)
    full.close()

    class Windows:
        layer_types: tuple[str, ...] = ("full_attention", "sliding_attention")
        num_hidden_layers = 2

        def get_text_config(self, decoder):
            return self

    with pytest.raises(kv.Unsupported, match="sliding_attention"):
        TieredCache(Windows(), ["dram:1M"])
    lost = TieredCache(model.config, ["dram:64M"], block_tokens=16)
    model(ids, past_key_values=lost)
    lost.offload(0)
    lost.offload(1)
    block = lost.layers[1].rows[0][0]
    block._pin.release()
    assert lost.store.erase(block.key) == 1
    with pytest.raises(kv.NotFound):
        model(ids[:, :1], past_key_values=lost)
    lost.close()
    model(ids[:, :20], past_key_values=lost)  # usable again
    assert lost.get_seq_length() == 20
    lost.close()
