"""What the tests of the vLLM adapters share: a small engine's pages without an engine, and runs of
the real one."""

import functools
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import cxlspeckv
import numpy
import pytest
import torch
from cxlspeckv import PENDING
from cxlspeckv.vllm import core
from cxlspeckv.vllm.facts import PageFacts
from cxlspeckv.vllm.manager import CxlSpecKVManager
from cxlspeckv.vllm.settings import parse
from cxlspeckv.vllm.spec import CxlSpecKVWorker
from vllm.v1.kv_offload.base import (
    CanonicalKVCacheRef,
    CanonicalKVCaches,
    CanonicalKVCacheTensor,
    GPULoadStoreSpec,
    ReqContext,
    make_offload_key,
)

HERE = pathlib.Path(__file__).parent
TOOL = HERE.parents[2] / "python" / "tools" / "vllm_engine.py"
ENGINE_SECONDS = 400
# Offline, and with the same threads in every run that is compared: with a connector vLLM would
# reserve a core for itself. Threads that wait do not spin: engines share the cores.
ENGINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
          "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


def threads_of(ranks):
    """Which cores the threads of each rank run on: two at most, so that machines compare."""
    cores = min(2, os.cpu_count() or 1)
    bound = [str(rank % cores) for rank in range(ranks)] if ranks > 1 else [f"0-{cores - 1}"]
    return {"VLLM_CPU_OMP_THREADS_BIND": "|".join(bound)}


