"""Where an engine's pages lie, and the segments that name them in a transfer.

The pages of a block are strided views of the engine's own memory, one a layer. They are passed on
as they lie: a segment a page, no gather copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cxlspeckv import BlockStore
from cxlspeckv.vllm.facts import PageFacts
from cxlspeckv.vllm.settings import ConfigError

NO_PAGE = -1  # a page of a chunk that this transfer leaves out


@dataclass(frozen=True)
class LayerPages:
    """The pages of one layer: address of page 0, bytes from page to page, how many."""

    address: int
    stride: int
    count: int

    def end(self, page_bytes: int) -> int:
        """The address behind the last page."""
        return self.address + (self.count - 1) * self.stride + page_bytes


def layer_pages(tensors: Sequence[torch.Tensor]) -> list[LayerPages]:
    """Reads addresses and strides off the views (num_blocks, ...). ConfigError: memory of a GPU."""
    found = []
    for tensor in tensors:
        if tensor.device.type != "cpu":
            raise ConfigError(f"the KV cache lies on {tensor.device.type}; pages are read in "
                              "host memory: use CxlSpecKVTier below TieringOffloadingSpec")
        found.append(LayerPages(tensor.data_ptr(), tensor.stride(0) * tensor.element_size(),
                                tensor.shape[0]))
    return found


class PageTable:
    """Makes segment tables. The memory stays attached until close(). Any thread after that."""

    def __init__(self, store: BlockStore, layers: Sequence[LayerPages], facts: PageFacts,
                 owner: object = None) -> None:
        if len(layers) != facts.layers:
            raise ConfigError(f"the engine hands over {len(layers)} layers of pages, and its "
                              f"configuration has {facts.layers}")
        self._store, self._page_bytes = store, facts.page_bytes
        self._per_chunk = facts.blocks_per_chunk
        self._pages = min(layer.count for layer in layers)
        # One region for all: views of one allocation must not be attached thirty times.
        low = min(layer.address for layer in layers)
        high = max(layer.end(facts.page_bytes) for layer in layers)
        whole = sum(layer.count * facts.page_bytes for layer in layers)
        if high - low <= 2 * whole:
            self._regions = [store.attach_address(low, high - low, owner)]
            regions = self._regions * len(layers)
            starts = [layer.address - low for layer in layers]
        else:  # allocations apart from each other
            self._regions = regions = [
                store.attach_address(layer.address, layer.end(facts.page_bytes) - layer.address,
                                     owner) for layer in layers]
            starts = [0] * len(layers)
        self._layer_regions = np.array(regions, np.int64)
        self._starts = np.array(starts, np.int64)
        self._strides = np.array([layer.stride for layer in layers], np.int64)
        # What is left out of a chunk is read into here, and looked at by nobody.
        self._unused = np.zeros(facts.page_bytes if self._per_chunk > 1 else 0, np.uint8)
        if self._per_chunk > 1:
            self._unused_region = store.attach(self._unused)
            self._regions.append(self._unused_region)

    def segments(self, chunks: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """[n, pages] page numbers (or NO_PAGE) -> [n, pages x layers, 3] of region, offset, length.

        ValueError: a number that is no page.
        """
        pages = np.asarray(chunks, np.int64)
        if pages.size and (pages.max() >= self._pages or pages.min() < NO_PAGE):
            raise ValueError(f"pages {pages.min()} to {pages.max()} of {self._pages}")
        n, per_chunk, layers = *pages.shape, len(self._starts)
        table = np.empty((n, per_chunk, layers, 3), np.int64)
        table[..., 0] = self._layer_regions
        table[..., 1] = self._starts + pages[..., None] * self._strides
        table[..., 2] = self._page_bytes
        left_out = pages == NO_PAGE
        if left_out.any():
            table[left_out] = (self._unused_region, 0, self._page_bytes)
        return table.reshape(n, per_chunk * layers, 3)

    def chunks(self, pages: npt.NDArray[np.integer], count: int, first: int
               ) -> npt.NDArray[np.int64]:
        """Deals a run of pages, the first of which is page `first` of its sequence, out to
        `count` chunks: [count, pages], NO_PAGE where a chunk begins before or ends after them.
        """
        table = np.full(count * self._per_chunk, NO_PAGE, np.int64)
        skipped = first % self._per_chunk
        if skipped + len(pages) > len(table):
            raise ValueError(f"{len(pages)} pages from {first} on do not fit {count} chunks")
        table[skipped:skipped + len(pages)] = pages
        return table.reshape(count, self._per_chunk)

    def close(self) -> None:
        """Detaches the memory. Call when no transfer is in flight."""
        for region in self._regions:
            self._store.detach(region)
