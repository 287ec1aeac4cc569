#!/usr/bin/env python3
"""vLLM with and without the store: vllm_bench.py BUILD --json FILE [GROUP...]

Engines that are compared live side by side, with the same threads, and take turns, while the others
are stopped (SIGSTOP), because their threads spin: every ratio is the median over pairs of rounds
that ran one after the other. A round is four prompts of about 1,400
tokens, 16 tokens each; the KV cache holds 18 blocks of 128 tokens, which is one and a half prompts,
so that vLLM itself finds nothing of them again.
Groups: lookup, warm, file, lossy, miss; all of them take about ten minutes.
"""

import contextlib
import json
import math
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "python" / "tools" / "vllm_engine.py"
PROFILE = ROOT / "data" / "smollm2-135m-instruct.svkprof"
RUNNER = ROOT / "tests" / "python" / "vllm" / "engine_run.py"
PAIRS = 5
PROMPTS = [0, 1, 2, 3]
JUDGED = range(12)  # for a mean that one prompt does not decide
ENGINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
          "VLLM_CPU_OMP_THREADS_BIND": f"0-{min(2, os.cpu_count() or 1) - 1}"}


def tool(what):
    return subprocess.run([sys.executable, "-B", TOOL, what], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()


def ours(tiers, **options):
    return {"kv_connector": "CxlSpecKVConnector", "kv_role": "kv_both",
            "kv_connector_module_path": "cxlspeckv.vllm.connector",
            "kv_connector_extra_config": {"tiers": tiers} | options}


def dict_of_tensors():
    return {"kv_connector": "OffloadingConnector", "kv_role": "kv_both",
            "kv_connector_extra_config": {"spec_name": "DictSpec", "spec_module_path": "dict_spec"}}


def example(folder):
    return {"kv_connector": "ExampleConnector", "kv_role": "kv_both",
            "kv_connector_extra_config": {"shared_storage_path": str(folder)}}


class Engine:
    """An engine that runs rounds when asked. Dies with its group, or at the end."""

    def __init__(self, folder, name, site, transfer, **job):
        self.name, self.folder = name, folder / name
        self.folder.mkdir()
        (self.folder / "job.json").write_text(
            json.dumps({"model": tool("model"), "transfer": transfer} | job), encoding="utf-8")
        answers, ours_to_write = os.pipe()
        path = os.pathsep.join([str(site), str(pathlib.Path(__file__).parent)])
        with open(self.folder / "log.txt", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [tool("python"), RUNNER, self.folder / "job.json", self.folder / "result.json"],
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, text=True,
                pass_fds=[ours_to_write], start_new_session=True,
                env=os.environ | ENGINE | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1",
                                           "SPECKV_ANSWERS": str(ours_to_write)})
        os.close(ours_to_write)
        self.answers = os.fdopen(answers, encoding="utf-8")
        self.started = False

    def _answer(self):
        line = self.answers.readline()
        if not line:
            tail = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")[-3000:]
            raise RuntimeError(f"the engine {self.name} ended:\n{tail}")
        return json.loads(line)

    def ready(self):
        """Waits until it is; engines that are made together start together."""
        if not self.started:
            print(f"  {self.name}: started in {self._answer()['start_seconds']:.0f} s", flush=True)
            self.started = True
            os.killpg(self.process.pid, signal.SIGSTOP)

    def round(self, prompts=PROMPTS, **asked):
        self.ready()
        os.killpg(self.process.pid, signal.SIGCONT)
        print(json.dumps({"prompts": list(prompts)} | asked), file=self.process.stdin, flush=True)
        told = self._answer()
        os.killpg(self.process.pid, signal.SIGSTOP)
        print(f"  {self.name}: {told['seconds']:.2f} s", flush=True)
        return told

    def cpu_seconds(self):
        """Of all processes of its session."""
        ticks = 0
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid:
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.answers.close()


