#!/usr/bin/env python3
"""Whether a guest's run was good, by its console and QEMU's exit status.

Run as a program it tests itself: consoles that must fail, and one that must pass.
"""

import re
import signal
import sys

DONE = "GUEST DONE 0"
NONE = "no test has passed"
# What no good run writes: reports of the kernel, and of its sanitizers and allocators.
BAD = re.compile(r"^.*(\bBUG\b|WARNING:|Oops|Call Trace|general protection fault|KASAN|KFENCE|UBSAN|"
                 r"DMAR:.*fault|possible circular locking|kmemleak|refcount_t:|"
                 r"blocked for more than|Kernel panic|rcu.*stall|Redzone|Poison overwritten|"
                 r"\[  FAILED  \]|GUEST BAD|CARD BAD).*$", re.M)
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
    found += [line.group(0).strip() for line in BAD.finditer(console)][:20]
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
    lines += [match.group(1).strip() for match in SKIPPED.finditer(console)]
    return "\n".join([f"{passed} tests passed in the guest", *lines])


GOOD = f"[==========] Running\r\n[  PASSED  ] 3 tests.\r\n{DONE}\r\n"


def selftest():
    assert not faults(0, GOOD), faults(0, GOOD)
    bad = [(None, GOOD), (1, GOOD), (0, ""), (0, GOOD.replace(DONE, "GUEST DONE 1")),
           (0, GOOD.replace("3 tests", "0 tests")), (0, GOOD.replace("[  PASSED  ]", "")),
           (0, "[  PASSED  ] 0 tests.\r\n" + GOOD)]
    for line in ("[  FAILED  ] Queue.Answers", "BUG: kernel NULL pointer dereference",
                 "WARNING: CPU: 0 PID: 1 at kernel/", "Oops: 0002 [#1]", "GUEST BAD module",
                 "CARD BAD read of 64 bytes at 0x1000 is not allowed",
                 "DMAR: [DMA Write] Request fault", "refcount_t: underflow; use-after-free.",
                 "INFO: task guest:55 blocked for more than 120 seconds.",
                 "Kernel panic - not syncing", "BUG kmalloc-96 (Not tainted): Redzone overwritten"):
        bad.append((0, f"{line}\r\n{GOOD}"))
    for status, console in bad:
        assert faults(status, console), (status, console)
    assert "a: SKIPPED because" in summary(GOOD + "a: SKIPPED because\r\n")
    broken = "CARD KILL 1\r\nqemu: util/error.c:62: error_setv: Assertion `*errp == NULL' failed.\n"
    assert emulator_broke(-6, broken)
    for status, console in ((0, broken), (None, broken), (-6, broken.replace("KILL", "PULL")),
                            (-6, broken.replace("error_setv", "other")),
                            (-6, broken + "CARD KILL 0\r\n")):
        assert not emulator_broke(status, console), (status, console)
    print(f"{len(bad)} bad runs are found to be so")


if __name__ == "__main__":
    sys.exit(selftest())
