"""An initramfs: busybox, an init script and files, as a gzipped cpio archive."""

import gzip
import pathlib
import stat

FOLDERS = ("bin", "dev", "proc", "sys", "tmp")


def entry(name, mode, data, number):
    """One member in the format that Linux calls newc."""
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)


def archive(busybox, init, files):
    """The bytes of an archive. files: path below the root folder -> its bytes."""
    members = [(name, stat.S_IFDIR | 0o755, b"") for name in FOLDERS]
    members.append(("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()))
    members.append(("bin/sh", stat.S_IFLNK | 0o777, b"busybox"))
    members.append(("init", stat.S_IFREG | 0o755, init.encode()))
    parents = {str(parent) for name in files for parent in pathlib.PurePosixPath(name).parents}
    members += [(name, stat.S_IFDIR | 0o755, b"") for name in sorted(parents - {".", *FOLDERS})]
    members += [(name, stat.S_IFREG | 0o755, data) for name, data in files.items()]
    parts = [entry(name, mode, data, i + 1) for i, (name, mode, data) in enumerate(members)]
    parts.append(entry("TRAILER!!!", 0, b"", 0))
    return gzip.compress(b"".join(parts), 1)
