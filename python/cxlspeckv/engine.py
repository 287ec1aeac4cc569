"""Steps and hints: a card's engine as the adviser of a block allocator.

An `Engine` is one tenant of a card ("/dev/speckv0") or of the engine in software ("soft:"). A
`BlockController` tells it what an allocator's requests do and passes on what it advises.

>>> controller = BlockController(Engine("soft:"))
>>> controller.grow("a request", 200)
>>> controller.pause("a request")
>>> [block.number for block in controller.advance().evict]
[0, 1, 2, 3]
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from cxlspeckv import _core
from cxlspeckv.errors import Busy, InvalidArgument, NoSpace, NotFound

_MOST_TOKENS = 65535  # of one hint


class Hint(IntEnum):
    """What is said about the blocks that hold a range of tokens."""

    HOT = 1
    EVICTABLE = 2
    PREFETCHABLE = 3
    SHARE = 4
    UNSHARE = 5
    FORGET = 6


class Weights(NamedTuple):
    """How blocks are scored: four weights and three thresholds, 0 to 255 each."""

    recency: int = 64
    frequency: int = 64
    proximity: int = 64
    durability: int = 64
    evict: int = 24
    prefetch: int = 96
    hysteresis: int = 8


class Candidate(NamedTuple):
    """A block that the engine would evict or prefetch, by its first token."""

    request: int
    layer: int
    head: int
    position: int
    score: int


class Engine:
    """One tenant of a card's engine: a directory of blocks, scored as decode steps go by.

    `name` is "soft:", "/dev/speckvN", "fd:N" (a card that this process has open) or "pid:N" (the
    card that a process has open). Any thread. Ranges are of `tokens` tokens from `position` on.
    Raises `NotFound`: no such card; `DeviceError`: it failed or has gone.
    """

    def __init__(self, name: str = "soft:") -> None:
        self._core = _core.Engine(name)

    @property
    def name(self) -> str:
        """What it was opened as."""
        return self._core.name

    @property
    def block_tokens(self) -> int:
        """Tokens of a block in the directory."""
        return self._core.block_tokens

    @property
    def simulated(self) -> bool:
        """Whether software stands in for a card."""
        return self._core.simulated

    def step(self, step: int) -> int:
        """Say that decoding has come to `step`; how many candidates that brought."""
        return self._core.step(step)

    def hint(
        self,
        hint: Hint,
        request: int,
        tokens: int,
        *,
        position: int = 0,
        layer: int = 0,
        head: int = 0,
        due: int = 0,
    ) -> int:
        """Say something about the blocks of a range; how many there are.

        `due` is the step at which PREFETCHABLE ones are wanted. Raises `NotFound`: none is there,
        or has a reference to give back; `Busy`: one that is to be forgotten has references.
        """
        return self._core.hint(hint, request, layer, head, position, tokens, due)

    def hold(
        self, request: int, tokens: int, *, position: int = 0, layer: int = 0, head: int = 0
    ) -> None:
        """Say that a block is there now. `NoSpace`: the directory has no place for it."""
        self._core.hold(request, layer, head, position, tokens)

    def use(
        self, request: int, tokens: int, *, position: int = 0, layer: int = 0, head: int = 0
    ) -> None:
        """Say that a block was read."""
        self._core.use(request, layer, head, position, tokens)

    def set_weights(self, weights: Weights) -> None:
        """Score blocks so from now on. `InvalidArgument`: they break the engine's rule."""
        self._core.set_weights(*weights)

    def telemetry(self) -> dict[str, Any]:
        """What the engine counts about this tenant's blocks; `weights` as a `Weights`."""
        told = self._core.telemetry()
        return told | {"weights": Weights(*told["weights"])}

    def victims(self) -> list[Candidate]:
        """Take the candidates for eviction; each is told once until it has ceased to be one."""
        return [Candidate(*row) for row in self._core.victims()]

    def prefetches(self) -> list[Candidate]:
        """Take the candidates for prefetching, likewise."""
        return [Candidate(*row) for row in self._core.prefetches()]


class Block(NamedTuple):
    """The n-th block of a request, by the allocator's own name for that request."""

    request: Hashable
    number: int


class StepPlan(NamedTuple):
    """What the engine advises at a step: blocks to give up, blocks to bring closer."""

    evict: list[Block]
    prefetch: list[Block]


@dataclass
class _Request:
    number: int  # of the engine's; 0 is for shared prefixes
    name: Hashable
    tokens: int = 0
    gone: set[int] = field(default_factory=set)  # blocks that the engine does not hold
    inherited: list[tuple[_Request, int]] = field(default_factory=list)  # and how many tokens
    children: int = 0
    released: bool = False


