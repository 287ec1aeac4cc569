#!/usr/bin/env python3
"""The layout of the kernel interface is the golden one: layout.py ROOT COMPILER [FLAG...]

Compiles static assertions made from layout.txt against driver/uapi. Every structure, member
and ioctl that the headers declare must be in the file: a line is added by hand, never
changed. Exit status: 0 equal, 1 not (printed), 77 this compiler cannot build for the flags.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def golden():
    """Lines of `struct NAME SIZE`, `NAME.MEMBER OFFSET SIZE`, `ioctl NAME NUMBER`."""
    for line in (HERE / "layout.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line.split()


def assertions():
    for words in golden():
        match words:
            case ["struct", name, size]:
                yield f"sizeof(struct {name}) == {size}", name
            case ["ioctl", name, number]:
                yield f"{name} == {number}", name
            case [member, offset, size]:
                name, path = member.split(".", 1)
                yield f"offsetof(struct {name}, {path}) == {offset}", member
                yield f"sizeof(((struct {name} *)0)->{path}) == {size}", member


def declared(root):
    """What the headers declare: structures, their members, ioctls."""
    text = "".join(path.read_text(encoding="utf-8")
                   for path in sorted((root / "driver/uapi").glob("*.h")))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    for name in re.findall(r"#define (SPECKV_(?:IOC_|URING_)\w+)", text):
        yield name
    for name, body in re.findall(r"^struct (\w+) \{\n(.*?)^\};", text, re.S | re.M):
        yield name
        yield from (f"{name}.{m}" for m in re.findall(r"\b(\w+)(?:\[\d+\])?;", body))


def compiled(root, command, code):
    """What the compiler says about the headers and then `code`."""
    multiarch = subprocess.run([command[0], "-print-multiarch"], capture_output=True, text=True,
                               check=False).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "layout.c"
        source.write_text('#include <stddef.h>\n#include "speckv_ioctl.h"\n' + code,
                          encoding="utf-8")
        # <linux/types.h> asks for the 64-bit architecture's <asm/types.h>, which serves both.
        found = subprocess.run([*command, "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic",
                                "-Werror", f"-I{root}/driver/uapi",
                                f"-isystem/usr/include/{multiarch}", str(source)],
                               capture_output=True, text=True, check=False)
    return found.returncode, found.stderr


def main(root, *command):
    root = pathlib.Path(root)
    status, told = compiled(root, command, "")
    if status and "-m32" in command:
        with tempfile.NamedTemporaryFile(suffix=".c") as empty:
            plain = subprocess.run([*command, "-fsyntax-only", empty.name], check=False,
                                   capture_output=True)
        if plain.returncode:
            print(f"SKIPPED: {command[0]} cannot build for -m32")
            return 77
    faults = [told] if status else []
    names = set(declared(root))
    listed = {words[1] if words[0] in ("struct", "ioctl") else words[0] for words in golden()}
    faults += [f"not in layout.txt: {name}" for name in sorted(names - listed)]
    faults += [f"only in layout.txt: {name}" for name in sorted(listed - names)]
    checks = list(assertions())
    keyword = "static_assert" if "c++" in command else "_Static_assert"
    status, told = compiled(root, command, "".join(
        f'{keyword}({check}, "{name}");\n' for check, name in checks))
    if status:
        faults.append(told)
    # An assertion that is wrong is told: otherwise nothing above has been compiled.
    if compiled(root, command, f'{keyword}(sizeof(struct speckv_desc) == 65, "");\n')[0] == 0:
        faults.append("a wrong size passes")
    for fault in faults:
        print(fault)
    return 1 if faults or not checks else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
