#!/usr/bin/env python3
"""What a language model loses to coded keys and values: quality_bench.py BUILD [--json FILE] [WORD...]

Every token and layer is coded inside the forward pass, but the first four tokens and the last open
block. A word is a model (small, small_llama, small_qwen, smollm2), a coder's name (also "hxp?loss=0.36" and
its like), a protocol (A, B), a document, or a number of documents; all by default. Losses are Kullback-Leibler divergences in nats a token
against the same model with float16 keys and values; ratios of losses are paired by document, with
95 % intervals by Student's t. docs/codecs.md has the results.
"""

import json
import math
import os
import pathlib
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "python" / "tools" / "vllm_engine.py"
TOKENS = {"small": 1000, "smollm2": 1540}
SHIPPED = ("int8", "kvq4", "rt44", "rt43", "rt33", "rt32", "hx5120", "hx4608", "hx4096", "hx3584", "hx3072",
           "hxp5120", "hxp4096", "hxp3360")
TARGET = "hxp?"  # how the names of codecs for a target begin
YARDSTICK = "kivi4_g32"
MODELS = ("small", "small_llama", "small_qwen", "smollm2")
STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]  # 95 %, by degrees of freedom


def documents():
    """(name, text): four of prose, two of technical prose, two of code."""
    book = (ROOT / "data" / "northanger.txt").read_text(encoding="utf-8")
    for i in range(4):
        yield f"novel_{i}", book[i * 14000 : i * 14000 + 12000]
    for name in ("docs/concurrency.md", "docs/queue-protocol.md", "src/codec/frame.cpp"):
        yield name, (ROOT / name).read_text(encoding="utf-8")[:12000]
    yield "textwrap.py", pathlib.Path(textwrap.__file__).read_text(encoding="utf-8")[:16000]


