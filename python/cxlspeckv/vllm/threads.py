"""Our threads in an engine's process: where they may run, and the processor time they take.

A thread inherits the name and the cores of the one that starts it. So both are set around the
start, which reaches those of the library, too, and `top -H` shows them.
"""

import contextlib
import os
import pathlib
import threading
import time
from collections.abc import Iterator

PREFIX = "cxlspeckv-"
KERNEL_PREFIX = "iou-"  # the kernel's own, which do for io_uring what cannot be done at once
NAME = pathlib.Path("/proc/thread-self/comm")
TASKS = pathlib.Path("/proc/self/task")
INTERVAL_SECONDS = 1.0


@contextlib.contextmanager
def ours(kind: str) -> Iterator[None]:
    """Threads started inside are called cxlspeckv-KIND and may use every core that the parent
    process may. vLLM on a CPU binds a worker to the cores that compute.
    """
    cores, before = os.sched_getaffinity(0), NAME.read_bytes().rstrip(b"\n")
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, cores | os.sched_getaffinity(os.getppid()))
    NAME.write_bytes((PREFIX + kind).encode())
    try:
        yield
    finally:
        NAME.write_bytes(before)
        os.sched_setaffinity(0, cores)


def _clock(thread: int) -> int:
    """The clock of a thread's processor time, as pthread_getcpuclockid() makes it of a number."""
    return (~thread << 3) | 6


class ProcessorTimes:
    """What the threads of this process that are ours have taken, by kind. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0.0
        self._kinds: dict[int, str] = {}  # by thread; "" for those of others
        self._seen: dict[int, float] = {}

    def take(self, every: float = INTERVAL_SECONDS) -> dict[str, float]:
        """Seconds since the last call that told any; nothing within `every` seconds of it."""
        with self._lock:
            now = time.monotonic()
            if now - self._last < every:
                return {}
            self._last = now
            return self._look()

    def _look(self) -> dict[str, float]:
        threads = {int(name) for name in os.listdir(TASKS)}
        for gone in self._kinds.keys() - threads:
            del self._kinds[gone]
            self._seen.pop(gone, None)
        taken: dict[str, float] = {}
        for thread in threads:
            # One that has just ended has neither.
            with contextlib.suppress(OSError):
                kind = self._kinds.get(thread)
                if kind is None:
                    kind = self._kinds[thread] = _kind_of(thread)
                if kind:
                    seconds = time.clock_gettime(_clock(thread))
                    taken[kind] = taken.get(kind, 0.0) + seconds - self._seen.get(thread, 0.0)
                    self._seen[thread] = seconds
        return taken


def _kind_of(thread: int) -> str:
    name = (TASKS / str(thread) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    return "kernel" if name.startswith(KERNEL_PREFIX) else (
        name.removeprefix(PREFIX) if name.startswith(PREFIX) else "")


times = ProcessorTimes()  # of the process, whatever the number of its stores
