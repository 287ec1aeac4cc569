#!/usr/bin/env python3
"""Prints the path of a Python that has what the tests of the package need (requirements.txt).

It is made on first use (half a minute) in ${XDG_CACHE_HOME:-~/.cache}/cxlspeckv, under a name
that covers the pins, and found there afterwards. Exit status 3: it cannot be had on this
machine, with the reason in one line on stderr.
"""

import pathlib
import sys

from vllm_engine import Unavailable, cache_folder, fingerprint, made_once, run

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements.txt")


def test_python():
    """A Python with the pinned packages, made by the one that runs this."""
    pins = REQUIREMENTS.read_text(encoding="utf-8")
    folder = cache_folder() / f"tests-{fingerprint(sys.version, pins)}"
    python = folder / "bin" / "python"
    with made_once(folder) as missing:
        if missing:
            print("Installing the packages that the Python tests need", file=sys.stderr, flush=True)
            run(sys.executable, "-m", "venv", folder)
            run(python, "-m", "pip", "install", "--quiet", "--progress-bar", "off",
                "--disable-pip-version-check", "-r", REQUIREMENTS)
    return python


if __name__ == "__main__":
    try:
        print(test_python())
    except Unavailable as reason:
        print(f"test_venv: {reason}", file=sys.stderr)
        sys.exit(3)
