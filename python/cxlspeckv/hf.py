"""A cache for Hugging Face transformers whose KV lies in tiers.

    cache = TieredCache(model.config, tiers=["dram:256M", {"uri": "file:/var/cache/kv?size=8G"}])
    model.generate(**inputs, past_key_values=cache)

In the memory of the model there are two layers at a time: the one that attention reads, and the
next one, which is on its way. With the codec `raw` all results are those of the stock cache.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from cxlspeckv._core import BlockLayout
from cxlspeckv.errors import Error, NoSpace, NotFound, Unsupported
from cxlspeckv.operation import Operation
from cxlspeckv.store import BlockStore

_DTYPES = {torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32"}
_KEYS, _VALUES = 0, 1
Open: TypeAlias = Callable[[BlockLayout], BlockStore]


class TieredCache(Cache):
    """Sealed blocks of every layer in the tiers of a store; the last, open one in memory.

    `config`: of the model; all its layers must have full attention, else `Unsupported`.
    `tiers`: as `BlockStore` takes them. `block_tokens`: tokens of a block of one layer.

    Beams share their past. One thread, as all caches. `NoSpace`: the tiers are full. What a
    failing device or a checksum takes away cannot be computed again from here: the call raises
    `DeviceError` or `Corrupted`, and the generation has to start anew. `close()` when done.
    """

    def __init__(
        self, config: Any, tiers: Sequence[str | Mapping[str, Any]], *, block_tokens: int = 64
    ) -> None:
        text = config.get_text_config(decoder=True)
        kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"}:
            raise Unsupported(f"layers of {', '.join(sorted(kinds))}: only full_attention")
        self._desk = _Desk(lambda layout: BlockStore([layout], tiers), block_tokens)
        layers = [_Layer(self._desk) for _ in range(text.num_hidden_layers)]
        self._desk.layers = layers
        super().__init__(layers=layers)

    @property
    def store(self) -> BlockStore | None:
        """The store, for its numbers; None before the first update."""
        return self._desk.store

    @property
    def resident_bytes(self) -> int:
        """How much memory the cache takes outside its tiers."""
        return self._desk.nbytes + sum(layer.nbytes for layer in self._desk.layers)

    def prefetch(self, layer_idx: int, only_non_sliding: bool = True) -> None:
        """Start bringing a layer (round the end to the first) into memory."""
        self._desk.prefetch(self._desk.layers[layer_idx % len(self.layers)])

    def offload(self, layer_idx: int, only_non_sliding: bool = True) -> None:
        """Forget what memory holds of a layer beyond its open block."""
        self._desk.forget(self._desk.layers[layer_idx])

    def close(self) -> None:
        """Give everything back. The cache is empty then, and can be used again."""
        self.reset()
        self._desk.close()


class _Block:
    """A sealed block, in the store for as long as a row of some layer refers to it."""

    __slots__ = ("_pin", "_store", "key")

    def __init__(self, store: BlockStore, key: bytes) -> None:
        self.key, self._store, self._pin = key, store, store.retain(key)

    def __del__(self) -> None:
        pin = getattr(self, "_pin", None)
        if pin is not None and not self._store.closed:
            pin.release()
            self._store.erase(self.key)


class _Page:
    """Room for one layer, [K and V, row, head, token, channel], lent to the store."""

    def __init__(self, store: BlockStore, shape: tuple[int, ...], like: torch.Tensor) -> None:
        self.kv = torch.empty(shape, dtype=like.dtype)
        self.region = store.attach(self.kv)
        self.holds: _Layer | None = None  # whose sealed blocks are in it, or on their way
        self.loading: Operation | None = None

    def settle(self) -> None:
        """Wait for what is on its way. Raises the `Error` of a load that failed."""
        operation, self.loading = self.loading, None
        if operation is not None:
            holds, self.holds = self.holds, None
            operation.wait()
            self.holds = holds

    def forget(self) -> None:
        """Wait for what is on its way, whatever becomes of it."""
        with contextlib.suppress(Error):
            self.settle()
        self.holds = None

    def segments(self, rows: int, first: int, count: int, tokens: int) -> np.ndarray[Any, Any]:
        """Where blocks [first, first + count) of each row lie: [row * block, K/V * head, 3]."""
        _, _, heads, room, channels = self.kv.shape
        step = tokens * channels * self.kv.element_size()  # of one head of one block
        head = room * channels * self.kv.element_size()
        plane = self.kv.shape[1] * heads * head
        offsets = (
            np.arange(rows)[:, None, None, None] * heads * head
            + np.arange(first, first + count)[:, None, None] * step
            + np.arange(2)[:, None] * plane
            + np.arange(heads) * head
        ).reshape(rows * count, 2 * heads)
        return np.stack(
            [np.full_like(offsets, self.region), offsets, np.full_like(offsets, step)], axis=-1
        )


class _Desk:
    """What all layers share: the store, and two pages that they take turns with."""

    def __init__(self, open_store: Open, tokens: int) -> None:
        self.layers: list[_Layer] = []
        self.tokens = tokens
        self.store: BlockStore | None = None
        self._open = open_store
        self._pages: list[_Page] = []
        self._reading = 0  # the page that attention reads

    @property
    def nbytes(self) -> int:
        return sum(page.kv.nbytes for page in self._pages)

    def take(self, layer: _Layer, like: torch.Tensor, length: int) -> _Page:
        """Return a page with the sealed blocks of a layer, and room for `length` tokens."""
        self._make_room(like, length)
        if self._pages[1 - self._reading].holds is layer:
            self._reading = 1 - self._reading
        page = self._pages[self._reading]
        if page.holds is not layer:
            self._fetch(page, layer)
        page.settle()
        return page

    def prefetch(self, layer: _Layer) -> None:
        """Start loading into the page that is not being read."""
        if self._pages and all(page.holds is not layer for page in self._pages):
            self._fetch(self._pages[1 - self._reading], layer)

    def prefetch_after(self, layer: _Layer) -> None:
        self.prefetch(self.layers[(self.layers.index(layer) + 1) % len(self.layers)])

    def forget(self, layer: _Layer) -> None:
        """Give up pages that hold what a layer was."""
        for page in self._pages:
            if page.holds is layer:
                page.forget()

    def save(self, page: _Page, rows: int, first: int, count: int) -> list[list[_Block]]:
        """Seal blocks of a page, by row. Raises `NoSpace`."""
        assert self.store is not None
        # Named by chance: without the tokens there is nothing to name them after.
        names = os.urandom(16 * rows * count)
        operation = self.store.save(names, page.segments(rows, first, count, self.tokens))
        operation.wait()
        keys = [names[at : at + 16] for at in range(0, len(names), 16)]
        try:
            blocks = [_Block(self.store, key) for key in keys]
        except NotFound as error:  # evicted for the blocks after it
            raise NoSpace("the tiers are too small for what the cache holds") from error
        return [blocks[row * count : (row + 1) * count] for row in range(rows)]

    def close(self) -> None:
        for page in self._pages:
            page.forget()
        self._pages.clear()
        if self.store is not None:
            self.store.close()
            self.store = None

    def _fetch(self, page: _Page, layer: _Layer) -> None:
        page.forget()
        page.holds = layer
        sealed = len(layer.rows[0]) if layer.rows else 0
        if sealed and self.store is not None:
            keys = b"".join(block.key for row in layer.rows for block in row)
            places = page.segments(len(layer.rows), 0, sealed, self.tokens)
            page.loading = self.store.load(keys, places)

    def _make_room(self, like: torch.Tensor, length: int) -> None:
        rows, heads, _, channels = like.shape
        if self.store is None:
            if like.dtype not in _DTYPES:
                raise Unsupported(f"values of {like.dtype}")
            layout = BlockLayout(
                layers=1, kv_heads=heads, head_dim=channels, tokens=self.tokens,
                dtype=_DTYPES[like.dtype],
            )  # fmt: skip
            self.store = self._open(layout)
        shape = self._pages[0].kv.shape if self._pages else (0, 0, 0, 0, 0)
        if shape[1] == rows and shape[3] >= length:
            return
        room = length + max(length // 8, self.tokens)  # so that this is rare
        for page in self._pages:
            page.forget()
            self.store.detach(page.region)
        self._pages.clear()
        for _ in range(2):
            self._pages.append(_Page(self.store, (2, rows, heads, room, channels), like))


class _Layer(CacheLayerMixin):
    """One layer: its sealed blocks by row of the batch, and the tokens after them."""

    is_sliding = False
    is_croppable = True
    supports_early_init = False

    def __init__(self, desk: _Desk) -> None:
        super().__init__()
        self._desk = desk
        self.rows: list[list[_Block]] = []
        self._tail: torch.Tensor | None = None  # [K and V, row, head, token, channel]
        self._length = 0

    @property
    def nbytes(self) -> int:
        return 0 if self._tail is None else self._tail.nbytes

    @property
    def batch_size(self) -> int:
        return len(self.rows)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Learn the shape from the first states."""
        if key_states.shape != value_states.shape:
            raise Unsupported("K and V of different shapes")
        rows, heads, _, channels = key_states.shape
        self.rows = [[] for _ in range(rows)]
        self._tail = torch.empty((2, rows, heads, 0, channels), dtype=key_states.dtype)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append states [row, head, token, channel], and return all there are."""
        if self._tail is None:
            self.lazy_initialization(key_states, value_states)
        assert self._tail is not None
        tokens, sealed = self._desk.tokens, self._sealed()
        length = self._length + key_states.shape[-2]
        page = self._desk.take(self, key_states, length)
        page.kv[:, :, :, sealed : self._length] = self._tail
        page.kv[_KEYS, :, :, self._length : length] = key_states
        page.kv[_VALUES, :, :, self._length : length] = value_states
        full = length // tokens - sealed // tokens
        if full:
            sealing = self._desk.save(page, len(self.rows), sealed // tokens, full)
            for row, blocks in zip(self.rows, sealing, strict=True):
                row += blocks
        self._length = length
        self._tail = page.kv[:, :, :, self._sealed() : length].clone()
        self._desk.prefetch_after(self)
        keys, values = page.kv[:, :, :, :length].to(key_states.device)
        return keys, values

    def prefetch(self) -> None:
        """Start bringing this layer into memory."""
        self._desk.prefetch(self)

    def offload(self) -> None:
        """Forget what memory holds of it beyond its open block."""
        self._desk.forget(self)

    def get_seq_length(self) -> int:
        """Return how many tokens there are."""
        return self._length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length that attention will see, and where it begins."""
        return self._length + query_length, 0

    def get_max_length(self) -> int:
        """Return that there is none but the tiers' capacity."""
        return -1

    def reset(self) -> None:
        """Forget everything."""
        self._desk.forget(self)
        self.rows, self._tail, self._length = [], None, 0
        self.is_initialized = False

    def crop(self, tokens_to_remove: int) -> None:
        """Forget tokens at the end: so many if negative, all beyond that length if positive."""
        length = self._length + tokens_to_remove if tokens_to_remove <= 0 else tokens_to_remove
        length = max(length, 0)
        if length >= self._length or self._tail is None:
            return
        kept = length // self._desk.tokens
        if kept < self._sealed() // self._desk.tokens:  # a sealed block is opened again
            page = self._desk.take(self, self._tail[_KEYS], self._length)
            self._tail = page.kv[:, :, :, kept * self._desk.tokens : length].clone()
            for row in self.rows:
                del row[kept:]
            self._desk.forget(self)
        else:
            self._tail = self._tail[:, :, :, : length - self._sealed()].clone()
        self._length = length

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Make row i what row beam_idx[i] was. Sealed blocks are shared, not copied."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, in this order."""
        if self._tail is None:
            return
        chosen = torch.arange(len(self.rows))[indices.cpu()]  # of numbers or of truth values
        self._desk.forget(self)
        self.rows = [list(self.rows[i]) for i in chosen.tolist()]
        self._tail = self._tail[:, chosen]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row so many times."""
        self.batch_select_indices(torch.arange(len(self.rows)).repeat_interleave(repeats))

    def _sealed(self) -> int:
        """How many tokens are in sealed blocks."""
        return len(self.rows[0]) * self._desk.tokens if self.rows else 0
