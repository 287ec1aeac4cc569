#!/usr/bin/env python3
"""What an administrator installs, tried by the tools that will read it: install.py WHAT ROOT ...

dkms ROOT KERNEL      DKMS builds the module from driver/dkms.conf, for a guest's kernel
udev ROOT             udevadm finds no fault in the rules
unit ROOT SPECKVCTL   systemd-analyze finds none in the exporter's unit
Exit status: 0 good, 1 not, 77 cannot be tried here. Nothing of the system is changed.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import fetch
import kernels


def tried(command):
    """Exit status of a command; what it says is shown if that is not 0, or if it warns."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode:
        print(done.stdout)
    return done.returncode, done.stdout


def dkms(root, series):
    """The module that DKMS builds is there, and was built for that kernel."""
    program = fetch.tool("dkms", "usr/sbin/dkms")
    _, headers = kernels.kernel(series)
    version = headers.name.removeprefix("linux-headers-")
    conf = (root / "driver/dkms.conf").read_text(encoding="utf-8")
    name, number = (re.search(rf'^PACKAGE_{word}="(.+)"$', conf, re.M).group(1)
                    for word in ("NAME", "VERSION"))
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        for sub in ("tree", "modules"):
            (place / sub).mkdir()
        shutil.copytree(root / "driver", place / "source" / f"{name}-{number}")
        status, said = tried(["bash", str(program), "build", "-m", name, "-v", number, "-k", version,
                              "--kernelsourcedir", str(headers), "--dkmstree", str(place / "tree"),
                              "--sourcetree", str(place / "source"),
                              "--installtree", str(place / "modules")])
        built = list((place / "tree").rglob("speckv.ko"))
        if status or len(built) != 1:
            for log in (place / "tree").rglob("make.log"):
                said += log.read_text(encoding="utf-8", errors="replace")
            print(said)
            return 1
        magic = re.search(rb"vermagic=(\S+)", built[0].read_bytes())
        print(f"{name}/{number} for {magic.group(1).decode()}")
        return 0 if magic.group(1).decode() == version else 1


def udev(root):
    """By the newer udevadm; what the rules do is seen in a guest (udev_*)."""
    folder = fetch.udev()
    loader, option, libraries = fetch.newer_libraries(folder)
    command = [loader, option, f"{libraries}:{libraries}/systemd",
               str(folder / "usr/bin/udevadm"), "verify", "--resolve-names=never"]
    good, _ = tried([*command, str(root / "driver/70-speckv.rules")])
    with tempfile.TemporaryDirectory() as place:
        bad = pathlib.Path(place) / "70-bad.rules"
        bad.write_text('SUBSYSTEM=="speckv", GRUOP="speckv"\n', encoding="utf-8")
        found = subprocess.run([*command, str(bad)], capture_output=True, check=False).returncode
    return 0 if good == 0 and found != 0 else 1


def unit(root, speckvctl):
    """An instance of it, with the program where it was built."""
    if not shutil.which("systemd-analyze"):
        raise fetch.Unavailable("systemd-analyze is not there")
    name = "speckvctl-exporter@.service"
    text = (root / "host/cli/systemd" / name).read_text(encoding="utf-8")
    text = re.sub("(?m)^ExecStart=speckvctl ", f"ExecStart={pathlib.Path(speckvctl).resolve()} ",
                  text)
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place) / name
        path.write_text(text, encoding="utf-8")
        status, said = tried(["systemd-analyze", "verify", "--man=no", str(path)])
        wrong = [line for line in said.splitlines() if "speckvctl" in line]
        print("\n".join(wrong))
    return 1 if status or wrong else 0


def main():
    what, root, *rest = sys.argv[1:]
    try:
        return {"dkms": dkms, "udev": udev, "unit": unit}[what](pathlib.Path(root), *rest)
    except fetch.Unavailable as reason:
        print(f"SKIPPED: {reason}")
        return 77


if __name__ == "__main__":
    sys.exit(main())
