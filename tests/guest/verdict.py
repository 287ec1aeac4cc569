#!/usr/bin/env python3
"""Whether a guest's run was good, by its console and QEMU's exit status.

Run as a program it tests itself: consoles that must fail, and one that must pass.
"""

import pathlib
import re
import signal
import subprocess
import sys

import documents

DONE = "GUEST DONE 0"
NONE = "no test has passed"
# What no good kernel writes: reports of itself, of its sanitizers and allocators. `init` looks for
# the same in the kernel's log, of which the console has no warnings.
REPORTS = (r"\bBUG\b|WARNING:|Oops|general protection fault[,:]|KASAN|KFENCE|UBSAN|"
           r"DMAR:.*\b[Ff]ault|DMA-API:.*(error|unmap|leak|sync)|refcount_t:|blocked for more than|"
           r"INFO: (possible|suspicious|trying)|Kernel panic|stalls? on CPU|Redzone|Poison overwritten")
# And what no good run does. A kernel that was made to fail logs where, which a console does not show.
BAD = re.compile(rf"^.*({REPORTS}|Call Trace|\[  FAILED  \]|GUEST BAD|CARD BAD).*$", re.M)
# A page is mapped twice, which all who give a page to two must live with: udmabuf's here, for the
# driver says of its own mappings that they are not kept apart.
SHARED = re.compile(r"WARNING: .* add_dma_entry\+")
PASSED = re.compile(r"\[  PASSED  \] (\d+) tests?")
SKIPPED = re.compile(r"^(.*: SKIPPED .*|\[  SKIPPED \] \S+.*)$", re.M)


def faults(status, console):
    """Reasons why the run is not good; none if it is."""
    found = []
    if status is None:
        found.append("the guest was killed: it did not end in time")
    elif status != 0:
        found.append(f"QEMU ended with status {status}")
    if DONE not in console:
        found.append(f"the console does not say '{DONE}'")
    passed = [int(count) for count in PASSED.findall(console)]  # of each program
    if not passed or 0 in passed:
        found.append(NONE)
    found += [line.group(0).strip() for line in BAD.finditer(console)
              if not SHARED.search(line.group(0))][:20]
    return found


def emulator_broke(status, console):
    """Whether QEMU 11 itself aborted, which says nothing of the guest: its vfio-user client sets one
    error twice if a card's process dies while a message to it is under way."""
    return (status == -signal.SIGABRT and "CARD KILL" in console
            and "error_setv: Assertion" in console.rpartition("CARD KILL")[2])


def summary(console):
    """One line for people, and what was skipped."""
    passed = sum(int(count) for count in PASSED.findall(console))
    lines = re.findall(r"^.*\(\d{4,} ms\)", console, re.M)  # what took longest
    lines += re.findall(r"^NOTE [^\r\n]*", console, re.M)  # figures of programs and cards
    lines += [match.group(1).strip() for match in SKIPPED.finditer(console)]
    return "\n".join([f"{passed} tests passed in the guest", *lines])


# A line of each kind, as kernels of 6.1 to the newest write it.
REPORTED = (
    "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "BUG kmalloc-96 (Not tainted): Left Redzone overwritten",
    "BUG kmalloc-64 (Tainted: G           O): Poison overwritten",
    "BUG: KASAN: slab-use-after-free in speckv_release+0x1c/0x90 [speckv]",
    "BUG: KFENCE: use-after-free read in speckv_queue_put+0x12/0x40 [speckv]",
    "UBSAN: array-index-out-of-bounds in soft.c:77:9",
    "WARNING: CPU: 0 PID: 1 at kernel/module/main.c:1 try_module_get+0x8a/0xa0",
    "WARNING: possible circular locking dependency detected",
    "INFO: possible recursive locking detected",
    "INFO: suspicious RCU usage",
    "INFO: trying to register non-static key.",
    "Oops: 0002 [#1] PREEMPT SMP NOPTI",
    "general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1]",
    "general protection fault: 0000 [#1] PREEMPT SMP",
    "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0xfffff000 [fault reason 0x05]",
    "DMAR: DRHD: handling fault status reg 3",
    "speckv 0000:01:00.0: DMA-API: device driver tries to sync DMA memory it has not allocated",
    "refcount_t: underflow; use-after-free.",
    "INFO: task guest:55 blocked for more than 120 seconds.",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "rcu: INFO: rcu_preempt self-detected stall on CPU",
    "Kernel panic - not syncing: Fatal exception")
