"""The tiered allocator: the KV of one request as it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cxlspeckv import _core
from cxlspeckv._core import View
from cxlspeckv.errors import InvalidArgument
from cxlspeckv.scoped import Scoped

if TYPE_CHECKING:
    from cxlspeckv._core import Tokens
    from cxlspeckv.store import BlockStore


class Sequence(Scoped):
    """Sealed blocks in any tier, shared with other sequences, and an open tail in the fastest.

    It holds a reference to each of its blocks: they may move down, but are not forgotten while
    it lives. Any thread; calls on one sequence wait for each other. `model` names weights and
    rank layout, `salt` keeps tenants apart: both are part of every key. Tier 0 must be memory
    with the raw codec, else `Unsupported`.
    """

    def __init__(
        self,
        store: BlockStore,
        *,
        layout: int = 0,
        model: str = "",
        salt: bytes = b"",
        tenant: int = 0,
    ) -> None:
        self._store = store
        self._layout = store.layouts[layout]
        self._core = _core.Sequence(store._core, layout, model, salt, tenant)

    def release(self) -> None:
        """Let go of its blocks now; no other call is good from then on. `Busy`: has views."""
        self._core.release()

    def _leave(self) -> None:
        self.release()

    def __len__(self) -> int:
        """How many tokens it has."""
        return self._core.size

    @property
    def tail_first(self) -> int:
        """The position of the tail's first token: how many tokens are sealed."""
        return self._core.tail_first

    @property
    def keys(self) -> bytes:
        """The keys of the sealed blocks, 16 bytes each."""
        return self._core.keys

    @property
    def tokens(self) -> npt.NDArray[np.uint32]:
        """The tokens, as appended and adopted."""
        return self._core.tokens

    def adopt(self, tokens: Tokens) -> int:
        """Take over stored blocks with the front of `tokens`; how many tokens that covers.

        Whole blocks only. Raises `InvalidArgument` unless the sequence is empty.
        """
        return self._core.adopt(tokens)

    def append(self, tokens: Tokens) -> int:
        """Make room for tokens in the tail, at most what it has left, and say how many.

        A full tail is sealed first. `NoSpace`: everything in the fastest tier is held.
        """
        return self._core.append(tokens)

    def write(self, layer: int, position: int, rows: npt.NDArray[np.generic]) -> None:
        """Write the KV of tokens from `position` on, which must lie in the tail, for one layer.

        `rows`: a contiguous array of the layout's dtype, shaped as `codecs.layer_shape` says with
        as many tokens as are written instead of the block's ([K and V, head, token, channel]).
        """
        tail = self._core.tail_first
        if not tail <= position < len(self) or position + self._tokens_of(rows) > len(self):
            raise InvalidArgument(f"rows for positions that are not in the tail: {position}")
        self._core.write(layer, position - tail, rows)

    def _tokens_of(self, rows: npt.NDArray[np.generic]) -> int:
        return rows.nbytes * self._layout.tokens // self._layout.layer_bytes

    def seal(self) -> None:
        """Seal a full tail now. `InvalidArgument`: it is not full."""
        self._core.seal()

    def fork(self) -> Sequence:
        """Return a sequence with the same past. Sealed blocks are shared, the tail is copied."""
        fork = Sequence.__new__(Sequence)
        fork._store, fork._layout, fork._core = self._store, self._layout, self._core.fork()
        return fork

    def truncate(self, size: int) -> None:
        """Forget tokens from `size` on."""
        self._core.truncate(size)

    def stage(self) -> None:
        """Ask for what `view()` would bring, and return at once. `Busy`: try later."""
        self._core.stage()

    def view(self, first_block: int = 0, count: int = 0) -> View:
        """Bring blocks into the fastest tier and hold them: what attention reads.

        `count` 0 means to the end, with the tail. `NoSpace`: they do not fit together.
        """
        return self._core.view(self._store._core, first_block, count)