class Bench:
    def __init__(self, site, folder):
        self.site, self.folder, self.figures, self.engines = site, folder, [], []

    def engine(self, name, transfer, **job):
        self.engines.append(Engine(self.folder, name, self.site, transfer, **job))
        return self.engines[-1]

    def end_engines(self):
        for engine in self.engines:
            engine.kill()
        self.engines.clear()

    def tell(self, name, value, unit, baseline, **more):
        interval = f"; {more['lowest']:.2f} to {more['highest']:.2f}" if more else ""
        print(f"{name:40} {value:10.3f} {unit}  ({baseline}{interval})", flush=True)
        self.figures.append({"name": name, "value": value, "unit": unit, "baseline": baseline}
                            | more)

    def ratio(self, name, pairs, baseline):
        """Baseline's time over ours; pairs of (baseline, ours)."""
        ratios = [theirs["seconds"] / our["seconds"] for theirs, our in pairs]
        self.tell(name, statistics.median(ratios), "x", baseline,
                  lowest=min(ratios), highest=max(ratios))


def same(*rounds):
    return all(r["tokens"] == rounds[0]["tokens"] for r in rounds)


def warm(bench):
    """float32 in DRAM, against no offloading and against a dict of tensors."""
    none = bench.engine("without", None)
    our = bench.engine("dram", ours([{"uri": "dram:1G"}]))
    base = bench.engine("dict", dict_of_tensors())
    for engine in (none, our, base):
        engine.ready()
    colds = [engine.round() for engine in (none, our, base)]
    rounds = [[engine.round() for engine in (none, our, base)] for _ in range(PAIRS)]
    equal = same(*colds, *(r for three in rounds for r in three))
    bench.tell("vllm_same_tokens", int(equal), "", "tokens cold and warm, all engines")
    bench.ratio("vllm_warm_speedup", [(n, o) for n, o, _ in rounds], "no offloading")
    bench.ratio("vllm_warm_against_dict", [(d, o) for _, o, d in rounds], "a dict of tensors")


def file(bench):
    """float32 on a file, against vLLM's ExampleConnector; then after kill -9.

    Both are read and written through the kernel's page cache. The limit is what vLLM reaches with
    a KV cache that holds all prompts: what is left then is computing.
    """
    pool = bench.folder / "pool"
    transfer = ours([{"uri": f"file:{pool}?size=4G&direct=0"}])
    our = bench.engine("file", transfer)
    base = bench.engine("example", example(bench.folder / "example"))
    most = bench.engine("own cache", None, blocks=160)
    engines = (base, our, most)
    fresh = [[100 + 2 * n, 101 + 2 * n] for n in range(PAIRS)]
    for engine in engines:
        engine.ready()
    for engine in engines:
        engine.round()
    colds = [[engine.round(prompts) for engine in engines] for prompts in fresh]
    warms = [[engine.round() for engine in engines] for _ in range(PAIRS)]
    firsts = [[engine.round(max_tokens=1) for engine in engines] for _ in range(PAIRS)]
    for name, rounds in (("cold", colds), ("warm", warms), ("first_token", firsts)):
        bench.ratio(f"vllm_file_{name}_against_example", [(b, o) for b, o, _ in rounds],
                    "ExampleConnector")
        bench.ratio(f"vllm_file_{name}_limit", [(b, m) for b, _, m in rounds],
                    "ExampleConnector; by vLLM's own cache with room for all of it")
    before = our.round(fresh[0])
    bench.end_engines()  # kill -9
    subprocess.run([tool("python"), "-c", f"import cxlspeckv; cxlspeckv.remove_store({str(pool)!r})"],
                   env=os.environ | {"PYTHONPATH": str(bench.site)}, check=True)
    after = bench.engine("restarted", transfer).round(fresh[0])
    bench.tell("vllm_hits_after_kill", sum(after["cached"]) / sum(before["cached"]), "",
               "tokens found before kill -9 and a lost index")
    without = colds[0][engines.index(most)]
    bench.tell("vllm_same_tokens_after_restart", int(same(without, before, after)), "",
               "the same prompts without offloading")


def divergence(left, right):
    """KL of next-token distributions, in nats: mean over prompts."""
    def one(p, q):
        return sum(math.exp(p[t]) * (p[t] - q[t]) for t in p)
    return statistics.mean(one(p, q) for p, q in zip(left["logprobs"], right["logprobs"],
                                                     strict=True))


