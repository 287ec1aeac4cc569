#!/usr/bin/env python3
"""tidy.py CLANG_TIDY BUILD SOURCE: clang-tidy on one source, unless the same text was clean before.

The text is the preprocessed one with its comments, which hold the exemptions. What was clean is
remembered in ${XDG_CACHE_HOME:-~/.cache}/cxlspeckv/tidy. Exit status: clang-tidy's.
"""

import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys


def preprocessed(build, source):
    """What the compiler sees of the source, without line marks: other clones say the same."""
    commands = json.loads((build / "compile_commands.json").read_text())
    entry = next((entry for entry in commands if entry["file"] == str(source)), None)
    if entry is None:
        sys.exit(f"{source}: nothing in {build} compiles it, so nothing says how to read it")
    words = shlex.split(entry["command"])
    words = words[:words.index("-o")]  # "-o OBJECT -c SOURCE" comes last
    words = words[1:] if pathlib.Path(words[0]).name == "ccache" else words
    return subprocess.run([*words, "-E", "-C", "-P", source], cwd=entry["directory"], check=True,
                          stdout=subprocess.PIPE).stdout


def main(tidy, build, source):
    build, source = pathlib.Path(build), pathlib.Path(source)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    seen = hashlib.sha256()
    for part in (subprocess.run([tidy, "--version"], check=True, stdout=subprocess.PIPE).stdout,
                 pathlib.Path(__file__).with_name("..").joinpath(".clang-tidy").read_bytes(),
                 source.name.encode(), preprocessed(build, source)):
        seen.update(hashlib.sha256(part).digest())
    clean = cache / "cxlspeckv/tidy" / seen.hexdigest()
    if clean.exists():
        clean.touch()
        return 0
    # Counts of warnings in the system's headers go to stderr; what is ours goes to stdout.
    ended = subprocess.run([tidy, "-quiet", "-p", build, source], stderr=subprocess.PIPE, text=True,
                           check=False)
    if ended.returncode != 0:
        print(ended.stderr, file=sys.stderr)
        return ended.returncode
    clean.parent.mkdir(parents=True, exist_ok=True)
    clean.touch()
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
