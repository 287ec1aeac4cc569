"""`CxlSpecKVTier`: a secondary tier below vLLM's own host memory (`TieringOffloadingSpec`).

    "kv_connector_extra_config": {"spec_name": "TieringOffloadingSpec", "cpu_bytes_to_use": ...,
      "secondary_tiers": [{"type": "CxlSpecKVTier", "module_path": "cxlspeckv.vllm.tier",
                           "model_id": "llama-3-8b", "tiers": [{"uri": "file:/pool?size=64G"}]}]}

For GPUs, whose pages vLLM itself copies to host memory. A tier sees that memory as rows of bytes,
one a chunk, and is not told how values lie in them: it keeps rows as they are, so codecs other than
raw are refused. It runs in the scheduler's process only.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from vllm.v1.kv_offload.base import (
    LookupResult,
    Medium,
    OffloadingSpec,
    OffloadKey,
    ReqContext,
    RequestOffloadingContext,
)
from vllm.v1.kv_offload.tiering.backpressure import BackpressureDetector
from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager, TransferJob

from cxlspeckv import ABSENT, PENDING
from cxlspeckv.vllm import settings
from cxlspeckv.vllm.core import Core, Patience
from cxlspeckv.vllm.facts import PageFacts
from cxlspeckv.vllm.pages import LayerPages, PageTable
from cxlspeckv.vllm.sessions import Sessions, key_ends
from cxlspeckv.vllm.settings import ConfigError, Settings
from cxlspeckv.vllm.transfers import Transfers

LAYER_BYTES = 1 << 20  # rows are checked and read in pieces of at most this much


class CxlSpecKVTier(SecondaryTierManager):
    """One thread: the scheduler's. The rows are moved on threads of ours."""

    medium: ClassVar[Medium] = Medium.STORAGE

    def __init__(
        self,
        offloading_spec: OffloadingSpec,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: BackpressureDetector | None = None,
        *,
        tiers: Sequence[Mapping[str, Any]],
        model_id: str,
        **options: Any,  # noqa: ANN401  the rest of our settings, checked there
    ) -> None:
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        config = {"tiers": tiers, "model_id": model_id} | options
        chosen = settings.parse(MappingProxyType(config), also=frozenset())
        facts = row_facts(offloading_spec, self.block_size_bytes, chosen)
        self._core = Core(chosen, facts)  # private, unless it has a name or a pool
        try:
            self._sessions = Sessions(self._core)
        except ConfigError:
            self._core.close()
            raise
        rows = np.frombuffer(primary_kv_view, np.uint8)
        starts = range(rows.ctypes.data, rows.ctypes.data + self.block_size_bytes, facts.page_bytes)
        count = len(primary_kv_view)
        layers = [LayerPages(start, self.block_size_bytes, count) for start in starts]
        self._pages = PageTable(self._core.store, layers, facts, owner=rows)
        self._transfers = Transfers(self._core, self._pages)
        self._jobs: dict[int, list[OffloadKey]] = {}
        self._storing: set[OffloadKey] = set()
        self._patience = Patience(chosen.load_timeout)

    def lookup(self, key: OffloadKey, req_context: ReqContext) -> LookupResult:
        """HIT if the row is in some tier, RETRY while it is being stored, as long as the request
        may wait for that.
        """
        tier = int(self._core.lookup([key])[0])
        if ((tier == PENDING or (tier == ABSENT and key in self._storing))
                and self._patience.lasts(req_context.req_id)):
            return LookupResult.RETRY
        return LookupResult.HIT if tier >= 0 else LookupResult.MISS

    def _submit(self, job: TransferJob, is_load: bool) -> None:
        keys = list(job.keys)
        self._jobs[job.job_id] = keys
        names = self._core.key_maker.keys(keys, 0)
        self._transfers.submit(job.job_id, is_load, names, np.asarray(job.chunk_ids), 0)

    def submit_store(self, job_metadata: TransferJob) -> None:
        """Queues rows to be saved; the store skips what it has."""
        self._storing.update(job_metadata.keys)
        self._submit(job_metadata, False)

    def submit_load(self, job_metadata: TransferJob) -> None:
        """Queues rows to be read: one submission."""
        self._submit(job_metadata, True)

    def get_finished_jobs(self) -> Iterable[JobResult]:
        """Jobs that ended. Of a load that failed in part, the keys that did not."""
        results = []
        for job in self._transfers.finished():
            keys = self._jobs.pop(job.number)
            if not job.is_load:
                self._storing.difference_update(keys)
            bad = {key for key, row in zip(keys, job.chunks[:, 0], strict=True)
                   if int(row) in job.bad_pages}
            good: Collection[OffloadKey] | None = None
            if bad:
                good = [key for key in keys if key not in bad]
            done = not bad and (job.is_load or job.bytes > 0)
            results.append(JobResult(job.number, done, good, job.seconds, job.bytes))
        self._transfers.take_bad_pages()
        return results

    def has_pending_work(self) -> bool:
        """While a job runs, vLLM has to ask for its end."""
        return bool(self._jobs)

    def on_new_request(self, req_context: ReqContext) -> RequestOffloadingContext:
        """Nothing is known of its rows yet, but perhaps of its session."""
        self._sessions.arrived(req_context)
        return RequestOffloadingContext()

    def on_request_finished(self, req_context: ReqContext) -> None:
        """Forgets the request."""
        self._patience.end(req_context.req_id)
        self._sessions.finished(req_context, list(key_ends(req_context)))

    def drain_jobs(self) -> None:
        """Returns once no job touches a row."""
        self._transfers.wait(set(self._jobs))

    def shutdown(self) -> None:
        """Ends the threads, flushes and closes the store."""
        self._transfers.close()
        self._sessions.close()
        self._pages.close()
        self._core.close()


def row_facts(spec: OffloadingSpec, row_bytes: int, chosen: Settings) -> PageFacts:
    """A row as a page without inner order, in pieces that divide it."""
    if not chosen.model_id:
        raise ConfigError('a secondary tier needs a "model_id": vLLM does not tell it the model')
    for tier in chosen.tiers:
        if tier.get("codec", "raw") != "raw" or tier.get("layers"):
            raise ConfigError('a secondary tier is not told where K and V lie in a row: its codec '
                              'is "raw"')
    pieces = next(n for n in range(max(1, row_bytes // LAYER_BYTES), row_bytes + 1)
                  if row_bytes % n == 0 and row_bytes // n <= LAYER_BYTES)
    config = spec.config
    return PageFacts(
        model=f"{chosen.model_id} {config.model.name}",
        dtype=f"rows of {config.model.dtype}", layers=pieces, kv_heads=0, head_dim=0, tokens=1,
        blocks_per_chunk=1, page_bytes=row_bytes // pieces,
        # A row holds the chunks of all ranks.
        world_size=config.parallel.world_size, replicated=True,
        kv_layout=str(config.kv_cache_layout))
