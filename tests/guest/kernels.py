"""Guest kernels: Debian's, unpacked from their packages with their headers, and the debug kernel."""

import lzma
import re
import subprocess

import debug_kernel
import fetch

# release: the packages of a kernel and its headers come from its dependencies.
PACKAGED = {"6.1": ("bookworm", False, "linux-image-cloud-amd64"),
            "6.12": ("bookworm", False, "linux-image-6.12-cloud-amd64"),
            "newest": ("trixie", True, "linux-image-cloud-amd64")}
NAMES = [*PACKAGED, "debug"]


def kernel(name):
    """(image, what modules are built against)."""
    if name == "debug":
        return debug_kernel.kernel()
    release, backports, meta = PACKAGED[name]
    if backports:
        fetch.qemu()  # for its libraries
    folder = fetch.cache() / f"linux-{name}"
    with fetch.finished(folder) as partial:
        if partial:
            apt = fetch.Apt(release, backports)
            image = apt.depends(meta, r"linux-image-[0-9]\S*")
            headers = image.replace("linux-image-", "linux-headers-")
            # Newer images are in parts.
            apt.unpack(partial, [image, *apt.all_depends(image, r"linux-(?:binary|modules)-\S*"),
                                 headers, apt.depends(headers, r"linux-headers-\S*-common"),
                                 apt.depends(headers, r"linux-kbuild-\S*")])
            relocate(partial, folder, partial / "usr/src" / headers)
            for program in partial.glob("usr/lib/linux-kbuild-*/**/*.real-*"):
                with_its_libraries(program)
    images = [*folder.glob("boot/vmlinuz-*"), *folder.glob("usr/lib/modules/*/vmlinuz")]
    return images[0], next(folder.glob("usr/src/linux-headers-*-amd64"))


def module(name, wanted):
    """The bytes of one of the kernel's own modules, as they are loaded."""
    _, headers = kernel(name)
    folder = headers if name == "debug" else fetch.cache() / f"linux-{name}"
    for path in folder.rglob(f"{wanted}.ko*"):
        data = path.read_bytes()
        return lzma.decompress(data) if path.suffix == ".xz" else data
    raise fetch.Unavailable(f"the kernel {name} has no module {wanted}")


def relocate(partial, folder, headers):
    """The headers name the folder that they were built for; no BTF, which would need pahole."""
    makefile = headers / "Makefile"
    makefile.write_text(re.sub("(?m)(^include |=)/usr/src/", rf"\g<1>{folder}/usr/src/",
                               makefile.read_text(encoding="utf-8")), encoding="utf-8")
    (headers / "vmlinux").unlink(missing_ok=True)
    # Newer makefiles ask a script whether sparse will do, which is in no package.
    for common in headers.parent.glob("linux-headers-*-common"):
        asked = common / "scripts/checker-valid.sh"
        if not asked.exists():
            asked.write_text("#!/bin/sh\necho 1\n", encoding="utf-8")
            asked.chmod(0o755)
    for link in headers.parent.rglob("*"):
        if link.is_symlink() and str(link.readlink()).startswith("/usr/lib/"):
            target = folder / str(link.readlink()).lstrip("/")
            link.unlink()
            link.symlink_to(target)
    for link in [*partial.glob("lib/modules/*/build"), *partial.glob("usr/lib/modules/*/build")]:
        link.unlink()


def with_its_libraries(program):
    """A tool of the build that is too new for this system is run with the libraries of QEMU."""
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    if "not found" not in said.stdout + said.stderr:
        return
    binary = program.rename(program.with_name(f"{program.name}.bin"))
    command = [*fetch.newer_libraries(fetch.cache() / "qemu"), "$0.bin"]
    program.write_text(f"#!/bin/sh\nexec {' '.join(command)} \"$@\"\n", encoding="utf-8")
    program.chmod(binary.stat().st_mode)
