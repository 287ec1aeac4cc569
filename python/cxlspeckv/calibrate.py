"""Measure what the `hxp` codecs want to know of a model: `python -m cxlspeckv profile`.

A profile (docs/profile-format.md) holds, for each layer and head: how large queries are in each
channel, where keys and values lie on average, what makes a token matter, and what it costs to
spend so many bytes there. All come from a few texts that go through the model once forward and a
few times backward; four texts or more of 1,500 tokens, of the kinds that the model reads, serve
best. PyTorch and transformers are needed here, and nowhere else.

How much a value matters is the diagonal Fisher information: the mean square of the derivative of
the log probability of labels drawn from the model itself. Twice as much information times squared
error is twice the divergence of the model's answers. What a slot loses is measured on texts that
the rest of the profile does not know: each is coded under what the others gave.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import cxlspeckv as kv
from cxlspeckv import _core, codecs

Floats = npt.NDArray[np.float64]

SINK, BLOCK = 4, 64  # first tokens, which stay uncoded; tokens of a block
RIDGE, SHARE, STRENGTH = 0.1, 0.01, 0.75  # of the gains' regression
OPEN_TOKENS = SINK + 14 * BLOCK  # of the pass that leaves a query's own block as it is
TARGETS = (3360, 4096, 5120)  # bytes of 8192 values: ratios of 4.88, 4.00 and 3.20
TABLE_SLOTS = (2048, 2560, 3072, 3584, 4096, 4608, 5632, 7168)


class Measured:
    """What passes over the texts gave. Arrays are [layer][K, V][head] and what follows."""

    def __init__(self, layers: int, heads: int) -> None:
        self.shape = (layers, 2, heads)
        self.queries: list[Floats] = []  # of a text: mean squares [layer][head][channel]
        self.values: list[npt.NDArray[np.float16]] = []  # of a text: + [token][channel]
        self.closed: list[Floats] = []  # Fisher information of a text, likewise
        self.open: list[Floats] = []  # the same, where a query sees its own block as it is


class Calibration:
    """A Hugging Face model whose attention can be looked at."""

    def __init__(self, name: str, draws: int) -> None:
        import torch
        from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer
        from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

        self.torch, self.draws = torch, draws
        AttentionInterface.register("calibrated", self._attend)
        AttentionMaskInterface.register("calibrated", sdpa_mask)
        self.model = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, attn_implementation="calibrated"
        ).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.tokenizer = AutoTokenizer.from_pretrained(name)
        config = self.model.config
        self.layers = int(config.num_hidden_layers)
        self.heads = int(config.num_key_value_heads)
        self.channels = int(
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        rotary = self.model.get_decoder().rotary_emb
        self.turns = rotary.inv_freq.double().numpy() / (2 * np.pi)  # of a pair, a position
        base = getattr(config, "rope_theta", None) or (config.rope_parameters or {}).get(
            "rope_theta", 0
        )
        self.rope_base = int(base)
        self.exact_own = False
        self.layer = 0
        self.seen: list[tuple[Any, Any, Any]] = []
        self.squares = np.zeros((self.layers, self.heads, self.channels))

    def _attend(
        self, module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **_: Any
    ) -> tuple[Any, None]:
        functional = self.torch.nn.functional
        k, v = key[0].half().float(), value[0].half().float()
        dk, dv = (self.torch.zeros_like(x, requires_grad=True) for x in (k, v))
        self.seen.append((self.torch.stack([k, v]).detach(), dk, dv))
        groups = query.shape[1] // k.shape[0]
        square = (query[0, :, SINK:].detach().double() ** 2).mean(1)
        self.squares[module.layer_idx] += square.reshape(k.shape[0], groups, -1).mean(1).numpy()
        if self.exact_own:
            return self._open(query[0], k, v, dk, dv, scaling), None
        many = (x.repeat_interleave(groups, 0)[None] for x in (k + dk, v + dv))
        done = functional.scaled_dot_product_attention(query, *many, is_causal=True, scale=scaling)
        return done[0].transpose(0, 1)[None], None

    def _open(self, query: Any, k: Any, v: Any, dk: Any, dv: Any, scaling: float) -> Any:
        """As a cache does whose last block is still open: a query sees its own block exactly."""
        torch = self.torch
        tokens, groups = k.shape[1], query.shape[0] // k.shape[0]
        place = torch.arange(tokens)
        block = torch.where(place >= SINK, (place - SINK) // BLOCK, -1)
        own = (block[:, None] == block[None]) & (place[:, None] >= SINK)
        later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        k, v, dk, dv = (x.repeat_interleave(groups, 0) for x in (k, v, dk, dv))
        score = query @ k.transpose(1, 2) + (query @ dk.transpose(1, 2)).masked_fill(own, 0)
        weight = (score * scaling).masked_fill(later, -1e30).softmax(-1)
        done = weight @ v + weight.masked_fill(own, 0) @ dv
        return done.transpose(0, 1)[None]

    def fisher(self, ids: list[int], exact_own: bool, bar: Any) -> tuple[Any, Floats]:
        """K and V [layer][K, V][head][token][channel] of a text, and their information."""
        torch = self.torch
        self.exact_own, self.seen = exact_own, []
        self.squares = np.zeros((self.layers, self.heads, self.channels))
        logits = self.model(torch.tensor(ids)[None], use_cache=False).logits[0]
        logs = torch.log_softmax(logits, -1)
        bar.update()
        leaves = [x for _, dk, dv in self.seen for x in (dk, dv)]
        squares = [torch.zeros_like(x) for x in leaves]
        chances = logs.detach().exp()
        for draw in range(self.draws):
            label = torch.multinomial(chances, 1)
            total = logs.gather(1, label).sum()
            for sum_, slope in zip(
                squares,
                torch.autograd.grad(total, leaves, retain_graph=draw + 1 < self.draws),
                strict=True,
            ):
                sum_ += slope * slope / self.draws
            bar.update()
        values = torch.stack([both for both, _, _ in self.seen]).half().numpy()
        shape = (self.layers, 2, *squares[0].shape)
        return values, torch.stack(squares).double().numpy().reshape(shape)

    def measure(self, texts: list[list[int]], bar: Any) -> Measured:
        """Everything that takes passes through the model."""
        measured = Measured(self.layers, self.heads)
        self.torch.manual_seed(1)
        for ids in texts:
            values, closed = self.fisher(ids, False, bar)
            measured.queries.append(self.squares)
            measured.values.append(values[:, :, :, SINK:])
            measured.closed.append(closed[:, :, :, SINK:] / len(ids))
            _, opened = self.fisher(ids[:OPEN_TOKENS], True, bar)
            count = min(len(ids), OPEN_TOKENS)
            measured.open.append(opened[:, :, :, SINK:] / count)
        return measured


def unrotated(keys: Floats, turns: Floats) -> Floats:
    """Keys [..., token, channel] from position SINK on, as they were before their rotation."""
    pairs = len(turns)
    angle = -2 * np.pi * np.outer(np.arange(keys.shape[-2]) + SINK, turns)
    a, b = keys[..., :pairs], keys[..., pairs : 2 * pairs]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate(
        [a * cos - b * sin, b * cos + a * sin, keys[..., 2 * pairs :]], axis=-1
    )


def away(x: Floats) -> Floats:
    """[token, ...] of whole blocks, without the mean over each block."""
    cut = x[: len(x) // BLOCK * BLOCK].reshape(-1, BLOCK, *x.shape[1:])
    rest: Floats = (cut - cut.mean(1, keepdims=True)).reshape(-1, *x.shape[1:])
    return rest


def log_energy(x: Floats) -> Floats:
    """Of rows: the logarithm of their energy in sixteenths of an octave, as the codec has it."""
    logs: Floats = 16 * np.log2(np.maximum((x * x).sum(-1), 1e-12))
    return logs


def features(k: Floats, v: Floats) -> Floats:
    """[token][3 + 2 channels]: log sizes of V and K, the former squared, K, V."""
    scale, middle = np.log(2) / 32, 16 * np.log2(k.shape[-1])
    size_v, size_k = (scale * (log_energy(x) - middle) for x in (v, k))
    return np.concatenate([np.stack([size_v, size_k, size_v * size_v], 1), k, v], axis=1)


def predictor(values: list[Floats], information: list[Floats]) -> Floats:
    """Weights of `features` for the logarithm of a token's information, by ridge regression.

    values: [K, V][token][channel] of texts; information: [token] of texts.
    """
    rows = np.concatenate([away(features(*text)) for text in values])
    wanted = np.concatenate([away(np.log(x + SHARE * x.mean())) for x in information])
    spread = rows.std(0) + 1e-9
    rows = rows / spread
    square = rows.T @ rows + RIDGE * len(rows) * np.eye(rows.shape[1])
    weights: Floats = np.linalg.solve(square, rows.T @ wanted) / spread
    return weights


def whole(weights: Floats) -> tuple[int, npt.NDArray[np.int16]]:
    """(exponent, numbers of 16 bits): weights = numbers * 2^exponent, nearly."""
    largest = float(np.abs(weights).max())
    exponent = int(np.clip(np.ceil(np.log2(max(largest, 1e-30) / 32767)), -100, 100))
    numbers = np.clip(np.round(weights * 2.0**-exponent), -32767, 32767)
    return exponent, numbers.astype(np.int16)


def gain_weights(weights: Floats) -> tuple[list[int], npt.NDArray[np.int16]]:
    """What the codec adds up, in 2^-14 octaves of a token's step, from `predictor`'s weights."""
    channels = (len(weights) - 3) // 2
    weights = weights * (STRENGTH / 2 / np.log(2) * 2**14)
    scale, middle = np.log(2) / 32, 16 * np.log2(channels)
    linear = weights[0] * scale - 2 * middle * scale**2 * weights[2]
    parts = [
        whole(np.array([linear, weights[1] * scale])),
        whole(np.array([weights[2] * scale**2, 0])),
        whole(weights[3 : 3 + channels]),
        whole(weights[3 + channels :]),
    ]
    return [exponent for exponent, _ in parts], np.concatenate([part for _, part in parts])


def kivi4(values: npt.NDArray[np.float16], axis: int) -> Floats:
    """Squared errors of KIVI's 4 bits: groups of 32 along an axis, between their ends in f16."""
    x = np.moveaxis(values.astype(float), axis, -1)
    group = 32 if x.shape[-1] % 32 == 0 else 16
    cut = x.reshape(*x.shape[:-1], -1, group)
    low, high = cut.min(-1, keepdims=True), cut.max(-1, keepdims=True)
    step = np.maximum(((high - low) / 15).astype(np.float16), np.float16(6e-8)).astype(float)
    low = low.astype(np.float16).astype(float)
    back = np.clip(np.round((cut - low) / step), 0, 15) * step + low
    squares: Floats = np.moveaxis(((back - cut) ** 2).reshape(x.shape), -1, axis)
    return squares


