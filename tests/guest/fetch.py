"""QEMU, kernels and small tools, as Debian packages that are unpacked and never installed.

They lie in $XDG_CACHE_HOME/cxlspeckv/guest and are fetched once, by the apt that the machine
has and from the mirror that it uses. Nothing of the system changes: lists, archives and state
are apt's own, in a folder of ours. `Unavailable` says why something cannot be had.
"""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import subprocess

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Unavailable(Exception):
    """Something cannot be had on this machine; the message says what and why."""


def cache():
    """The folder of everything that is fetched or built for guests."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "cxlspeckv" / "guest"


def run(command, what, **options):
    """Output of a command; Unavailable with its last line if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise Unavailable(f"{what}: {said}")
    return done.stdout


@contextlib.contextmanager
def finished(folder, turn="fetch.lock"):
    """Yields a folder to fill, or None if that was done before. All or nothing; one at a time."""
    if folder.is_dir():
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    # One lock for all: what is fetched passes through apt's folders, which are shared.
    with open(folder.parent / turn, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            yield None
            return
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        partial.rename(folder)


class Apt:
    """apt with a state of its own, for one Debian release."""

    def __init__(self, release, backports=False):
        self.release = f"{release}-backports" if backports else release
        self.folder = cache() / f"apt-{self.release}"
        for name in ("lists/partial", "archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        targets = run(["apt-get", "indextargets", "--format", "$(REPO_URI)",
                       "Created-By: Packages"], "apt-get indextargets")
        mirrors = {name: uri for uri in targets.split()
                   for name in re.findall(r"/(debian|debian-security)/?$", uri)}
        if "debian" not in mirrors or not pathlib.Path(KEYRING).exists():
            raise Unavailable("no Debian mirror among the sources of apt")
        suites = [("debian", release), ("debian", self.release),
                  ("debian-security", f"{release}-security")]
        (self.folder / "sources.list").write_text("".join(sorted({
            f"deb [signed-by={KEYRING}] {mirrors[name]} {suite} main\n"
            for name, suite in suites if name in mirrors})), encoding="utf-8")
        (self.folder / "apt.conf").write_text(
            f'Dir::Etc::sourcelist "{self.folder}/sources.list";\n'
            'Dir::Etc::sourceparts "/dev/null";\n'
            f'Dir::State::lists "{self.folder}/lists";\n'
            f'Dir::State::status "{self.folder}/status";\n'
            f'Dir::Cache "{self.folder}";\nDir::Cache::archives "{self.folder}/archives";\n'
            'APT::Install-Recommends "0"; APT::Sandbox::User "root"; Acquire::Languages "none";\n'
            'Acquire::Retries "2"; Acquire::http::Timeout "20";\n' +
            (f'APT::Default-Release "{self.release}";\n' if backports else ""),
            encoding="utf-8")
        self.environment = {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf")}
        if not list((self.folder / "lists").glob("*Packages*")):
            self.run("apt-get", "-qq", "update")

    def run(self, *command):
        return run(command, f"{' '.join(command[:3])} for {self.release}", env=self.environment)

    def all_depends(self, package, pattern):
        """The dependencies of a package that the pattern finds."""
        return re.findall(rf"Depends: ({pattern})$", self.run("apt-cache", "depends", package), re.M)

    def depends(self, package, pattern):
        """The first of them; there has to be one."""
        for found in self.all_depends(package, pattern):
            return found
        raise Unavailable(f"{package} of {self.release} has no {pattern}")

    def unpack(self, into, packages, dependencies=False):
        """Unpacks packages, and all they need if asked for, into a folder."""
        archives = self.folder / "archives"
        if dependencies:
            self.run("apt-get", "-qq", "install", "-y", "--download-only", *packages)
        else:
            run(["apt-get", "-qq", "download", *packages], f"apt-get download {packages[0]}",
                env=self.environment, cwd=archives)
        for archive in sorted(archives.glob("*.deb")):
            run(["dpkg", "-x", str(archive), str(into)], f"dpkg -x {archive.name}")
            archive.unlink()


def qemu():
    """The command that starts QEMU >= 10: Debian's newest backport with its own libraries."""
    folder = cache() / "qemu"
    with finished(folder) as partial:
        if partial:
            Apt("trixie", backports=True).unpack(partial, ["qemu-system-x86"], dependencies=True)
            for name in ("doc", "man", "locale"):
                shutil.rmtree(partial / "usr/share" / name, ignore_errors=True)
    os.environ["QEMU_MODULE_DIR"] = str(folder / "usr/lib/x86_64-linux-gnu/qemu")
    return [*newer_libraries(folder), "--argv0", "qemu-system-x86_64",
            str(folder / "usr/bin/qemu-system-x86_64"),
            "-L", str(folder / "usr/share/qemu"), "-L", str(folder / "usr/share/seabios")]


def udev():
    """The folder of a newer udev, with libraries of its own: Debian 12's cannot verify rules."""
    folder = cache() / "udev"
    with finished(folder) as partial:
        if partial:
            Apt("trixie").unpack(partial, ["udev"], dependencies=True)
    return folder


def newer_libraries(folder):
    """The beginning of a command that runs a program with the libraries of that folder."""
    libraries = folder / "usr/lib/x86_64-linux-gnu"
    return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]


def tool(package, path, release="bookworm"):
    """A program that needs no libraries but the system's: its path."""
    folder = cache() / package
    with finished(folder) as partial:
        if partial:
            Apt(release).unpack(partial, [package])
    return folder / path
