"""speckvctl from outside: speckvctl.py PROGRAM. Exit status 0, or the first claim that fails."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

program = sys.argv[1]


def call(*words, status=0, silent=True):
    """What the command prints. A failure speaks on stderr, and only there."""
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=100,
                          stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == status, (words, done)
    assert bool(done.stderr) == (status != 0), (words, done)
    assert not (status and silent and done.stdout), (words, done)
    return done.stdout


def bad_arguments_exit_with_2():
    for words in ([], ["lst"], ["list", "more"], ["list", "--jason"], ["info"], ["stats"],
                  ["info", "cuda:0"], ["info", "dram:0"], ["info", "dram:1M?colour=red"],
                  ["selftest", "a", "b"], ["info", "file:/dev/null?size=1M"]):
        call(*words, status=2)


def help_names_every_command():
    text = call("--help")
    for command in ("list", "info", "stats", "selftest"):
        assert command in text, text
        assert "--json" in call(command, "--help")


def list_tells_devices_and_io_uring():
    told = json.loads(call("list", "--json"))
    uris = [device["uri"] for device in told["devices"]]
    assert {"dram:", "file:", "soft:"} <= set(uris), uris
    assert isinstance(told["io_uring"], bool)
    for device in told["devices"]:
        assert device["bytes"] is None or device["bytes"] > 0, device
    nodes = pathlib.Path("/sys/devices/system/node/node0")
    assert ("numa:0" in uris) == nodes.exists() or not (nodes / "meminfo").exists()
    assert len(call("list").splitlines()) == len(uris) + 1


def info_describes_a_device_and_creates_none(folder):
    told = json.loads(call("info", "soft:4M", "--json"))
    assert (told["capacity"], told["simulated"], told["kind"]) == (4 << 20, True, "queue")
    path = folder / "absent"
    call("info", f"file:{path}", status=1)
    call("info", f"dax:{path}", status=1)
    call("info", f"file:{path}?size=1M", status=2)
    assert not path.exists()
    path.write_bytes(bytes(1 << 20))
    told = json.loads(call("info", f"file:{path}", "--json"))
    assert (told["capacity"], told["persistent"], told["kind"]) == (1 << 20, True, "queue")


def stats_reads_pools_and_nothing_else(folder):
    path = folder / "pool"
    call("stats", str(path), status=1)
    path.write_bytes(bytes(8 << 20))
    call("stats", str(path), status=1)  # blank: not a pool, and not made one
    assert path.read_bytes() == bytes(8 << 20)
    call("selftest", f"file:{path}")  # leaves an empty pool behind
    before = path.read_bytes()
    told = json.loads(call("stats", str(path), "--json"))
    assert told["damaged"] == 0 and 0 < told["capacity"] < 8 << 20, told
    assert told["pool"] == json.loads(call("stats", f"dax:{path}", "--json"))["pool"]
    assert path.read_bytes() == before
    path.write_bytes(before[: 4 << 20])  # cut in half
    call("stats", str(path), status=1)
    path.write_bytes(os.urandom(1 << 20))
    call("stats", str(path), status=1)
    call("selftest", f"file:{path}", status=1, silent=False)  # holds something: left alone


def selftest_passes_on_every_device():
    told = json.loads(call("selftest", "--json"))
    assert told["passed"] is True
    results = {trial["result"].split(":")[0] for trial in told["trials"]}
    assert results <= {"passed", "skipped"} and "passed" in results, told
    kinds = {trial["device"].split(":")[0] for trial in told["trials"]}
    assert kinds == {"soft", "dram", "numa", "shm", "dax", "file"}, kinds
    assert {trial["codec"] for trial in told["trials"]} >= {"raw", "int8", "kvq4"}
    assert "passed" in call("selftest", "soft:2M")
    call("selftest", "numa:4095?size=8M", status=1, silent=False)


with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as temporary:
    for claim in (bad_arguments_exit_with_2, help_names_every_command,
                  list_tells_devices_and_io_uring, info_describes_a_device_and_creates_none,
                  stats_reads_pools_and_nothing_else, selftest_passes_on_every_device):
        print(" ", claim.__name__, flush=True)
        claim(*[pathlib.Path(temporary)] * claim.__code__.co_argcount)
