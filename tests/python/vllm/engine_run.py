"""One run of a real engine: engine_run.py JOB.json RESULT.json (in the engine's Python)

The job: {"model": folder, "transfer": kv-transfer-config or null, "rounds": [round...], "dtype",
"blocks", "chars", "max_model_len", "watched": what watched.py is asked}; a round is {"prompts":
[number...], "together": whether the engine has all of them at once, "max_tokens", "salt",
"logprobs", "metrics" (and shared memory), "words": [what each says of sessions...], "before": [[action,
argument...]...]}. A prompt is a
stretch of a book. The result: for every round its seconds and tokens, and the metrics. It is written
after each round, so that a run that is killed leaves what it had.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import sys
import time

KEEP_SIZE, PUNCH_HOLE = 1, 2  # of fallocate()
BOOK = pathlib.Path(__file__).parents[3] / "data" / "northanger.txt"


def prompt(number, chars):
    text = BOOK.read_text(encoding="utf-8")
    start = number * 5003 % max(1, len(text) - chars)  # a prime: each number has its own
    return f"{text[start:start + chars]}\nSummary {number}:"


def damage(path, every):
    """Flips a bit in every so many of the frames that a pool holds."""
    text = pathlib.Path(path).read_bytes()
    frames = [match.start() for match in re.finditer(rb"SVKB[\x01\x02]\x00", text)]
    with open(path, "r+b") as file:
        for start in frames[::int(every)]:
            file.seek(start + 5000)
            file.write(bytes([text[start + 5000] ^ 1]))


def cut(path):
    """What is read from the file afterwards is an error of the device."""
    os.truncate(path, 0)


def meet(fifo, side):
    """Waits for the other engine: opening a FIFO takes two."""
    with open(fifo, {"first": "w", "second": "r"}[side], encoding="utf-8"):
        pass


def wait_for_flush(folder, blocks):
    """Until a flush has begun after so many blocks were saved, and ended."""
    path = pathlib.Path(folder) / "flushed"
    while not path.exists() or int(path.read_text(encoding="utf-8")) < blocks:
        time.sleep(0.05)  # sleeps: a file tells nobody that it changes


def wait_for_death(fifo):
    """Until the engine that writes to it has died."""
    with open(fifo, encoding="utf-8") as words:
        assert words.read(), "it ended otherwise"


def fill(folder):
    """What a file system has left goes into another file, to the last byte."""
    with open(pathlib.Path(folder) / "filler", "ab", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    assert os.statvfs(folder).f_bavail == 0


def thin(path):
    """Takes away what a pool has reserved for its blocks and not used yet, as on a file system that
    reserves nothing; and fills that."""
    libc, zeros = ctypes.CDLL(None, use_errno=True), bytes(1 << 16)
    with open(path, "r+b") as file:
        place = int.from_bytes(file.read(64)[48:56], "little")  # docs/block-format.md: of the data
        while piece := os.pread(file.fileno(), len(zeros), place):
            if piece == zeros[:len(piece)] and libc.fallocate(
                    file.fileno(), PUNCH_HOLE | KEEP_SIZE, ctypes.c_int64(place),
                    ctypes.c_int64(len(piece))):
                raise OSError(ctypes.get_errno(), "fallocate")
            place += len(piece)
    fill(pathlib.Path(path).parent)


def make_room(folder):
    (pathlib.Path(folder) / "filler").unlink()


def think(seconds):
    time.sleep(seconds)  # sleeps: what a client does between two turns


ACTIONS = {"think": think, "damage": damage, "cut": cut, "meet": meet, "flush": wait_for_flush,
           "death": wait_for_death, "fill": fill, "thin": thin, "make_room": make_room}


def metrics_of():
    """The counters and gauges of the store, by name and labels. vLLM's own reader makes whole
    numbers of counters."""
    from prometheus_client import REGISTRY

    found = {}
    for metric in REGISTRY.collect():
        if not metric.name.startswith(("vllm:cxlspeckv", "vllm:kv_offload")):
            continue
        for sample in metric.samples:
            if sample.name.removesuffix("_total") == metric.name:
                labels = ",".join(v for k, v in sample.labels.items()
                                  if k not in ("model_name", "engine"))
                found[f"{metric.name}{{{labels}}}"] = sample.value
    return found


def shared_memory():
    """The named memory of stores that this engine's processes have mapped: path, and whether the
    name is still there."""
    found = {}
    for maps in pathlib.Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # it ended
            if os.getpgid(int(maps.parent.name)) == os.getpgrp():
                for path in re.findall(r"/dev/shm/cxlspeckv.*", maps.read_text(encoding="utf-8")):
                    found[path.removesuffix(" (deleted)")] = not path.endswith(" (deleted)")
    return found


def make_engine(job):
    from vllm import LLM
    from vllm.config import KVTransferConfig

    transfer = job.get("transfer")
    return LLM(
        model=job["model"], dtype=job.get("dtype", "float32"), enforce_eager=True,
        max_model_len=job.get("max_model_len", 2048), max_num_seqs=4, gpu_memory_utilization=0.3,
        num_gpu_blocks_override=job.get("blocks", 18), disable_log_stats=False, seed=0,
        max_logprobs=-1, tensor_parallel_size=job.get("tensor_parallel", 1),
        kv_transfer_config=KVTransferConfig(**transfer) if transfer else None)


def run_round(engine, job, todo):
    """Runs the prompts of one round; returns what the caller compares."""
    from vllm import SamplingParams

    for action, *arguments in todo.get("before", []):
        ACTIONS[action](*arguments)
    inputs = []
    for number in todo["prompts"]:
        inputs.append({"prompt": prompt(number, job.get("chars", 6000))})
        if todo.get("salt"):
            inputs[-1]["cache_salt"] = todo["salt"]
    words = todo.get("words", [{}] * len(inputs))
    greedy = [SamplingParams(temperature=0, max_tokens=todo.get("max_tokens", 16), ignore_eos=True,
                             logprobs=todo.get("logprobs"),
                             extra_args={"kv_transfer_params": {"cxlspeckv": word}} if word else None)
              for word in words]
    began, outputs = time.monotonic(), []
    asked = list(zip(inputs, greedy, strict=True))
    for batch in [asked] if todo.get("together") else [[one] for one in asked]:
        outputs += engine.generate(*map(list, zip(*batch, strict=True)), use_tqdm=False)
    told = {
        "seconds": time.monotonic() - began,
        "tokens": [list(o.outputs[0].token_ids) for o in outputs],
        "finish": [o.outputs[0].finish_reason for o in outputs],
        "prompt_tokens": [len(o.prompt_token_ids) for o in outputs],
        "cached": [o.num_cached_tokens for o in outputs]}
    if todo.get("logprobs"):
        told["logprobs"] = [{t: p.logprob for t, p in o.outputs[0].logprobs[0].items()}
                            for o in outputs]
    if todo.get("metrics"):
        told["metrics"] = metrics_of()
        told["shared_memory"] = shared_memory()
    return told


def main(job_path, result_path):
    """Rounds come from the job or, if it has none, line by line from stdin."""
    job = json.loads(pathlib.Path(job_path).read_text(encoding="utf-8"))
    result = {"rounds": []}

    def write():
        new = pathlib.Path(f"{result_path}.new")
        new.write_text(json.dumps(result), encoding="utf-8")
        new.rename(result_path)

    os.environ["SPECKV_WATCHED"] = json.dumps(job.get("watched", {}))
    began = time.monotonic()
    engine = make_engine(job)
    result["start_seconds"] = time.monotonic() - began
    write()
    if "rounds" not in job:
        answers = os.fdopen(int(os.environ["SPECKV_ANSWERS"]), "w", encoding="utf-8")
        print(json.dumps(result), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(run_round(engine, job, json.loads(line))), file=answers, flush=True)
        return
    for todo in job["rounds"]:
        result["rounds"].append(run_round(engine, job, todo))
        write()
    result["metrics"] = metrics_of()
    result["ended"] = True
    write()


if __name__ == "__main__":
    # Whoever started us kills the whole group; and if it dies, we do, too.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    main(*sys.argv[1:])
