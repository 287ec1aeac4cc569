#!/usr/bin/env python3
"""Whether the benches would find a fault: mutate.py ROOT FOLDER COUNT [SEED]; mutate.py selftest

Makes COUNT small changes to hardware/rtl, one at a time: an operator, a condition, a constant. For
each the benches (tests/rtl) that have the changed block in them are built and run in small, that
with the fewest blocks first and the whole card last, until one fails. What Verilator already
refuses does not count. What no bench finds is printed; exit status 1 if that is more than one in
twenty of those that are no EQUIVALENT.

Which changes depends on SEED and on the changed lines, and on nothing else. Workers, as many as
CTEST_PARALLEL_LEVEL or the machine's cores, have a copy of the repository each in FOLDER. What was
tried is kept there and not tried again until one of the sources that it depended on changes.
"""

import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

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
# Proven, with changes of their own (prove.py); a bench hardly sees whose turn it was.
PROVEN = {"speckv_arbiter.sv"}
# (file, line without spaces at its ends, changed): why no bench can tell.
EQUIVALENT = {
    ("speckv_check.sv", "assign per_row = head_dim > 16'd256 ? head_dim[10:6] : 5'd1;",
     "assign per_row = head_dim > 16'd257 ? head_dim[10:6] : 5'd1;"):
        "only kvq4 asks for the groups of a row, and it takes no row of 257 channels",
    ("speckv_group_scale.sv", "assign shift3 = apart_by_q > 8'd23 ? 5'd23 : apart_by_q[4:0];",
     "assign shift3 = apart_by_q > 8'd24 ? 5'd23 : apart_by_q[4:0];"):
        "23 places down as 24, the smaller one is only a rest that is not zero, or is zero",
    ("speckv_page_walk.sv", "Read = 3'd5, Tell = 3'd6;", "Read = 3'd5, Tell = 3'd7;"):
        "a state that has another number is the same state",
    ("speckv_tlb.sv",
     "assign place_d = flush_i || !sweep_q ? '0 : place_q + {{(Bits-1){1'b0}}, 1'b1};",
     "assign place_d = flush_i && !sweep_q ? '0 : place_q + {{(Bits-1){1'b0}}, 1'b1};"):
        "a second order during a sweep finds the places before it emptied, and nothing fills them "
        "meanwhile; idle, the place counts on and the order puts it back to 0",
}
SCALE = "0.02"
CONFIGURE = ["cmake", "--preset", "dev", "-DSPECKV_RTL_OPTIMISE=-O1;-g0"]


class Change:
    """Of one place in a line; `nth` is which of equal lines in the file."""

    def __init__(self, file, number, nth, line, match, new):
        self.file, self.number, self.was = file, number, line.strip()
        self.text = (line[:match.start()] + (new(match) if callable(new) else new)
                     + line[match.end():])
        self.now = self.text.strip()
        self.key = " | ".join((file, str(nth), self.was, self.now))

    def __str__(self):
        return f"{self.file}:{self.number + 1}: {self.was}  ->  {self.now}"


def changes_of(file, text):
    """Every change that could be made to a file."""
    code = subset.code_only(text)
    code = re.sub(r"`ifdef SPECKV_ASSERT.*?`e(lse|ndif)",
                  lambda m: "\n" * m.group().count("\n"), code, flags=re.S)
    lines, seen = text.splitlines(keepends=True), {}
    for number, line in enumerate(code.splitlines()):
        if IGNORED.search(line):
            continue
        nth = seen[line.strip()] = seen.get(line.strip(), -1) + 1
        for pattern, new in CHANGES:
            for match in re.finditer(pattern, line):
                yield Change(file, number, nth, lines[number], match, new)


def sample(changes, seed):
    """In an order that a change elsewhere does not alter."""
    return sorted(changes, key=lambda c: hashlib.sha256(f"{seed} {c.key}".encode()).digest())


