#!/usr/bin/env python3
"""Runs one rule of the repository: check.py RULE ROOT [ARGUMENT...]

RULE is a function of rules.py, or: selftest; symbols LIBRARY; format CLANG_FORMAT;
option NAME CMAKE; run_usage; refusals PROGRAM "WORD WORD"... . Exit status: 0 holds, 1 faults (printed).
"""

import pathlib
import re
import subprocess
import sys
import tempfile

import rules


def declared_functions(tree):
    """The C++ functions that public headers declare at namespace scope and do not define, and
    the ways to make what has no public constructor."""
    declared = re.compile(r"^(?=\S)(?!constexpr|inline|template|using|friend|return)"
                          r"[\w:<>,&* ]+?[ &*](\w+)\([^{;]*\)(?: noexcept)?;", re.M)
    for name in tree.files("src/include/", "host/include/", suffixes=(".hpp",)):
        yield from declared.findall(rules.code_only(tree.text(name)))
    yield from ("BlockStore::open", "Sequence::create", "EventfdCompletionQueue::create")


def symbols(tree, library):
    """The library exports the golden list of C names, and of C++ only namespace speckv."""
    text = subprocess.run(["nm", "-D", "--defined-only", "--demangle", library],
                          capture_output=True, text=True, check=True).stdout
    names = [line.split(" ", 2)[2].split("@@")[0] for line in text.splitlines()]
    names = [name for name in names if not name.startswith("CXLSPECKV_")]
    plain = sorted(name for name in names if re.fullmatch(r"\w+", name))
    golden = [line for _, line in tree.lines("tests/repo/symbols.txt")
              if line and not line.startswith("#")]
    for name in sorted(set(plain) - set(golden)):
        yield f"exported, but not in tests/repo/symbols.txt: {name}"
    for name in sorted(set(golden) - set(plain)):
        yield f"in tests/repo/symbols.txt, but not exported: {name}"
    ours = re.compile(r"(vtable for |typeinfo( name)? for )?speckv::")
    foreign = [name for name in names if name not in plain and not ours.match(name)]
    yield from (f"exported from outside namespace speckv: {name}" for name in foreign)
    inner = [name for name in names if re.search(r"::(Impl|State)::", name)]
    yield from (f"an internal name is exported: {name}" for name in inner)
    for function in declared_functions(tree):
        if not any(name.startswith(f"speckv::{function}(") for name in names):
            yield f"in a public header, but not exported: speckv::{function}"


def formatted(tree, clang_format):
    """The C and C++ code is what clang-format 14 would write."""
    names = [n for n in tree.files("src/", "host/", "hardware/", "python/", "tests/") if "/vectors/" not in n]
    found = subprocess.run([clang_format, "--dry-run", "--Werror", *names], cwd=tree.root,
                           capture_output=True, text=True, check=False)
    if found.returncode:
        yield from sorted({line.split(":")[0] + ": not formatted"
                           for line in found.stderr.splitlines() if "error:" in line})


def option(tree, name, cmake):
    """Asking for a part that does not exist fails at configure, with a sentence; not asking for
    the tests leaves a build that has none."""
    with tempfile.TemporaryDirectory() as build:
        found = subprocess.run(
            [cmake, "-S", str(tree.root), "-B", build, "-G", "Ninja", f"-D{name}"],
            capture_output=True, text=True, check=False)
        if name == "BUILD_TESTS=OFF":
            folder = pathlib.Path(build)
            ninja = (folder / "build.ninja").read_text(encoding="utf-8") if not found.returncode else ""
            if "libcxlspeckv" not in ninja or "tests/" in ninja or (folder / "CTestTestfile.cmake").exists():
                yield f"-D{name} leaves tests in the build, or no library: {found.stderr}"
        elif found.returncode == 0 or "does not exist yet" not in " ".join(found.stderr.split()):
            yield f"-D{name} is not refused: {found.stderr}"


def run_usage(tree):
    """./run refuses what it does not know, with usage on stderr and exit status 2."""
    def call(*words):
        return subprocess.run([str(tree.root / "run"), *words], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, check=False, timeout=60)

    for words in (["tset"], ["test", "quik"], ["test", "quick", "more"], ["test", "nightly", "lon"], ["bench", "--jsn"],
                  ["bench", "--json"], ["bench", "--json", ""], ["help", "me"], ["guest", "2.6"], ["rtl"],
                  ["rtl", "lnt"], ["rtl", "wave"], ["rtl", "wave", "A.B", "soon"], ["demo", "vllm", "--shrt"]):
        found = call(*words)
        if found.returncode != 2 or "usage:" not in found.stderr or found.stdout:
            yield f"./run {' '.join(words)}: {found}"
    found = call("help")
    if found.returncode or not all(word in found.stdout for word in ("demo", "test", "bench")):
        yield f"./run help: {found}"


