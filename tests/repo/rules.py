"""The rules that the repository keeps about itself. Each takes a Tree and yields faults.

A fault is a string "path:line: what". tests/repo/check.py runs them; its selftest breaks
every rule once.
"""

import pathlib
import re
import subprocess

STANDARD = set(
    """algorithm any array atomic barrier bit bitset charconv chrono cmath compare
    complex concepts condition_variable coroutine deque exception forward_list functional
    future initializer_list iterator latch limits list map memory memory_resource mutex new
    numbers numeric optional queue random ranges ratio scoped_allocator semaphore set
    shared_mutex source_location span stack stdexcept stop_token string string_view
    system_error thread tuple type_traits typeindex typeinfo unordered_map unordered_set
    utility valarray variant vector version cassert cctype cerrno cfenv cfloat cinttypes
    climits cstdarg cstddef cstdint cstdio cstdlib cstring ctime""".split()
)
# Pure computation: no door to the machine.
COMPUTATION = {"sodium.h", "immintrin.h", "cpuid.h", "arm_acle.h", "arm_neon.h"}

CODE = (".cpp", ".hpp", ".c", ".h")


class Tree:
    """The files of the repository: what git tracks or would, or everything without git."""

    def __init__(self, root):
        self.root = pathlib.Path(root).resolve()
        git = ["git", "-c", "safe.directory=*", "-C", str(self.root), "ls-files", "-z"]
        found = subprocess.run(
            git + ["--cached", "--others", "--exclude-standard"], capture_output=True, check=False
        )
        if found.returncode == 0:
            names = [name for name in found.stdout.decode().split("\0") if name]
        else:
            names = [str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file()]
            names = [n for n in names if not re.match(r"(\.git|build[^/]*|out)/", n)]
        self.names = sorted({n for n in names if (self.root / n).is_file()})

    def files(self, *folders, suffixes=CODE):
        for name in self.names:
            if name.endswith(tuple(suffixes)) and name.startswith(folders or ("",)):
                yield name

    def text(self, name):
        return (self.root / name).read_text(encoding="utf-8", errors="replace")

    def lines(self, name):
        return list(enumerate(self.text(name).splitlines(), 1))

    def has(self, name):
        return (self.root / name).exists()


def code_only(text):
    """C++ text with comments and literals blanked, line numbers kept."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S
    )
    return pattern.sub(lambda m: "\n" * m.group().count("\n") or " ", text)


def layering(tree):
    """src/ sees the standard library and itself; host/ sees only the public headers of src/,
    its devices the engine model and the driver's interface, its trace lab the replays."""
    include = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
    # An apostrophe between digits is not a literal, so includes are read from the raw lines.
    for name in tree.files("src/", "host/"):
        core = name.startswith("src/")
        for number, line in tree.lines(name):
            match = include.match(line)
            if not match:
                continue
            bracket, header = match.groups()
            if bracket == "<":
                if core and header not in STANDARD | COMPUTATION:
                    yield f"{name}:{number}: src/ may not include <{header}>"
                continue
            here = str(pathlib.PurePosixPath(name).parent)
            places = [here, "src/include"] + (["src"] if core else ["host", "host/include"])
            if name.startswith("host/device/"):
                places += ["src"] if header.startswith("engine/") else ["driver/uapi"]
            if re.match("host/(trace/|cli/trace)", name) and re.match("(trace|prefetch|predict)/", header):
                places += ["src"]
            if not any(tree.has(f"{place}/{header}") for place in places):
                yield f'{name}:{number}: "{header}" is not in a layer that this file may see'


# word -> what it is called; (?<!...) spares members and other names that end alike.
BANNED = {
    r"\bthrow\b": "throw",
    r"\b(abort|exit|_exit|quick_exit|terminate)\s*\(": "ending the process",
    r"\b(printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|perror)\s*\(|\bstd::(cout|cerr|clog)\b":
        "printing",
}
BANNED_IN_CORE = {
    r"\b(fopen|freopen|tmpfile|getenv|system)\s*\(": "a door to the machine",
    r"\bstd::(fstream|ifstream|ofstream|filesystem)\b": "a door to the machine",
}


def forbidden(tree):
    """The libraries do not throw, end the process, print, or (src/) open anything."""
    for name in tree.files("src/", "host/device/", "host/record/", "host/capi/", "host/include/"):
        banned = BANNED | (BANNED_IN_CORE if name.startswith("src/") else {})
        if name != "host/capi/capi.cpp":
            banned = banned | {r"\bcatch\s*\(\s*\.\.\.": "catch-all (only host/capi/capi.cpp may)"}
        for number, line in enumerate(code_only(tree.text(name)).splitlines(), 1):
            for pattern, what in banned.items():
                if re.search(r"(?<![.>])" + pattern, line):
                    yield f"{name}:{number}: {what}"


