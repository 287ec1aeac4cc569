"""The core that the adapters share: one store for all parts of an engine in a process, and keys.

An engine's scheduler and its workers open the same store: by name across processes, through the
table below within one. What the workers write, the scheduler finds in the store's index.
"""

import logging
import pathlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

import cxlspeckv
from cxlspeckv import ABSENT, PENDING, BlockStore, hash_key
from cxlspeckv.vllm.engine_file import store_name, sweep
from cxlspeckv.vllm.facts import PageFacts
from cxlspeckv.vllm.settings import ConfigError, Settings
from cxlspeckv.vllm.threads import ours

logger = logging.getLogger("vllm.cxlspeckv")

GROUP_BYTES = 4  # at the end of an engine's key: the number of its cache group
SHA256_BYTES = 32
KEY_BYTES = 16
FLUSH_SECONDS = 2.0  # at most this much of what was stored is lost with a power cut

Keys = npt.NDArray[np.uint8]


class KeyMaker:
    """Turns engine keys into store keys, one a rank. Immutable; any thread.

    An engine key is a hash chained over tokens, salt and adapters, and a group's number. A
    SHA-256 is cut to 16 bytes and mixed with the namespace of model, layout and rank: the
    result is uniform, and equal only where both are. Any other key is hashed by the library.
    """

    def __init__(self, facts: PageFacts) -> None:
        self.ranks = facts.ranks
        names = [facts.namespace(rank) for rank in range(facts.ranks)]
        self._namespaces = names
        self._masks = np.frombuffer(b"".join(names), np.uint8).reshape(-1, KEY_BYTES)

    def keys(self, engine_keys: Sequence[bytes], rank: int | None = None) -> Keys:
        """[n, 16] for one rank, or [n, ranks, 16] for all of them."""
        width = SHA256_BYTES + GROUP_BYTES
        joined = b"".join(engine_keys)
        if len(joined) == width * len(engine_keys) and all(len(k) == width for k in engine_keys):
            table = np.frombuffer(joined, np.uint8).reshape(-1, width)
            # The group's number goes over the last bytes of the part that is kept.
            cut = table[:, :KEY_BYTES].copy()
            cut[:, -GROUP_BYTES:] ^= table[:, SHA256_BYTES:]
            if rank is not None:
                return cut ^ self._masks[rank]
            return cut[:, None, :] ^ self._masks[None, :, :]
        names = self._namespaces if rank is None else [self._namespaces[rank]]
        flat = b"".join(hash_key(key, name) for key in engine_keys for name in names)
        table = np.frombuffer(flat, np.uint8)
        return table.reshape(-1, KEY_BYTES) if rank is not None else table.reshape(
            -1, self.ranks, KEY_BYTES)


def _profile(settings: Settings) -> bytes:
    try:
        return pathlib.Path(settings.profile).read_bytes() if settings.profile else b""
    except OSError as error:
        raise ConfigError(f'"profile": {error}') from None


class Core:
    """An engine's store. Any thread may call any method.

    Obtained from `share()`, given back with `release()`; the last one closes the store after a
    flush.
    """

    def __init__(self, settings: Settings, facts: PageFacts) -> None:
        self.settings = settings
        self.facts = facts
        self.key_maker = KeyMaker(facts)
        try:
            with ours("mover"):
                self.store = BlockStore([facts.block_layout()], [dict(t) for t in settings.tiers],
                                        name=settings.name, profile=_profile(settings),
                                        log=logger.log)
        except cxlspeckv.Error as error:
            raise ConfigError(f"the store does not open: {error}") from None
        self.tier_names = [tier.get("name") or f"{tier['uri'].partition(':')[0]}{number}"
                           for number, tier in enumerate(settings.tiers)]
        self._flusher = Flusher(self.store.flush) if settings.has_persistent_tier else None

    def saved(self) -> None:
        """Blocks were saved: they become durable within FLUSH_SECONDS."""
        if self._flusher is not None:
            self._flusher.wake()

    def lookup(self, engine_keys: Sequence[bytes]) -> npt.NDArray[np.int8]:
        """For each key the slowest tier that one of its ranks lies in, PENDING or ABSENT."""
        keys = self.key_maker.keys(engine_keys)
        found = self.store.lookup(keys.tobytes()).reshape(len(engine_keys), -1)
        worst = found.max(axis=1)
        worst[(found == PENDING).any(axis=1)] = PENDING
        worst[(found == ABSENT).any(axis=1)] = ABSENT
        return worst

    def close(self) -> None:
        """Flushes and closes; whoever shares the name keeps it."""
        if self._flusher is not None:
            self._flusher.stop()
        self.store.close()


class Patience:
    """How long requests wait for blocks that somebody is storing: each so many seconds in all. For
    that may be a process that was stopped, which is not dead. One thread.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadlines: dict[str, float] = {}

    def lasts(self, request: str) -> bool:
        """Whether it may wait longer."""
        now = time.monotonic()
        return now < self._deadlines.setdefault(request, now + self._seconds)

    def end(self, request: str) -> None:
        """The request is over."""
        self._deadlines.pop(request, None)


class Flusher:
    """A thread that makes new blocks durable a while after they were saved."""

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        self._dirty, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="cxlspeckv-flush", daemon=True)
        with ours("flush"):
            self._thread.start()

    def wake(self) -> None:
        """There is something to flush."""
        self._dirty.set()

    def stop(self) -> None:
        """Flushes what is left and ends the thread."""
        self._stop.set()
        self._dirty.set()
        self._thread.join()
        self._flush_now()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._dirty.wait()
            self._stop.wait(FLUSH_SECONDS)  # gathers what is saved meanwhile into one commit
            self._dirty.clear()
            self._flush_now()

    def _flush_now(self) -> None:
        try:
            self._flush()
        except cxlspeckv.Error as error:
            logger.warning("cxlspeckv: a flush failed, blocks may not survive: %s", error)


class _Shared:
    def __init__(self, core: Core) -> None:
        self.core, self.users = core, 0


_shared: dict[tuple[object, ...], _Shared] = {}
_lock = threading.Lock()


def share(engine_id: str, settings: Settings, facts: PageFacts) -> Core:
    """The store of this process for these settings and pages; opened by the first.

    A store that the settings give no name is this engine's own, in all of its processes.
    """
    name = settings.name or store_name(engine_id)
    key = (name, repr(settings.tiers), settings.profile, facts)
    with _lock:
        if key not in _shared:
            sweep()
            _shared[key] = _Shared(Core(replace(settings, name=name), facts))
        _shared[key].users += 1
        return _shared[key].core


def release(core: Core) -> None:
    """Gives back what `share()` gave; the last user closes the store."""
    with _lock:
        key, shared = next(item for item in _shared.items() if item[1].core is core)
        shared.users -= 1
        if shared.users > 0:
            return
        del _shared[key]
    core.close()