@functools.cache
def tool(what):
    """What vllm_engine.py answers."""
    return subprocess.run([sys.executable, TOOL, what], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()


def model():
    """The folder of the model; made on first use."""
    return tool("model")


def page_facts(**changed):
    values = dict(model="m", dtype="bfloat16", layers=3, kv_heads=2, head_dim=16, tokens=16,
                  blocks_per_chunk=1, page_bytes=2 * 16 * 2 * 16 * 2, world_size=1,
                  replicated=False, kv_layout="LBHNC") | changed
    return PageFacts(**values)


def engine_key(number, group=0):
    """A SHA-256 of a chain, as vLLM gives it."""
    return make_offload_key(hashlib.sha256(number.to_bytes(4, "big")).digest(), group)


def keys_of(*numbers):
    return [engine_key(n) for n in numbers]


def context(name="r", keys=(), tokens=16):
    found = ReqContext(req_id=name)
    for place, key in enumerate(keys):
        found.set_offload_key_position(key, (place + 1) * tokens)
    return found


def being_stored(core, keys):
    """What the index says while a process that stands still is in the middle of storing these, until
    the event is set that is returned: then it has them."""
    there, look_up = threading.Event(), core.lookup

    def lookup(asked):
        found = look_up(asked)
        for place, key in enumerate(asked):
            if key in keys:
                found[place] = 0 if there.is_set() else PENDING
        return found

    core.lookup = lookup
    return there


def pool(tmp_path, **options):
    """A configuration with a small file as its only tier."""
    return {"tiers": [{"uri": f"file:{tmp_path}/pool?size=8M&direct=0"} | options]}


def corrupt(tmp_path, every):
    """Flips a bit in every so many of the frames that a pool holds; returns how many that were."""
    path = tmp_path / "pool"
    frames = [match.start() for match in re.finditer(rb"SVKB[\x01\x02]\x00", path.read_bytes())]
    with open(path, "r+b") as file:
        for start in frames[::every]:
            file.seek(start + 1000)
            byte = file.read(1)[0]
            file.seek(start + 1000)
            file.write(bytes([byte ^ 1]))
    return len(frames[::every])


class Side:
    """A manager and a worker over one store, and the pages of an engine that is not there."""

    def __init__(self, facts, config, pages=40):
        self.facts, self.jobs = facts, 0
        settings = parse({"name": ""} | config)
        self.core = core.share(f"test-{os.getpid()}", settings, facts)
        core.share(f"test-{os.getpid()}", settings, facts)
        if not settings.name:
            cxlspeckv.remove_store(self.core.settings.name)
        # One allocation, as the engine makes it; a layer's pages are a strided view of it.
        gap = 64
        self.memory = torch.zeros(facts.layers * pages * (facts.page_bytes + gap), dtype=torch.int8)
        whole = self.memory.view(facts.layers, pages, facts.page_bytes + gap)
        self.tensors = [whole[layer, :, :facts.page_bytes] for layer in range(facts.layers)]
        self.caches = CanonicalKVCaches(
            [CanonicalKVCacheTensor(t, facts.page_bytes) for t in self.tensors],
            [[CanonicalKVCacheRef(i, facts.page_bytes) for i in range(facts.layers)]])
        self.worker = CxlSpecKVWorker(self.core, self.caches, 0, lambda: core.release(self.core))
        self.manager = CxlSpecKVManager(self.core, lambda: core.release(self.core))

    def fill(self, pages, seed):
        """Random values, finite in bfloat16, into pages of all layers; returns them."""
        random = numpy.random.default_rng(seed)
        for tensor in self.tensors:
            for page in pages:
                values = torch.from_numpy(random.normal(size=self.facts.page_bytes // 2))
                tensor[page] = values.to(torch.bfloat16).view(torch.int8)
        return self.read(pages)

    def read(self, pages):
        return torch.stack([torch.stack([t[page] for page in pages]) for t in self.tensors]).clone()

    def run(self, submit, spec_of_keys, pages, first=0, worker=None):
        worker = worker or self.worker
        self.jobs += 1
        pages = GPULoadStoreSpec(list(pages), [len(pages)], [first])
        order = [pages, spec_of_keys]
        assert submit(self.jobs, *(order if submit == worker.submit_store else order[::-1]))
        worker.wait({self.jobs})
        results = worker.get_finished()
        assert [r.job_id for r in results] == [self.jobs] and results[0].success
        return results[0]

    def store(self, keys, pages, name="r"):
        """What the connector does with chunks that were computed; returns those not refused."""
        output = self.manager.prepare_store(keys, context(name, keys, self.facts.tokens))
        if output is None or not output.keys_to_store:
            return []
        taken = set(output.keys_to_store)
        chosen = [page for key, page in zip(keys, pages, strict=True) if key in taken]
        self.run(self.worker.submit_store, output.store_spec, chosen)
        self.manager.complete_store(output.keys_to_store, context(name, keys))
        self.manager.on_schedule_end(None)
        return output.keys_to_store

    def load(self, keys, pages, name="r", first=0):
        """Into pages; returns those that were told to be bad."""
        spec = self.manager.prepare_load(keys, context(name, keys))
        self.run(self.worker.submit_load, spec, pages, first)
        self.manager.complete_load(keys, context(name, keys))
        self.manager.on_schedule_end(None)
        return self.worker.take_bad_pages()

    def hits(self, keys, asked=None):
        """In a new step, of a request that waits or, if there is none, a new one."""
        self.manager.on_schedule_end(None)
        asked = asked or context("x", keys)
        return [self.manager.lookup(key, asked).name for key in keys]

    def close(self):
        self.worker.shutdown()
        self.manager.shutdown()


def pushed_down(side, tmp_path, **options):
    """A side, whose blocks 0 to 9 lie in its slower tier only."""
    one = side({"tiers": [{"uri": "dram:1M"}] + pool(tmp_path)["tiers"]} | options)
    one.manager.metrics.collect(1)  # counters of a store begin with the first look
    one.fill(range(10), seed=1)
    for n in range(10):
        one.store(keys_of(n), [n])
    one.core.store.flush()
    for n in range(100, 400):
        one.store(keys_of(n), [9])
        if n % 20 == 0:
            one.core.store.flush()
    assert set(one.core.lookup(keys_of(*range(10))).tolist()) == {1}
    return one


class Client:
    """Requests of one session after another, as vLLM tells a manager of them."""

    def __init__(self, one):
        self.manager, self.number = one.manager, 0

    def comes(self, keys=(), **word):
        self.number += 1
        asked = context(f"r{self.number}", keys)
        asked.kv_transfer_params = {"cxlspeckv": word}
        self.manager.on_new_request(asked)
        return asked

    def goes(self, asked):
        self.manager.sessions.measured(asked.req_id, 300, 20)
        self.manager.on_request_finished(asked)

    def request(self, keys, **word):
        self.goes(self.comes(keys, **word))


def until_staged(one, keys, tiers=(0,)):
    deadline = time.monotonic() + 10
    while set(one.core.lookup(keys).tolist()) != set(tiers) or (
            one.manager.sessions.stats().in_flight):
        assert time.monotonic() < deadline, "nothing was staged"
        time.sleep(0.01)  # sleeps: staging is told to nobody outside


# ---- the real engine

# ./run test has half an hour.
nightly = pytest.mark.skipif(float(os.environ.get("SPECKV_TEST_SCALE", "1")) <= 1,
                             reason="in the nightly run")


def ours(tiers, **options):
    """A kv-transfer-config with our connector."""
    return {"kv_connector": "CxlSpecKVConnector", "kv_role": "kv_both",
            "kv_connector_module_path": "cxlspeckv.vllm.connector",
            "kv_connector_extra_config": {"tiers": tiers} | options}


def watched(transfer):
    """The same over the store of watched.py."""
    return transfer | {"kv_connector_module_path": "watched"}


# Who is not root may mount where it is root: in a namespace of its own.
ALONE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def on_a_disk(folder, megabytes):
    """Before a command: it sees a file system of that size there, and shared memory of its own, which
    nobody else does."""
    mount = (f'mount -t tmpfs -o size={megabytes}M disk "$0" && '
             'mount -t tmpfs shm /dev/shm && exec "$@"')
    return [*ALONE, "sh", "-c", mount, folder]


class EngineRun:
    """A run of engine_run.py in a process group of its own. Of a job that has a `disk`, (folder,
    megabytes), the folder is a file system of that size, and shared memory its own."""

    def __init__(self, folder, job):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        before = on_a_disk(*job["disk"]) if "disk" in job else []
        self.log_path = folder / "log.txt"
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*before, sys.executable, HERE / "engine_run.py", folder / "job.json",
                 folder / "result.json"],
                env=os.environ | ENGINE | threads_of(job.get("tensor_parallel", 1)),
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self):
        """The exit status; a run that hangs is a failure, with its log."""
        try:
            return self.process.wait(ENGINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the engine hangs: {self.log()[-3000:]}")

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def result(self):
        path = self.folder / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rounds": []}

    def finished(self):
        """The result of a run that has to end well."""
        status = self.wait()
        assert status == 0, self.log()[-4000:]
        return self.result()
