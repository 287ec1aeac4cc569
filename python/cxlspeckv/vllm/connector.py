"""`CxlSpecKVConnector`: vLLM's offloading connector over our store, with failed loads recomputed.

    --kv-transfer-config '{"kv_connector": "CxlSpecKVConnector", "kv_role": "kv_both",
      "kv_connector_module_path": "cxlspeckv.vllm.connector",
      "kv_connector_extra_config": {"tiers": [{"uri": "dram:4G"}]}}'
"""

from typing import Any

from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1 import KVConnectorRole
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
    PromMetric,
    PromMetricT,
)
from vllm.distributed.kv_transfer.kv_connector.v1.offloading_connector import OffloadingConnector
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.request import Request

from cxlspeckv.vllm import metrics, threads
from cxlspeckv.vllm.manager import CxlSpecKVManager
from cxlspeckv.vllm.spec import CxlSpecKVOffloadingSpec, CxlSpecKVWorker

SPEC = {"spec_name": CxlSpecKVOffloadingSpec.__name__,
        "spec_module_path": CxlSpecKVOffloadingSpec.__module__}


class CxlSpecKVConnector(OffloadingConnector):
    """Made by vLLM once for the scheduler and once in each worker."""

    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole,
                 kv_cache_config: KVCacheConfig) -> None:
        transfer = vllm_config.kv_transfer_config
        transfer.kv_connector_extra_config.update(SPEC)
        # A cache that loses a block is no reason to fail a request, which vLLM does by default.
        transfer.kv_load_failure_policy = "recompute"
        CxlSpecKVOffloadingSpec.engine_config = vllm_config
        try:
            super().__init__(vllm_config, role, kv_cache_config)
        finally:
            CxlSpecKVOffloadingSpec.engine_config = None

    @property
    def _worker(self) -> CxlSpecKVWorker | None:
        side = self.connector_worker
        return side.worker if side is not None else None

    def _measure(self, request: Request) -> None:
        """Tells the predictor of returns how long a request and its answer were."""
        side = self.connector_scheduler
        if side is not None and isinstance(side.manager, CxlSpecKVManager):
            side.manager.sessions.measured(request.request_id, request.num_prompt_tokens,
                                           request.num_output_tokens)

    def request_finished(self, request: Request, block_ids: list[int]
                         ) -> tuple[bool, dict[str, Any] | None]:
        """Of an engine with one group of KV caches."""
        self._measure(request)
        return super().request_finished(request, block_ids)

    def request_finished_all_groups(self, request: Request, block_ids: tuple[list[int], ...]
                                    ) -> tuple[bool, dict[str, Any] | None]:
        """Of any engine."""
        self._measure(request)
        return super().request_finished_all_groups(request, block_ids)

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Pages of finished loads that hold nothing right."""
        worker = self._worker
        return worker.take_bad_pages() if worker is not None else set()

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        """Of the scheduler: the store's numbers. Of a worker: loads and stores that failed."""
        worker = self._worker
        if worker is None:
            return super().get_kv_connector_stats()
        failed, dropped = worker.transfers.take_counts()
        return metrics.worker_stats({metrics.FAILED_LOADS: failed, metrics.DROPPED_SAVES: dropped,
                                     metrics.CPU_SECONDS: threads.times.take()})

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: VllmConfig,
        metric_types: dict[type[PromMetric], type[PromMetricT]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> KVConnectorPromMetrics:
        """In the front end, which has made no connector."""
        vllm_config.kv_transfer_config.kv_connector_extra_config.update(SPEC)
        return super().build_prom_metrics(vllm_config, metric_types, labelnames,
                                          per_engine_labelvalues)
