#!/usr/bin/env python3
"""Speculation behind vLLM's server:
vllm_speculation_bench.py BUILD --json FILE [--seconds N] [--passes N]

Eight chats whose users think between their turns, a quarter of them for 3 s, the others for 20
(half to one and a half of that); the quick ones are what a first tier has besides, and only turns of
the others are judged. vLLM's server has a store whose first tier holds three chats and whose second
is a link of 1 Gb/s: on it a chat takes as long as an idle machine needs for its new turn, which is
what a prompt of thousands of tokens on an SSD is to a GPU. The same clients, with the same words in every
request, ask a server that does not listen (off), one that learns when sessions return (learned), and
one that is told (hinted: the client says how long it will think). Ways are run in the order off,
learned, hinted, and with --passes 2 (if nothing is said) back again, so that a load that drifts falls
on all three alike. Compared is the time to the first token of the same turn of the same chat; the
interval is that of 95 % of 2,000 draws of turns. About ten minutes.
"""

import concurrent.futures
import functools
import importlib.util
import json
import os
import pathlib
import random
import re
import signal
import statistics
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "python" / "tools"
WAYS = {"off": False, "learned": {"hinted": False, "learned": True},
        "hinted": {"hinted": True, "learned": False}}
# Of links: what the first tier is filled at, and what the second gives. A quarter of a chat at a time.
LINKS = {"bytes_per_second": [8e9, 118e6], "chunk_bytes": "10M"}
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}  # what stages has a core, too
CHATS, QUICK = 8, 2  # and how many of them have quick users
THINK_QUICK, THINK_SLOW = 3.0, 20.0
FIRST_TIER = "80M"  # a block of 128 tokens takes 2.95 MB, a chat 8 to 12 of them
DRAWS = 2000


