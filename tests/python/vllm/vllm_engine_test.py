"""The real engine and a real model on a CPU: float32, greedy, a KV cache too small for the prompts.

Whatever the store does, tokens must be those of an engine without it, and the engine must live.
"""

import functools
import math
import os
import re
import subprocess

import cxlspeckv
import pytest
import torch
from reference import kv_of, tokens_of
from vllm_support import EngineRun, model, nightly, on_a_disk, ours, watched

PROMPTS = [0, 1, 2]
# 8 blocks of 128 tokens hold one prompt of about 700, so that the next one pushes it out.
SMALL = {"blocks": 8, "max_model_len": 880, "chars": 3000}
COLD, WARM = {"prompts": PROMPTS}, {"prompts": PROMPTS}
TOGETHER = {"prompts": PROMPTS, "together": True}
BLOCKS = 15  # whole ones of all prompts
LAYERS, HEADS, CHANNELS, TOKENS = 30, 3, 64, 128  # of SmolLM2, and of a block


class Right:
    """Tokens by prompt, of an engine without offloading, which runs beside the first with."""

    def __init__(self, folder):
        self.run = EngineRun(folder, {"model": model(), "rounds": [{"prompts": [*PROMPTS, 3]}],
                                      "transfer": None} | SMALL)

    @functools.cached_property
    def tokens(self):
        found = self.run.finished()["rounds"][0]["tokens"]
        return dict(zip([*PROMPTS, 3], found, strict=True))


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """What every engine has to say."""
    found = Right(tmp_path_factory.mktemp("right"))
    yield found
    if found.run.process.poll() is None:
        found.run.kill()


def check(result, rounds, right):
    """All requests of all rounds ended with the right tokens."""
    assert len(result["rounds"]) == len(rounds)
    for asked, told in zip(rounds, result["rounds"], strict=True):
        assert told["tokens"] == [right.tokens[n] for n in asked["prompts"]]
        assert set(told["finish"]) <= {"length"}


def whole_blocks(told):
    return [tokens // 128 * 128 for tokens in told["prompt_tokens"]]


def counted(result, name):
    """A counter, all labels together."""
    return sum(value for key, value in result["metrics"].items() if key.startswith(name))


def stock(tiers, **options):
    """vLLM's own connector with our spec."""
    return {"kv_connector": "OffloadingConnector", "kv_role": "kv_both",
            "kv_load_failure_policy": "recompute",
            "kv_connector_extra_config": {
                "spec_name": "CxlSpecKVOffloadingSpec", "spec_module_path": "cxlspeckv.vllm.spec",
                "tiers": tiers} | options}


class Death:
    """Of an engine in the middle of a store: it says so on a FIFO that the other has open."""

    def __init__(self, folder):
        self.folder, self.fifo = folder, folder / "death"
        os.mkfifo(self.fifo)

    def after(self, blocks):
        """What watched.py is asked for."""
        return {"folder": str(self.folder), "dies_after": blocks, "death": str(self.fifo)}

    def expect(self):
        """So that nobody waits for a reader."""
        return open(os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK), encoding="utf-8")


