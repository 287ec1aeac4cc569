#!/usr/bin/env python3
"""Whether the benches would find a fault: mutate.py ROOT FOLDER COUNT [SEED]

Makes COUNT small changes to hardware/rtl, one at a time, in a copy of the repository in FOLDER: an
operator, a condition, a constant. For each the benches (tests/rtl) are built and run in small; one
of them has to fail. What Verilator already refuses does not count. What no bench finds is printed;
exit status 1 if that is more than one in twenty. EQUIVALENT lists changes that alter nothing.
"""

import os
import pathlib
import random
import re
import shutil
import subprocess
import sys

import subset

# what it says -> what it says instead
CHANGES = [
    (r"(?<=[\w)\]}']) \+ (?=[\w({$~])", " - "), (r"(?<=[\w)\]}]) - (?=[\w({$])", " + "),
    (r" && ", " || "), (r" \|\| ", " && "), (r" == ", " != "), (r" != ", " == "),
    (r" < ", " <= "), (r" > ", " >= "), (r" >= ", " > "), (r" << ", " >> "), (r" >> ", " << "),
    (r"(?<= )!(?=[a-z(])", ""), (r"(?<=[ (])&(?= )", "|"), (r" \^ ", " | "),
    (r"\b1'b0\b", "1'b1"), (r"\b1'b1\b", "1'b0"),
    (r"\b(\d+'d)(\d+)\b", lambda m: f"{m[1]}{int(m[2]) + 1}"),
]
# Lines that only quieten tools, declare, or assert.
IGNORED = re.compile(r"unused|^\s*(localparam|parameter|input|output|module|logic\b[^=]*;)|assert")
# Proven, with changes of their own (prove.py), and in no bench.
PROVEN = {"speckv_arbiter.sv", "speckv_skid.sv"}
CARD = ["rtl_engine", "rtl_device"]
# (file, line without spaces at its ends, changed): why no bench can tell.
EQUIVALENT = {}


def sites(folder):
    """(file, line number, column, end, new text) of every change that could be made."""
    for file in sorted(folder.glob("*.sv")):
        if file.name in PROVEN | {"speckv_pkg.sv"}:
            continue
        code = subset.code_only(file.read_text(encoding="utf-8"))
        code = re.sub(r"`ifdef SPECKV_ASSERT.*?`e(lse|ndif)",
                      lambda m: "\n" * m.group().count("\n"), code, flags=re.S)
        for number, line in enumerate(code.splitlines()):
            if IGNORED.search(line):
                continue
            for pattern, new in CHANGES:
                for match in re.finditer(pattern, line):
                    yield file.name, number, match, new


def run(command, folder, seconds=1800):
    scale = os.environ | {"SPECKV_TEST_SCALE": "0.1", "CCACHE_BASEDIR": str(folder),
                          "CCACHE_NOHASHDIR": "1"}
    try:
        return subprocess.run(command, cwd=folder, env=scale, capture_output=True, text=True,
                              timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        return 1


def copy_of(root, folder):
    """The repository's files below FOLDER/tree, written again only where they differ."""
    tree = folder / "tree"
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others",
                             "--exclude-standard"], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        source, target = root / name, tree / name
        if not source.is_file():
            continue
        if target.exists() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
    return tree


def found_by(tree):
    """The bench that fails, or None; "build" if one cannot even be built. The whole card, which
    takes minutes to build, comes last."""
    lists = (tree / "tests/rtl/CMakeLists.txt").read_text(encoding="utf-8")
    benches = [f"rtl_{name}" for name in re.findall(r"^speckv_rtl_bench\((\w+)", lists, re.M)]
    for group in (sorted(set(benches) - set(CARD)), CARD):
        if run(["cmake", "--build", "--preset", "dev", "--target", *group], tree):
            return "build"
        for name in group:
            if run([str(tree / "build/dev/tests/rtl" / name), "--gtest_brief=1"], tree, 300):
                return name
    return None


def main(arguments):
    if len(arguments) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    root, folder = pathlib.Path(arguments[0]).resolve(), pathlib.Path(arguments[1]).resolve()
    count, seed = int(arguments[2]), int(arguments[3]) if len(arguments) == 4 else 1
    tree = copy_of(root, folder)
    bench = "cmake" if run(["cmake", "--preset", "dev"], tree) else found_by(tree)
    if bench:
        print(f"{bench} fails without any change")
        return 1
    rtl = tree / "hardware/rtl"
    every = list(sites(rtl))
    random.Random(seed).shuffle(every)
    tried = survivors = 0
    for name, number, match, new in every:
        if tried == count:
            break
        file = rtl / name
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        was = lines[number]
        lines[number] = was[:match.start()] + (
            new(match) if callable(new) else new) + was[match.end():]
        file.write_text("".join(lines), encoding="utf-8")
        bench = found_by(tree)
        file.write_text(text, encoding="utf-8")
        now = lines[number].strip()
        if bench == "build":
            continue
        tried += 1
        if bench is None and (name, was.strip(), now) not in EQUIVALENT:
            survivors += 1
            print(f"SURVIVES {name}:{number + 1}: {was.strip()}  ->  {now}", flush=True)
        else:
            print(f"found by {bench}: {name}:{number + 1}: {now}", flush=True)
    print(f"{tried - survivors} of {tried} changes found, seed {seed}")
    return 1 if survivors * 20 > tried else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