class Benches:
    """Which bench has which blocks and sources, as tests/rtl/CMakeLists.txt says."""

    def __init__(self, root):
        folder = root / "tests/rtl"
        lists = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
        verilated, self.files, self.sources, self.calls = {}, {}, {}, {}
        for call, module, name in re.findall(
                r"^(speckv_verilate\((\w+)(?: AS (\w+))?[^)]*\))", lists, re.M):
            verilated[name or module] = module, call
        for call, name, text in re.findall(r"^(speckv_rtl_bench\((\w+)([^)]*)\))", lists, re.M):
            sources, _, blocks = text.partition(" BLOCKS ")
            modules, calls = zip(*(verilated[block] for block in blocks.split()))
            self.calls[name] = call + "".join(calls)
            # hardware/sim/rtl is in the whole card's.
            self.sources[name] = [folder / s for s in sources.split()[1:] if "$" not in s] + [
                *folder.glob("*.hpp"), *(root / "hardware/sim/rtl").glob("*")]
            self.files[name] = sorted({f for module in modules for f in subset.files_of(
                [root / "hardware/rtl", folder], module)})

    def of(self, file):
        """Those that have the file, the smallest first."""
        having = [n for n, files in self.files.items() if any(f.name == file for f in files)]
        return sorted(having, key=lambda n: len(self.files[n]))

    def state(self, names):
        """Of everything that these benches' verdicts depend on."""
        state = hashlib.sha256()
        for name in names:
            state.update(self.calls[name].encode())
            for file in (*self.files[name], *sorted(self.sources[name])):
                state.update(file.name.encode() + b"\0" + file.read_bytes())
        return state.hexdigest()


def run(command, folder, jobs, seconds=3600):
    scale = os.environ | {"SPECKV_TEST_SCALE": SCALE, "CCACHE_BASEDIR": str(folder),
                          "CCACHE_NOHASHDIR": "1", "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)}
    try:
        return subprocess.run(command, cwd=folder, env=scale, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        return 1


def copy_of(root, tree):
    """The repository's files in `tree`, written again only where they differ, and no others."""
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others",
                             "--exclude-standard"], capture_output=True, text=True, check=True)
    names = {name for name in listed.stdout.split("\0") if name and (root / name).is_file()}
    for name in names:
        source, target = root / name, tree / name
        if target.exists() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
    for folder, folders, files in os.walk(tree):
        if pathlib.Path(folder) == tree and "build" in folders:
            folders.remove("build")
        for file in (pathlib.Path(folder, name) for name in files):
            if str(file.relative_to(tree)) not in names:
                file.unlink()


class Worker:
    """A copy of the repository, in which one change at a time is made."""

    def __init__(self, root, tree, jobs):
        copy_of(root, tree)
        self.tree, self.jobs, self.seconds = tree, jobs, {}
        self.benches = Benches(tree)
        self.ready = run(CONFIGURE, tree, jobs) == 0

    def build(self, name):
        return run(["cmake", "--build", "--preset", "dev", "--target", f"rtl_{name}"], self.tree,
                   self.jobs) == 0

    def passes(self, name, seconds=3600):
        program = self.tree / f"build/dev/tests/rtl/rtl_{name}"
        return run([str(program), "--gtest_brief=1", "--gtest_fail_fast"], self.tree, self.jobs,
                   seconds) == 0

    def sound(self, name):
        """Whether the bench can be built and passes without a change; how long that takes."""
        if name not in self.seconds:
            if not self.build(name):
                return False
            begin = time.monotonic()
            if not self.passes(name):
                return False
            self.seconds[name] = time.monotonic() - begin
        return True

    def found_by(self, change):
        """The bench that fails, or None; "build" if the change is refused."""
        file = self.tree / "hardware/rtl" / change.file
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        lines[change.number] = change.text
        for name in self.benches.of(change.file):
            if not self.sound(name):
                raise SystemExit(f"rtl_{name} fails without any change")
            file.write_text("".join(lines), encoding="utf-8")
            try:
                if not self.build(name):
                    return "build"
                if not self.passes(name, 20 + 5 * self.seconds[name]):
                    return name
            finally:
                file.write_text(text, encoding="utf-8")
        return None


class Tried:
    """What was tried before: change -> what found it, and the state that this depended on."""

    def __init__(self, file, benches):
        self.file, self.benches, self.lock = file, benches, threading.Lock()
        self.known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def depends(self, change, found):
        names = self.benches.of(change.file)
        return names[:1] if found == "build" else [found] if found else names

    def get(self, change):
        """[what found it], or nothing."""
        found, state = self.known.get(change.key, ("", ""))
        known = state and (found in (None, "build") or found in self.benches.files)
        return [found] if known and self.benches.state(self.depends(change, found)) == state else []

    def put(self, change, found):
        with self.lock:
            self.known[change.key] = found, self.benches.state(self.depends(change, found))
            self.file.write_text(json.dumps(self.known, indent=0), encoding="utf-8")


