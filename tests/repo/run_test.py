"""./run test itself, in a folder of its own, with tools that only say how they ended.

When a nightly stage last passed is a row in docs/status.md: it is written by a stage that
passed and by no other, and one that is missing or older than 14 days is told as SKIPPED.
"""

import datetime
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

RUN = pathlib.Path(__file__).resolve().parents[2] / "run"
TODAY = datetime.date.today()


class Folder:
    """The script, a table of nightly stages, and the tools that it calls."""

    def __init__(self, root):
        self.root = root
        (root / "docs").mkdir()
        (root / "bin").mkdir()
        shutil.copy(RUN, root / "run")
        (root / "CMakePresets.json").touch()
        for tool in ("cmake", "ctest", "git"):
            self.tool(tool, "exit 0")
        self.tool("dpkg-query", "echo install ok installed")
        self.tally(3, 0, 1)

    def tool(self, name, body):
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def tally(self, passed, failed, skipped):
        """What every group of tests comes to."""
        self.tool("python3", f"echo {passed} {failed} {skipped}")

    def status(self, rows):
        text = "".join(f"| nightly {name} | {when} |\n" for name, when in rows.items())
        (self.root / "docs" / "status.md").write_text(text)

    def row(self, name):
        lines = (self.root / "docs" / "status.md").read_text().splitlines()
        return next(line for line in lines if line.startswith(f"| nightly {name} |"))

    def run(self, *arguments, at="."):
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", str(self.root / "run"), *arguments], cwd=self.root / at, env={**os.environ, "PATH": path},
            capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout.splitlines()


def stages(kind):
    text = RUN.read_text()
    body = text.split(f"\n{kind}='\n")[1].split("'")[0]
    return [line.split()[0] for line in body.splitlines()]


def days_ago(days):
    return f"{TODAY - datetime.timedelta(days)}, commit 1234567"


def skipped_names(lines):
    return [line.split()[2].rstrip(":") for line in lines if line.startswith("SKIPPED nightly")]


def old_stages_are_skipped_and_counted(folder):
    rows = {name: days_ago(1) for name in stages("nightly")}
    folder.status(rows)
    code, lines = folder.run("test")
    assert code == 0 and skipped_names(lines) == [], lines
    groups = RUN.read_text().split("\nfull='")[1].split("'")[0].count(" ctest ")
    builds = len(stages("full")) - groups
    assert lines[-1] == f"{3 * groups + builds} passed, 0 failed, {groups} skipped", lines
    folder.status({**rows, "long": days_ago(13), "fuzz": days_ago(16), "tsan": "never",
                   "rtl": "2026-99-99, commit 1234567"})
    code, lines = folder.run("test")
    assert code == 0 and sorted(skipped_names(lines)) == ["fuzz", "rtl", "tsan"], lines
    assert lines[-1].endswith(f" {groups + 3} skipped"), lines


def a_stage_that_passes_is_recorded(folder):
    folder.status({name: "never" for name in stages("nightly")})
    folder.tool("git", "[ \"$1\" != rev-parse ] || echo abcdef0")
    code, lines = folder.run("test", "nightly", "tsan")
    assert code == 0, lines
    assert folder.row("tsan") == f"| nightly tsan | {TODAY}, commit abcdef0 |", folder.row("tsan")
    assert folder.row("long") == "| nightly long | never |"


def a_stage_that_fails_is_not(folder):
    folder.status({name: days_ago(20) for name in stages("nightly")})
    folder.tally(2, 1, 0)
    code, lines = folder.run("test", "nightly", "tsan")
    assert code == 1 and lines[-1] == "2 passed, 1 failed, 0 skipped", lines
    assert days_ago(20) in folder.row("tsan")
    folder.tally(0, 0, 4)  # skipped, all of it: nothing was shown
    code, lines = folder.run("test", "nightly", "tsan")
    assert code == 0 and days_ago(20) in folder.row("tsan"), lines
    folder.tally(2, 0, 0)
    folder.tool("cmake", "exit 1")
    code, lines = folder.run("test", "nightly", "tsan")
    assert code == 1 and days_ago(20) in folder.row("tsan"), lines


def coverage_has_a_bar(folder):
    folder.status({name: "never" for name in stages("nightly")})
    folder.tool("python3", 'echo "$@"')
    code, lines = folder.run("test", "nightly", "coverage")
    assert code == 0 and any("coverage.py" in line and "--least 98" in line for line in lines), lines
    assert str(TODAY) in folder.row("coverage")
    folder.status({name: "never" for name in stages("nightly")})
    folder.tool("python3", "exit 1")
    code, lines = folder.run("test", "nightly", "coverage")
    assert code == 1 and lines[-1] == "0 passed, 1 failed, 0 skipped", lines
    assert folder.row("coverage") == "| nightly coverage | never |"


