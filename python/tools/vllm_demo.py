#!/usr/bin/env python3
"""./run demo vllm: vLLM's own server on this machine's CPU, without and with our tiers.

    vllm_demo.py SITE [--json FILE]        SITE: a folder that holds the package cxlspeckv

Serves SmolLM2-135M (bfloat16) on loopback with a KV cache of 18 blocks, which holds one and a half
of the prompts. Drives it with vLLM's benchmark client (prefixes that repeat) and with a short
client of ours (questions about long documents, chats of several turns): without offloading, with
raw blocks, after kill -9 and a restart on the same pool, and with blocks packed by kvq4 and by
hxp4096, which is smaller and loses less, for it knows the model. Prints the time to the first token
and the throughput of each. About seven minutes; needs nobody.
"""

import contextlib
import itertools
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOK = (ROOT / "data" / "northanger.txt").read_text(encoding="utf-8")
PROFILE = ROOT / "data" / "smollm2-135m-instruct.svkprof"
ENGINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
          "VLLM_CPU_OMP_THREADS_BIND": f"0-{min(2, os.cpu_count() or 1) - 1}",
          "PYTHONDONTWRITEBYTECODE": "1"}
START_SECONDS, ANSWER_TOKENS = 300, 16


def tool(what):
    found = subprocess.run([sys.executable, "-B", ROOT / "python/tools/vllm_engine.py", what],
                           stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        sys.exit(found.returncode)
    return found.stdout.strip()


class Server:
    """vLLM's HTTP server in a session of its own, which is killed in the end."""

    def __init__(self, folder, site, model, config):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.model, self.log = model, folder / "server.log"
        transfer = [] if config is None else ["--kv-transfer-config", json.dumps({
            "kv_connector": "CxlSpecKVConnector", "kv_role": "kv_both",
            "kv_connector_module_path": "cxlspeckv.vllm.connector",
            "kv_connector_extra_config": config})]
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [tool("python"), "-m", "vllm.entrypoints.cli.main", "serve", model,
                 "--host", "127.0.0.1", "--port", str(self.port), "--dtype", "bfloat16",
                 "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "2",
                 "--num-gpu-blocks-override", "18", "--gpu-memory-utilization", "0.3", *transfer],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, env=os.environ | ENGINE | {"PYTHONPATH": str(site)})
        self._wait()

    def _wait(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health"):
                    return
            time.sleep(0.5)  # sleeps: the server says nothing before it answers
        self.kill()
        sys.exit("the server did not start:\n" + self.log.read_text(errors="replace")[-3000:])

    def kill(self):
        """kill -9, so that nothing is tidied up."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask(self, prompt):
        """Seconds to the first token, and the answer."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": ANSWER_TOKENS,
                "temperature": 0, "stream": True, "ignore_eos": True}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/completions", json.dumps(body).encode(),
            {"Content-Type": "application/json"})
        began, first, text = time.monotonic(), None, ""
        with urllib.request.urlopen(request) as answer:
            for line in answer:
                if line.startswith(b"data: {"):
                    first = first or time.monotonic() - began
                    text += json.loads(line[6:])["choices"][0]["text"]
        return first, text


def measured(firsts, began, answers):
    return {"first_ms": statistics.mean(firsts) * 1e3,
            "tokens_per_s": answers * ANSWER_TOKENS / (time.monotonic() - began)}


def documents(server):
    """Three rounds of questions about four documents, one document after the other."""
    texts = [BOOK[i * 9000:i * 9000 + 5000] for i in range(4)]
    questions = ["Who speaks here?", "Where does this take place?", "How does it end?"]
    firsts, began = [], time.monotonic()
    for question, text in itertools.product(questions, texts):
        firsts.append(server.ask(f"{text}\n\nQuestion: {question}\nAnswer:")[0])
    return measured(firsts, began, len(firsts))