def campaign(order, count, tried, workers):
    """(change, what found it) of the first `count` of `order` that are not refused."""
    todo, lock, results = iter(enumerate(order)), threading.Lock(), {}

    def work(worker):
        while True:
            with lock:
                counted = sum(found != ["build"] for _, found in results.values())
                at, change = next(todo, (0, None)) if counted < count else (0, None)
                if change is None:
                    return
                results[at] = change, []  # it may count
            begin = time.monotonic()
            found = tried.get(change)
            if not found:
                found = [worker().found_by(change)]
                tried.put(change, found[0])
            results[at] = change, found
            if found[0] != "build":
                say = f"found by {found[0]}" if found[0] else "not found"
                print(f"{say} ({time.monotonic() - begin:.0f} s): {change}", flush=True)

    def guarded(worker):
        try:
            work(worker)
        finally:  # the others end, too, if this one fails
            with lock:
                if sys.exc_info()[0]:
                    for _ in todo:
                        pass

    with ThreadPoolExecutor(len(workers)) as pool:
        for done in [pool.submit(guarded, worker) for worker in workers]:
            done.result()
    return [(change, found[0]) for _, (change, found) in sorted(results.items())
            if found[0] != "build"]


def equivalent(change):
    return EQUIVALENT.get((change.file, change.was, change.now))


def main(arguments):
    if arguments == ["selftest"]:
        return selftest()
    if len(arguments) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    root, folder = pathlib.Path(arguments[0]).resolve(), pathlib.Path(arguments[1]).resolve()
    count, seed = int(arguments[2]), int(arguments[3]) if len(arguments) == 4 else 1
    folder.mkdir(parents=True, exist_ok=True)
    every = [change for file in sorted((root / "hardware/rtl").glob("*.sv"))
             if file.name not in PROVEN | {"speckv_pkg.sv"}
             for change in changes_of(file.name, file.read_text(encoding="utf-8"))]
    cores = os.cpu_count() or 1
    number = min(int(os.environ.get("CTEST_PARALLEL_LEVEL", cores)), cores)
    made = {}

    def worker(n):
        if n not in made:
            made[n] = Worker(root, folder / f"tree{n}", max(1, cores // number))
            if not made[n].ready:
                raise SystemExit("cmake fails without any change")
        return made[n]

    results = campaign(sample(every, seed), count, Tried(folder / "tried.json", Benches(root)),
                       [lambda n=n: worker(n) for n in range(number)])
    return verdict(results, seed)


def verdict(results, seed):
    """Prints what no bench found; the exit status."""
    same = [change for change, found in results if found is None and equivalent(change)]
    survivors = [change for change, found in results if found is None and not equivalent(change)]
    for change in same:
        print(f"alters nothing: {change}: {equivalent(change)}")
    for change in survivors:
        print(f"SURVIVES {change}")
    count = len(results) - len(same)
    print(f"{count - len(survivors)} of {count} changes found, {len(same)} alter nothing, "
          f"seed {seed}")
    return 1 if len(survivors) * 20 > count else 0


LINES = """assign a = b && c;  // x && y
assign unused = b && c;
`ifdef SPECKV_ASSERT
assign d = b && c;
`endif
assign e = 4'd7 - f;
assign a = b && c;
"""


class FakeTried(dict):
    def get(self, change):
        return [self[change.key]] if change.key in self else []

    def put(self, change, found):
        self[change.key] = found


def selftest():
    """What is changed, in which order, what counts, and when it is enough."""
    changes = list(changes_of("m.sv", LINES))
    seen = [(change.number, change.text.rstrip()) for change in changes]
    faults = [] if seen == [
        (0, "assign a = b || c;  // x && y"), (5, "assign e = 4'd7 + f;"),
        (5, "assign e = 4'd8 - f;"), (6, "assign a = b || c;")] else [f"changes: {seen}"]
    if len({change.key for change in changes}) != len(changes):
        faults.append("one key for two changes")
    order = [c.key for c in sample(changes, 1)]
    longer = [c.key for c in sample(changes_of("m.sv", "\nassign g = h + i;\n" + LINES), 1)]
    if order != [key for key in longer if key in order] or len(longer) != 5:
        faults.append("a line elsewhere alters the order")

    class Fake:
        def __init__(self):
            self.made = []

        def found_by(self, change):
            self.made.append(change)
            return {0: "build", 6: None}.get(change.number, "m")

    for count, counted in ((2, 2), (9, 3)):
        fake, tried = Fake(), FakeTried()
        for again in (False, True):  # what was tried is not tried again
            results = campaign(changes, count, tried, [lambda f=fake: f] * 2)
            if len(results) != counted or (again and len(fake.made) > count + 1):
                faults.append(f"{len(results)} of {count} counted, {len(fake.made)} tried")
    if verdict(results, 1) != 1 or verdict(results[:1] * 19 + results[-1:], 1) != 0:
        faults.append("the bar is not one in twenty")
    EQUIVALENT[("m.sv", changes[3].was, changes[3].now)] = "for the test"
    if verdict(results, 1) != 0:
        faults.append("what alters nothing survives")
    print("\n".join(faults) or "good")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
