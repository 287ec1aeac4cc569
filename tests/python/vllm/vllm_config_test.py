"""Every mistake is one line that says what would be right; nothing is opened or left behind."""

import errno
import importlib
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import types

import cxlspeckv
import pytest
import torch
from cxlspeckv.vllm import core, engine_file, facts
from cxlspeckv.vllm.engine_file import EngineFile, sweep
from cxlspeckv.vllm.settings import ConfigError, parse
from cxlspeckv.vllm.spec import CxlSpecKVOffloadingSpec
from vllm.config import KVTransferConfig
from vllm.v1.attention.backends import cpu_attn
from vllm_support import page_facts

DRAM = [{"uri": "dram:16M"}]


@pytest.mark.parametrize(("config", "says"), [
    ({}, '"tiers" is a list'),
    ({"tiers": []}, '"tiers" is a list'),
    ({"tiers": "dram:4G"}, '"tiers" is a list'),
    ({"tiers": ["dram:4G"]}, '"tiers"[0] is an object'),
    ({"tiers": [{}]}, 'needs a "uri"'),
    ({"tiers": [{"uri": "dram:4G", "code": "raw"}]}, 'has no "code"; there are: admission, '),
    ({"tiers": [{"uri": 5}]}, '"uri" is a string, not 5'),
    ({"tiers": [{"uri": "dram:4G", "codec": None}]}, '"codec" is a string, not None'),
    ({"tiers": [{"uri": "dram:4G", "capacity": "lots"}]}, '"capacity"'),
    ({"tiers": [{"uri": "dram:4G", "layers": 5}]}, '"layers" is a list such as [{"first": 0, '),
    ({"tiers": [{"uri": "dram:4G", "layers": [5]}]}, "not of 5"),
    ({"tiers": [{"uri": "dram:4G", "layers": [{"last": 1}]}]}, 'has no "last"; there are: codec'),
    ({"tiers": [{"uri": "dram:4G", "layers": [{"first": 0}]}]}, '"layers" need a "codec"'),
    ({"tiers": [{"uri": "dram:4G", "layers": [{"count": "2", "codec": "raw"}]}]}, "not '2'"),
    ({"tiers": [{"uri": "dram:4G", "layers": [{"first": -1, "codec": "raw"}]}]}, "not -1"),
    ({"tiers": DRAM, "tires": []}, 'has no "tires"; there are: '),
    ({"tiers": DRAM, "name": 7}, '"name" is a string'),
    ({"tiers": DRAM, "profile": 7}, '"profile" is a string'),
    ({"tiers": DRAM, "max_store_bytes": "lots"}, '"max_store_bytes"'),
    ({"tiers": DRAM, "max_store_bytes": 0}, '"max_store_bytes" is a size'),
    ({"tiers": DRAM, "load_timeout": 0}, '"load_timeout" is a number of seconds above 0'),
    ({"tiers": DRAM, "load_timeout": "1s"}, '"load_timeout" is a number of seconds above 0'),
    ({"tiers": DRAM, "load_timeout": math.inf}, "above 0, not inf"),
    ({"tiers": DRAM, "load_timeout": math.nan}, "above 0, not nan"),
])
def test_settings_that_are_wrong(config, says):
    with pytest.raises(ConfigError) as told:
        parse(config)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("tier", "says"), [
    ({"uri": "drum:4G"}, "drum"),
    ({"uri": "dram:4X"}, "4X"),
    ({"uri": "dram:16M", "codec": "zip"}, "zip"),
    ({"uri": "dram:16M", "policy": "mru"}, "mru"),
    ({"uri": "dram:16M", "admission": "never"}, "admission"),
    ({"uri": "file:/no/such/folder/pool?size=1M"}, "/no/such/folder/pool"),
    ({"uri": "file:{tmp}/pool?size=1000T"}, "pool"),  # more than any disk has
])
def test_stores_that_do_not_open(tier, says, tmp_path):
    tier = tier | {"uri": tier["uri"].format(tmp=tmp_path)}
    before = set(os.listdir("/dev/shm"))
    with pytest.raises(ConfigError) as told:
        core.share("mistaken", parse({"tiers": [tier]}), page_facts())
    assert says in str(told.value)
    assert "\n" not in str(told.value)
    assert set(os.listdir("/dev/shm")) <= before  # less: what a killed engine left is swept up
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("content", "says"), [
    (None, '"profile": [Errno 2]'),
    (b"no profile", "the store does not open: profile"),
    ("data/smollm2-135m-instruct.svkprof", "profile: of a model with 30 layers"),
])
def test_profiles_that_are_none_of_this_engine(content, says, tmp_path):
    path = tmp_path / "profile"
    if isinstance(content, str):
        path = pathlib.Path(os.environ["CXLSPECKV_ROOT"]) / content
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as told:
        core.share("mistaken", parse({"tiers": DRAM, "profile": str(path)}), page_facts())
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def refusal(name, config, **changed):
    """The line in which a store is refused."""
    with pytest.raises(ConfigError) as told:
        core.share(name, parse(config), page_facts(**changed))
    line = str(told.value)
    assert line.startswith("cxlspeckv: ") and "\n" not in line
    return line


