"""What a package promises: types, stubs, style, metrics, the self-test, documented errors."""

import ast
import builtins
import inspect
import json
import re
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import cxlspeckv as kv
from cxlspeckv import _core, errors
from cxlspeckv.metrics import StoreCollector
from python_support import Blocks

IGNORED = {"__doc__", "__file__", "__loader__", "__name__", "__package__", "__spec__"}


def python(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False,
                          timeout=300, **options)


def test_mypy_is_strict_and_content(root, tmp_path):
    done = python("-m", "mypy", "--cache-dir", tmp_path, "cxlspeckv", cwd=root / "python")
    assert done.returncode == 0, done.stdout


def test_a_program_is_typed(root, tmp_path):
    """The wheel is typed: a wrong argument is found in a program that uses it."""
    program = tmp_path / "program.py"
    program.write_text("import cxlspeckv as kv\n"
                       "layout = kv.BlockLayout(layers=1, kv_heads=1, head_dim=64)\n"
                       "store = kv.BlockStore([layout], ['dram:1M'])\n"
                       "count: int = store.match(b'')\n"
                       "store.attach_address('here', 5)\n", encoding="utf-8")
    done = python("-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", program)
    assert done.returncode == 1 and re.search(r"program.py:5: .*\[arg-type\]", done.stdout)
    assert "Found 1 error" in done.stdout, done.stdout


def test_ruff_is_content(root):
    done = python("-m", "ruff", "check", "--no-cache", root / "python")
    assert done.returncode == 0, done.stdout


def stub_names(root):
    """Public names that the type file states, and those of its classes."""
    tree = ast.parse((root / "python/cxlspeckv/_core.pyi").read_text(encoding="utf-8"))
    names = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            members = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
            members |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
            names[node.name] = {m for m in members if not m.startswith("__")}
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = set()
    return names


def test_the_stub_is_the_module(root):
    names = stub_names(root)
    there = {name for name in vars(_core) if name not in IGNORED and not name.startswith("_")}
    assert set(names) == there
    for name, members in names.items():
        value = getattr(_core, name)
        if inspect.isclass(value):
            assert members == {m for m in vars(value) if not m.startswith("_")}, name


def test_every_public_name_has_words_and_works():
    for name in kv.__all__:
        value = getattr(kv, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__module__ == "cxlspeckv._core" or value.__doc__, name


def test_errors_are_those_of_the_document(root):
    text = (root / "docs/errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `SPECKV_STATUS_\w+` \|.*\| ([^|]*) \|$", text, re.M)
    assert [row[0] for row in rows] == list(_core.code_names())
    assert [code.name.lower() for code in errors.Code] == list(_core.code_names())
    for (code, classes), error in zip(rows[1:], errors.BY_CODE[1:], strict=True):
        named = re.findall(r"`(\w+)`", classes)
        assert error.__name__ == named[0] and error.code == errors.Code[code.upper()]
        assert issubclass(error, kv.Error)
        for base in named[1:]:
            assert issubclass(error, getattr(builtins, base))


def test_prometheus_reads_the_numbers(layout):
    with kv.BlockStore([layout], [{"uri": "dram:16M", "name": "fast"}]) as store:
        blocks = Blocks(store, 8, layout)
        registry = CollectorRegistry()
        registry.register(StoreCollector(store, labels={"engine": "0"}))
        store.save(blocks.keys, blocks.source).wait()
        store.load(blocks.keys, blocks.target).wait()
        text = generate_latest(registry).decode()
        assert 'cxlspeckv_tier_blocks{engine="0",tier="fast"} 8.0' in text
        assert re.search(r'cxlspeckv_tier_hits_total\{engine="0",tier="fast"\} 8\.0', text)
        assert "# TYPE cxlspeckv_tier_hits_total counter" in text
        assert "# TYPE cxlspeckv_tier_blocks gauge" in text
        told = {line.split("{")[0] for line in text.splitlines() if line[0] != "#"}
        assert {f"cxlspeckv_{name.split('{')[0]}" for name in store.report()} == told
    assert generate_latest(registry) == b""


def test_the_self_test_passes_here():
    done = python("-m", "cxlspeckv", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    tried = {(o["device"], o["codec"]) for o in report["selftest"]}
    assert {("dram", c) for c in report["codecs"]} < tried and ("file", "kvq4") in tried
    assert all(o["result"] == "passed" and o["ratio"] > 0 for o in report["selftest"])
    assert report["version"] == re.search(
        r"(\d+\.\d+\.\d+)", report["version"]).group() and "lru" in report["policies"]
    text = python("-m", "cxlspeckv")
    assert text.returncode == 0 and "kvq4" in text.stdout and "failed" not in text.stdout
    refused = python("-m", "cxlspeckv", "--bogus")
    assert refused.returncode == 2 and "usage" in refused.stderr and not refused.stdout


def test_the_self_test_finds_what_is_broken(monkeypatch):
    from cxlspeckv import __main__ as program

    monkeypatch.setitem(program.ALLOWED, "kvq4", 1e-9)
    results = {o["codec"]: o["result"] for o in program.self_test(["dram:16M"])}
    assert results["kvq4"].startswith("failed") and results["raw"] == "passed"


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_the_examples_of_the_documents_run(root, name, tmp_path):
    """Every block marked `python` of the document, one after another, in one program."""
    text = (root / name).read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))
    assert "cxlspeckv" in program, "no example"
    done = python("-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
