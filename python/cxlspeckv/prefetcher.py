"""KV brought to a faster tier before it is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cxlspeckv import _core
from cxlspeckv.scoped import Scoped

if TYPE_CHECKING:
    from cxlspeckv._core import Keys
    from cxlspeckv.store import BlockStore


@dataclasses.dataclass(frozen=True)
class PrefetchSource:
    """What one source of speculation did, in bytes of plain blocks unless it says otherwise.

    `staged` is the sum of `useful` (there when the session returned), `late` (on its way then),
    `wasted` (went again, or nobody came in time) and `unread` (waits).
    """

    chunks: int  # begun
    displaced: int  # chunks given up for a request
    staged: int
    useful: int
    late: int
    wasted: int
    unread: int
    pauses: int  # times that it was silenced because it lost
    retained: int  # kept by the first tier, each time that its policy would have given it up


@dataclasses.dataclass(frozen=True)
class PrefetchStats:
    """What a prefetcher did and holds in mind."""

    learned: PrefetchSource
    hinted: PrefetchSource
    in_flight: int  # bytes
    peak_in_flight: int  # bytes
    sessions: int  # remembered
    blocks: int  # of their chains together
    failed: int  # chunks of which nothing could be moved


class Prefetcher(Scoped):
    """Promotes what sessions will need in the pauses between their requests.

    A session is a conversation or an agent, numbered by the engine as it likes (0 to 2^64 - 1).
    The prefetcher has no thread and pins nothing: what is due is done in any call, and `advance()`
    is for when no other is made. Any thread; it ends with its store at the latest.

    `learned`: a predictor of returns is listened to, which learns from what it is told; not by
    default, since most of what it stages may be for nothing. `hinted`: `hint()` is. With neither it
    is off and does nothing. `layout`: of all blocks. `chunk_bytes`: one promotion;
    `most_in_flight`: bytes of all of them. `learning_bytes`: what a source may waste before it is
    silent, and never more than the first tier has. `hint_life`: seconds after its time that a hint
    is believed; `unread_life`: what was staged without one counts as wasted then. `sessions` (to
    65536) and `blocks` (to 2^28) are remembered at once. `bytes_per_second`: at which each tier is
    read, or, of the first, filled; empty: 64e9, 28e9, and 7e9 for the others. `stage`: what is
    expected is promoted; `retain`: the first tier gives it up last, for the first of a store's
    prefetchers that would have it so.

    Raises `InvalidArgument`, also in a store of one tier.
    """

    def __init__(
        self,
        store: BlockStore,
        *,
        learned: bool = False,
        hinted: bool = True,
        layout: int = 0,
        chunk_bytes: int = 64 << 20,
        most_in_flight: int = 256 << 20,
        learning_bytes: int = 64 << 30,
        hint_life: float = 10.0,
        unread_life: float = 600.0,
        sessions: int = 4096,
        blocks: int = 1 << 20,
        bytes_per_second: Sequence[float] = (),
        stage: bool = True,
        retain: bool = True,
    ) -> None:
        self._core = _core.Prefetcher(
            store._core,
            learned,
            hinted,
            layout,
            chunk_bytes,
            most_in_flight,
            learning_bytes,
            hint_life,
            unread_life,
            sessions,
            blocks,
            list(bytes_per_second),
            stage,
            retain,
        )

    def close(self) -> None:
        """Cancel what has not begun and wait for the rest. Twice is fine; no other call is."""
        self._core.close()

    def _leave(self) -> None:
        self.close()

    def finished(
        self,
        session: int,
        keys: Keys,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        brings_tool_result: bool = False,
        stops_for_tool: bool = False,
        calls_tool: bool = False,
        sub_agent: bool = False,
    ) -> None:
        """Say that a request is finished, and the keys of its sealed blocks from the first on.

        A session that is not known is new; for it the one that was silent for longest may be
        forgotten. The rest is for the predictor. `InvalidArgument`: more keys than `blocks`.
        `NoSpace`: what could be forgotten for it is in use; its chain is not remembered.
        """
        self._core.finished(
            session,
            keys,
            input_tokens,
            output_tokens,
            brings_tool_result,
            stops_for_tool,
            calls_tool,
            sub_agent,
        )

    def arrived(self, session: int) -> None:
        """Say that a request of the session arrived, before its blocks are loaded.

        What is under way on links that it needs is given up. `NotFound`: nothing is known of the
        session, which may be its first request.
        """
        self._core.arrived(session)

    def hint(self, session: int, eta: float, confidence: float = 1.0) -> None:
        """Say that the session is needed in `eta` seconds; the last word counts.

        Confidence 0 takes it back. `InvalidArgument`: `eta` is negative or not finite, or
        `confidence` is not in 0..1. `NotFound`: nothing is known of the session.
        """
        self._core.hint(session, eta, confidence)

    def ended(self, session: int) -> None:
        """Say that the session does not return. `NotFound`: nothing is known of it."""
        self._core.ended(session)

    def advance(self) -> float:
        """Go on with what is due; after how many seconds at most to call again (inf: off)."""
        return self._core.advance()

    def stats(self) -> PrefetchStats:
        """What it did so far."""
        told = self._core.stats()
        return PrefetchStats(
            learned=PrefetchSource(**told["learned"]),
            hinted=PrefetchSource(**told["hinted"]),
            in_flight=told["in_flight"],
            peak_in_flight=told["peak_in_flight"],
            sessions=told["sessions"],
            blocks=told["blocks"],
            failed=told["failed"],
        )
