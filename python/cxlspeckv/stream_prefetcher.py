"""Blocks brought to the first tier because of what a stream is guessed to use next."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from cxlspeckv import _core
from cxlspeckv.scoped import Scoped

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from cxlspeckv.store import BlockStore


@dataclasses.dataclass(frozen=True)
class StreamStats:
    """What a stream prefetcher did, in blocks unless it says otherwise.

    `asked` is the sum of `useful`, `late`, `wasted`, `failed` and `outstanding`.
    """

    touched: int  # uses
    missed: int  # of blocks that lay below the first tier, late ones too
    asked: int  # to be promoted, because of a guess
    useful: int  # and were in the first tier when they were used
    late: int  # and were not there yet
    wasted: int  # and went again, or were not used in time
    failed: int  # and did not come: given up for a use, or no room
    outstanding: int  # on their way, or there and not used
    resident: int  # guesses not asked for: in the first tier, or stored nowhere
    repeated: int  # guesses not asked for: asked for already
    unlikely: int  # guesses not asked for: below the confidence
    full: int  # guesses not asked for: too much in flight
    displaced: int  # charged to it: missed blocks that had made room
    delayed: int  # charged to it: blocks on their way when one was missed
    unheard: int  # uses while it was silent
    pauses: int  # how often it fell silent because it lost
    depth: int  # now
    in_flight: int  # bytes
    peak_in_flight: int  # bytes


class StreamPrefetcher(Scoped):
    """Algorithm 1 of the published design before a live store.

    For engines that read a part of their KV at a time (sparse attention, retrieval heads). Streams
    are sequences or heads, numbered by the engine as it likes (0 to 2^64 - 1); of each use of a
    block it says the symbol that is used (a page, a token: 0 to 2^32 - 1) and the block in which
    that lies. What is guessed to be used next is promoted to the first tier. No thread, no pins,
    no waits; silent for a while when it loses. Any thread; it ends with its store at the latest.

    `rule`: how many guesses are looked at, "adaptive" (2 to 8), "fixed" (`depth`) or "bandit" (2,
    4, 6 or 8). `depth`: 1 to 16, where the rule begins. `confidence`: guesses below are left alone,
    0 to 1. `patience`: uses after which what was asked for counts as wasted. `streams` (to 2^20)
    and `symbols` (to 2^28, in 100 bytes each) are remembered at once. `layout`: of all blocks.
    `most_in_flight`: bytes, at least a block. `learning_bytes`: what it may lose before it is
    silent, and never more than the first tier has. `bytes_per_second`: at which the tier below the
    first is read. `lstm`: a weights file of the project's LSTM (docs/lstm-format.md); without one
    each symbol is linked to the one that followed it of late.

    Raises `InvalidArgument`, also in a store of one tier; `Corrupted` and `Unsupported` for the
    weights.
    """

    def __init__(
        self,
        store: BlockStore,
        *,
        rule: Literal["adaptive", "fixed", "bandit"] = "adaptive",
        depth: int = 4,
        confidence: float = 0.1,
        patience: int = 256,
        streams: int = 1024,
        symbols: int = 1 << 18,
        layout: int = 0,
        most_in_flight: int = 256 << 20,
        learning_bytes: int = 64 << 30,
        bytes_per_second: float = 28e9,
        lstm: bytes = b"",
    ) -> None:
        self._core = _core.StreamPrefetcher(
            store._core,
            rule,
            depth,
            confidence,
            patience,
            streams,
            symbols,
            layout,
            most_in_flight,
            learning_bytes,
            bytes_per_second,
            lstm,
        )

    def close(self) -> None:
        """Cancel what has not begun and wait for the rest. Twice is fine; no other call is."""
        self._core.close()

    def _leave(self) -> None:
        self.close()

    def touched(self, stream: int, symbol: int, block: Buffer) -> None:
        """Say that the stream uses `symbol`, which lies in the block of that key, or saved it.

        Best between the beginning of the block's load and the wait for it: what is guessed is
        then queued behind it. A stream that is not known is new; for it the one that was used
        longest ago is forgotten. `NoSpace`: there is no memory, and nothing is asked for.
        """
        self._core.touched(stream, symbol, block)

    def ended(self, stream: int) -> None:
        """Forget the stream, where it is known."""
        self._core.ended(stream)

    def advance(self) -> None:
        """Count what has come; `touched()` does, too."""
        self._core.advance()

    def stats(self) -> StreamStats:
        """What it did so far."""
        return StreamStats(**self._core.stats())
