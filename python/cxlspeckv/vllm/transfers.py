"""Saves and loads of a worker, on threads of ours: a step neither copies nor encodes.

A job is one submission to the store, whatever its number of blocks. What fails is remembered as
pages that hold nothing right, so that an adapter can tell the engine.
"""

import contextlib
import queue
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

import cxlspeckv
from cxlspeckv import Code, Operation
from cxlspeckv.vllm.core import Core, Keys, logger
from cxlspeckv.vllm.pages import NO_PAGE, PageTable
from cxlspeckv.vllm.threads import ours

GRACE_SECONDS = 0.25  # how long a step that needs its pages back waits before it drops stores


@dataclass(eq=False)
class Job:
    """One store or load. `ended` is set once its pages are no longer touched."""

    number: int
    is_load: bool
    keys: Keys
    chunks: npt.NDArray[np.int64]
    first_positions: list[int] | None
    ended: threading.Event = field(default_factory=threading.Event)
    operation: Operation | None = None
    cancelled: bool = False
    bytes: int = 0
    seconds: float = 0.0
    bad_pages: frozenset[int] = frozenset()


class Transfers:
    """Runs jobs. One thread calls; two threads of ours work, one for each direction."""

    def __init__(self, core: Core, pages: PageTable) -> None:
        self._core, self._pages = core, pages
        self._jobs: dict[int, Job] = {}
        self._finished: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._bad_pages: set[int] = set()
        self.failed_loads: Counter[str] = Counter()  # blocks by what went wrong
        self.dropped_saves: Counter[str] = Counter()
        self._lock = threading.Lock()  # of the counts, and of a job's operation and cancelled
        self._work: dict[bool, queue.SimpleQueue[Job | None]] = {}
        self._threads = []
        for is_load in (False, True):
            self._work[is_load] = queue.SimpleQueue()
            kind = "load" if is_load else "store"
            thread = threading.Thread(target=self._run, args=(self._work[is_load],),
                                      name=f"cxlspeckv-{kind}", daemon=True)
            with ours(kind):
                thread.start()
            self._threads.append(thread)

    def submit(self, number: int, is_load: bool, keys: Keys, pages: npt.NDArray[np.integer],
               first: int, first_positions: list[int] | None = None) -> None:
        """Queues a job over a run of pages; `first` is the place of its first in the sequence, and
        `first_positions` are those of the tokens that each key's block begins with.
        """
        job = Job(number, is_load, keys, self._pages.chunks(pages, len(keys), first),
                  first_positions)
        self._jobs[number] = job
        self._work[is_load].put(job)

    def finished(self) -> list[Job]:
        """Jobs that ended since the last call."""
        jobs = []
        while not self._finished.empty():
            job = self._finished.get()
            self._jobs.pop(job.number, None)
            self._bad_pages |= job.bad_pages
            jobs.append(job)
        return jobs

    def take_bad_pages(self) -> set[int]:
        """Pages of finished() loads that failed, since the last call."""
        pages, self._bad_pages = self._bad_pages, set()
        return pages

    def take_counts(self) -> tuple[Counter[str], Counter[str]]:
        """Loads that failed and saves that were dropped since the last call, blocks by reason."""
        with self._lock:
            counts = self.failed_loads, self.dropped_saves
            self.failed_loads, self.dropped_saves = Counter(), Counter()
            return counts

    def wait(self, numbers: Sequence[int] | set[int]) -> None:
        """Returns once these jobs touch no page. Stores that take long are given up: a step
        waits for them a quarter of a second at most, and for what the device has already.
        """
        jobs = [self._jobs[n] for n in numbers if n in self._jobs]
        deadline = time.monotonic() + GRACE_SECONDS
        for job in jobs:
            if not job.ended.wait(max(0.0, deadline - time.monotonic())):
                self._cancel(job)
        for job in jobs:
            job.ended.wait()

    def _cancel(self, job: Job) -> None:
        with self._lock:
            job.cancelled = True
            if job.operation is not None:
                job.operation.cancel()

    def close(self) -> None:
        """Ends what is queued (not begun: dropped) and the threads."""
        for job in list(self._jobs.values()):
            if not job.is_load:
                self._cancel(job)
        for work in self._work.values():
            work.put(None)
        for thread in self._threads:
            thread.join()

    # ---- our threads

    def _run(self, work: "queue.SimpleQueue[Job | None]") -> None:
        while (job := work.get()) is not None:
            began = time.monotonic()
            try:
                codes = self._transfer(job)
            except Exception as error:  # whatever it is, the engine must get its pages back
                logger.error("cxlspeckv: a transfer was refused: %s", error)
                codes = np.full(len(job.keys), Code.INTERNAL, np.uint8)
            job.seconds = time.monotonic() - began
            job.bytes = int((codes == Code.OK).sum()) * self._core.facts.chunk_bytes
            self._settle(job, codes)
            job.ended.set()
            self._finished.put(job)

    def _transfer(self, job: Job) -> npt.NDArray[np.uint8]:
        segments = self._pages.segments(job.chunks)
        with self._lock:
            if job.cancelled:
                return np.full(len(job.keys), Code.CANCELLED, np.uint8)
        store, keys = self._core.store, job.keys.tobytes()
        if job.is_load:
            operation = store.load(keys, segments, deadline=self._core.settings.load_timeout)
        else:
            operation = store.save(keys, segments, first_positions=job.first_positions)
        with self._lock:
            job.operation = operation
            if job.cancelled:
                operation.cancel()
        with contextlib.suppress(cxlspeckv.Error):  # the codes tell it, block by block
            operation.wait()
        return operation.codes()

    def _settle(self, job: Job, codes: npt.NDArray[np.uint8]) -> None:
        failed = codes != Code.OK
        counts = Counter(Code(code).name.lower() for code in codes[failed])
        if not job.is_load:
            with self._lock:
                self.dropped_saves += counts
            if not failed.all():
                self._core.saved()
            return
        if failed.any():
            with self._lock:
                self.failed_loads += counts
            job.bad_pages = frozenset(int(p) for p in job.chunks[failed].ravel() if p != NO_PAGE)
            # Whatever was wrong, the next lookup must not find these again: no retry for ever.
            wrong = failed & (codes != Code.CANCELLED)
            self._core.store.erase(job.keys[wrong].tobytes())
            logger.warning("cxlspeckv: %d of %d blocks were not loaded (%s); they are recomputed",
                           int(failed.sum()), len(codes), dict(counts))
