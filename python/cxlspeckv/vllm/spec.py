"""`CxlSpecKVOffloadingSpec`: our store under vLLM's stock `OffloadingConnector`.

    --kv-transfer-config '{"kv_connector": "OffloadingConnector", "kv_role": "kv_both",
      "kv_load_failure_policy": "recompute", "kv_connector_extra_config": {
        "spec_name": "CxlSpecKVOffloadingSpec", "spec_module_path": "cxlspeckv.vllm.spec",
        "tiers": [{"uri": "dram:4G"}]}}'

vLLM's offloading connector asserts that every load succeeds, and has no way to say that one did
not. So the worker reports loads as finished either way, and gives the connector the method that
`KVConnectorBase_V1` defines for failed pages; the scheduler then recomputes them.
`CxlSpecKVConnector` (connector.py) does the same by inheritance, and is the better choice.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from vllm.config.vllm import get_current_vllm_config_or_none
from vllm.distributed.kv_transfer import get_kv_transfer_group, has_kv_transfer_group
from vllm.distributed.kv_transfer.kv_connector.v1 import KVConnectorBase_V1
from vllm.distributed.kv_transfer.kv_connector.v1.offloading_connector import OffloadingConnector
from vllm.v1.kv_offload.base import (
    CanonicalKVCaches,
    GPULoadStoreSpec,
    LoadStoreSpec,
    OffloadingManager,
    OffloadingMetricMetadata,
    OffloadingSpec,
    OffloadingWorker,
    TransferResult,
)
from vllm.v1.kv_offload.config import OffloadingConfig

from cxlspeckv.vllm import core, facts, metrics, settings
from cxlspeckv.vllm.engine_file import EngineFile
from cxlspeckv.vllm.manager import CxlSpecKVManager, StoreKeys
from cxlspeckv.vllm.pages import PageTable, layer_pages
from cxlspeckv.vllm.settings import ConfigError
from cxlspeckv.vllm.transfers import Transfers


class CxlSpecKVWorker(OffloadingWorker):
    """A worker's side: its pages, and the threads that move them."""

    def __init__(self, shared: core.Core, caches: CanonicalKVCaches, rank: int,
                 close: Callable[[], None]) -> None:
        self._core, self._close = shared, close
        # A launcher may number the workers of all data parallel replicas, rank by rank of each.
        self._rank = rank % shared.facts.ranks
        refs = caches.group_data_refs[0]
        if len(caches.group_data_refs) != 1 or len(refs) != shared.facts.layers or any(
                ref.page_size_bytes != shared.facts.page_bytes for ref in refs):
            raise ConfigError("the engine's pages are not those of its configuration: "
                              f"{len(refs)} layers of {refs[0].page_size_bytes} bytes")
        tensors = [caches.tensors[ref.tensor_idx].tensor for ref in refs]
        self._pages = PageTable(shared.store, layer_pages(tensors), shared.facts, owner=caches)
        self.transfers = Transfers(shared, self._pages)

    def _submit(self, number: int, is_load: bool, keys: LoadStoreSpec, pages: GPULoadStoreSpec
                ) -> bool:
        assert isinstance(keys, StoreKeys)
        names = self._core.key_maker.keys(keys.keys, self._rank)
        self.transfers.submit(number, is_load, names, pages.block_ids, pages.block_indices[0],
                              keys.first_positions)
        return True

    def submit_store(self, job_id: int, src_spec: GPULoadStoreSpec, dst_spec: LoadStoreSpec
                     ) -> bool:
        """Queues a store; the pages are read on a thread of ours."""
        return self._submit(job_id, False, dst_spec, src_spec)

    def submit_load(self, job_id: int, src_spec: LoadStoreSpec, dst_spec: GPULoadStoreSpec) -> bool:
        """Queues a load: one submission for all of its blocks."""
        return self._submit(job_id, True, src_spec, dst_spec)

    def get_finished(self) -> list[TransferResult]:
        """Jobs that ended; pages that were not loaded are told by take_bad_pages()."""
        return [TransferResult(job.number, True, job.bytes, job.seconds)
                for job in self.transfers.finished()]

    def take_bad_pages(self) -> set[int]:
        """Pages of finished loads that hold nothing right, once each."""
        return self.transfers.take_bad_pages()

    def wait(self, job_ids: set[int]) -> None:
        """Returns once these jobs touch no page."""
        self.transfers.wait(job_ids)

    def shutdown(self) -> None:
        """Ends the threads, then gives the store back."""
        self.transfers.close()
        self._pages.close()
        self._close()


class CxlSpecKVOffloadingSpec(OffloadingSpec):
    """Made by vLLM once for the scheduler and once in each worker."""

    # Set by CxlSpecKVConnector around construction: the stock connector does not hand it over.
    engine_config: Any = None

    @classmethod
    def build_metric_definitions(cls, extra_config: dict[str, Any]
                                 ) -> Mapping[str, OffloadingMetricMetadata]:
        """What the store counts: announced to Prometheus, from where /metrics tells it."""
        return metrics.definitions()

    def __init__(self, config: OffloadingConfig) -> None:
        super().__init__(config)
        self._settings = settings.parse(MappingProxyType(dict(config.extra_config)))
        self.replicated_layout = config.replicated_layout
        engine = self.engine_config or get_current_vllm_config_or_none()
        known = engine and facts.page_facts(engine, config, self._settings)
        self._file = EngineFile(config.engine_id)
        if known:
            self._facts = known
            try:
                self._file.publish(known)
            except ConfigError:
                self._leave_nothing()
                raise
            return
        # The stock connector does not say what model it serves; the workers, who know, were made
        # before.
        found = self._file.facts()
        if found is None:
            self._leave_nothing()
            raise ConfigError("OffloadingConnector does not say what model it serves: use "
                              "kv_connector CxlSpecKVConnector")
        self._facts = found

    def _share(self) -> core.Core:
        try:
            return core.share(self.config.engine_id, self._settings, self._facts)
        except ConfigError:
            self._leave_nothing()
            raise

    def _leave_nothing(self) -> None:
        """The engine does not start."""
        self._file.retire()
        self._file.close()

    def _end(self, shared: core.Core) -> None:
        core.release(shared)
        self._file.close()

    def get_manager(self) -> OffloadingManager:
        """The scheduler's side; vLLM makes it after all workers."""
        shared = self._share()
        self._file.retire()
        try:
            return CxlSpecKVManager(shared, lambda: self._end(shared))
        except ConfigError:
            self._end(shared)
            raise

    def get_worker(self, kv_caches: CanonicalKVCaches) -> OffloadingWorker:
        """A worker's side."""
        shared = self._share()
        try:
            worker = CxlSpecKVWorker(shared, kv_caches, self.config.parallel.rank,
                                     lambda: self._end(shared))
        except Exception:
            self._file.retire()
            self._end(shared)
            raise
        report_failures_of(worker)
        return worker


def report_failures_of(worker: CxlSpecKVWorker) -> None:
    """Lets the stock connector of this process tell the scheduler about failed pages."""
    if not has_kv_transfer_group():
        return  # no engine: a test
    connector = get_kv_transfer_group()
    children = getattr(connector, "_connectors", [connector])  # of a MultiConnector
    for child in children:
        # Not where a subclass has its own, which is then CxlSpecKVConnector.
        if isinstance(child, OffloadingConnector) and (
                type(child).get_block_ids_with_load_errors
                is KVConnectorBase_V1.get_block_ids_with_load_errors):
            child.get_block_ids_with_load_errors = worker.take_bad_pages
