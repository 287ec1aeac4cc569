#!/usr/bin/env python3
"""What CTest calls for the label `python`: run.py BUILD wheel | run.py BUILD tests|engine FILE

wheel: builds the wheel and unpacks it into BUILD/tests/python/site, which the tests import.
tests, engine: runs one file of pytest with the Python of tools/test_venv.py or, for what needs
an inference engine, of tools/vllm_engine.py. The last line counts, for tests/repo/tally.py.
Exit status: 0 passed, 77 cannot run here (and why), else failed.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = {"tests": ["test_venv.py"], "engine": ["vllm_engine.py", "python"]}
SKIPPED = 77


def python_of(kind):
    """The interpreter that has the pins; ends with 77 where it cannot be had."""
    script, *words = TOOLS[kind]
    found = subprocess.run([sys.executable, "-B", ROOT / "python/tools" / script, *words],
                           stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode == 3:
        print("the packages for these tests cannot be installed: see above")
        sys.exit(SKIPPED)
    if found.returncode:
        sys.exit(found.returncode)
    return found.stdout.strip()


def settings(folder):
    """With the flags and at the depth of the build that CTest runs in, so that ccache knows
    all but the bindings; assertions are then on, too."""
    build = folder.parents[1]
    if not (ROOT / "build") == build.parent:  # not of ./run: as a user would
        return ["-C", f"build-dir={folder}/wheel"]
    return ["-C", f"build-dir={build.parent}/wheel-{build.name}",
            "-C", f"cmake.args=--preset={build.name}",
            "-C", f"cmake.build-type={'Release' if build.name == 'release' else 'RelWithDebInfo'}"]


def build_wheel(folder):
    python = python_of("tests")
    for old in ("dist", "site"):
        shutil.rmtree(folder / old, ignore_errors=True)
    path = os.pathsep.join([str(pathlib.Path(python).parent), os.environ["PATH"]])
    subprocess.run([python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
                    "--disable-pip-version-check", *settings(folder), "-w", folder / "dist",
                    ROOT / "python"], env={"CC": "cc", "CXX": "c++"} | os.environ | {"PATH": path}, check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")


def run_pytest(folder, kind, file):
    if kind == "engine" and float(os.environ.get("SPECKV_TEST_SCALE", "1")) < 0.1:
        print("engines and models are left out of the quick run")
        return SKIPPED
    if not (folder / "site").is_dir():
        print("there is no wheel to test: see python.wheel")
        return SKIPPED
    python = python_of(kind)
    report = folder / f"{pathlib.Path(file).stem}.xml"
    report.unlink(missing_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(folder / "site"), "PYTHONDONTWRITEBYTECODE": "1",
        "CXLSPECKV_DIST": str(folder / "dist"), "CXLSPECKV_ROOT": str(ROOT),
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    ended = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", "-rs",
         "--no-header", "-W", "error::pytest.PytestUnraisableExceptionWarning",
         f"--junit-xml={report}", "--rootdir", ROOT / "tests/python", file],
        env=environment, check=False)
    if not report.exists():
        return ended.returncode or 1
    suite = ElementTree.parse(report).getroot().find("testsuite")
    total, skipped, bad = (sum(int(suite.get(key, 0)) for key in keys)
                           for keys in (("tests",), ("skipped",), ("failures", "errors")))
    print(f"pytest: {total - skipped - bad} passed, {bad} failed, {skipped} skipped")
    return ended.returncode


def main(words):
    folder = pathlib.Path(words[0]).resolve() / "tests/python"
    folder.mkdir(parents=True, exist_ok=True)
    if words[1:] == ["wheel"]:
        build_wheel(folder)
        return 0
    if len(words) == 3 and words[1] in TOOLS:
        return run_pytest(folder, *words[1:])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