def lossy(bench):
    """bfloat16 in DRAM: kvq4, and hxp4096 with the model's profile, against raw."""
    known = {"kvq4": {}, "hxp4096": {"profile": str(PROFILE)}}
    raw, *packed = engines = [
        bench.engine(codec, ours([{"uri": "dram:1G", "codec": codec}], **options), dtype="bfloat16")
        for codec, options in ({"raw": {}} | known).items()]
    for engine in engines:
        engine.ready()
    for engine in engines:
        engine.round()
    rounds = [{engine: engine.round(metrics=True) for engine in engines} for _ in range(PAIRS)]
    asked = {"prompts": JUDGED, "max_tokens": 1, "logprobs": -1}
    for engine in engines:
        engine.round(JUDGED, max_tokens=1)  # stored; then found
    judged = {engine: engine.round(**asked) for engine in engines}
    if not all(all(told["cached"]) for told in judged.values()):
        raise RuntimeError("a prompt was computed and not loaded: its divergence would say nothing")
    for engine in packed:
        pairs = [(each[raw], each[engine]) for each in rounds]
        bench.ratio(f"vllm_{engine.name}_warm_against_raw", pairs, "raw")
        plain, small = (r["metrics"]["vllm:cxlspeckv_tier_used_bytes{dram0}"] for r in pairs[-1])
        bench.tell(f"vllm_{engine.name}_ratio", plain / small, "x",
                   f"stored bytes of raw over those of {engine.name}")
        exact = statistics.mean(l == r for pair in pairs for l, r in zip(
            *(sum(one["tokens"], []) for one in pair), strict=True))
        bench.tell(f"vllm_{engine.name}_exact_match", exact, "", "tokens equal to those with raw")
        bench.tell(f"vllm_{engine.name}_kl", divergence(judged[raw], judged[engine]), "nats",
                   f"next-token distribution with raw, mean of {len(JUDGED)} prompts")


def miss(bench):
    """float32, prompts that nobody had: what the store costs when it gives nothing."""
    none = bench.engine("without", None)
    our = bench.engine("dram", ours([{"uri": "dram:2G"}]))
    for engine in (none, our):
        engine.ready()
    for engine in (none, our):
        engine.round([200, 201])
    busy = sum_of(our.round([202], metrics=True), "vllm:cxlspeckv_cpu_seconds")
    before, pairs = our.cpu_seconds(), []
    for n in range(PAIRS + 1):
        prompts = [300 + 2 * n, 301 + 2 * n]
        order = (none, our) if n % 2 else (our, none)
        told = {engine.name: engine.round(prompts) for engine in order}
        pairs.append((told["without"], told["dram"]))
    end = our.round([203], metrics=True)
    busy = sum_of(end, "vllm:cxlspeckv_cpu_seconds") - busy
    if not busy > 0:
        raise RuntimeError("our threads took no time: they are not counted")
    bench.tell("vllm_miss_cpu_share", busy / (our.cpu_seconds() - before), "",
               f"{busy:.2f} s of processor time of our threads, of all of the engine's")
    bench.ratio("vllm_miss_wall", pairs, "no offloading")


def sum_of(told, name):
    return sum(value for key, value in told["metrics"].items() if key.startswith(name))


def lookup(bench):
    """The scheduler's side alone: 1,000 keys of one request, looked up in a new step."""
    ended = subprocess.run([tool("python"), pathlib.Path(__file__).with_name("vllm_lookup.py")],
                           env=os.environ | {"PYTHONPATH": os.pathsep.join(
                               [str(bench.site), str(RUNNER.parent)])},
                           stdout=subprocess.PIPE, text=True, check=True)
    for name, milliseconds in json.loads(ended.stdout.splitlines()[-1]).items():
        bench.tell(name, milliseconds, "ms", "median of 200 steps")


GROUPS = {group.__name__: group for group in (lookup, warm, file, lossy, miss)}


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {"cpu": models[0] if models else "unknown", "cores": os.cpu_count()}


def main(build, *words):
    words = list(words)
    report = words.pop(words.index("--json") + 1) if "--json" in words else None
    groups = [word for word in words if word != "--json"] or list(GROUPS)
    if unknown := [group for group in groups if group not in GROUPS]:
        print(f"no such group: {unknown[0]}; there are: {' '.join(GROUPS)}", file=sys.stderr)
        return 2
    site = pathlib.Path(os.environ.get("SPECKV_SITE") or pathlib.Path(build) / "tests/python/site")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(site, pathlib.Path(folder))
        for group in groups:
            print(f"== vllm {group}", flush=True)
            bench.folder = pathlib.Path(folder) / group
            bench.folder.mkdir()
            try:
                GROUPS[group](bench)
            finally:
                bench.end_engines()
    if report:
        pathlib.Path(report).write_text(
            json.dumps({"machine": machine(), "figures": bench.figures}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no engine is left behind
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