def chats(server):
    """Four chats of three turns, in turn."""
    pasts = [f"A reader and a critic talk about this:\n{BOOK[i * 7000 + 40:i * 7000 + 3600]}\n"
             for i in range(4)]
    firsts, began = [], time.monotonic()
    for turn in range(3):
        for chat, past in enumerate(pasts):
            asked = f"{past}\nReader: And what of part {turn + 1}?\nCritic:"
            first, answer = server.ask(asked)
            firsts.append(first)
            pasts[chat] = asked + answer
    return measured(firsts, began, len(firsts))


def prefixes(server, folder):
    """vLLM's own client: 24 prompts with 4 prefixes of 1,024 tokens."""
    subprocess.run(
        [tool("python"), "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--model",
         server.model, "--host", "127.0.0.1", "--port", str(server.port), "--dataset-name",
         "prefix_repetition", "--prefix-repetition-prefix-len", "1024",
         "--prefix-repetition-suffix-len", "64", "--prefix-repetition-num-prefixes", "4",
         "--prefix-repetition-output-len", str(ANSWER_TOKENS), "--num-prompts", "24",
         "--max-concurrency", "1", "--seed", "7", "--temperature", "0", "--disable-tqdm",
         "--save-result", "--result-dir", str(folder), "--result-filename", "bench.json"],
        env=os.environ | ENGINE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, check=True)
    told = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    return {"first_ms": told["mean_ttft_ms"], "tokens_per_s": told["output_throughput"]}


def run(title, folder, site, model, config):
    print(f"{title}: starting the server", flush=True)
    server = Server(folder, site, model, config)
    found = {}
    try:
        for name, work in (("repeated prefixes", lambda s: prefixes(s, folder)),
                           ("long documents", documents), ("chats", chats)):
            found[name] = work(server)
            print(f"  {name:18} first token {found[name]['first_ms']:7.0f} ms, "
                  f"{found[name]['tokens_per_s']:6.1f} tokens/s", flush=True)
        if config is not None:
            time.sleep(3)  # sleeps: what is stored becomes durable within two seconds
    finally:
        server.kill()
    return found


def table(results):
    works = list(next(iter(results.values())))
    print("\nmean time to the first token in ms, and tokens/s\n")
    print(f"{'':34}" + "".join(f"{work:>22}" for work in works))
    base = next(iter(results.values()))
    for title, found in results.items():
        cells = [f"{found[w]['first_ms']:8.0f} {found[w]['tokens_per_s']:6.1f}"
                 f" {base[w]['first_ms'] / found[w]['first_ms']:5.1f}x" for w in works]
        print(f"{title:34}" + "".join(f"{cell:>22}" for cell in cells))
    print("\nx: how much sooner than without offloading the first token comes")


def main(site, *words):
    report = words[1] if len(words) == 2 and words[0] == "--json" else None
    if words and report is None:
        sys.exit(__doc__)
    model, results = tool("model"), {}
    with tempfile.TemporaryDirectory(prefix="cxlspeckv-demo") as temporary:
        folder = pathlib.Path(temporary)

        def config(codec, **more):
            return {"tiers": [{"uri": "dram:512M", "codec": codec},
                              {"uri": f"file:{folder}/{codec}?size=2G", "codec": codec}]} | more

        runs = {"without offloading": None, "our tiers, raw": config("raw"),
                "the same after kill -9 and restart": config("raw"),
                "our tiers, kvq4": config("kvq4"),
                "our tiers, hxp4096": config("hxp4096", profile=str(PROFILE))}
        try:
            for title, given in runs.items():
                results[title] = run(title, folder, site, model, given)
        finally:
            forget = ("import contextlib, cxlspeckv\nfor name in ('raw', 'kvq4', 'hxp4096'):\n"
                      " with contextlib.suppress(cxlspeckv.Error):\n"
                      f"  cxlspeckv.remove_store(f'{folder}/' + name)")
            subprocess.run([tool("python"), "-c", forget], check=False,
                           env=os.environ | {"PYTHONPATH": str(site)})
    table(results)
    if report:
        pathlib.Path(report).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server is left behind
    main(pathlib.Path(sys.argv[1]).resolve(), *sys.argv[2:])
