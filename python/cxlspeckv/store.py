"""The store: blocks in, blocks out.

Failure contract: a save may be dropped, a match may answer less than is stored, a load may
fail; nobody is ever handed wrong bytes, and nothing leaks or hangs.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from cxlspeckv import _core
from cxlspeckv._core import BlockLayout, Pin, TierStats
from cxlspeckv.errors import Busy, InvalidArgument
from cxlspeckv.operation import Operation, arrivals
from cxlspeckv.scoped import Scoped

if TYPE_CHECKING:
    from cxlspeckv._core import Keys

# What `BlockStore.lookup` says of a block that no tier has, and of one that is on its way.
ABSENT: Final = -1
PENDING: Final = -2

Log: TypeAlias = Callable[[int, str], None]
_TIER_KEYS = ("uri", "codec", "policy", "name", "capacity", "admission", "layers")
_ADMISSIONS = ("always", "second_touch")


class BlockStore(Scoped):
    """Sealed blocks, named by content, in tiers. Any thread may call any method.

    `layouts`: what blocks look like; a method's `layout` is an index into it.
    `tiers`: fastest first, each a device's URI ("dram:4G", "file:/path?size=64G") or a mapping
    with "uri" and, if wanted, "codec" ("raw"), "policy" ("lru"), "name", "capacity" (bytes, or
    "4G"), "admission" ("always", "second_touch") and "layers" (exceptions to the codec:
    [{"first": 0, "count": 2, "codec": "int8"}]).
    `name`: shares the store with every process that opens the name with equal layouts, tiers
    and profile. Without one, a pool that is open elsewhere is `Busy`.
    `max_blocks`: 0 means what the tiers could hold. `profile`: of the model, for codecs.
    `log`: called with a level of `logging` and a line, from any thread; it must not call the
    store. Without one lines go to the logger "cxlspeckv".

    Raises `InvalidArgument`, `NotFound` (codec, policy), `Corrupted` (a pool that is not ours),
    `DeviceError`, `NoSpace`, `Busy` or `Unsupported`.
    """

    def __init__(
        self,
        layouts: Sequence[BlockLayout],
        tiers: Sequence[str | Mapping[str, Any]],
        *,
        name: str = "",
        max_blocks: int = 0,
        profile: bytes = b"",
        log: Log | None = None,
    ) -> None:
        configs = [tier_config(tier, number) for number, tier in enumerate(tiers)]
        sink = _log_to(log or logging.getLogger("cxlspeckv").log)
        self._core = _core.Store(list(layouts), configs, name, profile, max_blocks, sink)
        self._layouts = tuple(layouts)
        _open_stores.add(self)

    def close(self) -> None:
        """Wait for operations and close; pins and sequences end. Closing twice is fine.

        Raises `Busy`, and closes nothing, while arrays over memory of the store are alive.
        """
        self._core.close()

    def _leave(self) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._core.is_closed

    @property
    def layouts(self) -> tuple[BlockLayout, ...]:
        """As given to the constructor."""
        return self._layouts

    @property
    def tier_count(self) -> int:
        """How many tiers there are; they are numbered from 0, the fastest."""
        return self._core.tier_count

    # ---- memory

    def attach(self, memory: object) -> int:
        """Register memory for transfers and return the id of its region, which is never reused.

        `memory` is a writable buffer (NumPy, `bytearray`, `mmap`) or a DLPack tensor in host
        memory. Offset 0 of the region is its lowest byte, also if it is strided. It is kept
        alive until `detach()` or `close()`.
        """
        return self._core.attach(memory)

    def attach_address(self, address: int, length: int, owner: object = None) -> int:
        """Register `length` bytes at `address`; `owner` is kept alive until `detach()`."""
        return self._core.attach_address(address, length, owner)

    def detach(self, region: int) -> None:
        """Forget a region. Raises `Busy` while an operation uses it, `NotFound` if unknown."""
        self._core.detach(region)

    # ---- what is there

    def match(self, keys: Keys) -> int:
        """How many blocks at the front of `keys` can be loaded now.

        Keys are one buffer of n x 16 bytes, or a sequence of 16 bytes each.
        """
        return self._core.match(keys)

    def lookup(self, keys: Keys) -> npt.NDArray[np.int8]:
        """Where each block is: the number of the fastest tier, `ABSENT` or `PENDING`."""
        return self._core.lookup(keys)

    # ---- moving

    def save(
        self,
        keys: Keys,
        segments: npt.ArrayLike,
        *,
        layout: int = 0,
        first_positions: npt.ArrayLike | None = None,
        deadline: float | None = None,
        tenant: int = 0,
        durable: bool = False,
        fence: Callable[[], bool] | None = None,
    ) -> Operation:
        """Write blocks to the fastest tier with room; those stored already are skipped.

        `segments`: integers [blocks, segments, 3] of (region, offset, length) in bytes, or
        [blocks, 3]; the segments of a block are together the plain block, in the order of
        `BlockLayout`. Length 0 stands for no segment. The memory is lent until the end.
        `first_positions`: of each block's first token in its sequence, or -1 if that is not known.
        `deadline`: seconds from now, for all of it: what is not done by then ends as `TIMED_OUT`
        and its memory is no longer lent; None means the devices' own timeouts. `durable`: into a
        persistent tier, done after its flush. `fence`: memory is not touched before it returns
        True; it is asked from any thread and must neither block nor call the store.

        Blocks may end with any `Code`; `NO_SPACE` is a dropped save.
        """
        queue, tag, arrival = _expect()
        try:
            core = self._core.save(
                keys, np.asarray(segments), layout, first_positions, deadline, tenant, durable,
                fence, queue, tag,
            )  # fmt: skip
        except BaseException:
            _forget(tag)
            raise
        return Operation(core, arrival)

    def load(
        self,
        keys: Keys,
        segments: npt.ArrayLike,
        *,
        layout: int = 0,
        layers: tuple[int, int] = (0, 0),
        deadline: float | None = None,
        fence: Callable[[], bool] | None = None,
    ) -> Operation:
        """Read blocks, decoded, into `segments` (as in `save`).

        `layers`: (first, count), where count 0 means to the last; the segments are then together
        those layers. Blocks may end as `NOT_FOUND`, `CORRUPTED` or `IO_ERROR`, with unspecified
        memory.
        """
        queue, tag, arrival = _expect()
        try:
            core = self._core.load(
                keys, np.asarray(segments), layout, layers, deadline, fence, queue, tag
            )
        except BaseException:
            _forget(tag)
            raise
        return Operation(core, arrival)

    def promote(self, keys: Keys) -> None:
        """Start moving blocks to the fastest tier: a hint. `Busy`: the queue is full."""
        self._core.promote(keys)

    def erase(self, keys: Keys) -> int:
        """Forget blocks that nobody retains, and say how many. Absent keys are fine."""
        return self._core.erase(keys)

    def pin(self, key: bytes) -> Pin:
        """Keep a block in its tier until `release()`. Raises `NotFound`."""
        return self._core.pin(key)

    def pin_present(self, keys: Keys) -> Pin:
        """Keep those of the blocks that are there in their tiers, all until one `release()`.

        `len()` of what is returned says how many there are. Keys as in `match`.
        """
        return self._core.pin_present(keys)

    def retain(self, key: bytes) -> Pin:
        """Keep a block in some tier until `release()`. Raises `NotFound`."""
        return self._core.retain(key)

    def flush(self) -> None:
        """Make what was saved so far durable where a persistent tier has room for it."""
        self._core.flush()

    # ---- tenants and tiers

    def set_quota(self, tenant: int, bytes: int) -> None:
        """Limit what a tenant may have stored, all tiers together; 0 is no limit."""
        self._core.set_quota(tenant, bytes)

    def tenant_bytes(self, tenant: int) -> int:
        """How many bytes a tenant has stored."""
        return self._core.tenant_bytes(tenant)

    def purge(self, tenant: int) -> int:
        """Erase all that a tenant has stored, and say how many blocks that was."""
        return self._core.purge(tenant)

    def set_codec(self, tier: int, codec: str, layers: tuple[int, int] = (0, 0)) -> None:
        """Encode with `codec` from now on; stored blocks keep theirs. `NotFound`, `Unsupported`.

        Raises `InvalidArgument` for layers that no layout has.
        """
        self._core.set_codec(tier, codec, layers)

    # ---- numbers

    def stats(self, tier: int) -> TierStats:
        """Return the numbers of one tier, as they are now. Raises `NotFound`."""
        return self._core.stats(tier)

    def report(self) -> dict[str, float]:
        """Every number by its name in Prometheus' notation: 'tier_hits_total{tier="dram0"}'."""
        numbers = {}
        for _, name, label, label_value, value in self._core.report():
            numbers[f'{name}{{{label}="{label_value}"}}' if label else name] = value
        return numbers


