"""./run demo vllm, all of it but the engine: in its place stands one that only looks at its words."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import pytest

# What the demo calls as `python -m vllm.entrypoints.cli.main`: a server that finds again what it, or
# one before it with the same pool, was asked; and a client.
ENGINE = '''
import http.server, json, pathlib, sys
words = sys.argv[1:]
option = lambda name: words[words.index(name) + 1]
if words[:2] == ["bench", "serve"]:
    told = {"mean_ttft_ms": 250.0, "output_throughput": float(option("--num-prompts"))}
    pathlib.Path(option("--result-dir"), option("--result-filename")).write_text(json.dumps(told))
    sys.exit()
assert (words[0], option("--host"), option("--dtype")) == ("serve", "127.0.0.1", "bfloat16")
if "--kv-transfer-config" in words:
    tiers = json.loads(option("--kv-transfer-config"))["kv_connector_extra_config"]["tiers"]
    pool = pathlib.Path(tiers[-1]["uri"].removeprefix("file:").partition("?")[0] + ".asked")
    known = pool.read_text().split("\\0") if pool.exists() else []
else:
    pool, known = None, []
FAILS = FAILS_HERE
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def answer(self, text):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())
    def do_GET(self): self.answer("")
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        head = asked["prompt"][:1000]
        found = 900 if pool and head in known else 0
        known.append(head)
        if pool: pool.write_text("\\0".join(known))
        if FAILS == "dies": sys.stderr.write("no memory"); sys.stderr.flush(); import os; os._exit(1)
        if FAILS == "refuses": return self.answer('data: {"error": {"message": "no"}}\\n\\n')
        usage = {"prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": found}}
        lines = [{"choices": [{"text": " yes"}]}, {"choices": [{"text": ", and"}]},
                 {"choices": [], "usage": usage}]
        self.answer("".join(f"data: {json.dumps(line)}\\n\\n" for line in lines) + "data: [DONE]\\n\\n")
if FAILS == "never starts": sys.exit("a mistake in the configuration")
http.server.ThreadingHTTPServer(("127.0.0.1", int(option("--port"))), Handler).serve_forever()
'''
STORE = '''
import pathlib
class Error(Exception): pass
def remove_store(name):
    with open(FORGOTTEN, "a") as file: print(pathlib.Path(name).name, file=file)
'''


class Demo:
    def __init__(self, module, site, folder, monkeypatch):
        self.module, self.site, self.folder = module, site, folder
        self.servers, real = [], subprocess.Popen

        def started(words, **options):
            self.servers.append(real(words, **options))
            return self.servers[-1]

        monkeypatch.setattr(module.subprocess, "Popen", started)

    def engine(self, fails=""):
        package = self.site / "vllm/entrypoints/cli"
        package.mkdir(parents=True)
        (package / "main.py").write_text(ENGINE.replace("FAILS_HERE", repr(fails)), encoding="utf-8")
        store = STORE.replace("FORGOTTEN", repr(str(self.folder / "forgotten")))
        (self.site / "cxlspeckv.py").write_text(store, encoding="utf-8")

    def forgotten(self):
        return (self.folder / "forgotten").read_text(encoding="utf-8").split()


@pytest.fixture
def demo(root, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("vllm_demo", root / "python/tools/vllm_demo.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vllm_demo", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "tool", {"python": sys.executable, "model": "a model"}.get)
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0)
    site = tmp_path / "site"
    monkeypatch.setenv("PYTHONPATH", str(site))
    made = Demo(module, site, tmp_path, monkeypatch)
    yield made
    left = [server for server in made.servers if server.poll() is None]
    for server in left:
        server.kill()
    assert not left, "a server is left behind"


def test_the_whole_of_it(demo, tmp_path, capsys):
    demo.engine()
    demo.module.main(demo.site, "--json", str(tmp_path / "told.json"))
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    raw, again = "our tiers, raw", "the same after kill -9 and restart"
    assert list(told) == ["without offloading", raw, again, "our tiers, kvq4", "our tiers, hxp4096"]
    for works in told.values():
        assert list(works) == ["repeated prefixes", "long documents", "chats"]
        assert works["repeated prefixes"] == {"first_ms": 250, "tokens_per_s": 24}
        assert all(work["first_ms"] > 0 and work["tokens_per_s"] > 0 for work in works.values())
    # Of three questions about a document two find it; after a restart on the pool all three do.
    assert [told[title]["long documents"]["found"] for title in told] == pytest.approx(
        [0, 0.6, 0.9, 0.6, 0.6])
    assert [told[title]["chats"]["found"] for title in told] == pytest.approx([0, 0.6, 0.9, 0.6, 0.6])
    assert demo.forgotten() == ["raw", "kvq4", "hxp4096"]
    printed = capsys.readouterr().out
    progress, table = printed.split("\nmean time to the first token")
    for title, works in told.items():
        assert f"{title}: starting the server" in progress
        row = next(line for line in table.splitlines() if line.startswith(title))
        cells = re.findall(r"(\d+) +(\d+\.\d) +(\d+\.\d)x", row)
        assert len(cells) == 3 and ("250", "24.0", "1.0") == cells[0]
        first = told["without offloading"]["chats"]["first_ms"]
        assert float(cells[2][2]) == pytest.approx(first / works["chats"]["first_ms"], abs=0.06)
    assert progress.count("60% found again") == 6 and progress.count("90% found again") == 2


def test_short_is_less_of_the_same(demo, tmp_path, capsys):
    demo.engine()
    demo.module.main(demo.site, "--short", "--json", str(tmp_path / "told.json"))
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    assert [works["long documents"]["found"] for works in told.values()] == pytest.approx(
        [0, 0.45, 0.9])
    assert told["our tiers, raw"]["repeated prefixes"]["tokens_per_s"] == 4
    assert "starting the server" in capsys.readouterr().out


@pytest.mark.parametrize(("fails", "says"), [
    ("never starts", "did not start:\na mistake in the configuration"),
    ("dies", "does not answer .*:\nno memory"),
    ("refuses", "gave no answer"),
])
def test_a_server_that_fails_ends_it_with_its_last_words(demo, fails, says):
    demo.engine(fails)
    with pytest.raises(SystemExit) as ended:
        demo.module.main(demo.site, "--short")
    assert re.search(says, str(ended.value), re.S)
    assert demo.servers and demo.forgotten()  # nothing of a pool stays in shared memory


def test_it_may_be_stopped_while_a_server_starts(demo, monkeypatch):
    """What its handler of SIGTERM does, as soon as it waits."""
    demo.engine()
    monkeypatch.setattr(demo.module.time, "sleep", lambda _: sys.exit(1))
    with pytest.raises(SystemExit):
        demo.module.main(demo.site, "--short")
    assert demo.servers[0].returncode == -9 and demo.forgotten()


def test_words_that_it_does_not_know(demo, root):
    for words in (["--long"], ["--json"], ["more"]):
        with pytest.raises(SystemExit) as ended:
            demo.module.main(pathlib.Path("site"), *words)
        assert ended.value.code == 2
    assert demo.servers == []