def missing_packages_are_named_and_installed(folder):
    folder.status({name: days_ago(1) for name in stages("nightly")})
    folder.tool("dpkg-query", '[ "$3" = ninja-build ] || [ "$3" = ccache ] || echo install ok installed')
    folder.tool("sudo", 'shift; exec "$@"')
    folder.tool("apt-get", f'echo "$@" >>{folder.root}/asked; [ ! -e {folder.root}/refuse ]')
    code, lines = folder.run("test", "nightly", "tsan")
    assert code == 0 and "== Installing Debian packages: ninja-build ccache" in lines, lines
    asked = (folder.root / "asked").read_text().splitlines()
    assert asked[0].startswith("update") and asked[1].startswith("install "), asked
    assert asked[1].split()[-2:] == ["ninja-build", "ccache"], asked
    (folder.root / "refuse").touch()
    code, lines = folder.run("test", "nightly", "tsan")
    assert code == 3 and not any("passed" in line for line in lines), lines


def files_are_named_from_where_the_caller_is(folder):
    (folder.root / "elsewhere").mkdir()
    (folder.root / "build/release/host").mkdir(parents=True)
    folder.tool("../build/release/host/cxlspeckv_demo", 'echo "$PWD" "$@"')
    folder.tool("python3", 'echo "$@"')
    code, lines = folder.run("demo", "--json", "out.json", at="elsewhere")
    assert code == 0 and lines[-1] == f"{folder.root}/elsewhere --json out.json", lines
    folder.tool("python3", 'echo "$PWD" "$@"')
    code, lines = folder.run("demo", "vllm", "--json", "out.json", at="elsewhere")
    assert code == 0 and re.match(rf"{folder.root}/elsewhere .*/vllm_demo.py /.* --json out.json$",
                                  lines[-1]), lines
    code, lines = folder.run("bench", "--json", "out.json", "match_bench", at="elsewhere")
    assert code == 0 and f"--json {folder.root}/elsewhere/out.json match_bench" in lines[-1], lines
    code, lines = folder.run("bench", "python")
    assert code == 0 and lines[-1].endswith("build/release python vllm"), lines


def a_disk_that_is_too_small_is_told_beforehand(folder):
    folder.status({name: days_ago(1) for name in stages("nightly")})
    for free, told in ((3, True), (5000, False)):
        folder.tool("df", f"echo Avail; echo {free}000M")
        code, lines = folder.run("test")
        assert code == 0 and any("expect failures" in line for line in lines) == told, lines


def every_stage_has_a_row_of_the_status(_):
    text = (RUN.parent / "docs" / "status.md").read_text()
    rows = [line.split("|")[1].split()[1] for line in text.splitlines()
            if line.startswith("| nightly ")]
    assert rows == stages("nightly"), rows


def every_group_of_tests_has_a_target_that_builds_it(_):
    """A group that is named by its labels builds tests_LABEL of each."""
    lists = "\n".join(path.read_text() for path in RUN.parent.glob("tests/**/CMakeLists.txt"))
    built = set(re.findall(r"add_custom_target\(tests_(\w+)", lists))
    built |= set(re.search(r"foreach\(label IN ITEMS ([\w ]+)\)", lists)[1].split())
    named = {label for line in RUN.read_text().splitlines() if line.split()[2:3] == ["ctest"]
             for label in line.split()[3].split(",") if not line.split()[3].startswith("all")}
    assert named and named <= built, named - built


def unknown_stages_are_refused(folder):
    folder.status({})
    code, _ = folder.run("test", "nightly", "noon")
    assert code == 2


def main():
    for test in (old_stages_are_skipped_and_counted, a_stage_that_passes_is_recorded,
                 a_stage_that_fails_is_not, coverage_has_a_bar,
                 missing_packages_are_named_and_installed,
                 files_are_named_from_where_the_caller_is,
                 a_disk_that_is_too_small_is_told_beforehand,
                 every_stage_has_a_row_of_the_status,
                 every_group_of_tests_has_a_target_that_builds_it, unknown_stages_are_refused):
        with tempfile.TemporaryDirectory() as root:
            test(Folder(pathlib.Path(root)))
        print("passed", test.__name__)


if __name__ == "__main__":
    sys.exit(main())