def logs_over(tables: Floats, yardstick: Floats) -> npt.NDArray[np.int16]:
    """Logarithms for the file, in 256ths of an octave, of losses over a yardstick's.

    tables: [way][...], yardstick: [way], the same ways of looking at a block; each counts alike.
    """
    whole = yardstick.reshape(-1, *(1,) * (tables.ndim - 1))
    logs = 256 * np.log2(np.maximum((tables / whole).mean(0), 1e-30))
    numbers: npt.NDArray[np.int16] = np.clip(np.round(logs), -32768, 32767).astype("<i2")
    return numbers


class Profile:
    """The parts of the file, being made."""

    def __init__(self, model: Calibration, name: str, parts: list[bytes]) -> None:
        self.model, self.name, self.parts = model, name, [*parts, b"", b""][:9]
        self.tokenizer = model.tokenizer.backend_tokenizer.to_str().encode()

    @classmethod
    def of_passes(
        cls, model: Calibration, name: str, measured: Measured, texts: Sequence[int]
    ) -> Profile:
        """All but slots and losses, of those of the texts."""
        layers, _, heads = measured.shape
        all_values = [measured.values[text] for text in texts]
        all_closed = [measured.closed[text] for text in texts]
        queries = np.mean([measured.queries[text] for text in texts], axis=0)
        d = model.channels
        steps = np.zeros((layers, 2, heads, d), np.int8)
        logs = -0.5 * np.log2(np.maximum(queries, 1e-20))
        logs -= logs.mean(-1, keepdims=True)
        steps[:, 0] = np.clip(np.round(16 * logs), -127, 127)
        means = np.zeros((layers, 2, heads, d), "<f2")
        exponents = np.zeros((layers, 2, heads, 4), np.int8)
        weights = np.zeros((layers, 2, heads, 4 + 2 * d), "<i2")
        for layer in range(layers):
            keys = [unrotated(x[layer, 0].astype(float), model.turns) for x in all_values]
            means[layer, 0] = np.concatenate(keys, 1).mean(1)
            values = [x[layer, 1].astype(float) for x in all_values]
            means[layer, 1] = np.concatenate(values, 1).mean(1)
            for head in range(heads):
                pairs = [x[layer, :, head].astype(float) for x in all_values]
                for which in range(2):
                    known = [x[layer, which, head].sum(-1) for x in all_closed]
                    found = gain_weights(predictor(pairs, known))
                    exponents[layer, which, head], weights[layer, which, head] = found
        frequencies = np.round(model.turns * 2**32).astype("<u4")
        none = np.zeros(0, "<u2")
        parts = (frequencies, none, none, steps, means, exponents, weights)
        return cls(model, name, [part.tobytes() for part in parts])

    @classmethod
    def of_file(cls, model: Calibration, name: str, file: bytes) -> Profile:
        """As it is. Raises `Corrupted`, and `InvalidArgument` if it is another model's."""
        profile = cls(model, name, _core.profile_parts(file))
        if codecs.profile_shape(file)["model"] != codecs.profile_model(name, profile.tokenizer):
            raise kv.InvalidArgument(f"the profile is not one of {name} and its tokenizer")
        return profile

    def file(self) -> bytes:
        """The file of the parts as they are."""
        model = self.model
        parts = self.parts if self.parts[7] else self.parts[:7]
        return _core.write_profile(
            model.layers, model.heads, model.channels, model.rope_base, self.name,
            self.tokenizer, parts,
        )  # fmt: skip

    def errors(
        self, values: npt.NDArray[np.float16], codec: str, file: bytes
    ) -> Iterator[tuple[int, Floats]]:
        """(layer, squared errors [K, V][head][token][channel]) of a text, coded in whole blocks."""
        model = self.model
        layout = kv.BlockLayout(
            layers=model.layers, kv_heads=model.heads, head_dim=model.channels, tokens=BLOCK,
            dtype="f16",
        )  # fmt: skip
        for layer, plain in enumerate(values):
            squares = np.zeros(plain.shape)
            for at in range(0, plain.shape[2] // BLOCK * BLOCK, BLOCK):
                part = np.ascontiguousarray(plain[:, :, at : at + BLOCK])
                known: dict[str, Any] = {"layer": layer, "profile": file}
                known["first_position"] = SINK + at
                coded = codecs.encode(codec, layout, part, **known)
                back = codecs.decode(codec, layout, coded, **known)
                squares[:, :, at : at + BLOCK] = (back.astype(float) - part.astype(float)) ** 2
            yield layer, squares

    def add_losses(self, measured: Measured, files: list[bytes], bar: Any) -> None:
        """What each head of each layer loses at each of TABLE_SLOTS, over KIVI-4's whole loss.

        files: the profile under which each text is coded.
        """
        tables, yardstick = np.zeros((2, *measured.shape, len(TABLE_SLOTS))), np.zeros(2)
        for text, values in enumerate(measured.values):
            ways = (measured.closed[text], measured.open[text])
            for i, slot in enumerate(TABLE_SLOTS):
                for layer, squares in self.errors(values, f"hxp?slot={slot}", files[text]):
                    for way, known in enumerate(ways):
                        lost = squares[:, :, : known.shape[3]] * known[layer]
                        tables[way, layer, :, :, i] += lost.sum((2, 3))
                    bar.update()
            whole = values[:, :, :, : values.shape[3] // BLOCK * BLOCK]
            squares = np.stack([kivi4(whole[:, 0], 2), kivi4(whole[:, 1], 3)], axis=1)
            for way, known in enumerate(ways):
                count = min(squares.shape[3], known.shape[3])
                yardstick[way] += (squares[:, :, :, :count] * known[:, :, :, :count]).sum()
        self.parts[7] = np.array(TABLE_SLOTS, "<u2").tobytes()
        self.parts[8] = logs_over(tables, yardstick).tobytes()

    def add_slots(self) -> None:
        """Slots for TARGETS, as the library allocates them by the losses."""
        model = self.model
        values, file = model.layers * 2 * model.heads * model.channels, self.file()
        plans = [
            codecs.profile_plan(file, f"hxp?bytes_per_token={values * target // 8192}")
            for target in TARGETS
        ]
        self.parts[1] = np.array(TARGETS, "<u2").tobytes()
        self.parts[2] = np.stack([plan.slots for plan in plans]).astype("<u2").tobytes()


def main(words: list[str]) -> int:
    """Run `python -m cxlspeckv profile`."""
    parser = argparse.ArgumentParser(
        prog="python -m cxlspeckv profile", description="Measure a model for the hxp codecs."
    )
    parser.add_argument("model", help="a Hugging Face model: a folder or a name")
    parser.add_argument("texts", nargs="+", type=pathlib.Path, help="what it usually reads")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    parser.add_argument("--name", help="what the profile says of which model it is")
    parser.add_argument("--tokens", type=int, default=1540, help="of each text, at most")
    parser.add_argument("--draws", type=int, default=4, help="of labels, for the information")
    parser.add_argument(
        "--extend", type=pathlib.Path, metavar="PROFILE",
        help="keep this one, under which blocks may have been coded, and add losses to it",
    )  # fmt: skip
    arguments = parser.parse_args(words)
    try:
        from tqdm import tqdm

        model = Calibration(arguments.model, arguments.draws)
    except ImportError as missing:
        print(f"profile: {missing}; pip install torch transformers", file=sys.stderr)
        return 1
    texts = [
        model.tokenizer(path.read_text(encoding="utf-8")).input_ids[: arguments.tokens]
        for path in arguments.texts
    ]
    if min(map(len, texts)) < SINK + 4 * BLOCK:
        print(f"profile: a text has fewer than {SINK + 4 * BLOCK} tokens", file=sys.stderr)
        return 1
    name = arguments.name or pathlib.PurePath(arguments.model).name
    profile = None
    if arguments.extend is not None:
        profile = Profile.of_file(model, name, arguments.extend.read_bytes())
    passes = 2 * len(texts) * (1 + arguments.draws)
    with tqdm(total=passes, desc="passes", unit="pass") as bar:
        measured = model.measure(texts, bar)
    every = range(len(texts))
    made = profile or Profile.of_passes(model, name, measured, every)
    files = [made.file()] * len(texts)
    if profile is None and len(texts) > 1:
        others = [[other for other in every if other != text] for text in every]
        files = [Profile.of_passes(model, name, measured, known).file() for known in others]
    total = len(TABLE_SLOTS) * len(texts) * model.layers
    with tqdm(total=total, desc="losses", unit="layer") as bar:
        made.add_losses(measured, files, bar)
    if profile is None:
        made.add_slots()
    file = made.file()
    arguments.output.write_bytes(file)
    print(f"{arguments.output}: {len(file)} bytes, {kv.codecs.profile_shape(file)}")
    return 0
