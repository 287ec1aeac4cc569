#!/usr/bin/env python3
"""The driver in a real kernel:
guest.py [OPTION...] ROOT VERB KERNEL [PROGRAM [ARGUMENT...] [+ PROGRAM [ARGUMENT...]]...]

build    compiles driver/ against a Debian kernel's headers; any warning fails, sparse's too
test     boots that kernel in QEMU, loads the module, runs each PROGRAM, judges the console
bench    boots with one vCPU that counts instructions, and null_blk; prints PROGRAM's figures
shell    the same with a shell, for people
The cards are the module's own, or with --card two on PCI, each of them a process of that program.
Exit status: 0 good, 1 not (the console follows), 77 cannot be run here. SPECKV_TEST_SCALE reaches
the programs, which find each other in /. A guest is killed after SPECKV_GUEST_TIMEOUT seconds (840).
"""

import argparse
import contextlib
import fcntl
import os
import pathlib
import re
import selectors
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import cards
import documents
import fetch
import initrd
import kernels
import verdict

HERE = pathlib.Path(__file__).resolve().parent
SOFTWARE_CARDS = "emulate=2 emulate_memory=64"
# Stock kernels do not boot on every KVM; TCG runs everywhere.
MACHINE = ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1G",
           "-M", "q35,memory-backend=ram",  # which cards on PCI map
           "-object", "memory-backend-memfd,id=ram,size=1G,share=on",
           "-nographic", "-nodefaults", "-no-reboot"]
# Two nodes, of which HMAT says how fast they are, and a CXL expander whose region becomes the third.
# A kernel that knows of a hypervisor has no cache management, and so no regions.
NUMA = ["-accel", "tcg,thread=multi", "-cpu", "max,hypervisor=off", "-smp", "2",
        "-m", "1536M,maxmem=8G,slots=4",
        "-M", "q35,hmat=on,cxl=on,cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.size=4G",
        "-object", "memory-backend-ram,id=near,size=1G",
        "-object", "memory-backend-ram,id=far,size=512M",
        "-numa", "node,nodeid=0,cpus=0-1,memdev=near",
        "-numa", "node,nodeid=1,initiator=0,memdev=far",
        *(word for target, latency, bandwidth in ((0, 100, "40G"), (1, 400, "10G"))
          for kind, value in (("latency", latency), ("bandwidth", bandwidth))
          for word in ("-numa", f"hmat-lb,initiator=0,target={target},hierarchy=memory,"
                                f"data-type=access-{kind},{kind}={value}")),
        "-object", "memory-backend-ram,id=cxl,share=on,size=256M",
        "-device", "pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.1",
        "-device", "cxl-rp,port=0,bus=cxl.1,id=rp,chassis=0,slot=2",
        "-device", "cxl-type3,bus=rp,volatile-memdev=cxl,id=expander,sn=1",
        "-nographic", "-nodefaults", "-no-reboot"]
CXL_MODULES = ("cxl_acpi", "cxl_pci", "cxl_mem", "device_dax", "dax_cxl", "kmem")
IOMMU = ["-device", "intel-iommu,intremap=on,caching-mode=on"]
# No vmlinux is at hand for BTF; Debian's newer kernels are made by a newer gcc than the tests;
# sparse does not see that newer kernels' MODULE_INFO() measures a string at compile time.
NO_WARNING = re.compile(r"Skipping BTF generation|(compiler|pahole version) differs from the one|"
                        r"^  (The kernel was built (by|with)|You are using):|"
                        r"^(main|emulate)\.c:\d+:1: error: bad constant expression$")
# One instruction is one nanosecond of the guest's clock: time under emulation says nothing. A
# kernel that sees erms copies by "rep movsb", which counts as one instruction a byte.
COUNTING = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off",
            "-cpu", "max,erms=off,fsrm=off", "-smp", "1", "-M", "q35", "-m", "1G",
            "-nographic", "-nodefaults", "-no-reboot"]
NULL_BLK = """mount -t configfs config /sys/kernel/config || { insmod /configfs.ko
mount -t configfs config /sys/kernel/config; }
insmod /null_blk.ko nr_devices=1
mkdir /sys/kernel/config/nullb/nullb1
cd /sys/kernel/config/nullb/nullb1 && echo 1 >memory_backed && echo 64 >size && echo 1 >power"""
APPEND = "console=ttyS0 panic=-1 quiet log_buf_len=1M"
# Not where instructions are counted. Debian's kernels have KFENCE, and let it sleep.
APPEND_TEST = " slub_debug=FZPU kfence.sample_interval=50 ia32_emulation=1"
# The timer is checked in a time that an emulated one does not always keep.
APPEND_IOMMU = " intel_iommu=on iommu.strict=1 iommu.passthrough=0 no_timer_check"
ATTEMPTS = 3  # where QEMU breaks, and not the guest
# A test asks for the end of a card.
STRIKE = re.compile(rb"^CARD (PULL|KILL) (\d)\r?\n", re.M)


