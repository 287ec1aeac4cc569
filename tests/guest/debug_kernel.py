"""A kernel that looks for a driver's mistakes, built from the source of Debian's 6.12.

KASAN, UBSAN, lockdep, kmemleak, the checks of DMA and of objects, and failures on demand:
debug.config. Built once for a package and a configuration, in the cache of guests; that takes a
quarter of an hour on two free cores.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess

import fetch

CONFIG = pathlib.Path(__file__).resolve().parent / "debug.config"
SOURCE = ("bookworm", "linux-source-6.12")
TOOLS = ("flex", "bison", "bc", "make", "gcc", "xz")
ELF = pathlib.Path("/usr/include/libelf.h")  # for the kernel's own objtool


def source(name=SOURCE[1], only=()):
    """The kernel's source, or only those parts of it, in a folder of the cache; unpacked once."""
    folder = fetch.cache() / name
    with fetch.finished(folder) as partial:
        if partial:
            fetch.Apt(SOURCE[0]).unpack(partial, [SOURCE[1]])
            tarball = next((partial / "usr/src").glob("*.tar.xz"))
            fetch.run(["tar", "-xf", str(tarball), "-C", str(partial), "--wildcards",
                       *(f"*/{part}" for part in only)], f"tar -x {tarball.name}")
            shutil.rmtree(partial / "usr")
    return next(folder.glob("linux-source-*"))


def kernel():
    """(image, tree that modules are built against)."""
    name = hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:12]
    folder = fetch.cache() / f"linux-debug-{name}"
    # A lock of its own: it is held for as long as the kernel takes.
    with fetch.finished(folder, "debug.lock") as partial:
        if partial:
            build(source(), partial)
    return folder / "arch/x86/boot/bzImage", folder


def build(tree, into):
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    missing += [] if ELF.exists() else ["libelf-dev"]
    if missing:
        raise fetch.Unavailable(f"a debug kernel needs {', '.join(missing)}")
    # Built in a tree of links to the source, which can be moved when it is done.
    shutil.copytree(tree, into, symlinks=True, dirs_exist_ok=True, copy_function=os.link)
    make = ["make", "-s", "-C", str(into), f"-j{os.cpu_count()}",
            "CC=ccache gcc" if shutil.which("ccache") else "CC=gcc"]
    # Equal names of files in every copy of the tree, so that ccache knows them again.
    environment = {**os.environ, "CCACHE_BASEDIR": str(into), "CCACHE_NOHASHDIR": "1",
                   "KBUILD_BUILD_TIMESTAMP": "1"}
    fetch.run([*make, "tinyconfig"], "make tinyconfig", env=environment)
    fetch.run([str(into / "scripts/kconfig/merge_config.sh"), "-m", ".config", str(CONFIG)],
              "merge_config", cwd=into, env=environment)
    fetch.run([*make, "olddefconfig"], "make olddefconfig", env=environment)
    refused = unmet(into / ".config")
    if refused:
        raise RuntimeError(f"debug.config asks for what there is not: {', '.join(refused)}")
    done = subprocess.run([*make, "bzImage", "modules"], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        raise RuntimeError(f"the debug kernel does not build:\n{done.stdout[-2000:]}")


def unmet(config):
    """The lines of debug.config that the kernel's configuration does not have."""
    has = set(config.read_text(encoding="utf-8").splitlines())
    wanted = [line for line in CONFIG.read_text(encoding="utf-8").splitlines()
              if line.startswith("CONFIG_")]
    return [line for line in wanted if line not in has and not (
        line.endswith("=n") and not any(other.startswith(line[:-1]) for other in has))]


if __name__ == "__main__":
    print(*kernel())