def test_same_tokens_cold_warm_after_a_kill_a_restart_and_damage(engine, tmp_path, right):
    path = tmp_path / "pool"
    tiers = [{"uri": "dram:64M"}, {"uri": f"file:{path}?size=256M"}]
    # A prompt that was not computed yet is being stored when the engine is killed.
    rounds, death = [COLD, WARM], Death(tmp_path)
    last = {"prompts": [3], "before": [["flush", str(tmp_path), BLOCKS]]}
    with death.expect() as words:
        first = engine([*rounds, last], watched(ours(tiers)), watched=death.after(BLOCKS), **SMALL)
        first.wait()
        told = words.read()
    assert told, first.log()[-4000:]
    stored, blocks = map(int, told.split())
    assert 0 < stored < blocks
    killed = first.result()
    assert "ended" not in killed
    check(killed, rounds, right)
    assert sum(whole_blocks(killed["rounds"][0])) == 128 * BLOCKS
    assert killed["rounds"][0]["cached"] == [0, 0, 0]
    assert killed["rounds"][1]["cached"] == whole_blocks(killed["rounds"][1])

    # As after a reboot: what was in memory is gone, the pool is not. vLLM's own connector, with
    # the pool as its only tier, so that every load reads what will be damaged.
    cxlspeckv.remove_store(str(path))
    rounds = [WARM, {"prompts": [3]}, {"prompts": PROMPTS, "salt": "another tenant"},
              {"prompts": PROMPTS, "before": [["damage", str(path), 2]]}, WARM,
              {"prompts": PROMPTS, "before": [["cut", str(path)]]}]
    again = engine(rounds, stock(tiers[1:]), **SMALL).finished()
    check(again, rounds, right)
    # All that was flushed is found, and of the rest at most what was stored.
    assert again["rounds"][0]["cached"] == whole_blocks(again["rounds"][0])
    assert again["rounds"][1]["cached"][0] <= 128 * stored
    assert again["rounds"][2]["cached"] == [0, 0, 0]  # a salt never crosses
    assert sum(again["rounds"][3]["cached"]) < sum(whole_blocks(again["rounds"][3]))
    assert counted(again, "vllm:cxlspeckv_tier_integrity_failures") > 0
    assert counted(again, "vllm:cxlspeckv_tier_io_errors") > 0
    assert again["rounds"][5]["cached"] == [0, 0, 0]
    for name in ("hit_blocks", "tier_hits", "tier_read_bytes"):
        assert counted(again, f"vllm:cxlspeckv_{name}") > 0, name
    cxlspeckv.remove_store(str(path))


def blocks_of(path, tiers, count):
    """The first blocks that watched.py saw saved, read without an engine: K and V, [layer][head]
    [token][channel] each. Pages of float32 are transposed on every x86."""
    layout = cxlspeckv.BlockLayout(layers=LAYERS, kv_heads=HEADS, head_dim=CHANNELS,
                                   tokens=TOKENS, dtype="f32", kind="transposed")
    found = torch.zeros(count, LAYERS, HEADS, 2, TOKENS * CHANNELS)
    size = found[0].nbytes
    with cxlspeckv.BlockStore([layout], tiers, name=str(path / "pool")) as store:
        region = store.attach(found)
        store.load((path / "keys").read_bytes()[:16 * count],
                   [[region, number * size, size] for number in range(count)]).wait()
    keys, values = found.permute(3, 1, 2, 0, 4)
    keys = keys.unflatten(-1, (CHANNELS, TOKENS)).transpose(-1, -2)
    return [one.reshape(LAYERS, HEADS, count * TOKENS, CHANNELS)
            for one in (keys, values.unflatten(-1, (TOKENS, CHANNELS)))]


def check_pages(path, tiers, prompt_tokens):
    """What an engine stored of the first prompt is what another program computes of its text."""
    tokens = tokens_of(PROMPTS[0], SMALL["chars"])
    assert tokens.shape[1] == prompt_tokens
    count = prompt_tokens // TOKENS
    for stored, right in zip(blocks_of(path, tiers, count), kv_of(tokens), strict=True):
        right = right[:, :, :count * TOKENS]
        # Each row is some token's in some head and layer: it is near to what is right there.
        errors = (stored - right).norm(dim=-1) / right.norm(dim=-1)
        assert errors.max() < 1e-3


def test_two_engines_share_a_pool_and_one_survives_the_others_death(engine, tmp_path, right):
    """Which dies while it stores a prompt that the survivor asks for, too."""
    meeting, death = str(tmp_path / "meeting"), Death(tmp_path)
    os.mkfifo(meeting)
    tiers = [{"uri": "dram:64M"}, {"uri": f"file:{tmp_path}/pool?size=256M"}]
    transfer = ours(tiers)
    first_rounds = [COLD, {"prompts": [3], "before": [["meet", meeting, "first"]]}]
    second_rounds = [{"prompts": [], "before": [["meet", meeting, "second"]]},
                     {"prompts": [3], "before": [["death", str(death.fifo)]]}, WARM,
                     TOGETHER | {"metrics": True}]
    first = engine(first_rounds, watched(transfer), watched=death.after(BLOCKS), **SMALL)
    second = engine(second_rounds, transfer, **SMALL)
    survivor = second.finished()
    first.wait()
    check({"rounds": first.result()["rounds"]}, [COLD], right)
    check(survivor, second_rounds, right)
    assert any(survivor["rounds"][3]["shared_memory"].values())  # a pool's is there to be shared
    # What the first computed, the second never does; nor the half that it had stored at its end.
    assert 0 < survivor["rounds"][1]["cached"][0] < whole_blocks(survivor["rounds"][1])[0]
    assert survivor["rounds"][2]["cached"] == whole_blocks(survivor["rounds"][2])
    assert survivor["rounds"][3]["cached"] == whole_blocks(survivor["rounds"][3])
    # One prompt fits; the others wait, and are read ahead meanwhile.
    assert counted(survivor, "vllm:cxlspeckv_prefetch_") > 0
    check_pages(tmp_path, tiers, survivor["rounds"][2]["prompt_tokens"][0])
    cxlspeckv.remove_store(str(tmp_path / "pool"))


