"""A baseline for vllm_bench.py: the least that could keep KV blocks. A dict of tensors in the
worker, copied on the engine's own thread; no tiers, no checksums, no second process, no limit."""

import time

from vllm.v1.kv_offload.base import (
    LoadStoreSpec,
    LookupResult,
    OffloadingManager,
    OffloadingSpec,
    OffloadingWorker,
    PrepareStoreOutput,
    RequestOffloadingContext,
    TransferResult,
)


class DictKeys(LoadStoreSpec):
    def __init__(self, keys):
        self.keys = list(keys)


class DictManager(OffloadingManager):
    def __init__(self):
        self.stored, self.storing = set(), set()

    def lookup(self, key, req_context):
        if key in self.stored:
            return LookupResult.HIT
        return LookupResult.HIT_PENDING if key in self.storing else LookupResult.MISS

    def prepare_load(self, keys, req_context):
        return DictKeys(keys)

    def prepare_store(self, keys, req_context):
        new = [key for key in keys if key not in self.stored | self.storing]
        self.storing.update(new)
        return PrepareStoreOutput(new, DictKeys(new), [])

    def complete_store(self, keys, req_context, success=True):
        self.storing.difference_update(keys)
        self.stored.update(keys)

    def on_new_request(self, req_context):
        return RequestOffloadingContext()


class DictWorker(OffloadingWorker):
    def __init__(self, tensors):
        self.tensors, self.blocks, self.done = tensors, {}, []

    def finish(self, job, began):
        self.done.append(TransferResult(job, True, 1, time.monotonic() - began))
        return True

    def submit_store(self, job_id, src_spec, dst_spec):
        began = time.monotonic()
        for key, page in zip(dst_spec.keys, src_spec.block_ids, strict=True):
            self.blocks[key] = [tensor[page].clone() for tensor in self.tensors]
        return self.finish(job_id, began)

    def submit_load(self, job_id, src_spec, dst_spec):
        began = time.monotonic()
        for key, page in zip(src_spec.keys, dst_spec.block_ids, strict=True):
            for tensor, copy in zip(self.tensors, self.blocks[key], strict=True):
                tensor[page] = copy
        return self.finish(job_id, began)

    def get_finished(self):
        done, self.done = self.done, []
        return done

    def wait(self, job_ids):
        pass


class DictSpec(OffloadingSpec):
    def get_manager(self):
        return DictManager()

    def get_worker(self, kv_caches):
        return DictWorker([tensor.tensor for tensor in kv_caches.tensors])