def test_a_store_that_others_have_open_is_joined_or_refused(tmp_path):
    def tiers(memory, *more):
        return {"tiers": [{"uri": memory}, {"uri": f"file:{tmp_path}/pool?size=8M"}, *more]}

    there = core.share("first", parse(tiers("dram:16M")), page_facts())
    try:
        core.release(core.share("second", parse(tiers("dram:16M")), page_facts()))
        for others, changed in ((tiers("dram:32M"), {}), (tiers("dram:16M", *DRAM), {}),
                                (tiers("dram:16M"), {"kv_heads": 4, "head_dim": 8}),
                                (tiers("dram:16M"), {"layers": 2})):
            assert re.search("options of the store differ|other layouts, tiers or capacities",
                             refusal("second", others, **changed)), others
        alone = {"tiers": tiers("dram:16M")["tiers"], "name": f"shm:/speckv-test-{os.getpid()}"}
        assert "open already" in refusal("third", alone)
    finally:
        core.release(there)
    cxlspeckv.remove_store(str(tmp_path / "pool"))


def test_a_pool_that_is_another_engines_or_none_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "pool"

    def pool(size):
        return {"tiers": [{"uri": f"file:{path}?size={size}"}]}

    core.release(core.share("first", parse(pool("8M")), page_facts()))
    cxlspeckv.remove_store(str(path))  # as a reboot does
    made = path.read_bytes()
    assert "other block layouts" in refusal("second", pool("8M"), layers=2)
    assert "give the size that it was made with" in refusal("second", pool("16M"))
    assert "give at least that size" in refusal("second", pool("4M"))
    assert path.read_bytes() == made
    other = b"something else " * 4096
    path.write_bytes(other)
    assert "holds something" in refusal("second", pool(str(len(other))))
    assert path.read_bytes() == other


@pytest.mark.parametrize(("config", "says"), [
    ({"tiers": DRAM, "name": "shm:here"}, 'a name is "shm:/"'),
    ({"tiers": DRAM, "name": "shm:/a/b"}, 'a name is "shm:/"'),
    ({"tiers": DRAM, "name": "/no/such/pool"}, "/no/such/pool"),
    ({"tiers": [{"uri": "dram:1000T"}], "name": "shm:/speckv-test"}, "shared memory has no room for it"),
    ({"tiers": [{"uri": "dram:16M", "capacity": "32M"}]}, "more than its device has"),
    ({"tiers": [{"uri": "dram:16M", "name": "x"}, {"uri": "dram:16M", "name": "x"}]},
     "each its own"),
    ({"tiers": DRAM * 7}, "1 to 6 tiers"),
])
def test_names_and_sizes_that_cannot_be(config, says):
    assert re.search(says, refusal(f"mistaken-{os.getpid()}", config))


def of_this_engine(name):
    return [path for path in os.listdir("/dev/shm") if name in path]


def spec_of(name, config, engine, offloading):
    """Our spec as vLLM's connector makes it; `engine` is None where that does not say."""
    offloading.engine_id, offloading.extra_config = name, config
    offloading.enable_kv_cache_events, offloading.cache.tokens_per_hash = False, 16
    made = type("Spec", (CxlSpecKVOffloadingSpec,), {"engine_config": engine})
    return made(offloading)