def remove_store(name: str) -> None:
    """Forget a shared store: its index and its tiers in memory, not its pool files.

    Processes that have it open keep what they have. Raises `NotFound`.
    """
    _core.remove_store(name)


def tier_config(tier: str | Mapping[str, Any], number: int) -> _core.TierConfig:
    """What the library takes for one entry of `tiers`. Raises `InvalidArgument`."""
    given: Mapping[str, Any] = {"uri": tier} if isinstance(tier, str) else tier
    here = f"tier {number}"
    _only(given, _TIER_KEYS, here)
    config = _core.TierConfig()
    config.device = _text(given, "uri", here)
    if not config.device:
        raise InvalidArgument(f'{here}: "uri" is missing')
    config.codec, config.policy = _text(given, "codec", here), _text(given, "policy", here)
    config.name = _text(given, "name", here)
    config.capacity = _size(given.get("capacity", 0), f'{here}: "capacity"')
    admission = _text(given, "admission", here) or "always"
    if admission not in _ADMISSIONS:
        raise InvalidArgument(f'{here}: "admission" is {" or ".join(_ADMISSIONS)}')
    config.second_touch = admission == "second_touch"
    for choice in given.get("layers", ()):
        _only(choice, ("first", "count", "codec"), f'{here}: "layers"')
        first, count = (_size(choice.get(key, 0), f"{here}: {key}") for key in ("first", "count"))
        config.add_layers(first, count, _text(choice, "codec", here))
    return config