def sleeping(tree):
    """No test and no core code sleeps in place of waiting for what it needs. Where time
    itself is meant, the line says why: // sleeps: REASON"""
    sleep = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep|clock_nanosleep|sleep)\s*\(")
    for name in tree.files("src/", "tests/"):
        code = code_only(tree.text(name)).splitlines()
        for (number, line), bare in zip(tree.lines(name), code):
            if sleep.search(bare) and not re.search(r"// sleeps: \w+", line):
                yield f"{name}:{number}: sleeps without '// sleeps: REASON'"


def lengths(tree):
    """Headers have at most 200 lines, sources at most 500."""
    for name in tree.files("", suffixes=CODE + (".py", ".sh")):
        limit = 200 if name.endswith((".hpp", ".h")) else 500
        count = len(tree.lines(name))
        if count > limit:
            yield f"{name}:{limit}: {count} lines; the limit is {limit}"


def machine_paths(tree):
    """No file names a home folder or the folder that the project happens to lie in."""
    home = re.compile(r"/(home|Users)/[A-Za-z]|/[r]oot/")
    for name in tree.names:
        if "\0" in tree.text(name)[:4096]:
            continue
        for number, line in tree.lines(name):
            if home.search(line) or f"{tree.root}/" in line:
                yield f"{name}:{number}: a path of one machine"


def anchors(text):
    for heading in re.findall(r"^#+\s+(.*?)\s*$", text, re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        yield plain.replace(" ", "-")


def links(tree):
    """Every local link of a Markdown file leads to a file, and to a heading of it."""
    for name in tree.files(suffixes=(".md",)):
        text = re.sub(r"^```.*?^```", lambda m: "\n" * m.group().count("\n"), tree.text(name),
                      flags=re.S | re.M)
        for number, line in enumerate(text.splitlines(), 1):
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, anchor = target.partition("#")
                file = pathlib.PurePosixPath(name).parent / path if path else name
                if not tree.has(file):
                    yield f"{name}:{number}: no such file: {target}"
                elif anchor and anchor not in anchors(tree.text(file)):
                    yield f"{name}:{number}: no such heading: {target}"


def enum_names(text, declaration):
    body = re.search(re.escape(declaration) + r"[^{]*\{(.*?)\}", text, re.S)
    return re.findall(r"\b([A-Za-z_]\w*)\b(?=\s*(?:=[^,}]*)?[,\s]*$)",
                      re.sub(r"//[^\n]*|/\*.*?\*/", "", body.group(1)), re.M) if body else []


def errors(tree):
    """docs/errors.md lists the codes of status.hpp (and cxlspeckv.h) in their order."""
    codes = enum_names(tree.text("src/include/cxlspeckv/status.hpp"), "enum class Code")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", tree.text("docs/errors.md"), re.M)
    if not codes or [row[0] for row in rows] != codes:
        yield f"docs/errors.md: {[row[0] for row in rows]} are not the codes {codes}"
    for code, constant in rows:
        if constant != f"SPECKV_STATUS_{code.upper()}":
            yield f"docs/errors.md: {constant} does not belong to {code}"
    header = "host/include/cxlspeckv/cxlspeckv.h"
    if tree.has(header):
        named = re.findall(r"\b(SPECKV_STATUS_\w+)\s*=\s*(\d+)", tree.text(header))
        if [(constant, str(i)) for i, (_, constant) in enumerate(rows)] != named:
            yield f"{header}: speckv_status is not the table of docs/errors.md"


# Area: how many requirements it has. Defects are listed by name.
REQUIREMENTS = {"API": 10, "ADR": 2, "KRN": 10, "TIER": 10, "PRE": 5, "COD": 6, "RTL": 4,
                "HEP": 1, "RTB": 1, "NMC": 1, "COH": 1, "INT": 6, "TST": 5}


def status(tree):
    """docs/status.md has one line for every requirement, and the tests it names exist."""
    wanted = [f"R-{area} {n:02}" for area, count in REQUIREMENTS.items()
              for n in range(1, count + 1)]
    row = re.compile(r"^\| (R-[A-Z]+ \d\d|D\d\d) \| [^|]+ \| (works|partly|simulated|not yet) \| ([^|]*) \|$")
    seen = []
    for number, line in tree.lines("docs/status.md"):
        match = row.match(line)
        if match:
            seen.append(match.group(1))
            tests = re.findall(r"`(tests/[^`:]+)", match.group(3))
            yield from (f"docs/status.md:{number}: no such test: {test}"
                        for test in tests if not tree.has(test))
            if match.group(2) == "works" and not tests:
                yield f"docs/status.md:{number}: 'works' names no test"
        elif line.startswith(("| R-", "| D")) and not line.startswith("| Defect"):
            yield f"docs/status.md:{number}: not | id | what | state | test |"
    if [name for name in seen if name.startswith("R-")] != wanted:
        yield f"docs/status.md: not exactly one line each for {wanted[0]} .. {wanted[-1]}"
    defects = [name for name in seen if name.startswith("D")]
    if defects != [f"D{n:02}" for n in range(1, len(defects) + 1)] or len(defects) != 38:
        yield "docs/status.md: the defects are not numbered D01, D02, ..."


def threats(tree):
    """Each row of docs/threat-model.md names tests, and all of them exist."""
    if not tree.has("docs/threat-model.md"):
        return
    for number, line in tree.lines("docs/threat-model.md"):
        if not line.startswith("| ") or line.startswith("| what"):
            continue
        named = re.findall(r"`(tests/[^`]+)`(?: \((\w+)\))?", line)
        if not named:
            yield f"docs/threat-model.md:{number}: names no test"
        for test, claim in named:
            if not tree.has(test) or claim not in tree.text(test):
                yield f"docs/threat-model.md:{number}: no such test: {test} {claim}".rstrip()


def spdx(tree):
    """Every file of the kernel module says on its first line that it is GPL-2.0."""
    for name in tree.files("driver/"):
        first = tree.text(name).split("\n", 1)[0]
        if not re.search(r"SPDX-License-Identifier: \(?GPL-2\.0", first):
            yield f"{name}:1: no SPDX line with GPL-2.0"


RULES = {rule.__name__: rule for rule in
         (layering, forbidden, sleeping, lengths, machine_paths, links, errors, status, threats,
          spdx)}