def test_an_engine_that_does_not_start_leaves_nothing(named_model):
    name = f"mistaken-{os.getpid()}"
    with pytest.raises(ConfigError, match="LoRA"):
        spec_of(name, {"tiers": DRAM}, engine_of(lora_config=object()), offloading_of())
    assert of_this_engine(name) == []
    with pytest.raises(ConfigError, match="does not say what model it serves"):
        spec_of(name, {"tiers": DRAM}, None, offloading_of())
    assert of_this_engine(name) == []
    for side, *pages in (("get_manager",), ("get_worker", None)):
        spec = spec_of(name, {"tiers": [{"uri": "drum:4G"}]}, engine_of(), offloading_of())
        assert len(of_this_engine(name)) == 1
        with pytest.raises(ConfigError, match="drum"):
            getattr(spec, side)(*pages)
        assert of_this_engine(name) == []


def no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_cannot_be_had_or_is_anothers_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_file, "FOLDER", tmp_path)
    path = tmp_path / f"{engine_file.PREFIX}one"
    EngineFile("one").publish(page_facts())
    assert path.exists()
    with monkeypatch.context() as full:
        full.setattr(engine_file.os, "pwrite", no_space)
        with pytest.raises(ConfigError, match="No space left"):
            EngineFile("one").publish(page_facts())
    if os.geteuid() == 0:
        os.chown(path, 1, 1)
        with pytest.raises(ConfigError, match="belongs to another user"):
            EngineFile("one")
    monkeypatch.setattr(engine_file, "FOLDER", tmp_path / "none")
    with pytest.raises(ConfigError, match="No such file"):
        EngineFile("two")


def test_importing_brings_no_engine_where_there_is_one():
    heavy = "torch", "transformers", "vllm", "prometheus_client"
    code = f"import sys, cxlspeckv.vllm; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def configurations(text):
    """The JSON that a document shows, in blocks of its own and as arguments."""
    return [json.loads(found) for found in re.findall(r"^```json\n(.*?)^```", text, re.M | re.S)
            + re.findall(r"--kv-transfer-config '(.*?)'", text, re.S)]


@pytest.mark.parametrize(("name", "count"), [("README.md", 1), ("docs/vllm.md", 4)])
def test_what_the_documents_show_is_accepted(name, count):
    root = pathlib.Path(os.environ["CXLSPECKV_ROOT"])
    shown = configurations((root / name).read_text(encoding="utf-8"))
    assert len(shown) == count
    for transfer in shown:
        KVTransferConfig(**transfer)
        options = transfer["kv_connector_extra_config"]
        for tier in options.get("secondary_tiers", []):
            assert hasattr(importlib.import_module(tier["module_path"]), tier["type"])
            parse({key: tier[key] for key in tier.keys() - {"type", "module_path"}}, frozenset())
        module = transfer.get("kv_connector_module_path") or options.get("spec_module_path")
        if module:
            name = options.get("spec_name") or transfer["kv_connector"]
            assert hasattr(importlib.import_module(module), name)
            parse(options)


def engine_of(channels=16, **changed):
    """A vLLM configuration as far as it is looked at."""
    model = types.SimpleNamespace(use_mla=False, get_num_kv_heads=lambda parallel: 2,
                                  get_head_size=lambda: channels, dtype=torch.bfloat16)
    cache = types.SimpleNamespace(prefix_caching_hash_algo="sha256", enable_prefix_caching=True,
                                  cache_dtype="auto")
    return types.SimpleNamespace(**{"model_config": model, "cache_config": cache,
                                    "lora_config": None, "parallel_config": None} | changed)