def interval(values):
    """Mean of the values and half the width of its 95 % interval (None for one value)."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, None
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, STUDENT[min(n - 2, len(STUDENT) - 1)] * spread / math.sqrt(n)


def measure(model, coders, protocols, texts, report):
    """Adds rows of one model: {model, coder, protocol, document, kl, ...}."""
    import torch

    import coders as coding

    size = TOKENS["smollm2" if model.name == "smollm2" else "small"]
    shipped = [coder for coder in coders if isinstance(coder, coding.Shipped)]
    for coder in shipped:
        coder.use(len(model.layers), model.profile)
    coders = [c for c in coders if c not in shipped or model.profile or not c.wants_profile]
    for name, text in texts:
        ids = model.tokens(text)[:size]
        model.attention.coder = None
        exact = torch.log_softmax(model.logits(ids), -1)
        place, following = torch.arange(len(ids) - 1), torch.tensor(ids[1:])
        for coder in coders:
            for protocol in protocols:
                model.attention.coder, model.attention.protocol = coder, protocol
                coded = torch.log_softmax(model.logits(ids), -1)
                away = exact - coded
                loss = (exact.exp() * (torch.expm1(-away) + away)).sum(-1)
                row = {"model": model.name, "coder": coder.name, "protocol": protocol,
                       "document": name, "tokens": len(ids), "ratio": coder.ratio(),
                       "kl": loss.mean().item(), "kl_99": loss.quantile(0.99).item(),
                       "nll": -coded[place, following].mean().item(),
                       "nll_exact": -exact[place, following].mean().item(),
                       "top1": (coded.argmax(-1) == exact.argmax(-1)).float().mean().item()}
                report(row)


def summary(rows):
    """Prints and yields a coder's loss, and its loss over the yardstick's, by model and protocol."""
    of = {}
    for row in rows:
        of.setdefault((row["model"], row["protocol"], row["coder"]), {})[row["document"]] = row
    for (model, protocol, coder), found in of.items():
        mean, half = interval([row["kl"] for row in found.values()])
        change, _ = interval([row["nll"] - row["nll_exact"] for row in found.values()])
        top1, _ = interval([row["top1"] for row in found.values()])
        ratio = next(iter(found.values()))["ratio"]
        line = (f"{model:11} {protocol} {coder:16} ratio {ratio:5.2f}  KL {mean:.3e}"
                + (f" +- {half:.0e}" if half is not None else "")
                + f"  perplexity {100 * math.expm1(change):+.2f} %  top-1 {100 * top1:.2f} %")
        base = of.get((model, protocol, YARDSTICK), {})
        shared = sorted(found.keys() & base.keys())
        name = f"quality_{model}_{protocol}_{coder}"
        yield {"name": name, "unit": "nats", "value": mean, "baseline": "float16",
               "documents": len(found), "ratio": ratio}
        if shared and coder != YARDSTICK:
            log, half = interval([math.log(found[d]["kl"] / base[d]["kl"]) for d in shared])
            ends = [math.exp(log - half), math.exp(log + half)] if half is not None else None
            yield {"name": f"{name}_over_kivi4", "unit": "ratio", "value": math.exp(log),
                   "interval": ends, "baseline": YARDSTICK, "documents": len(shared)}
            line += f"  of KIVI-4 {math.exp(log):.3f}"
            line += f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else ""
        print(line)


def run(words, out):
    """In the engine's Python, with the package on its path."""
    import torch

    import coders as coding
    import models

    torch.set_num_threads(min(2, os.cpu_count() or 1))
    torch.set_grad_enabled(False)
    targets = [word for word in words if word.startswith(TARGET)]
    known = {c.name: c for c in [*map(coding.Shipped, SHIPPED), *coding.baselines()]}
    named = [known[word] for word in words if word in known]
    named += map(coding.Shipped, targets)
    counts = [int(word) for word in words if word.isdigit()]
    texts = [(name, text) for name, text in documents() if name in words] or list(documents())
    texts = texts[: counts[0]] if counts else texts
    named = named or list(known.values())
    protocols = [word for word in words if word in ("A", "B")] or ["A", "B"]
    rows = []

    def report(row):
        rows.append(row)
        print(f"{row['model']} {row['document']} {row['coder']} {row['protocol']}: {row['kl']:.3e}",
              file=sys.stderr, flush=True)

    for name in [word for word in words if word in MODELS] or MODELS:
        if name == "smollm2":
            model = models.SmolLM2(os.environ["SPECKV_MODEL"], ROOT / "data")
        else:
            model = models.Small(ROOT / "data", name.partition("_")[2] or None)
        measure(model, named, protocols, texts, report)
    figures = list(summary(rows))
    if out:
        pathlib.Path(out).write_text(json.dumps({"figures": figures, "rows": rows}), encoding="utf-8")


def tool(what):
    return subprocess.run([sys.executable, "-B", TOOL, what], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()


def main(build, *words):
    words = list(words)
    out = words.pop(words.index("--json") + 1) if "--json" in words else None
    words = [word for word in words if word != "--json"]
    names = {*MODELS, *SHIPPED, *(name for name, _ in documents()), "A", "B", "kivi4_g32", "kivi2_g32", "nvfp4", "turboquant_like"}
    if unknown := [word for word in words
                   if word not in names and not word.isdigit() and not word.startswith(TARGET)]:
        print(f"no such word: {unknown[0]}; there are: {' '.join(sorted(names))}", file=sys.stderr)
        return 2
    if build == "--inside":
        run(words, out)
        return 0
    site = pathlib.Path(os.environ.get("SPECKV_SITE") or pathlib.Path(build) / "tests/python/site")
    path = os.pathsep.join([str(site), str(pathlib.Path(__file__).parent)])
    inside = [tool("python"), __file__, "--inside", *words, *(["--json", out] if out else [])]
    return subprocess.run(inside, check=False, env=os.environ | {
        "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1",
        "SPECKV_MODEL": tool("model")}).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
