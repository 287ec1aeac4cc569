#!/usr/bin/env python3
"""./run demo vllm: vLLM's own server on this machine's CPU, without and with our tiers.

    vllm_demo.py SITE [--short] [--json FILE]    SITE: a folder that holds the package cxlspeckv

Serves SmolLM2-135M (bfloat16) on loopback with a KV cache of 18 blocks, which holds one and a half
of the prompts. Drives it with vLLM's benchmark client (prefixes that repeat) and with a short
client of ours (questions about long documents, chats of several turns): without offloading, with
raw blocks, after kill -9 and a restart on the same pool, and with blocks packed by kvq4 and by
hxp4096, which is smaller and loses less, for it knows the model. Prints the time to the first token
and the throughput of each, and how much of the prompts was found again. About seven minutes; needs
nobody. --short leaves out the codecs and most of the requests: it shows that all of it runs, and
its times say little.
"""

import argparse
import contextlib
import dataclasses
import functools
import http.client
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
START_SECONDS, ANSWER_SECONDS, CLIENT_SECONDS = 300, 300, 1200
FLUSH_SECONDS = 3  # what is stored becomes durable within two
ANSWER_TOKENS = 16


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is asked."""

    documents: int
    questions: int
    chats: int
    turns: int
    prefixes: int
    prompts: int


CODECS = {"kvq4": {}, "hxp4096": {"profile": str(PROFILE)}}  # and what else they need
FULL, SHORT = Size(4, 3, 4, 3, 4, 24), Size(3, 2, 2, 2, 2, 4)


def tool(what):
    found = subprocess.run([sys.executable, "-B", ROOT / "python/tools/vllm_engine.py", what],
                           stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        sys.exit(found.returncode)
    return found.stdout.strip()


@dataclasses.dataclass(frozen=True)
class Answer:
    """To one request."""

    first: float  # seconds to the first token
    text: str
    prompt: int  # tokens
    found: int  # tokens of the prompt that were not computed again


class Server:
    """vLLM's HTTP server in a session of its own, which is killed in the end."""

    def __init__(self, folder, site, model, config, words=(), environment=()):
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
                 "--num-gpu-blocks-override", "18", "--gpu-memory-utilization", "0.3",
                 "--enable-prompt-tokens-details", *transfer, *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | ENGINE | dict(environment) | {"PYTHONPATH": str(site)})
        try:
            self._wait()
        except BaseException:  # SIGTERM among them
            self.kill()
            raise

    def _wait(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=10):
                    return
            time.sleep(0.5)  # sleeps: the server says nothing before it answers
        sys.exit(f"the server did not start:\n{self._last_words()}")

    def _last_words(self):
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def kill(self):
        """kill -9, so that nothing is tidied up."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask(self, prompt, headers=(), **more):
        """The `Answer`. The demo ends if there is none."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": ANSWER_TOKENS,
                "temperature": 0, "stream": True, "ignore_eos": True,
                "stream_options": {"include_usage": True}} | more
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/completions", json.dumps(body).encode(),
            {"Content-Type": "application/json"} | dict(headers))
        began, first, text, usage = time.monotonic(), None, "", None
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                for line in answer:
                    if not line.startswith(b"data: {"):
                        continue
                    told = json.loads(line[6:])
                    usage = told.get("usage") or usage
                    for choice in told.get("choices", ()):  # none in the last
                        first = first or time.monotonic() - began
                        text += choice["text"]
        except (OSError, http.client.HTTPException) as error:
            sys.exit(f"the server does not answer ({error}):\n{self._last_words()}")
        if first is None or usage is None:
            sys.exit(f"the server gave no answer:\n{self._last_words()}")
        details = usage.get("prompt_tokens_details") or {}
        return Answer(first, text, usage["prompt_tokens"], details.get("cached_tokens") or 0)


def measured(answers, began):
    return {"first_ms": statistics.mean(answer.first for answer in answers) * 1e3,
            "tokens_per_s": len(answers) * ANSWER_TOKENS / (time.monotonic() - began),
            "found": sum(a.found for a in answers) / sum(a.prompt for a in answers)}


