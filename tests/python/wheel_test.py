"""The wheel: what it holds, that others can use it, and that it runs in a fresh environment."""

import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

BIN = pathlib.Path(sys.executable).parent


def run(*words, **options):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LD_LIBRARY_PATH")}
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          env=environment, check=False, timeout=250, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel():
    (found,) = pathlib.Path(os.environ["CXLSPECKV_DIST"]).glob("*.whl")
    return found


@pytest.fixture(scope="module")
def repaired(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repaired")
    run(BIN / "auditwheel", "repair", "-w", folder, wheel)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_the_library(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"  # one for each version
    assert re.fullmatch(rf"cxlspeckv-[\d.]+-{python}-{python}-linux_\w+\.whl", wheel.name)
    assert {"cxlspeckv/py.typed", "cxlspeckv/_core.pyi", "cxlspeckv/libcxlspeckv.so.0"} < set(names)
    assert [name for name in names if name.endswith(".so") and "_core" in name]
    others = [name for name in names if not name.startswith(("cxlspeckv/", "cxlspeckv-"))]
    assert not others
    wanted = run("readelf", "-d", *unpacked(wheel, r"_core.*\.so$"))
    assert "$ORIGIN" in wanted and "libcxlspeckv.so.0" in wanted and "torch" not in wanted


def unpacked(wheel, pattern):
    folder = pathlib.Path(os.environ["CXLSPECKV_DIST"]).with_name("site")
    return [path for path in folder.rglob("*") if re.search(pattern, path.name)]


def test_the_repaired_wheel_is_manylinux_and_carries_what_it_needs(repaired):
    assert re.search(r"manylinux_2_\d+_", repaired.name)
    carried = [n for n in zipfile.ZipFile(repaired).namelist() if n.startswith("cxlspeckv.libs/")]
    for library in ("libsodium", "liburing", "libnuma"):
        assert any(library in name for name in carried), carried


def test_it_runs_in_a_fresh_environment(repaired, tmp_path):
    """Installed as a user would, with what the index has; nothing of the source in sight."""
    run(sys.executable, "-m", "venv", tmp_path / "fresh")
    python = tmp_path / "fresh/bin/python"
    pip = subprocess.run([python, "-m", "pip", "download", "-q", "--no-deps", "-d", tmp_path, "numpy"],
                         capture_output=True, text=True, check=False, timeout=250)
    if pip.returncode:
        pytest.skip("NumPy cannot be downloaded here")
    run(python, "-m", "pip", "install", "-q", "--find-links", tmp_path, repaired)
    report = run(python, "-m", "cxlspeckv", cwd=tmp_path)
    assert "passed" in report and "failed" not in report
    code = ("import cxlspeckv, sys; a = cxlspeckv.CxlSpeckvKVAllocator(dev_path='soft:?size=1M');"
            "a.allocate(1, 1, 1, 64, 2); print(hex(a.get_kv_ptr(0, 0, 0, 0, 0, 128)));"
            "print(cxlspeckv.__file__)")
    assert str(tmp_path) in run(python, "-c", code, cwd=tmp_path)
