"""Two models whose attention sees coded keys and values: the demo's, and SmolLM2-135M.

Protocol A codes every block after the first SINK tokens, the query's own too; B leaves the
query's own block as it is, which is what a cache does whose last block is still open. A model's
`logits` are those of its `last` tokens (0: of all), the first of which is at position `first`.
"""

import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from coders import BLOCK

SINK = 4  # first tokens, which stay uncoded


class Attention:
    """Causal attention of [heads, tokens, channels], through `coder` if there is one.

    `past`, if it is a dictionary, keeps what a cache would hold of each layer after a pass; tokens of
    a later pass come after those that are in it, and join them if `grows`.
    """

    coder, protocol = None, "A"
    past, grows = None, False

    def __call__(self, q, k, v, scale, layer):
        k, v = k.half().float(), v.half().float()
        if self.past and layer in self.past:
            return self._after(q, k, v, scale, layer)
        coded_k, coded_v = self._coded(k, v, layer)
        if self.past is not None:
            self.past[layer] = (coded_k, coded_v)
        if self.coder is None or self.protocol == "A":
            return F.scaled_dot_product_attention(q[None], *self._of_queries(q, coded_k, coded_v),
                                                  is_causal=True, scale=scale)[0]
        return self._open(q, *(x[0] for x in self._of_queries(q, k, v, coded_k, coded_v)), scale)

    @staticmethod
    def _of_queries(q, *all_heads):
        """A head of K or V for each head of queries, as a batch of one."""
        return [x.repeat_interleave(q.shape[0] // x.shape[0], 0)[None] for x in all_heads]

    def _coded(self, k, v, layer):
        count = (k.shape[1] - SINK) // BLOCK * BLOCK
        if self.coder is None or count <= 0:
            return k, v
        out = [k.clone(), v.clone()]
        done = self.coder(*(x[:, SINK : SINK + count].half().numpy() for x in (k, v)), layer, SINK)
        for to, values in zip(out, done):
            to[:, SINK : SINK + count] = torch.from_numpy(np.ascontiguousarray(values)).float()
        return out

    @staticmethod
    def _open(q, k, v, coded_k, coded_v, scale):
        """Each block of queries sees those before it coded, and itself as it is."""
        tokens = k.shape[1]
        out = torch.empty_like(q)
        starts = [0, *range(SINK, tokens, BLOCK)]
        for start, end in zip(starts, [*starts[1:], tokens]):
            own = slice(start, end)
            keys, values = (torch.cat([coded[:, :start], plain[:, own]], 1)
                            for coded, plain in ((coded_k, k), (coded_v, v)))
            seen = torch.ones(end - start, end, dtype=torch.bool).tril(start)
            out[:, own] = F.scaled_dot_product_attention(q[None, :, own], keys[None], values[None],
                                                         attn_mask=seen, scale=scale)[0]
        return out

    def _after(self, q, k, v, scale, layer):
        before = self.past[layer]
        k, v = (torch.cat([old, new], 1) for old, new in zip(before, (k, v)))
        if self.grows:
            self.past[layer] = (k, v)
        seen = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(before[0].shape[1])
        return F.scaled_dot_product_attention(q[None], *self._of_queries(q, k, v),
                                              attn_mask=seen, scale=scale)[0]


class Small:
    """The demo's model (data/README.md). `stress` scales and shifts the keys of some channels, and
    the queries against it, so that the exact model computes what it did before."""

    LAYERS, WIDTH, HEADS, KV_HEADS, DIM, INNER, WORDS = 6, 384, 4, 2, 128, 1024, 4096
    name = "small"
    profile = b""

    def __init__(self, data, stress=None):
        raw = np.fromfile(pathlib.Path(data) / "kvlm12m_fp16.bin", np.float16).astype(np.float32)
        at = 0

        def take(*shape):
            nonlocal at
            part = torch.from_numpy(raw[at : at + math.prod(shape)].reshape(shape))
            at += math.prod(shape)
            return part

        rows = (self.HEADS + 2 * self.KV_HEADS) * self.DIM
        self.embedding = take(self.WORDS, self.WIDTH)
        self.layers = [(take(self.WIDTH), take(self.WIDTH), take(rows, self.WIDTH),
                        take(self.WIDTH, self.HEADS * self.DIM), take(2 * self.INNER, self.WIDTH),
                        take(self.WIDTH, self.INNER)) for _ in range(self.LAYERS)]
        self.last = take(self.WIDTH)
        self.attention = Attention()
        self.stress = stress
        merges = json.loads((pathlib.Path(data) / "merges.json").read_text(encoding="utf-8"))
        self.ranks = {(left, right): new for left, right, new in merges}
        if stress:
            self.name = f"small_{stress}"
            self._make_stress()

    def _make_stress(self):
        """Outlier channels as Llama has them, offsets, and in `qwen` very large ones."""
        numbers = np.random.default_rng(11)
        self.scales, self.offsets = [], []
        half = self.DIM // 2
        for layer in range(self.LAYERS):
            scale, offset = np.ones((self.KV_HEADS, 1, self.DIM)), np.zeros((self.KV_HEADS, 1, self.DIM))
            for head in range(self.KV_HEADS):
                for c in numbers.choice(half, 4, replace=False):
                    scale[head, 0, [c, c + half]] = numbers.uniform(4, 10)
                sizes = [(5, 12)] + [(100, 300)] * (self.stress == "qwen" and layer in (0, self.LAYERS - 1))
                for low, high in sizes:
                    for c in numbers.choice(np.arange(40, half), 4, replace=False):
                        where = c + half * numbers.integers(2)
                        offset[head, 0, where] = numbers.uniform(low, high) * numbers.choice([-1, 1])
            self.scales.append(torch.from_numpy(scale).float())
            self.offsets.append(torch.from_numpy(offset).float())

    def tokens(self, text):
        ids = list(text.encode())
        while True:
            pairs = {(a, b) for a, b in zip(ids, ids[1:])} & self.ranks.keys()
            if not pairs:
                return ids
            best = min(pairs, key=self.ranks.get)
            out, at = [], 0
            while at < len(ids):
                pair = tuple(ids[at : at + 2]) == best
                out.append(self.ranks[best] if pair else ids[at])
                at += 2 if pair else 1
            ids = out

    @staticmethod
    def _norm(x, weight):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight

    def _turn(self, x, first):
        half = self.DIM // 2
        angle = torch.outer(torch.arange(first, first + x.shape[1]).float(),
                            1e4 ** (-torch.arange(0, self.DIM, 2).float() / self.DIM))
        a, b, cos, sin = x[..., :half], x[..., half:], angle.cos(), angle.sin()
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def logits(self, ids, first=0, last=0):
        x = self.embedding[torch.tensor(ids)]
        count = len(ids)
        for layer, (norm, second, qkv, out, up, down) in enumerate(self.layers):
            rows = (self._norm(x, norm) @ qkv.T).reshape(count, -1, self.DIM).transpose(0, 1)
            q, k, v = rows.split([self.HEADS, self.KV_HEADS, self.KV_HEADS])
            q, k = self._turn(q, first), self._turn(k, first)
            if self.stress:
                scale = self.scales[layer]
                q = q / scale.repeat_interleave(self.HEADS // self.KV_HEADS, 0)
                k = k * scale + self.offsets[layer] * k.std()
            done = self.attention(q, k, v, self.DIM**-0.5, layer)
            x = x + done.transpose(0, 1).reshape(count, -1) @ out.T
            gate, value = (self._norm(x, second) @ up.T).split(self.INNER, -1)
            x = x + (F.silu(gate) * value) @ down.T
        return self._norm(x[-last:], self.last) @ self.embedding.T


class SmolLM2:
    """SmolLM2-135M-Instruct by transformers, with its attention exchanged."""

    name = "smollm2"

    def __init__(self, folder, data):
        from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer
        from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

        self.attention = Attention()

        def attend(module, query, key, value, mask, scaling=None, **rest):
            done = self.attention(query[0], key[0], value[0], scaling, module.layer_idx)
            return done.transpose(0, 1)[None].contiguous(), None

        AttentionInterface.register("coded", attend)
        AttentionMaskInterface.register("coded", sdpa_mask)
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="coded").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.layers = range(self.model.config.num_hidden_layers)
        self.profile = (pathlib.Path(data) / "smollm2-135m-instruct.svkprof").read_bytes()

    def tokens(self, text):
        return self.tokenizer(text).input_ids

    def logits(self, ids, first=0, last=0):
        return self.model(torch.tensor(ids)[None], use_cache=False, logits_to_keep=last,
                          position_ids=torch.arange(first, first + len(ids))[None]).logits[0]