@nightly
def test_every_rank_of_an_engine_finds_its_own_part_again(engine, tmp_path):
    """Three processes, as many as this model's heads can be dealt to. Their sums have an order of
    their own, so the right tokens are those of a tenant for whom nothing is stored."""
    fresh = {"prompts": PROMPTS, "salt": "another tenant"}
    transfer = ours([{"uri": "dram:64M"}, {"uri": f"file:{tmp_path}/pool?size=256M"}])
    first = engine([fresh, COLD, WARM], transfer, tensor_parallel=3, **SMALL).finished()
    again = engine([WARM], transfer, tensor_parallel=3, **SMALL).finished()
    rounds = [*first["rounds"], *again["rounds"]]
    assert all(told["tokens"] == rounds[0]["tokens"] for told in rounds)
    nothing, everything = [0, 0, 0], whole_blocks(rounds[0])
    assert [told["cached"] for told in rounds] == [nothing, nothing, everything, everything]
    cxlspeckv.remove_store(str(tmp_path / "pool"))


@nightly
def test_a_session_that_is_spoken_for_is_staged_while_its_user_thinks(engine, tmp_path, right,
                                                                      monkeypatch):
    """Through what requests say; one prompt fits the first tier, and of it a part is staged (the
    rest of so small a tier is left to requests). A load leaves blocks where they are, so that what
    is in that tier was stored last, or staged."""
    trace, block = tmp_path / "trace", TOKENS * LAYERS * HEADS * CHANNELS * 2 * 4
    monkeypatch.setenv("CXLSPECKV_TRACE", str(trace))
    tiers = [{"uri": "dram:44M"}, {"uri": f"file:{tmp_path}/pool?size=256M"}]
    named = [{"session": f"chat {n}"} for n in PROMPTS]

    def expects(number):
        return {"hints": [{"session": f"chat {number}", "eta": 1}]}

    rounds = [COLD | {"words": named},
              WARM | {"words": [*named[:2], named[2] | expects(0)]},
              {"prompts": [0], "words": [named[0] | expects(1)], "before": [["think", 3]],
               "metrics": True},
              # Longer than anybody believes that chat 1 comes.
              {"prompts": [2], "words": [named[2] | {"ended": True}], "before": [["think", 25]],
               "metrics": True}]
    told = engine(rounds, ours(tiers, speculation={"hint_life": 20}), **SMALL).finished()
    check(told, rounds, right)

    def staged(number, what):
        return told["rounds"][number]["metrics"].get(
            f"vllm:cxlspeckv_speculation_{what}_bytes{{hinted}}", 0)

    assert block <= staged(2, "useful") <= 5 * block
    assert staged(3, "useful") == staged(2, "useful")
    assert block <= staged(3, "wasted") == staged(3, "staged") - staged(3, "useful")
    assert not any("{learned}" in name for name in told["rounds"][3]["metrics"])
    # Every request of a session, what they read included.
    lines = [line.split() for line in trace.read_text(encoding="utf-8").splitlines()]
    requests = [line for line in lines if line[0] == "R"]
    assert len(requests) == 8 and len({line[3] for line in requests}) == 3
    assert {line[5] for line in requests} == {"16"}
    assert sorted({int(line[4]) for line in requests}) == sorted(
        {told["rounds"][0]["prompt_tokens"][n] for n in PROMPTS})
    cxlspeckv.remove_store(str(tmp_path / "pool"))


