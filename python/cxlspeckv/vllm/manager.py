"""The scheduler's side: what is stored, what may be stored, what to read ahead."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.offloading.metrics import OffloadingConnectorStats
from vllm.v1.kv_offload.base import (
    LoadStoreSpec,
    LookupResult,
    OffloadingManager,
    OffloadKey,
    PrepareStoreOutput,
    ReqContext,
    RequestOffloadingContext,
    ScheduleEndContext,
)

import cxlspeckv
from cxlspeckv import ABSENT, PENDING, Pin
from cxlspeckv.vllm.core import Core, Patience
from cxlspeckv.vllm.metrics import StoreMetrics
from cxlspeckv.vllm.sessions import Sessions, key_ends

# Asked for a thousand times a step: an enumeration's member costs more than the rest of a lookup.
HIT, MISS, HIT_PENDING = LookupResult.HIT, LookupResult.MISS, LookupResult.HIT_PENDING


@dataclass
class StoreKeys(LoadStoreSpec):
    """Sent to the workers: the engine's keys, in the order of the pages. first_positions: of
    stores, each block's first token in its sequence, if a codec asks for it.
    """

    keys: list[OffloadKey]
    first_positions: list[int] | None = None


@dataclass
class RequestState:
    """What the manager remembers of a request that waits."""

    step: int = -1  # of its first lookup
    promoted: set[OffloadKey] = field(default_factory=set)


class CxlSpecKVManager(OffloadingManager):
    """Answers lookups from the store's index. One thread: the scheduler's.

    Answers are taken for all keys of a request in one call and hold for one step. Nothing here
    reads or copies a block; nothing waits.
    """

    def __init__(self, core: Core, close: Callable[[], None]) -> None:
        self._core, self._close = core, close
        self._limit = max(1, core.settings.max_store_bytes // (
            core.facts.chunk_bytes * core.facts.world_size))
        self._step = 0
        self._answers: dict[OffloadKey, int] = {}  # of this step: a tier, PENDING, ABSENT
        self._storing: set[OffloadKey] = set()  # between prepare_store and complete_store
        self._requests: dict[str, RequestState] = {}
        self._patience = Patience(core.settings.load_timeout)
        self._pins: dict[str, list[Pin]] = {}  # of a request's loads, one Pin each
        self.sessions = Sessions(core)
        self.metrics = StoreMetrics(core, self.sessions)

    # ---- lookups

    def lookup(self, key: OffloadKey, req_context: ReqContext) -> LookupResult:
        """HIT if every rank's block is in some tier; HIT_PENDING while it is being stored, as long
        as the request may wait for that.
        """
        answer = self._answers.get(key)
        if answer is None:
            answer = self._look_up_request(key, req_context)
        if answer >= 0:
            return HIT
        if (answer == PENDING or key in self._storing) and self._patience.lasts(req_context.req_id):
            return HIT_PENDING
        return MISS

    def _look_up_request(self, key: OffloadKey, context: ReqContext) -> int:
        known = key_ends(context)
        all_keys = list(known) if key in known else [key]
        asked = [k for k in all_keys if k not in self._answers]
        self._answers.update(zip(asked, self._core.lookup(asked).tolist(), strict=True))
        self._read_ahead(context.req_id, all_keys, [self._answers[k] for k in all_keys])
        return self._answers[key]

    def _read_ahead(self, request: str, keys: Sequence[OffloadKey], tiers: Sequence[int]) -> None:
        """Promotes the hits of a request that was looked up in an earlier step and still waits:
        by the time it is let in they may lie in the fastest tier.
        """
        state = self._requests.setdefault(request, RequestState())
        if state.step < 0:
            state.step = self._step
        hits = 0
        for tier in tiers:
            if tier < 0:
                break
            hits += 1
        if state.step == self._step:
            self.metrics.looked_up(hits, len(tiers) - hits)
            return
        below = [k for k, tier in zip(keys[:hits], tiers, strict=False)
                 if tier > 0 and k not in state.promoted]
        if not below:
            return
        try:
            self._core.store.promote(self._core.key_maker.keys(below).tobytes())
        except cxlspeckv.Busy:
            return
        state.promoted.update(below)

    # ---- loads

    def prepare_load(self, keys: Collection[OffloadKey], req_context: ReqContext) -> LoadStoreSpec:
        """Keeps the blocks from being evicted until complete_load()."""
        wanted = list(keys)
        # What has gone since the lookup is not kept: its load will fail, and be recomputed.
        pin = self._core.store.pin_present(self._core.key_maker.keys(wanted).tobytes())
        self._pins.setdefault(req_context.req_id, []).append(pin)
        state = self._requests.get(req_context.req_id)
        if state is not None and state.promoted:
            arrived = self._core.lookup(wanted).tolist()
            for key, tier in zip(wanted, arrived, strict=True):
                if key in state.promoted:
                    state.promoted.discard(key)
                    self.metrics.prefetched(useful=tier == 0)
        return StoreKeys(wanted)

    def complete_load(self, keys: Collection[OffloadKey], req_context: ReqContext) -> None:
        """Lets go of what prepare_load() kept."""
        held = self._pins.get(req_context.req_id)
        if held:  # else reset_cache() was faster
            held.pop(0).release()
            if not held:
                del self._pins[req_context.req_id]

    # ---- stores

    def prepare_store(self, keys: Collection[OffloadKey], req_context: ReqContext
                      ) -> PrepareStoreOutput | None:
        """Chooses what is not stored yet, as far as the limit of bytes in flight allows. None,
        at once, if nothing of it may be stored now.
        """
        offered = list(keys)
        tiers = self._core.lookup(offered).tolist()
        wanted = [k for k, tier in zip(offered, tiers, strict=True)
                  if tier == ABSENT and k not in self._storing]
        taken = wanted[:max(0, self._limit - len(self._storing))]
        self.metrics.refused(len(wanted) - len(taken))
        if wanted and not taken:
            return None
        self._storing.update(taken)
        return PrepareStoreOutput(taken, StoreKeys(taken, self._positions(taken, req_context)), [])

    def _positions(self, keys: Sequence[OffloadKey], context: ReqContext) -> list[int] | None:
        if not self._core.settings.profile:
            return None
        ends = key_ends(context)
        tokens = self._core.facts.tokens * self._core.facts.blocks_per_chunk
        return [ends[key] - tokens if key in ends else -1 for key in keys]

    def complete_store(self, keys: Collection[OffloadKey], req_context: ReqContext,
                       success: bool = True) -> None:
        """The workers are through; whether a block was kept is for the index to say."""
        self._storing.difference_update(keys)

    # ---- the life of requests, steps and the engine

    def on_new_request(self, req_context: ReqContext) -> RequestOffloadingContext:
        """Nothing is known of its blocks yet, but perhaps of its session."""
        self.sessions.arrived(req_context)
        return RequestOffloadingContext()

    def on_request_finished(self, req_context: ReqContext) -> None:
        """Forgets the request; what was read ahead for it and not loaded was in vain."""
        self._patience.end(req_context.req_id)
        state = self._requests.pop(req_context.req_id, None)
        if state is not None and state.promoted:
            self.metrics.wasted(len(state.promoted))
        self.sessions.finished(req_context, list(key_ends(req_context)))

    def on_schedule_end(self, context: ScheduleEndContext) -> None:
        """A step is over, and its answers with it."""
        self._step += 1
        self._answers.clear()

    def reset_cache(self) -> None:
        """Lets go of everything in flight. The store keeps its blocks: others may use them, and
        keys name content, so that none of them can be stale.
        """
        self._answers.clear()
        self._storing.clear()
        for held in self._pins.values():
            for pin in held:
                pin.release()
        self._pins.clear()

    def get_stats(self) -> OffloadingConnectorStats | None:
        """What changed since the last call; at most once a second."""
        return self.metrics.collect(time.monotonic())

    def shutdown(self) -> None:
        """Closes the store, after a flush."""
        self.reset_cache()
        self.sessions.close()
        self._close()
