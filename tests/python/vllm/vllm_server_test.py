"""vLLM's own HTTP server: ./run demo vllm in short, and two ranks of data parallelism on one pool."""

import concurrent.futures
import contextlib
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.request

import cxlspeckv
import pytest
from vllm_support import TOOL, model, nightly

DEMO, SITE = TOOL.with_name("vllm_demo.py"), pathlib.Path(cxlspeckv.__file__).parents[1]
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}  # threads that wait do not spin
DEMO_SECONDS, START_SECONDS, END_SECONDS = 1500, 900, 120


@nightly
def test_what_one_server_computed_the_next_finds(tmp_path):
    report, log = tmp_path / "told.json", tmp_path / "log.txt"
    with open(log, "w", encoding="utf-8") as file:
        demo = subprocess.Popen([sys.executable, DEMO, SITE, "--short", "--json", report],
                                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                env=os.environ | WAITING)
        try:
            status = demo.wait(DEMO_SECONDS)
        except subprocess.TimeoutExpired:
            demo.terminate()  # it kills its server
            demo.wait(END_SECONDS)
            pytest.fail(f"the demo does not end: {log.read_text(encoding='utf-8')[-3000:]}")
    said = log.read_text(encoding="utf-8")
    assert status == 0, said
    told = json.loads(report.read_text(encoding="utf-8"))
    for works in told.values():
        assert all(work["first_ms"] > 0 and work["tokens_per_s"] > 0 for work in works.values())
    # Three documents, two questions about each, and room for one and a half in vLLM's own cache.
    none, first, again = (works["long documents"]["found"] for works in told.values())
    assert none < 0.1 and 0.3 < first < 0.5 and again > 0.8, told
    assert "x: how much sooner" in said


@pytest.fixture
def demo(monkeypatch):
    """The module of the demo, for its server."""
    spec = importlib.util.spec_from_file_location("vllm_demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vllm_demo", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "START_SECONDS", START_SECONDS)
    return module


def shared_memory(group):
    """Named memory of stores that processes of that group have mapped."""
    found = set()
    for maps in pathlib.Path("/proc").glob("[0-9]*/maps"):
        try:
            if os.getpgid(int(maps.parent.name)) == group:
                found |= set(re.findall(r"/dev/shm/\S*cxlspeckv\S*", maps.read_text(encoding="utf-8")))
        except OSError:
            pass  # it ended
    return found


def metrics(port):
    """Of each engine: a counter of ours by its name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = {}
    for name, engine, value in re.findall(
            r'^vllm:cxlspeckv_(\w+)_total\{[^}]*engine="(\d)"[^}]*\} (\S+)$', text, re.M):
        found.setdefault(engine, {}).setdefault(name, 0)
        found[engine][name] += float(value)
    return found


def whole_blocks(answer):
    return (answer.prompt - 1) // 128 * 128


@nightly
def test_ranks_of_data_parallelism_find_what_the_other_stored(demo, tmp_path):
    """Two engines of one server, each on a core of its own, in float32: the same tokens."""
    pool = tmp_path / "pool"
    texts = [f"{demo.BOOK[9000 * n:9000 * n + 5000]}\nSummary:" for n in range(4)]
    config = {"tiers": [{"uri": "dram:512M"}, {"uri": f"file:{pool}?size=1G"}]}
    last = min(2, os.cpu_count() or 1) - 1
    server, mapped = None, set()
    try:
        server = demo.Server(
            tmp_path, SITE, model(), config,
            ["--data-parallel-size", "2", "--api-server-count", "1", "--dtype", "float32"],
            {"VLLM_CPU_OMP_THREADS_BIND": f"0|{last}"} | WAITING)

        def ask(rank, text):
            return server.ask(text, {"X-data-parallel-rank": str(rank)})

        # Each rank computes two of them, and finds the other two where its neighbour left them.
        fresh = [ask(number // 2, text) for number, text in enumerate(texts)]
        assert [answer.found for answer in fresh] == [0] * 4
        crossed = [ask(1 - number // 2, text) for number, text in enumerate(texts)]
        assert [answer.found for answer in crossed] == [whole_blocks(a) for a in fresh]
        with concurrent.futures.ThreadPoolExecutor(4) as clients:
            jobs = [clients.submit(ask, rank, text) for text in texts for rank in (0, 1)]
            both = [job.result() for job in jobs]
        assert all(answer.found > 0 for answer in both)
        right = [answer.text for answer in fresh]
        assert [answer.text for answer in crossed] == right
        assert [answer.text for answer in both] == [text for text in right for _ in (0, 1)]
        told = metrics(server.port)
        for engine in ("0", "1"):
            assert told[engine]["hit_blocks"] >= sum(map(whole_blocks, fresh[:2])) // 128, told
            assert "failed_loads" not in told[engine]
        mapped = shared_memory(server.process.pid)
        assert mapped
        server.process.terminate()
        server.process.wait(END_SECONDS)
    finally:
        if server is not None:
            server.kill()
        with contextlib.suppress(cxlspeckv.Error):
            cxlspeckv.remove_store(str(pool))
    assert not [path for path in mapped if os.path.exists(path)]