@functools.cache
def demo():
    """python/tools/vllm_demo.py, for its server."""
    spec = importlib.util.spec_from_file_location("vllm_demo", TOOLS / "vllm_demo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["vllm_demo"] = module
    spec.loader.exec_module(module)
    return module


def quick(number):
    return number % (CHATS // QUICK) == 0


def plan(number, seconds):
    """How long the user of a chat thinks before each of its turns, the first of all but a start."""
    dice = random.Random(number)
    mean = THINK_QUICK if quick(number) else THINK_SLOW
    turns, gone = [1.5 * number], 1.5 * number
    while True:
        think = mean * dice.uniform(0.5, 1.5)
        gone += think + 1.0  # about what an answer takes
        if gone > seconds + 1.5 * CHATS:
            return turns
        turns.append(think)


def chat(server, number, thinks, began):
    """Runs one chat; the answers of its turns. When a turn is due depends on when the last ended."""
    book = demo().BOOK
    past = f"A reader and a critic talk about this:\n{book[number * 7000 + 40:number * 7000 + 4300]}\n"
    answers = []
    time.sleep(max(0.0, began + thinks[0] - time.monotonic()))  # sleeps: a user thinks
    for turn, pause in enumerate([*thinks[1:], None]):
        past += f"Reader: And part {turn + 1}?\nCritic:"
        word = {"session": f"chat {number}"} | ({"ended": True} if pause is None else {"eta": pause})
        answers.append(server.ask(past, kv_transfer_params={"cxlspeckv": word}))
        past += answers[-1].text + "\n"
        if pause is not None:
            time.sleep(pause)  # sleeps: a user thinks
    return answers


def metrics(server):
    """Counters of ours and of vLLM's transfers, by name and our label."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = {}
    for name, labels, value in re.findall(
            r"^vllm:((?:cxlspeckv|kv_offload_load)_\w+?)(?:_total)?\{([^}]*)\} (\S+)$", text, re.M):
        own = [v for k, v in re.findall(r'(\w+)="([^"]*)"', labels) if k not in ("model_name", "engine")]
        found[",".join([name, *own])] = float(value)
    return found


def run(way, which, site, seconds):
    """One way once: {(chat, turn): milliseconds}, and the counters."""
    with tempfile.TemporaryDirectory(prefix="cxlspeckv-bench") as temporary:
        folder = pathlib.Path(temporary)
        speculation = WAYS[way] and WAYS[way] | LINKS
        config = {"tiers": [{"uri": f"dram:{FIRST_TIER}"},
                            {"uri": "dram:1G?throttle=gbe", "name": "link"}],
                  "speculation": speculation}
        print(f"{which}, {way}: starting the server", flush=True)
        server = demo().Server(folder, site, demo().tool("model"), config, environment=WAITING)
        try:
            server.ask("Hello")  # what is done once
            before, began = metrics(server), time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(CHATS) as users:
                chats = [users.submit(chat, server, n, plan(n, seconds), began) for n in range(CHATS)]
                answers = [one.result() for one in chats]
            time.sleep(1.5)  # sleeps: counters are told once a second, with a step
            server.ask("Goodbye")
            after = metrics(server)
        finally:
            server.kill()
    counted = {name: value - before.get(name, 0) for name, value in after.items()}
    times = {(n, turn): answer.first * 1e3 for n, turns in enumerate(answers)
             for turn, answer in enumerate(turns) if turn and not quick(n)}  # the first finds nothing
    found = sum(a.found for turns in answers for a in turns[1:])
    show(way, times, counted, found / sum(a.prompt for turns in answers for a in turns[1:]))
    return times, counted


def staged(counted, way, what):
    source = "learned" if way == "learned" else "hinted"
    return counted.get(f"cxlspeckv_speculation_{what}_bytes,{source}", 0.0)


def show(way, times, counted, found):
    loads = counted.get("kv_offload_load_time", 0.0)
    slow, fast = (counted.get(f"cxlspeckv_tier_hits,{tier}", 0.0) for tier in ("link", "dram0"))
    print(f"  {len(times)} turns, first token {statistics.mean(times.values()):.0f} ms (median "
          f"{statistics.median(times.values()):.0f}), loads {loads:.2f} s, {slow:.0f} blocks by the link and "
          f"{fast:.0f} without, {found:.0%} of prompts found; MB "
          + ", ".join(f"{what} {staged(counted, way, what) / 1e6:.0f}"
                      for what in ("staged", "useful", "late", "wasted")), flush=True)


def interval(values, of=statistics.mean):
    dice = random.Random(1)
    drawn = sorted(of(dice.choices(values, k=len(values))) for _ in range(DRAWS))
    return drawn[DRAWS // 40], drawn[-DRAWS // 40 - 1]


def tell(figures, name, value, unit, baseline, **more):
    print(f"{name:44} {value:10.3f} {unit}  ({baseline})", flush=True)
    figures.append({"name": name, "value": value, "unit": unit, "baseline": baseline} | more)


def compare(results):
    """The figures of all ways. A turn's time is the mean of the runs of its way."""
    figures, turns = [], sorted(set.intersection(*(set(times) for runs in results.values()
                                                   for times, _ in runs)))
    means = {way: [statistics.mean(times[turn] for times, _ in runs) for turn in turns]
             for way, runs in results.items()}
    for way, runs in results.items():
        low, high = interval(means[way])
        tell(figures, f"vllm_speculation_{way}_first_token", statistics.mean(means[way]), "ms",
             f"mean of {len(turns)} turns, 95 % within {low:.0f} to {high:.0f}", lowest=low, highest=high)
        stall = sum(c.get("kv_offload_load_time", 0.0) for _, c in runs) / len(runs)
        tell(figures, f"vllm_speculation_{way}_stall", stall, "s", "in loads, all chats, a run")
        if way == "off":
            continue
        pairs = list(zip(means["off"], means[way], strict=True))

        def ratio(drawn):
            return sum(o for o, _ in drawn) / sum(w for _, w in drawn)

        low, high = interval(pairs, ratio)
        tell(figures, f"vllm_speculation_{way}_speedup", ratio(pairs), "x",
             f"first token without, same turns; 95 % within {low:.2f} to {high:.2f}",
             lowest=low, highest=high)
        for what in ("useful", "late", "wasted"):
            tell(figures, f"vllm_speculation_{way}_{what}",
                 sum(staged(c, way, what) for _, c in runs) / len(runs) / 1e6, "MB", "a run")
    return figures


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {"cpu": models[0] if models else "unknown", "cores": os.cpu_count()}


def main(build, *words):
    words = list(words)
    report = words.pop(words.index("--json") + 1) if "--json" in words else None
    seconds = float(words.pop(words.index("--seconds") + 1)) if "--seconds" in words else 60.0
    site = pathlib.Path(os.environ.get("SPECKV_SITE") or pathlib.Path(build) / "tests/python/site")
    passes = int(words.pop(words.index("--passes") + 1)) if "--passes" in words else 2
    order = [way for n in range(passes) for way in (list(WAYS) if n % 2 == 0 else reversed(WAYS))]
    results = {way: [] for way in WAYS}
    for number, way in enumerate(order, 1):
        results[way].append(run(way, f"{number} of {len(order)}", site.resolve(), seconds))
    figures = compare(results)
    if report:
        pathlib.Path(report).write_text(
            json.dumps({"machine": machine(), "figures": figures}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server is left behind
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
