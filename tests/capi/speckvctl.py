"""speckvctl from outside: speckvctl.py PROGRAM ROOT HOLD_STORE. Exit status 0, or the
first claim that fails.

Every document that it writes is held against docs/speckvctl.schema.json.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

try:
    import jsonschema
except ImportError:
    print("SKIPPED: there is no python3-jsonschema")
    sys.exit(77)

program, root, hold_store = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
schema = json.loads((root / "docs/speckvctl.schema.json").read_text(encoding="utf-8"))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)


def call(*words, status=0, silent=True):
    """What the command prints. A failure speaks on stderr, and only there."""
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=100,
                          stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == status, (words, done)
    assert bool(done.stderr) == (status != 0), (words, done)
    if status == 2:  # one line, by the one who says it
        assert re.fullmatch(r"speckvctl: .{10,}\n", done.stderr), (words, done)
    assert not (status and silent and done.stdout), (words, done)
    return done.stdout


def document(text):
    """What a text says, if it is what the schema says it is."""
    told = json.loads(text)
    validator.validate(told)
    return told


def ask(*words, status=0):
    return document(call(*words, "--json", status=status))


def graded(status, *words):
    """`health` answers with its exit status, and has nothing to say on stderr."""
    done = subprocess.run([program, "health", *words, "--json"], capture_output=True, text=True,
                          timeout=100, check=False)
    assert (done.returncode, done.stderr) == (status, ""), done
    return document(done.stdout)


def bad_arguments_exit_with_2():
    for words in ([], ["lst"], ["list", "more"], ["list", "--jason"], ["info"], ["stats"],
                  ["info", "cuda:0"], ["info", "dram:0"], ["info", "dram:1M?colour=red"],
                  ["selftest", "a", "b"], ["info", "file:/dev/null?size=1M"],
                  ["health"], ["health", "dram:1M?colour=red"], ["stats", "soft:", "--json", "--prom"],
                  ["stats", "soft:", "--output", "x"], ["stats", "soft:", "--watch", "0"],
                  ["top", "soft:", "--count", "-1"], ["step", "soft:"], ["step", "soft:", "4294967296"],
                  ["step", "dram:", "1"], ["hot", "soft:"], ["hot", "soft:", "--tokens", "65536"],
                  ["hot", "soft:", "--tokens", "0"], ["hot", "soft:", "--tokens", "1", "--head", "256"],
                  ["prefetch", "soft:", "--tokens", "1"], ["weights", "soft:", "--evict", "256"],
                  ["weights", "soft:", "--evict", "90", "--prefetch", "91"],
                  ["telemetry", "soft:", "--victims", "--prefetches"], ["bench", "soft:1M", "--bytes", "0"],
                  ["bench", "soft:1M", "--bytes", "2M"], ["bench", "soft:1M", "--depth", "0"],
                  ["bench"], ["config", "put", "/dev/speckv0"],
                  ["config", "get", "/dev/speckv63", "colour"], ["generate", "html"], ["generate"]):
        call(*words, status=2)


def refusals_name_the_word():
    for words, word in ((["lst"], "lst"), (["list", "--jason"], "--jason"), (["list", "more"], "more"),
                        (["stats"], "NAME"), (["info", "cuda:0"], "cuda:0")):
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=100, check=False)
        assert word in done.stderr, (words, done)


def help_names_every_command():
    text = call("--help")
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", text, re.M), (command, text)
        silent = ("top", "monitor", "reset", "generate")
        assert ("--json" in call(command, "--help")) == (command not in silent), command


COMMANDS = ("list", "info", "health", "stats", "top", "step", "hot", "evict", "prefetch", "share",
            "weights", "telemetry", "monitor", "selftest", "bench", "config", "reset", "trace", "train", "generate")


def list_tells_devices_and_io_uring():
    told = ask("list")
    uris = [device["uri"] for device in told["devices"]]
    assert {"dram:", "file:", "soft:"} <= set(uris), uris
    assert isinstance(told["io_uring"], bool)
    for device in told["devices"]:
        assert device["bytes"] is None or device["bytes"] > 0, device
    nodes = pathlib.Path("/sys/devices/system/node/node0")
    assert ("numa:0" in uris) == nodes.exists() or not (nodes / "meminfo").exists()
    assert len(call("list").splitlines()) == len(uris) + 1


def info_describes_a_device_and_creates_none(folder):
    told = ask("info", "soft:4M")
    assert (told["capacity"], told["simulated"], told["kind"]) == (4 << 20, True, "queue")
    path = folder / "absent"
    call("info", f"file:{path}", status=1)
    call("info", f"dax:{path}", status=1)
    call("info", f"file:{path}?size=1M", status=2)
    assert not path.exists()
    path.write_bytes(bytes(1 << 20))
    told = ask("info", f"file:{path}")
    assert (told["capacity"], told["persistent"], told["kind"]) == (1 << 20, True, "queue")


def stats_reads_pools_and_nothing_else(folder):
    path = folder / "pool"
    call("stats", str(path), status=1)
    path.write_bytes(bytes(8 << 20))
    call("stats", str(path), status=1)  # blank: not a pool, and not made one
    assert path.read_bytes() == bytes(8 << 20)
    call("selftest", f"file:{path}")  # leaves an empty pool behind
    before = path.read_bytes()
    told = ask("stats", str(path))
    assert told["kind"] == "pool" and told["state"] == "good" and told["tiers"] == []
    assert told["values"]["damaged"] == 0 and 0 < told["values"]["capacity"] < 8 << 20, told
    assert told["facts"]["pool"] == ask("stats", f"dax:{path}")["facts"]["pool"]
    assert graded(0, str(path))["state"] == "good"
    assert path.read_bytes() == before
    path.write_bytes(before[: 4 << 20])  # cut in half
    call("stats", str(path), status=1)
    path.write_bytes(os.urandom(1 << 20))
    call("stats", str(path), status=1)
    call("selftest", f"file:{path}", status=1, silent=False)  # holds something: left alone
    for scheme in ("file", "dax"):
        call("selftest", f"{scheme}:{folder}/small?size=12K", status=1, silent=False)
        assert not (folder / "small").exists()


def selftest_passes_on_every_device():
    told = ask("selftest")
    assert told["passed"] is True
    results = {trial["result"].split(":")[0] for trial in told["trials"]}
    assert results <= {"passed", "skipped"} and "passed" in results, told
    kinds = {trial["device"].split(":")[0] for trial in told["trials"]}
    assert kinds == {"soft", "dram", "numa", "shm", "dax", "file"}, kinds
    assert {trial["codec"] for trial in told["trials"]} >= {"raw", "int8", "kvq4"}
    assert "passed" in call("selftest", "soft:2M")
    call("selftest", "numa:4095?size=8M", status=1, silent=False)


def health_is_graded(folder):
    assert graded(0, "soft:") == {"schema": 1, "command": "health", "name": "soft:",
                                  "state": "good", "reasons": []}
    for name in ("/dev/speckv63", "shm:/none-such", str(folder / "none")):
        told = graded(4, name)
        assert told["state"] == "failed" and len(told["reasons"]) == 1, told
    assert call("health", "soft:") == "good\n"


def stats_of_an_engine_are_numbers_by_name(folder):
    told = ask("stats", "soft:8M")
    assert told["kind"] == "card" and told["values"]["memory_bytes"] == 8 << 20
    assert {"descriptors", "bytes_read", "errors_logged", "fatal"} <= set(told["values"])
    text = call("stats", "soft:8M", "--prom")
    lines = text.splitlines()
    assert 'cxlspeckv_up{name="soft:8M"} 1' in lines and 'cxlspeckv_card_fatal{name="soft:8M"} 0' in lines
    names = [line.split("{")[0] for line in lines if not line.startswith("#")]
    assert len(names) == len(set(names)) > 20
    for line in lines:
        assert re.fullmatch(r'# TYPE (\w+) (counter|gauge)|cxlspeckv_\w+\{name="soft:8M"\} \d+', line), line
    for line in lines[::2]:
        counts, name = line.endswith(" counter"), line.split()[2]
        assert counts == name.endswith("_total"), line
    call("stats", "soft:8M", "--prom", "--watch", "0.01", "--count", "3", "--output", folder / "a.prom")
    again = (folder / "a.prom").read_text(encoding="utf-8")
    assert [line.split("{")[0] for line in again.splitlines()] == [line.split("{")[0] for line in lines]
    assert sorted(path.name for path in folder.glob("a.*")) == ["a.prom"]
    call("stats", "soft:8M", "--prom", "--output", folder / "none" / "a", status=1)


def a_live_store_is_seen_tier_by_tier(folder):
    name, file = f"shm:/speckvctl-{os.getpid()}", folder / "store.prom"
    with subprocess.Popen([hold_store, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"ready\n"
        told = ask("stats", name)
        assert told["kind"] == "store" and told["values"] == {"processes": 1}
        assert [tier["name"] for tier in told["tiers"]] == ["dram0", "second"]
        assert told["tiers"][0]["blocks"] == 8 and told["tiers"][0]["bytes_written"] >= 8 * 4096
        assert graded(0, name)["state"] == "good"
        assert document(call("monitor", name, "--count", "1"))["tiers"] == told["tiers"]
        lines = call("stats", name, "--prom").splitlines()
        assert f'cxlspeckv_tier_blocks{{name="{name}",tier="dram0"}} 8' in lines
        families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
        assert len(families) == len(set(families))
        assert re.search(r"^tier +dram0 +second$", call("top", name, "--count", "1"), re.M)
        call("stats", name, "--prom", "--output", file)
        assert f'cxlspeckv_up{{name="{name}"}} 1\n' in file.read_text(encoding="utf-8")
        holder.stdin.close()
        assert holder.wait(30) == 0
    call("stats", name, status=1)
    # What has gone is not up, and has no numbers of the past; it is looked for as long as asked.
    gone = [f'cxlspeckv_{what}{{name="{name}"}} {value}' for what, value in (("up", 0), ("degraded", 1))]
    for words in ([], ["--watch", "0.01", "--count", "3"]):
        call("stats", name, "--prom", "--output", file, *words, status=1)
        lines = file.read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if not line.startswith("#")] == gone, lines
        file.unlink()
    call("stats", "dram:1M?colour=red", "--prom", "--output", file, status=2)
    assert not file.exists()
    assert graded(4, name)["state"] == "failed"


def watching_ends_after_its_count():
    lines = call("monitor", "soft:", "--count", "3", "--interval", "0.01").splitlines()
    assert len(lines) == 3
    assert all(document(line)["command"] == "monitor" for line in lines)
    assert len(call("stats", "soft:", "--json", "--watch", "0.01", "--count", "2").splitlines()) == 2
    text = call("top", "soft:", "--count", "2", "--interval", "0.01")
    assert text.count("descriptors ") == 2 and "/s" in text and "\x1b" not in text


def an_engine_takes_steps_and_weights_and_knows_no_blocks():
    assert ask("step", "soft:", "7") == {"schema": 1, "command": "step", "name": "soft:", "step": 7,
                                         "candidates": 0}
    for command in ("hot", "evict", "share"):
        call(command, "soft:", "--request", "1", "--tokens", "64", status=1)
    call("prefetch", "soft:", "--tokens", "64", "--step", "9", status=1)
    told = ask("weights", "soft:", "--recency", "1", "--prefetch", "200")
    assert (told["recency"], told["prefetch"], told["frequency"]) == (1, 200, 64)
    assert ask("telemetry", "soft:")["blocks"] == 0
    assert ask("telemetry", "soft:", "--victims")["victims"] == []
    assert ask("telemetry", "soft:", "--prefetches")["prefetches"] == []


def bench_measures_what_keeps_nothing(folder):
    told = ask("bench", "soft:8M", "--seconds", "0.1", "--depth", "4", "--bytes", "256K")
    assert told["transfer_bytes"] == 256 << 10 and told["simulated"] is True
    assert min(told[key] for key in told if key.endswith("_per_second")) > 1 << 20, told
    path = folder / "kept"
    path.write_bytes(b"precious" * 131072)
    call("bench", f"file:{path}", status=2)
    assert path.read_bytes() == b"precious" * 131072


def what_is_no_card_has_no_configuration():
    for words in (["config", "get", "/dev/null"], ["config", "set", "/dev/null", "w_r", "1"],
                  ["reset", "/dev/null"], ["reset", "soft:"]):
        call(*words, status=1)


AGENTS = """S one 10 20 2
R 0 128 4 1000 0 tool_use t k+u 0 -1 0 1-16
R 5000 192 4 1000 0 end_turn r t 0 0 16 17-24
"""


def traces_are_read_told_and_converted(folder):
    source, native = folder / "agents.txt", folder / "native.txt"
    source.write_text(AGENTS, encoding="utf-8")
    told = ask("trace", "info", "--trace", source)
    assert (told["requests"], told["sessions"], told["blocks"], told["reused_accesses"]) == (2, 1, 3, 2)
    assert (told["seconds"], told["gap_seconds_p50"]) == (5, 4), told
    call("trace", "convert", "--trace", source, "--output", native)
    assert ask("trace", "info", "--trace", native) == told
    assert call("trace", "convert", "--trace", native) == native.read_text(encoding="utf-8")
    done = subprocess.run([program, "trace", "info", "--trace", "-"], input=AGENTS + "R 1\n", text=True,
                          capture_output=True, check=False)
    assert done.returncode == 2 and done.stdout == "", done
    assert done.stderr.startswith("speckvctl: standard input:4: "), done
    for words in (["--trace", source, "--format", "none"], ["--trace", source, "--part", "half"], [],
                  ["--trace", source, "--longest", "-1"], ["--trace", source, "--share", "0"],
                  ["--trace", source, "--block-tokens", "65"]):
        call("trace", "info", *words, status=2)
    call("trace", "info", "--trace", folder / "none", status=1)


def a_command_is_recorded(folder):
    into, words = folder / "recorded.txt", ["--", hold_store, f"shm:/speckvctl-record-{os.getpid()}"]
    told = call("trace", "record", "--output", into, "--json", *words)
    assert told.startswith("ready\n"), told
    assert document(told[6:])["requests"] == 2 and document(told[6:])["exit_status"] == 0
    info = ask("trace", "info", "--trace", into)
    assert (info["requests"], info["sessions"], info["blocks"], info["reused_accesses"]) == (2, 1, 8, 4), info
    call("trace", "record", "--output", into, *words, status=2)  # it is there
    for more in (["--output", folder / "none"], words, ["--output", folder / "none", "--"]):
        call("trace", "record", *more, status=2)
    call("trace", "record", "--output", folder / "none", "--", "true", status=1)
    call("trace", "record", "--output", folder / "none", "--", folder / "nothing", status=1)
    call("trace", "info", "--trace", into, "--", "true", status=2)
    assert not (folder / "none").exists()


def an_lstm_is_trained_and_told_beside_its_rivals(folder):
    source, weights = folder / "ring.txt", folder / "weights.bin"
    lines = [f"R {i * 1000} -1 {i} 16 1 - 0 0 {','.join(str((i + n) % 6) for n in range(10))}" for i in range(30)]
    source.write_text("\n".join(["speckv-trace 1 16", *lines, ""]), encoding="utf-8")
    on = ["--trace", source, "--output", weights]
    told = ask("train", *on, "--count", "40")
    assert told["vocabulary"] == 7 and told["unknown_blocks"] == 0 and told["judged_blocks"] % 9 == 0, told
    assert told["right_lstm"] > told["right_unigram"] and told["right_ngram5"] > 0.9, told
    assert weights.stat().st_size == told["bytes"] and weights.read_bytes()[:8] == b"SPKVLSTM"
    before = weights.read_bytes()
    assert ask("train", *on, "--count", "40") == told and weights.read_bytes() == before
    for more in (["--vocabulary", "1"], ["--vocabulary", "40000"], ["--count", "0"], ["--format", "none"]):
        call("train", *on, *more, status=2)
    source.write_text("speckv-trace 1 16\n" + "\n".join(lines[:1]), encoding="utf-8")
    call("train", *on, status=2)  # one session cannot be divided
    assert weights.read_bytes() == before
    call("train", "--trace", source, "--output", folder / "none" / "weights", status=1)


NODE = """name = "n"
[[tier]]
name = "top"
capacity = "128M"
gigabytes_per_second = 1
[[tier]]
name = "low"
capacity = "1G"
link = "cxl"
"""


def traces_are_replayed_and_policies_compared(folder):
    node, source, page = folder / "node.toml", folder / "long.txt", folder / "page.html"
    node.write_text(NODE, encoding="utf-8")
    source.write_text("".join(f"S s{i} 1 2 2\nR 0 512 4 1000 0 x t t 0 -1 0 1-8\nR 20000 640 4 1000 0 x t t 0 0 8 9-10\n"
                              for i in range(6)), encoding="utf-8")
    on = ["--trace", source, "--tiers", node, "--window", "20", "--warm-up", "0.001"]
    told = ask("trace", "replay", *on)
    assert (told["requests"], told["policy"], told["node"]) == (12, "lru", "n"), told
    assert told["stall_seconds"] > 0 and told == ask("trace", "replay", *on), told
    best = ask("trace", "oracle", *on)
    assert best["stall_seconds"] <= told["stall_seconds"], (best, told)
    assert best["best_hit_rate_by_percent"]["20"] > 0
    compared = ask("trace", "compare", *on, "--count", "3", "--output", page)
    rows = {row["policy"]: row for row in compared["policies"]}
    assert compared["seeds"] == 3 and rows["lru"]["cut"] == 0 and len(rows) == 13, compared
    assert rows["lru"]["stall_seconds"] == told["stall_seconds"]
    text = page.read_text(encoding="utf-8")
    staging = [row for row in compared["policies"] if row["useful_bytes"] + row["late_bytes"] + row["wasted_bytes"] > 0]
    assert staging and all(row["policy"] not in ("lru", "retention", "oracle-retention") for row in staging), compared
    assert text.count("<svg") == text.count("</svg>") == 3 + len(staging) and "<script" not in text
    for row in staging:  # three lines that rise, each to its share of the height
        plot = text.split(f'aria-label="{row["policy"]}"')[1].split("</svg>")[0]
        most = max(row[f"{fate}_bytes"] for fate in ("useful", "late", "wasted"))
        for fate in ("useful", "late", "wasted"):
            points = re.search(f'class="{fate}"[^>]*points="([^"]*)"', plot)[1].split()
            times, heights = zip(*(map(float, point.split(",")) for point in points))
            assert len(points) > 100 and list(times) == sorted(times) and list(heights) == sorted(heights, reverse=True)
            assert abs((heights[0] - heights[-1]) - 150 * row[f"{fate}_bytes"] / most) < 0.2, (row, heights[-1])
    assert len(call("trace", "compare", *on).splitlines()) == 14
    for policy in ("live-retention", "live-learned", "live-hint-2", "recorded-retention", "recorded-learned", "recorded-hints"):
        live = ask("trace", "replay", *on, "--policy", policy)
        assert (live["requests"], live["policy"]) == (12, policy) and policy not in rows, live
        assert live == ask("trace", "replay", *on, "--policy", policy), live
        assert (live["staged_bytes"] > 0) == (policy in ("live-learned", "live-hint-2", "recorded-learned")), live
        assert (live["useful_bytes"] > 0) == (policy == "live-hint-2"), live
    # What sessions that are not drawn did while it warms up teaches when those that are return.
    source.write_text("".join(f"S s{i} 1 2 2\nR 0 512 4 1000 0 x t t 0 -1 0 1-8\nR 20000 640 4 1000 0 x t t 0 0 8 9-10\n"
                              for i in range(60)), encoding="utf-8")
    few = ["--trace", source, "--tiers", node, "--window", "200", "--share", "0.3", "--warm-up", "0.3", "--policy", "learned"]
    alone, taught = ask("trace", "replay", *few), ask("trace", "replay", *few, "--others")
    assert taught["requests"] == alone["requests"] and taught["wasted_bytes"] < 0.5 * alone["wasted_bytes"], (alone, taught)
    for change, words in ((("1G", "x"), []), (("1G", "0"), []), (('"cxl"', '"wire"'), []), (("name = \"n\"", "color = 1"), []),
                          (("capacity", "size"), []), (("[[tier]]", "[tier"), []),
                          (('"n"\n', '"n"\n[prefetch]\nchunk = "0"\n'), []), (('"n"\n', '"n"\n[prefetch]\n'), []), (("", ""), ["--policy", "mru"])):
        node.write_text(NODE.replace(*change), encoding="utf-8")
        call("trace", "replay", *on, *words, status=2)
    call("trace", "replay", "--trace", source, status=2)
    call("trace", "compare", *on, "--count", "0", status=2)


def what_is_generated_is_the_table(folder):
    manual = call("generate", "man")
    for command in COMMANDS:
        assert f".SS {command}\n" in manual
    if shutil.which("man"):
        (folder / "speckvctl.1").write_text(manual, encoding="utf-8")
        done = subprocess.run(["man", "--warnings", "-l", str(folder / "speckvctl.1")], text=True,
                              capture_output=True, check=False, env=os.environ | {"MANWIDTH": "90"})
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert "speckvctl" in done.stdout
    script = call("generate", "bash") + '''
        try() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=(); _speckvctl; echo "${COMPREPLY[*]}"; }
        try speckvctl mo; try speckvctl stats soft: --p; try speckvctl config g; try speckvctl generate m
    '''
    done = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, check=False,
                          cwd=folder)
    assert done.stdout.splitlines() == ["monitor", "--prom", "get", "man"], done


def the_exporters_unit_is_a_command_that_works(folder):
    unit = (root / "host/cli/systemd/speckvctl-exporter@.service").read_text(encoding="utf-8")
    words = re.search(r"^ExecStart=speckvctl (.*)$", unit, re.M).group(1).split()
    values = {"%I": "soft:", "%S/cxlspeckv/%i.prom": str(folder / "unit.prom"), "15": "0.01"}
    call(*[values.get(word, word) for word in words], "--count", "1")
    assert "cxlspeckv_up" in (folder / "unit.prom").read_text(encoding="utf-8")


with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as temporary:
    for claim in (bad_arguments_exit_with_2, refusals_name_the_word, help_names_every_command,
                  list_tells_devices_and_io_uring, info_describes_a_device_and_creates_none,
                  stats_reads_pools_and_nothing_else, health_is_graded,
                  stats_of_an_engine_are_numbers_by_name, a_live_store_is_seen_tier_by_tier,
                  watching_ends_after_its_count,
                  an_engine_takes_steps_and_weights_and_knows_no_blocks,
                  bench_measures_what_keeps_nothing, what_is_no_card_has_no_configuration,
                  traces_are_read_told_and_converted, a_command_is_recorded,
                  an_lstm_is_trained_and_told_beside_its_rivals,
                  traces_are_replayed_and_policies_compared, what_is_generated_is_the_table, the_exporters_unit_is_a_command_that_works,
                  selftest_passes_on_every_device):
        print(" ", claim.__name__, flush=True)
        claim(*[pathlib.Path(temporary)] * claim.__code__.co_argcount)