# What kernels say when all is well.
INNOCENT = (
    "kfence: initialized - using 2097152 bytes for 255 objects at 0x(____ptrval____)",
    "kmemleak: Kernel memory leak detector initialized (mem pool available: 64000)",
    "rcu: \tRCU CPU stall warnings timeout set to 60 (rcu_cpu_stall_timeout).",
    "DMAR: Intel(R) Virtualization Technology for Directed I/O",
    "DMAR: No ATSR found; the default is kept",
    "DMA-API: preallocated 65536 debug entries",
    "kasan: KernelAddressSanitizer initialized",
    "traps: guest_tests[60] general protection fault ip:427243 sp:7ffd4f0d3c70 error:402")

GOOD = f"[==========] Running\r\n[  PASSED  ] 3 tests.\r\n{DONE}\r\n"


def alternatives(pattern):
    """Its parts between the bars that are in no bracket."""
    depth, part = 0, ""
    for c in pattern:
        depth += (c == "(") - (c == ")")
        if c == "|" and depth == 0:
            yield part
            part = ""
        else:
            part += c
    yield part


def selftest():
    assert not faults(0, GOOD), faults(0, GOOD)
    bad = [(None, GOOD), (1, GOOD), (0, ""), (0, GOOD.replace(DONE, "GUEST DONE 1")),
           (0, GOOD.replace("3 tests", "0 tests")), (0, GOOD.replace("[  PASSED  ]", "")),
           (0, "[  PASSED  ] 0 tests.\r\n" + GOOD)]
    for line in REPORTED + ("[  FAILED  ] Queue.Answers", "GUEST BAD memory that nobody has",
                            "Call Trace:", "CARD BAD read of 64 bytes at 0x1000 is not allowed"):
        bad.append((0, f"{line}\r\n{GOOD}"))
    for status, console in bad:
        assert faults(status, console), (status, console)
    # Every part of the pattern is there for something, and init's grep understands all of it.
    log = "\n".join(REPORTED + INNOCENT) + "\n"
    for part in alternatives(REPORTS):
        assert re.search(part, log), part
    found = subprocess.run(["grep", "-E", REPORTS], input=log, text=True, capture_output=True,
                           check=False).stdout.splitlines()
    assert found == list(REPORTED), set(found) ^ set(REPORTED)
    twice = "WARNING: CPU: 1 PID: 153 at kernel/dma/debug.c:601 add_dma_entry+0x2bc/0x390"
    assert not faults(0, f"{twice}\r\n{GOOD}")
    assert "NOTE a figure" in summary("NOTE a figure\r\n" + GOOD)
    assert "a: SKIPPED because" in summary(GOOD + "a: SKIPPED because\r\n")
    broken = "CARD KILL 1\r\nqemu: util/error.c:62: error_setv: Assertion `*errp == NULL' failed.\n"
    assert emulator_broke(-6, broken)
    for status, console in ((0, broken), (None, broken), (-6, broken.replace("KILL", "PULL")),
                            (-6, broken.replace("error_setv", "other")),
                            (-6, broken + "CARD KILL 0\r\n")):
        assert not emulator_broke(status, console), (status, console)
    documents.selftest(pathlib.Path(__file__).resolve().parents[2])
    print(f"{len(bad)} bad runs are found to be so")


if __name__ == "__main__":
    sys.exit(selftest())