@nightly
def test_packed_blocks_change_the_answers_of_an_engine_little(engine):
    """kvq4 in bfloat16: what the next token may be after blocks that were loaded, against the same
    engine's first look at the prompt. It is 0.02 nats; 0.15 if K is taken for rows of tokens."""
    asked = {"prompts": list(range(12)), "max_tokens": 2, "logprobs": -1, "metrics": True}
    transfer = ours([{"uri": "dram:64M", "codec": "kvq4"}])
    fresh, loaded = engine([asked, asked], transfer, dtype="bfloat16", **SMALL).finished()["rounds"]
    assert fresh["cached"] == [0] * 12 and loaded["cached"] == whole_blocks(loaded)
    assert divergence(fresh, loaded) < 0.05
    used, plain = (loaded["metrics"][f"vllm:cxlspeckv_tier_{which}_bytes{{dram0}}"]
                   for which in ("used", "plain"))
    assert plain > 3.5 * used


def divergence(left, right):
    """KL of the distributions of the next token, in nats: mean over prompts."""
    each = [sum(math.exp(p[token]) * (p[token] - q[token]) for token in p)
            for p, q in zip(left["logprobs"], right["logprobs"], strict=True)]
    return sum(each) / len(each)


def test_a_full_store_and_a_slow_one_cost_time_and_nothing_else(engine, tmp_path, right):
    rounds = [COLD, WARM, TOGETHER | {"metrics": True}]
    # Three blocks fit, of fifteen; memory only, which goes with the engine, however it ends.
    full = engine(rounds, ours([{"uri": "dram:20M"}]), **SMALL)
    # Reads take longer than a load may: every one is given up and recomputed.
    slow = engine(rounds, ours([{"uri": f"file:{tmp_path}/slow?size=256M&throttle=nvme"}],
                               load_timeout=0.0001), **SMALL)
    result = full.finished()
    check(result, rounds, right)
    assert counted(result, "vllm:cxlspeckv_tier_evictions") > 0
    for thread in ("store", "load", "mover"):
        assert result["metrics"][f"vllm:cxlspeckv_cpu_seconds{{{thread}}}"] > 0
    memory = result["rounds"][-1]["shared_memory"]
    assert memory and not any(memory.values())
    assert not any(os.path.exists(path) for path in memory)
    result = slow.finished()
    check(result, rounds, right)
    assert counted(result, "vllm:cxlspeckv_failed_loads") > 0
    cxlspeckv.remove_store(str(tmp_path / "slow"))


def test_a_disk_that_fills_up_while_the_engine_runs(engine, tmp_path, right):
    """What a pool has reserved is its own. Where the file system keeps no such promise, a block that
    finds no room is not stored, and what is stored stays; with room again it goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    tried = subprocess.run([*on_a_disk(disk, 1), "true"], stderr=subprocess.PIPE, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")
    pool, one, others = str(disk / "pool"), {"prompts": PROMPTS[:1]}, {"prompts": PROMPTS[1:]}
    rounds = [one | {"before": [["fill", str(disk)]]}, one,
              others | {"before": [["thin", pool]]}, WARM,
              others | {"before": [["make_room", str(disk)]]}, WARM]
    told = engine(rounds, ours([{"uri": f"file:{pool}?size=128M"}]), disk=(str(disk), 144),
                  **SMALL).finished()
    check(told, rounds, right)
    cached = [found["cached"] for found in told["rounds"]]
    everything = whole_blocks(told["rounds"][3])
    assert cached[:2] == [[0], everything[:1]]
    assert cached[2:4] == [[0, 0], [everything[0], 0, 0]]
    assert cached[5] == everything
    assert told["metrics"]["vllm:cxlspeckv_dropped_saves{no_space}"] == 2 * sum(everything[1:]) / 128


def test_a_mistake_is_told_in_one_line_at_the_start(engine):
    run = engine([COLD], ours([{"uri": "dram:64M", "codec": "kvq4"}]), **SMALL)
    assert run.wait() != 0
    told = set(re.findall(r"cxlspeckv: .*", run.log()))
    line = ('cxlspeckv: codec "kvq4" takes bfloat16 and float16, and the pages of this engine are '
            "float32")
    assert told
    assert {text[:len(line)] for text in told} == {line}  # vLLM repeats it with words of its own