def _only(given: Mapping[str, Any], known: Sequence[str], here: str) -> None:
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{here}: a mapping is expected, not {given!r}")
    for key in given:
        if key not in known:
            raise InvalidArgument(f"{here}: {key!r} is none of {', '.join(known)}")


def _text(given: Mapping[str, Any], key: str, here: str) -> str:
    value = given.get(key, "")
    if not isinstance(value, str):
        raise InvalidArgument(f'{here}: "{key}" is text, not {value!r}')
    return value


def _size(value: object, what: str) -> int:
    if isinstance(value, str):
        return _core.parse_size(value)
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise InvalidArgument(f"{what} is a number of at least 0, not {value!r}")
    return value


def _log_to(log: Log) -> Log:
    levels = (logging.INFO, logging.WARNING, logging.ERROR)
    return lambda level, text: log(levels[level], text)


def _expect() -> tuple[Any, int, Any]:
    """What tells the running event loop, if there is one, that an operation is done."""
    its = arrivals()
    if its is None:
        return None, 0, None
    return its.completions, *its.expect()


def _forget(tag: int) -> None:
    its = arrivals()
    if its is not None:
        its.forget(tag)


# Threads of a store must not call Python (its log) once the interpreter ends.
_open_stores: weakref.WeakSet[BlockStore] = weakref.WeakSet()


@atexit.register
def _close_stores() -> None:
    for store in list(_open_stores):
        with contextlib.suppress(Busy):  # memory of it is exported to the end
            store.close()
