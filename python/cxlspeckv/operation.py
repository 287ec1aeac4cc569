"""Transfers in flight, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from cxlspeckv import _core


class Operation:
    """One save or load. The store and its memory stay alive while it runs; any thread.

    Dropping the last reference to an operation that runs waits for it. `await operation` does
    what `wait()` does without blocking the event loop in which the operation was started.
    """

    __slots__ = ("_arrival", "_core")

    def __init__(self, core: _core.Operation, arrival: asyncio.Future[None] | None) -> None:
        self._core = core
        self._arrival = arrival

    def __len__(self) -> int:
        """How many blocks there are."""
        return len(self._core)

    @property
    def done(self) -> bool:
        """Whether every block has ended."""
        return self._core.done

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all blocks have ended, `timeout` seconds at most.

        Raises the `Error` of the first block that failed; `codes()` then tells of each.
        `TimedOut` while it still runs, which changes nothing about the operation.
        """
        self._core.wait(timeout)

    def cancel(self) -> None:
        """End what has not begun, as `Code.CANCELLED`; the rest goes on."""
        self._core.cancel()

    def codes(self) -> npt.NDArray[np.uint8]:
        """How each block ended, as numbers of `Code`. Raises `Busy` while it runs."""
        return self._core.codes()

    def layers_ready(self, index: int) -> int:
        """How many layers of the range of block `index` have landed. It only grows."""
        return self._core.layers_ready(index)

    def __await__(self) -> Generator[object, None, None]:
        yield from self._finish().__await__()

    async def _finish(self) -> None:
        loop = asyncio.get_running_loop()
        if self._arrival is not None and self._arrival.get_loop() is loop:
            await asyncio.shield(self._arrival)
        elif not self._core.done:  # started elsewhere: no queue of this loop knows of it
            await loop.run_in_executor(None, self._core_ended)
        self._core.wait(None)

    def _core_ended(self) -> None:
        try:
            self._core.wait(None)
        except Exception:
            if not self._core.done:
                raise


class Arrivals:
    """What one event loop is waiting for. Its eventfd is watched while that is anything."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.completions = _core.Completions()
        self._loop = weakref.ref(loop)
        self._tags = itertools.count(1)
        self._futures: dict[int, asyncio.Future[None]] = {}

    def expect(self) -> tuple[int, asyncio.Future[None]]:
        """Return a tag for an operation, and what is resolved when it is done."""
        loop = asyncio.get_running_loop()
        if not self._futures:
            loop.add_reader(self.completions.fileno(), self._take)
        tag, future = next(self._tags), loop.create_future()
        self._futures[tag] = future
        return tag, future

    def forget(self, tag: int) -> None:
        """Take back `expect()`: there is no such operation."""
        self._futures.pop(tag, None)
        self._rest()

    def _take(self) -> None:
        for tag in self.completions.drain():
            future = self._futures.pop(tag, None)
            if future is not None and not future.done():
                future.set_result(None)
        self._rest()

    def _rest(self) -> None:
        loop = self._loop()
        if not self._futures and loop is not None:
            loop.remove_reader(self.completions.fileno())


_arrivals: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Arrivals] = (
    weakref.WeakKeyDictionary()
)


def arrivals() -> Arrivals | None:
    """Return those of the event loop that runs in this thread, if there is one."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    if loop not in _arrivals:
        _arrivals[loop] = Arrivals(loop)
    return _arrivals[loop]