def offloading_of(groups=1, canonical=False, bytes_per_block=3 * 2048, dtype="bfloat16",
                  layout="LBHNC", tokens=16, **parallel):
    sizes = {"world_size": 1, "pp_size": 1, "pcp_size": 1, "dcp_size": 1} | parallel
    group = types.SimpleNamespace(layer_names=("a", "b", "c"), tokens_per_block=tokens)
    return types.SimpleNamespace(
        parallel=types.SimpleNamespace(**sizes), canonical_layout=canonical,
        groups=(group,) * groups, worker_kv_bytes_per_block=bytes_per_block,
        kv_cache_layout=layout,
        model=types.SimpleNamespace(dtype=dtype), replicated_layout=False,
        cache=types.SimpleNamespace(blocks_per_chunk=1))


@pytest.fixture
def named_model(monkeypatch):
    monkeypatch.setattr(facts, "model_identity", lambda config, settings: "m")


def test_pages_are_read_as_heads_and_channels(named_model, monkeypatch):
    found = facts.page_facts(engine_of(), offloading_of(), parse({"tiers": DRAM}))
    assert found == page_facts(kind="transposed", kv_layout="LBHNC vec16")
    monkeypatch.setattr(facts.current_platform, "is_cpu", lambda: False)
    found = facts.page_facts(engine_of(), offloading_of(), parse({"tiers": DRAM}))
    assert found == page_facts()


@pytest.mark.parametrize("packing", [{"bytes_per_block": 3 * 4112}, {"layout": "LBNHC"}])
def test_pages_packed_by_the_engine_are_opaque_and_no_lossy_codec_touches_them(named_model, packing):
    packed = offloading_of(**packing)
    found = facts.page_facts(engine_of(), packed, parse({"tiers": DRAM}))
    assert found.kv_heads == 0
    assert found.block_layout().bytes == found.chunk_bytes == packed.worker_kv_bytes_per_block
    lossy = parse({"tiers": [{"uri": "dram:16M", "layers": [{"count": 1, "codec": "int8"}]}]})
    with pytest.raises(ConfigError, match='codec "int8" takes .* are bfloat16, packed'):
        facts.page_facts(engine_of(), packed, lossy)


def test_pages_in_the_order_of_a_processor_are_never_met_by_another(named_model, monkeypatch):
    """AMX pairs values of bfloat16; vLLM calls the layout the same."""
    found = []
    for has_amx in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=has_amx: has)
        found.append(facts.page_facts(engine_of(channels=32), offloading_of(
            tokens=32, bytes_per_block=3 * 8192), parse({"tiers": DRAM})))
    assert [(one.kv_heads, one.kind) for one in found] == [(2, "transposed"), (2, "tiled")]
    assert found[0].namespace(0) != found[1].namespace(0)


def test_pages_in_an_order_that_is_not_known_are_opaque(named_model, monkeypatch):
    monkeypatch.setattr(cpu_attn, "_get_attn_isa", lambda *of: "neon")
    found = facts.page_facts(engine_of(), offloading_of(), parse({"tiers": DRAM}))
    assert found == page_facts(kv_heads=0, head_dim=0, kv_layout="LBHNC neon")


