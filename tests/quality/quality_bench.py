#!/usr/bin/env python3
"""What a language model loses to coded keys and values: quality_bench.py BUILD [--json FILE] [--rows FILE] [WORD...]

Every token and layer is coded inside the forward pass, but the first four tokens and the last open
block. A word is a test (losses, long, needles, generation), a model (small, small_llama, small_qwen, smollm2), a
coder's name (also "hxp?loss=0.36" and its like), a protocol (A, B), a document, or a number of documents; all by default.
Losses are Kullback-Leibler divergences in nats a token against the same model with float16 keys and values; ratios of
losses are paired by document, with 95 % intervals by Student's t. `long` is the same in a context of 4,096 tokens,
`needles` and `generation` are what long_context.py says. With --rows, what a run measured is added to a file as it
goes, and what is there already is not measured again: a long run can be made in pieces. docs/codecs.md has the results.
"""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "python" / "tools" / "vllm_engine.py"
TOKENS = {"small": 1000, "smollm2": 1540}
LONG_TOKENS = 4096  # of a text in `long`
TESTS = ("losses", "long", "needles", "generation")
SHIPPED = ("int8", "kvq4", "rt44", "rt43", "rt33", "rt32", "hx5120", "hx4608", "hx4096", "hx3584", "hx3072",
           "hxp5120", "hxp4096", "hxp3360")
TARGET = "hxp?"  # how the names of codecs for a target begin
BASELINES = ("kivi4_g32", "kivi2_g32", "nvfp4", "turboquant_like")
LONG_CODERS = ("kivi4_g32", "kivi2_g32", "hx4096", "hxp4096")  # of the other tests
MODELS = ("small", "small_llama", "small_qwen", "smollm2")


def documents():
    """(name, text): four of prose, two of technical prose, two of code."""
    book = (ROOT / "data" / "northanger.txt").read_text(encoding="utf-8")
    for i in range(4):
        yield f"novel_{i}", book[i * 14000 : i * 14000 + 12000]
    for name in ("docs/concurrency.md", "docs/queue-protocol.md", "src/codec/frame.cpp"):
        yield name, (ROOT / name).read_text(encoding="utf-8")[:12000]
    yield "textwrap.py", pathlib.Path(textwrap.__file__).read_text(encoding="utf-8")[:16000]


def long_documents(texts):
    """(name, text) of more than LONG_TOKENS tokens: two of prose, one technical, one of code."""
    known = dict(texts)
    for i in (0, 2):
        yield f"novel_{i}_{i + 1}", known[f"novel_{i}"] + known[f"novel_{i + 1}"]
    yield "docs", (ROOT / "docs/queue-protocol.md").read_text(encoding="utf-8") + known["docs/concurrency.md"]
    yield "code", pathlib.Path(textwrap.__file__).read_text(encoding="utf-8") + known["src/codec/frame.cpp"]


def run(words, out, kept):
    """In the engine's Python, with the package on its path."""
    import torch

    import coders as coding
    import long_context
    import losses
    import models
    import summary

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or min(2, os.cpu_count() or 1)))
    torch.set_grad_enabled(False)
    known = {c.name: c for c in [*map(coding.Shipped, SHIPPED), *coding.baselines()]}
    named = [known[word] for word in words if word in known]
    named += [coding.Shipped(word) for word in words if word.startswith(TARGET)]
    tests = [word for word in words if word in TESTS] or TESTS
    protocols = [word for word in words if word in ("A", "B")] or ["A", "B"]
    counts = [int(word) for word in words if word.isdigit()]
    every = list(documents())
    of_test = {test: list(long_documents(every)) if test in ("long", "needles") else every for test in TESTS}
    rows = summary.Rows(kept)
    for name in [word for word in words if word in MODELS] or MODELS:
        if name == "smollm2":
            model = models.SmolLM2(os.environ["SPECKV_MODEL"], ROOT / "data")
        else:
            model = models.Small(ROOT / "data", name.partition("_")[2] or None)
        for test in tests:
            if test in ("long", "needles") and name != "smollm2":
                continue  # the small one has learned from 1,024 tokens at most
            by_name = dict(of_test[test])
            texts = [(word, by_name[word]) for word in words if word in by_name] or of_test[test]
            texts = texts[: counts[0]] if counts else texts
            chosen = named or [c for c in known.values() if test == "losses" or c.name in LONG_CODERS]
            chosen = [c for c in chosen if model.profile or not getattr(c, "wants_profile", False)]
            for coder in chosen:
                if isinstance(coder, coding.Shipped):
                    coder.use(len(model.layers), model.profile)
            if test in ("losses", "long"):
                size = LONG_TOKENS if test == "long" else TOKENS["smollm2" if name == "smollm2" else "small"]
                losses.measure(model, chosen, protocols, texts, size, test, rows)
            elif test == "needles":
                long_context.needles(model, chosen, texts, rows)
            else:
                long_context.generation(model, chosen, texts, rows)
    figures = list(summary.summary(rows.all))
    if out:
        pathlib.Path(out).write_text(json.dumps({"figures": figures, "rows": rows.all}), encoding="utf-8")


def tool(what):
    return subprocess.run([sys.executable, "-B", TOOL, what], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()


def take(words, option):
    """The word after an option, both taken out."""
    if option not in words:
        return None
    at = words.index(option)
    value = words[at + 1]
    del words[at : at + 2]
    return value


def main(build, *words):
    words = list(words)
    out, kept = take(words, "--json"), take(words, "--rows")
    every = list(documents())
    texts = [*every, *long_documents(every)]
    names = {*TESTS, *MODELS, *SHIPPED, *BASELINES, *(name for name, _ in texts), "A", "B"}
    if unknown := [word for word in words
                   if word not in names and not word.isdigit() and not word.startswith(TARGET)]:
        print(f"no such word: {unknown[0]}; there are: {' '.join(sorted(names))}", file=sys.stderr)
        return 2
    if build == "--inside":
        run(words, out, kept)
        return 0
    site = pathlib.Path(os.environ.get("SPECKV_SITE") or pathlib.Path(build) / "tests/python/site")
    path = os.pathsep.join([str(site), str(pathlib.Path(__file__).parent)])
    options = [word for pair in (("--json", out), ("--rows", kept)) if pair[1] for word in pair]
    inside = [tool("python"), __file__, "--inside", *words, *options]
    return subprocess.run(inside, check=False, env=os.environ | {
        "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1",
        "SPECKV_MODEL": tool("model")}).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