@contextlib.contextmanager
def module(root, series, check=False):
    """Yields (speckv.ko for a kernel, whether it was built, what the compilers said).

    One at a time: the folder is kept, so that only what changed is compiled again.
    """
    _, headers = kernels.kernel(series)
    folder = fetch.cache() / f"module-{series}"
    folder.mkdir(parents=True, exist_ok=True)
    # An option of kernels' gcc that Debian 12's does not know: it aligns functions.
    words = ["make", "-s", "-C", str(folder), f"KDIR={headers}", "W=1", "CC=gcc",
             "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT="]
    if check:
        # Debian 12's sparse does not know this word of newer headers.
        words += ["C=2", f"CHECK={fetch.tool('sparse', 'usr/bin/sparse')}",
                  "CF=-D__typeof_unqual__=__typeof__"]
    with open(folder.with_name(folder.name + ".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        copy_changed(root / "driver", folder)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        said = [line for line in (done.stdout + done.stderr).splitlines()
                if line.strip() and not NO_WARNING.search(line)]
        yield folder / "speckv.ko", done.returncode == 0, said


def copy_changed(source, target):
    """Makes `target` have the sources of `source`, and no other; times change with contents."""
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    for path in target.rglob("*.[ch]"):
        if path.relative_to(target) not in wanted and not path.name.endswith(".mod.c"):
            path.unlink()
    for name in wanted:
        new, old = source / name, target / name
        if not old.exists() or old.read_bytes() != new.read_bytes():
            old.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(new, old)


def boot(options, files, init, timeout, machine=None, append=APPEND_TEST):
    """Boots; returns (QEMU's exit status or None after the timeout, the console)."""
    image, _ = kernels.kernel(options.kernel)
    command = fetch.qemu() + (machine or MACHINE) + (IOMMU if options.iommu else [])
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        archive = pathlib.Path(folder) / "initrd"
        archive.write_bytes(initrd.archive(fetch.tool("busybox-static", "bin/busybox"),
                                           init, files))
        command += ["-serial", "stdio", "-kernel", str(image), "-initrd", str(archive),
                    "-append", APPEND + append + (APPEND_IOMMU if options.iommu else "")]
        there = []
        if options.card:
            cards.check(fetch.qemu())
            there = stack.enter_context(cards.two(options.card, folder, options.fault))
        for card in there:
            command += card.qemu()
        if timeout is None:
            return subprocess.call(command), ""
        status, console = watch(command, timeout, there)
        return status, console + "".join(card.end() for card in there)


def watch(command, timeout, there):
    """Runs a command that is killed when its time is up; all it wrote, in either case."""
    console, deadline, seen = b"", time.monotonic() + timeout, 0
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process, \
            selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if selector.select(max(0, deadline - time.monotonic())):
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    return process.wait(), console.decode(errors="replace")
                console += chunk
            for asked in STRIKE.finditer(console, seen):
                there[int(asked.group(2))].strike(asked.group(1).decode())
                seen = asked.end()
        process.kill()
    return None, console.decode(errors="replace")


def script(options, program):
    text = (HERE / "init").read_text(encoding="utf-8")
    text = text.replace("@MODULE@", "" if options.card else SOFTWARE_CARDS)
    text = text.replace("@REPORTS@", verdict.REPORTS)
    return text.replace("@PROGRAM@", program)


def libraries(program):
    """The shared libraries of a program, at places where its loader looks; {} if static."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    names = re.findall(r"(/\S+) \(0x", done.stdout) if done.returncode == 0 else []
    system = ("/lib", "/usr/lib")  # others have been built: their folder is not the guest's
    return {(name if name.startswith(system) else f"/lib/{pathlib.Path(name).name}").lstrip("/"):
            pathlib.Path(name).read_bytes() for name in names}


def udev_files(root):
    """A udev with its own loader and libraries in /udev, and the rules."""
    folder = fetch.udev()
    loader, option, place = fetch.newer_libraries(folder)
    program = folder / "usr/bin/udevadm"
    said = fetch.run([loader, option, f"{place}:{place}/systemd", "--list", str(program)],
                     "udevadm's libraries")
    names = [loader, *re.findall(r"=> (/\S+) \(0x", said), str(program)]
    return {"etc/udev/rules.d/70-speckv.rules": (root / "driver/70-speckv.rules").read_bytes(),
            **{f"udev/{pathlib.Path(name).name}": pathlib.Path(name).read_bytes()
               for name in names}}


def commands(words):
    """The programs among the words, and the lines of shell that run one after the other."""
    programs, lines = [], ["status=0"]
    for command in " ".join(shlex.quote(word) for word in words).split(" + "):
        program, *arguments = shlex.split(command)
        programs.append(pathlib.Path(program))
        lines.append(f"{shlex.join(['/' + programs[-1].name, *arguments])} || status=$?")
    return programs, "\n".join(lines)


def test(options):
    programs, lines = commands(options.words)
    scale = os.environ.get("SPECKV_TEST_SCALE", "1")
    timeout = float(os.environ.get("SPECKV_GUEST_TIMEOUT", "840"))
    with module(options.root, options.kernel) as (built, good, said):
        if not good:
            print("\n".join(said))
            return 1
        files = {"speckv.ko": built.read_bytes()}
        if options.card:
            files["aer_inject.ko"] = kernels.module(options.kernel, "aer_inject")
        if options.numa:
            lines = (HERE / "cxl_region.sh").read_text(encoding="utf-8") + lines
            files |= {f"{name}.ko": kernels.module(options.kernel, name) for name in CXL_MODULES}
        for program in programs:
            files |= {program.name: program.read_bytes(), **libraries(program)}
        if options.udev:
            lines = (HERE / "udev.sh").read_text(encoding="utf-8") + lines
            files |= udev_files(options.root)
        for path in options.file:
            files[f"given{path.resolve()}"] = path.read_bytes()
    init = script(options, f"export SPECKV_TEST_SCALE={scale}\n{lines}")
    for _ in range(ATTEMPTS):
        status, console = boot(options, files, init, timeout, NUMA if options.numa else None)
        if not verdict.emulator_broke(status, console):
            break
        print("QEMU itself aborted when a card's process died: once more")
    faults = verdict.faults(status, console) + documents.faults(options.root, console)
    if options.fault:
        faults = spoiled(options.fault, faults)
    if faults:
        print(console)
    for fault in faults:
        print(f"FAILED: {fault}")
    print(verdict.summary(console))
    return 1 if faults else 0


def spoiled(kind, faults):
    """The cards do something wrong on purpose: what is wrong is that no test says so, or that
    anything else is wrong than that tests fail."""
    found = [fault for fault in faults if "[  FAILED  ]" in fault]
    others = [fault for fault in faults if fault not in found and verdict.DONE not in fault
              and fault != verdict.NONE]
    print(f"--fault {kind} is found:", *found, sep="\n  ")
    return others if found else [*others, f"no test finds --fault {kind}"]


def bench(options):
    """Prints the figures of a program, a line "NAME VALUE UNIT BASELINE" each."""
    program = pathlib.Path(options.words[0])
    with module(options.root, options.kernel) as (built, good, said):
        if not good:
            print("\n".join(said))
            return 1
        files = {"speckv.ko": built.read_bytes(), program.name: program.read_bytes(),
                 **libraries(program)}
    for name in ("configfs", "null_blk"):
        with contextlib.suppress(fetch.Unavailable):  # built in
            files[f"{name}.ko"] = kernels.module(options.kernel, name)
    status, console = boot(options, files,
                           script(options, f"{NULL_BLK}\nstatus=0\n/{program.name} || status=$?"),
                           float(os.environ.get("SPECKV_GUEST_TIMEOUT", "840")), COUNTING, "")
    figures = re.findall(r"^FIGURE (.*?)\r?$", console, re.M)
    if status != 0 or verdict.DONE not in console or not figures or verdict.BAD.search(console):
        print(console, file=sys.stderr)
        return 1
    print("\n".join(figures))
    return 0


def shell(options):
    with module(options.root, options.kernel) as (built, good, said):
        if not good:
            print("\n".join(said))
            return 1
        files = {"speckv.ko": built.read_bytes()}
    print("speckv0 and speckv1 are there; `exit` or Ctrl-A X ends the guest.")
    status, _ = boot(options, files, script(options, "setsid cttyhack sh; status=$?"), None)
    return status


def build(options):
    with module(options.root, options.kernel, check=True) as (_, good, said):
        print("\n".join(said) or f"{options.kernel}: no warnings")
        return 0 if good and not said else 1


def main():
    verbs = {"build": (build, False), "test": (test, True), "bench": (bench, True),
             "shell": (shell, False)}
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--card", type=pathlib.Path, help="speckv_card: two cards on PCI")
    parser.add_argument("--file", type=pathlib.Path, action="append", default=[],
                        help="a file that programs find in the guest where it is here")
    parser.add_argument("--fault", help="what these cards do wrong; the judgement is then tested")
    parser.add_argument("--iommu", action="store_true", help="the cards reach what is mapped only")
    parser.add_argument("--numa", action="store_true", help="nodes by HMAT, and a CXL expander")
    parser.add_argument("--udev", action="store_true", help="with driver/70-speckv.rules")
    parser.add_argument("root", type=lambda name: pathlib.Path(name).resolve())
    parser.add_argument("verb", choices=verbs)
    parser.add_argument("kernel", choices=kernels.NAMES)
    parser.add_argument("words", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    run, has_program = verbs[options.verb]
    if has_program != bool(options.words):
        parser.error("test and bench, and no other, have a program")
    try:
        return run(options)
    except fetch.Unavailable as reason:
        print(f"SKIPPED: {reason}")
        return 77


if __name__ == "__main__":
    sys.exit(main())