class BlockController:
    """Drives an engine for a block allocator: requests grow, run, pause, fork and end.

    Requests are named by anything hashable. Blocks have `engine.block_tokens` tokens. What the
    engine cannot hold (`NoSpace`) is simply not advised on: an allocator never fails for a hint.
    One thread.
    """

    def __init__(self, engine: Engine, *, step: int = 0) -> None:
        self._engine = engine
        self._step = step
        self._requests: dict[Hashable, _Request] = {}
        self._by_number: dict[int, _Request] = {}
        self._next = 1

    @property
    def step(self) -> int:
        """The step that `advance` has come to."""
        return self._step

    def blocks(self, request: Hashable) -> list[Block]:
        """The blocks of a request that the engine holds, without those it inherited."""
        known = self._find(request)
        return [Block(request, index) for index in self._indices(known)]

    def grow(self, request: Hashable, tokens: int) -> None:
        """Say that a request, known or new, has `tokens` tokens of its own now.

        `InvalidArgument`: it had more, or there are none.
        """
        known = self._requests.get(request)
        before = known.tokens if known else 0
        if tokens < max(before, 1):
            raise InvalidArgument(f"{request!r} has {before} tokens: it can only grow")
        if known is None:
            known = self._add(request)
        size = self._engine.block_tokens
        for index in range(before // size, -(-tokens // size)):
            first = index * size
            if first >= before or index not in known.gone:
                self._hold(known, index, min(tokens - first, size))
        known.tokens = tokens

    def run(self, requests: Iterable[Hashable]) -> None:
        """Say that these are decoded in this step: their blocks are read, inherited ones too."""
        for request in requests:
            known = self._find(request)
            for owner, tokens in [*known.inherited, (known, known.tokens)]:
                self._hint(Hint.HOT, owner, tokens)

    def pause(self, request: Hashable, resume_step: int | None = None) -> None:
        """Say that a request waits: for a step, or nobody knows how long."""
        known = self._find(request)
        if resume_step is None:
            self._hint(Hint.EVICTABLE, known, known.tokens)
        else:
            self._hint(Hint.PREFETCHABLE, known, known.tokens, resume_step)

    def fork(self, parent: Hashable, child: Hashable, tokens: int) -> None:
        """Say that a new request begins with what another inherited and its first `tokens` tokens.

        Whole blocks only, all of them there (else `NotFound`); they are not advised for eviction
        while `child` lives.
        """
        source = self._find(parent)
        if child in self._requests:
            raise InvalidArgument(f"{child!r} is known already")
        if tokens % self._engine.block_tokens or not 0 < tokens <= source.tokens:
            raise InvalidArgument(f"{tokens} tokens are not whole blocks of {parent!r}")
        if gone := sorted(index for index in source.gone if self._first(index) < tokens):
            raise NotFound(f"block {gone[0]} of {parent!r} is not there")
        known = self._add(child)
        known.inherited = [*source.inherited, (source, tokens)]
        for owner, shared in known.inherited:
            self._hint(Hint.SHARE, owner, shared)
            owner.children += 1

    def release(self, request: Hashable) -> None:
        """Say that a request has ended. What others inherited stays until they end, too."""
        known = self._requests.pop(request, None)
        if known is None:
            raise NotFound(f"no request {request!r}")
        known.released = True
        for owner, tokens in known.inherited:
            self._hint(Hint.UNSHARE, owner, tokens)
            owner.children -= 1
            self._drop(owner)
        self._drop(known)

    def evicted(self, block: Block) -> bool:
        """Say that a block was given up. False: it is shared, and must stay."""
        known = self._find(block.request)
        try:
            self._engine.hint(Hint.FORGET, known.number, 1, position=self._first(block.number))
        except Busy:
            return False
        except NotFound:
            pass
        known.gone.add(block.number)
        return True

    def fetched(self, block: Block) -> None:
        """Say that a block that was given up is there again."""
        known = self._find(block.request)
        first = self._first(block.number)
        if not 0 <= first < known.tokens:
            raise InvalidArgument(f"{block.request!r} has no block {block.number}")
        self._hold(known, block.number, min(known.tokens - first, self._engine.block_tokens))

    def advance(self, step: int | None = None) -> StepPlan:
        """Go to the next step, or to `step`, and take the engine's advice."""
        self._step = self._step + 1 if step is None else step
        self._engine.step(self._step & 0xFFFFFFFF)
        return StepPlan(
            list(self._known(self._engine.victims())),
            list(self._known(self._engine.prefetches())),
        )

    def _known(self, candidates: Iterable[Candidate]) -> Iterator[Block]:
        for candidate in candidates:
            known = self._by_number.get(candidate.request)
            index = candidate.position // self._engine.block_tokens
            if known is not None and not known.released and index not in known.gone:
                yield Block(known.name, index)

    def _find(self, request: Hashable) -> _Request:
        known = self._requests.get(request)
        if known is None:
            raise NotFound(f"no request {request!r}")
        return known

    def _add(self, name: Hashable) -> _Request:
        while self._next in self._by_number:
            self._next = self._next % 0xFFFFFFFF + 1
        known = _Request(self._next, name)
        self._next = self._next % 0xFFFFFFFF + 1
        self._requests[name] = self._by_number[known.number] = known
        return known

    def _indices(self, known: _Request) -> list[int]:
        count = -(-known.tokens // self._engine.block_tokens)
        return [index for index in range(count) if index not in known.gone]

    def _first(self, index: int) -> int:
        return index * self._engine.block_tokens

    def _hold(self, known: _Request, index: int, tokens: int) -> None:
        try:
            self._engine.hold(known.number, tokens, position=self._first(index))
            known.gone.discard(index)
        except NoSpace:
            known.gone.add(index)

    def _hint(self, hint: Hint, known: _Request, tokens: int, due: int = 0) -> None:
        """About the first tokens, as many at a time as a hint takes; whole blocks each time."""
        size = self._engine.block_tokens
        most = _MOST_TOKENS // size * size
        for position in range(0, tokens, most):
            count = min(tokens - position, most)
            try:
                self._engine.hint(hint, known.number, count, position=position, due=due)
            except NotFound:
                continue

    def _drop(self, known: _Request) -> None:
        """Forget a request that has ended, once nobody has its blocks."""
        if not known.released or known.children:
            return
        self._hint(Hint.FORGET, known, known.tokens)
        del self._by_number[known.number]