def documents(server, size):
    """Rounds of questions about documents, one document after the other."""
    texts = [BOOK[i * 9000:i * 9000 + 5000] for i in range(size.documents)]
    questions = ["Who speaks here?", "Where does this take place?", "How does it end?"]
    answers, began = [], time.monotonic()
    for question, text in itertools.product(questions[:size.questions], texts):
        answers.append(server.ask(f"{text}\n\nQuestion: {question}\nAnswer:"))
    return measured(answers, began)


def chats(server, size):
    """Chats of several turns, in turn."""
    pasts = [f"A reader and a critic talk about this:\n{BOOK[i * 7000 + 40:i * 7000 + 3600]}\n"
             for i in range(size.chats)]
    answers, began = [], time.monotonic()
    for turn in range(size.turns):
        for chat, past in enumerate(pasts):
            asked = f"{past}\nReader: And what of part {turn + 1}?\nCritic:"
            answers.append(server.ask(asked))
            pasts[chat] = asked + answers[-1].text
    return measured(answers, began)


def prefixes(server, size, folder):
    """vLLM's own client: prompts with prefixes of 1,024 tokens, of which there are few."""
    ended = subprocess.run(
        [tool("python"), "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--model",
         server.model, "--host", "127.0.0.1", "--port", str(server.port), "--dataset-name",
         "prefix_repetition", "--prefix-repetition-prefix-len", "1024",
         "--prefix-repetition-suffix-len", "64",
         "--prefix-repetition-num-prefixes", str(size.prefixes), "--prefix-repetition-output-len",
         str(ANSWER_TOKENS), "--num-prompts", str(size.prompts),
         "--max-concurrency", "1", "--seed", "7", "--temperature", "0", "--disable-tqdm",
         "--save-result", "--result-dir", str(folder), "--result-filename", "bench.json"],
        env=os.environ | ENGINE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", check=False, timeout=CLIENT_SECONDS)
    if ended.returncode:
        sys.exit(f"vLLM's benchmark client failed:\n{ended.stdout[-3000:]}")
    told = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    return {"first_ms": told["mean_ttft_ms"], "tokens_per_s": told["output_throughput"]}


def show(name, told):
    again = f", {told['found']:4.0%} found again" if "found" in told else ""
    print(f"  {name:18} first token {told['first_ms']:7.0f} ms, "
          f"{told['tokens_per_s']:6.1f} tokens/s{again}", flush=True)


def run(title, size, folder, site, model, config):
    print(f"{title}: starting the server", flush=True)
    server = Server(folder, site, model, config)
    found = {}
    try:
        for name, work in (("repeated prefixes", functools.partial(prefixes, folder=folder)),
                           ("long documents", documents), ("chats", chats)):
            found[name] = work(server, size)
            show(name, found[name])
        if config is not None:
            time.sleep(FLUSH_SECONDS)  # sleeps: a flush is told to nobody outside
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
    parser = argparse.ArgumentParser(prog="./run demo vllm", add_help=False)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(words)
    size = SHORT if asked.short else FULL
    model, results = tool("model"), {}
    with tempfile.TemporaryDirectory(prefix="cxlspeckv-demo") as temporary:
        folder = pathlib.Path(temporary)

        def config(codec, **more):
            return {"tiers": [{"uri": "dram:512M", "codec": codec},
                              {"uri": f"file:{folder}/{codec}?size=2G", "codec": codec}]} | more

        runs = {"without offloading": None, "our tiers, raw": config("raw"),
                "the same after kill -9 and restart": config("raw")}
        if not asked.short:
            runs |= {f"our tiers, {codec}": config(codec, **more) for codec, more in CODECS.items()}
        try:
            for title, given in runs.items():
                results[title] = run(title, size, folder, site, model, given)
        finally:
            forget = (f"import contextlib, cxlspeckv\nfor name in {('raw', *CODECS)}:\n"
                      " with contextlib.suppress(cxlspeckv.Error):\n"
                      f"  cxlspeckv.remove_store(f'{folder}/' + name)")
            subprocess.run([tool("python"), "-c", forget], check=False,
                           env=os.environ | {"PYTHONPATH": str(site)})
    table(results)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server is left behind
    main(pathlib.Path(sys.argv[1]).resolve(), *sys.argv[2:])