@pytest.mark.parametrize(("engine", "offloading", "config", "says"), [
    ({"lora_config": object()}, {}, {}, "LoRA"),
    ({"cache_config": types.SimpleNamespace(prefix_caching_hash_algo="xxhash",
                                            enable_prefix_caching=True)},
     {}, {"name": "shm:/x"}, "use sha256"),
    ({"cache_config": types.SimpleNamespace(prefix_caching_hash_algo="sha256",
                                            enable_prefix_caching=False)},
     {}, {}, "prefix caching is off"),
    ({}, {"pp_size": 2}, {}, "pp_size is 2"),
    ({}, {"dcp_size": 2}, {}, "dcp_size is 2"),
    ({}, {"groups": 2}, {}, "--disable-hybrid-kv-cache-manager"),
    ({}, {"canonical": True}, {}, '"canonical_layout"'),
    ({}, {"dtype": "float32"}, {"tiers": [{"uri": "dram:16M", "codec": "kvq4"}]}, "are float32"),
    ({}, {"bytes_per_block": 10000}, {}, "not all of one size"),
    ({}, {}, {"tiers": [{"uri": "dram:16M", "layers": [{"first": 0, "count": 99, "codec": "raw"}]}]},
     "goes beyond the 3 layers of a block"),
    ({}, {}, {"tiers": [{"uri": "dram:16M", "layers": [{"first": 3, "codec": "raw"}]}]},
     "goes beyond the 3 layers of a block"),
])
def test_engines_that_cannot_be_served(named_model, engine, offloading, config, says):
    with pytest.raises(ConfigError) as told:
        facts.page_facts(engine_of(**engine), offloading_of(**offloading),
                         parse({"tiers": DRAM} | config))
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_what_a_killed_engine_left_is_swept_and_what_lives_is_not():
    text = ("import os, signal, cxlspeckv; from cxlspeckv.vllm import core, engine_file;"
            "from cxlspeckv.vllm.settings import parse; from vllm_support import page_facts;"
            "file = engine_file.EngineFile('killed');"
            "core.share('killed', parse({'tiers': [{'uri': 'dram:16M'}]}), page_facts());"
            "os.kill(os.getpid(), signal.SIGKILL)")
    sweep()  # what another run may have left
    before = set(os.listdir("/dev/shm"))
    assert subprocess.run([sys.executable, "-c", text], cwd=os.path.dirname(__file__),
                          check=False).returncode == -9
    assert set(os.listdir("/dev/shm")) > before
    alive = EngineFile("alive")
    alive.publish(page_facts())
    assert sweep() == ["cxlspeckv-engine-killed"]
    assert set(os.listdir("/dev/shm")) == before | {"cxlspeckv-engine-alive"}
    assert EngineFile("alive").facts() == page_facts()
    alive.retire()
    assert set(os.listdir("/dev/shm")) == before


def identity_of(path, shape="{}", model_id="", dtype="bfloat16"):
    model = types.SimpleNamespace(
        model=str(path), revision=None, dtype=dtype, quantization=None,
        hf_config=types.SimpleNamespace(to_json_string=lambda use_diff: shape))
    engine = types.SimpleNamespace(
        model_config=model, cache_config=types.SimpleNamespace(cache_dtype="auto"),
        load_config=types.SimpleNamespace(load_format="auto"))
    return facts.model_identity(engine, parse({"tiers": DRAM, "model_id": model_id}))


def test_the_identity_follows_weights_and_configuration(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = identity_of(tmp_path)
    assert first == identity_of(tmp_path)
    assert first != identity_of(tmp_path, shape='{"rope_theta": 1}')
    assert first != identity_of(tmp_path, dtype="float16")
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))
    assert first == identity_of(tmp_path)  # what a copy has of its own says nothing
    assert identity_of(tmp_path, model_id="a") != identity_of(tmp_path, model_id="b")
    with pytest.raises(ConfigError, match='give a "model_id"') as told:
        identity_of("no-such/model")
    assert "\n" not in str(told.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no weights"):
        identity_of(tmp_path / "empty")


@pytest.mark.parametrize("place", [0, 5 << 20, (40 << 20) + 1, 64 << 20])
def test_weights_of_equal_name_size_and_time_differ_by_their_bytes(tmp_path, place):
    """As finetunes do in images and archives, whose files all have the same time. Of a large file
    samples are read, so that no matrix of a layer lies between them."""
    made = []
    for name, byte in (("a", b"\1"), ("b", b"\2")):
        path = tmp_path / name / "model.safetensors"
        path.parent.mkdir()
        with path.open("wb") as file:  # sparse
            file.seek(place)
            file.write(byte * (2 << 20))
            file.truncate(66 << 20)
        os.utime(path, (0, 0))
        made.append(identity_of(path.parent))
    assert made[0] != made[1]


def test_snapshots_of_a_hub_differ_by_their_commit_and_their_bytes(tmp_path, monkeypatch):
    """Also where the cache holds files instead of links that are named after their content."""
    made = set()
    for commit, weights in (("a" * 40, b"1"), ("b" * 40, b"1"), ("b" * 40, b"2")):
        folder = tmp_path / "snapshots" / commit
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(weights)
        monkeypatch.setattr(facts, "snapshot_download", lambda *_, folder=folder, **__: str(folder))
        made.add(identity_of("some/model"))
        assert identity_of(folder) in made  # asked for by its path
    assert len(made) == 3
