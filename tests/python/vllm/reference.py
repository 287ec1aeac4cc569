"""What transformers makes of the texts that engine_run.py has its engine read."""

import functools

import torch
from engine_run import prompt
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from vllm_support import model


def tokens_of(number, chars):
    """Of the prompt of that number: [1, tokens]."""
    return AutoTokenizer.from_pretrained(model())(prompt(number, chars), return_tensors="pt").input_ids


@functools.cache
def network():
    """The model in float32, on one core: threads that wait for each other are slow beside engines."""
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(model(), dtype=torch.float32).eval()


@torch.no_grad()
def kv_of(tokens):
    """K and V, [layer][head][token][channel] each."""
    cache = DynamicCache(config=network().config)
    network()(tokens, past_key_values=cache, logits_to_keep=1)
    return [torch.stack([getattr(layer, which)[0] for layer in cache.layers])
            for which in ("keys", "values")]
