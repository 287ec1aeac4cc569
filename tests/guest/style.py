#!/usr/bin/env python3
"""The kernel's own judge of style on the driver: style.py ROOT

checkpatch.pl --strict, of Debian's source of Linux. Exit status: 0 nothing said, 1 something, 77
it cannot be had.
"""

import pathlib
import subprocess
import sys

import debug_kernel
import fetch

SCRIPTS = [f"scripts/{name}" for name in ("checkpatch.pl", "spelling.txt",
                                          "const_structs.checkpatch")]
# What it says of every driver that is built out of the tree: file (or all) -> kinds of remarks.
EXPECTED = {
    "": {"BIT_MACRO",  # programs have no BIT()
         "MACRO_ARG_REUSE", "MACRO_ARG_PRECEDENCE", "COMPLEX_MACRO"},  # macros that define things
    "compat.h": {"LINUX_VERSION_CODE", "CONSTANT_COMPARISON", "MACRO_ARG_UNUSED"},
    "trace.h": {"OPEN_ENDED_LINE", "PARENTHESIS_ALIGNMENT"},  # as all events are written
}


def main():
    driver = pathlib.Path(sys.argv[1]) / "driver"
    try:
        script = debug_kernel.source("checkpatch", SCRIPTS) / SCRIPTS[0]
    except fetch.Unavailable as reason:
        print(f"SKIPPED: {reason}")
        return 77
    said = []
    for path in sorted(driver.rglob("*.[ch]")):
        ignored = ",".join(EXPECTED[""] | EXPECTED.get(path.name, set()))
        done = subprocess.run(["perl", str(script), "--no-tree", "--strict", "--terse",
                               "--show-types", "--no-summary", "--ignore", ignored, "-f",
                               str(path)], capture_output=True, text=True, check=False)
        said += done.stdout.splitlines() + done.stderr.splitlines()
    print("\n".join(said) or "checkpatch.pl has nothing to say")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