def refusals(_tree, program, *cases):
    """Each bad command line: one clear line on stderr, exit status 2."""
    for words in cases:
        found = subprocess.run([program, *words.split()], capture_output=True, text=True,
                               stdin=subprocess.DEVNULL, check=False, timeout=60)
        lines = found.stderr.splitlines()
        if found.returncode != 2 or found.stdout or len(lines) != 1 or len(lines[0]) < 10:
            yield f"{words}: {found}"


# rule -> {file: text} that breaks it once.
BROKEN = {
    "layering": [{"src/a.cpp": "#include <unistd.h>\n"}, {"src/a.cpp": "#include <fstream>\n"},
                 {"src/a.cpp": '#include "device/open.hpp"\n', "host/device/open.hpp": ""},
                 {"host/a.cpp": '#include "store/index.hpp"\n', "src/store/index.hpp": ""},
                 {"host/cli/a.cpp": '#include "engine/a.hpp"\n', "src/engine/a.hpp": ""}],
    "forbidden": [{"src/a.cpp": "void f() { throw 1; }\n"}, {"src/a.cpp": "x = std::abort();\n"},
                  {"host/device/a.cpp": 'std::printf("x");\n'}, {"host/record/a.cpp": "throw x;\n"},
                  {"src/a.cpp": "std::cout << 1;\n"}, {"src/a.cpp": 'getenv("X");\n'},
                  {"src/a.cpp": "try {} catch (...) {}\n"}],
    "sleeping": [{"tests/a.cpp": "std::this_thread::sleep_for(x);\n"}],
    "lengths": [{"a.hpp": "\n" * 201}, {"a.cpp": "\n" * 501}],
    "machine_paths": [{"a.txt": "see /ho" + "me/somebody/x\n"}, {"a.txt": "/ro" + "ot/x\n"}],
    "links": [{"a.md": "[b](b.md)\n"}, {"a.md": "[b](#nowhere)\n# Here\n"}],
    "errors": [{"src/include/cxlspeckv/status.hpp": "enum class Code : int {\n  ok,\n  busy,  // x\n};\n",
                "docs/errors.md": "| `ok` | `SPECKV_STATUS_OK` |\n"}],
    "status": [{"docs/status.md": "| R-API 01 | x | works | `tests/none.cpp` |\n"},
               {"docs/status.md": "| R-API 01 | x | fine | |\n"}],
    "spdx": [{"driver/a.c": "int x;\n"}],
    "threats": [{"docs/threat-model.md": "| a thief | a lock | nothing |\n"},
                {"docs/threat-model.md": "| a | b | `tests/none.cpp` |\n"},
                {"docs/threat-model.md": "| a | b | `tests/a.cpp` (Gone) |\n", "tests/a.cpp": "Here"}],
}
KEPT = {
    "layering": {"src/a.cpp": '#include <vector>\n#include "store/b.hpp"\n', "src/store/b.hpp": ""},
    "forbidden": {"src/a.cpp": '// throw abort()\nx = "printf(";\nstd::snprintf(b, 1, "");\n'
                               "operation.abort();\nto_string(Code::abort);\n",
                  "host/cli/a.cpp": 'std::puts("x");\n'},
    "sleeping": {"tests/a.cpp": "sleep_for(x);  // sleeps: a device that is slow\n"},
    "lengths": {"a.hpp": "\n" * 200, "a.cpp": "\n" * 500},
    "machine_paths": {"a.txt": "/usr/lib /dev/shm home/somebody/x\n"},
    "links": {"a.md": "[b](b.md#one-two) [c](https://x.org/y)\n```\n[no](no.md)\n```\n",
              "b.md": "# One: two\n"},
    "threats": {"docs/threat-model.md": "| what | a |\n|---|---|\n| a | `tests/a.cpp` (Here) |\n",
                "tests/a.cpp": "TEST(A, Here)"},
    "spdx": {"driver/a.c": "// SPDX-License-Identifier: GPL-2.0-only\n"},
}


def selftest(_tree):
    """Every rule finds what breaks it and passes what keeps it."""
    def faults(rule, files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = pathlib.Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return list(rules.RULES[rule](rules.Tree(folder)))

    for rule in rules.RULES:
        if not BROKEN.get(rule):
            yield f"{rule}: nothing breaks it"
        for files in BROKEN.get(rule, ()):
            if not faults(rule, files):
                yield f"{rule}: does not find {files}"
        if found := faults(rule, KEPT.get(rule, {})) if rule in KEPT else []:
            yield f"{rule}: finds {found} in {KEPT[rule]}"


CHECKS = rules.RULES | {"symbols": symbols, "format": formatted, "option": option,
                        "run_usage": run_usage,
                        "refusals": refusals, "selftest": selftest}


def main(arguments):
    if len(arguments) < 2 or arguments[0] not in CHECKS:
        print(__doc__, file=sys.stderr)
        return 2
    found = list(CHECKS[arguments[0]](rules.Tree(arguments[1]), *arguments[2:]))
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
