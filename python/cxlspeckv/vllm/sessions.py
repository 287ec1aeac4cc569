"""Sessions that requests name, and what is staged for them in the pauses between.

A request says in its `kv_transfer_params` (over HTTP: in its body), all of it optional:

    {"cxlspeckv": {"session": "chat 17", "eta": 20.0, "confidence": 0.9, "ended": false,
                   "tool_result": false, "sub_agent": false,
                   "hints": [{"session": "chat 3", "eta": 2.0, "confidence": 0.8}]}}

`eta`: seconds from its end until the session's next request; `hints`: of any sessions, from its
arrival. The words are the client's: what is wrong with them is logged, and they are ignored.
"""

import contextlib
import hashlib
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.v1.kv_offload.base import OffloadKey, ReqContext

import cxlspeckv
from cxlspeckv import Prefetcher, PrefetchStats
from cxlspeckv.vllm.core import Core, logger
from cxlspeckv.vllm.settings import ConfigError
from cxlspeckv.vllm.threads import ours

NAME = "cxlspeckv"  # of our part of kv_transfer_params
MOST_HINTS = 1024  # of one request
KEYS = frozenset({"session", "eta", "confidence", "ended", "tool_result", "sub_agent", "hints"})
HINT_KEYS = frozenset({"session", "eta", "confidence"})
MOST_CHUNK_BYTES = 64 << 20  # of one promotion, if the user says nothing
# Nothing tells that a chunk arrived; while one is on its way the next look is soon.
MOVING_SECONDS = 0.01


def key_ends(context: ReqContext) -> Mapping[OffloadKey, int]:
    """A request's keys, and the position behind the last token of each. vLLM asks key by key, but
    notes all of them before it asks.
    """
    return getattr(context, "_offload_key_positions", {})


@dataclass(frozen=True)
class Hint:
    """A session is needed in `eta` seconds."""

    session: int
    eta: float
    confidence: float


@dataclass(frozen=True)
class Word:
    """What a request says of sessions."""

    session: int | None
    returns: Hint | None
    hints: tuple[Hint, ...]
    ended: bool
    tool_result: bool
    sub_agent: bool


def _known(given: object, known: frozenset[str]) -> Mapping[str, Any]:
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise ValueError("it is no object")
    if unknown := sorted(set(given) - known):
        raise ValueError(f"there is no {unknown[0][:40]!r}, but: {', '.join(sorted(known))}")
    return given


def _session(given: object) -> int:
    """A name is as good as a number: 64 bits of its hash."""
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise ValueError('"session" is a string or a whole number')
    name = str(given).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


def _number(given: Mapping[str, Any], key: str, default: float, most: float) -> float:
    value = given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f'"{key}" is a number from 0 to {most:g}')
    return float(value)


def _flag(given: Mapping[str, Any], key: str) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f'"{key}" is true or false')
    return value


def _hint(given: Mapping[str, Any]) -> Hint:
    for key in ("session", "eta"):
        if key not in given:
            raise ValueError(f'a hint needs "{key}"')
    return Hint(_session(given["session"]), _number(given, "eta", 0.0, 1e9),
                _number(given, "confidence", 1.0, 1.0))


def read(params: Mapping[str, Any] | None) -> Word | None:
    """Our part of a request's kv_transfer_params. ValueError: what is wrong with it."""
    if not params or NAME not in params:
        return None
    given = _known(params[NAME], KEYS)
    hints = given.get("hints", ())
    if not isinstance(hints, Sequence) or isinstance(hints, str) or len(hints) > MOST_HINTS:
        raise ValueError(f'"hints" is a list of at most {MOST_HINTS}')
    named = "session" in given
    if not named and (unused := sorted(set(given) - {"hints"})):
        raise ValueError(f'"{unused[0]}" needs a "session"')
    return Word(
        session=_session(given["session"]) if named else None,
        returns=_hint({k: given[k] for k in HINT_KEYS & set(given)}) if "eta" in given else None,
        hints=tuple(_hint(_known(hint, HINT_KEYS)) for hint in hints),
        ended=_flag(given, "ended"), tool_result=_flag(given, "tool_result"),
        sub_agent=_flag(given, "sub_agent"))


class Sessions:
    """Tells a prefetcher what requests say. One thread, the scheduler's; staging goes on in one
    of ours, which begins with the first session.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        # A chunk that the first tier cannot hold would never be begun.
        chunk = max(1, min(MOST_CHUNK_BYTES, core.store.stats(0).capacity // 8))
        options = {"hinted": len(core.settings.tiers) > 1, "chunk_bytes": chunk} | dict(
            core.settings.speculation)
        try:
            with ours("stage"):
                self._prefetcher = Prefetcher(core.store, **options)
        except cxlspeckv.Error as error:
            raise ConfigError(f'"speculation": {error}') from None
        self._on = math.isfinite(self._prefetcher.advance())
        self._stop, self._awake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._tokens: dict[str, tuple[int, int]] = {}

    def arrived(self, context: ReqContext) -> None:
        """A request came: what is staged for its session is read now."""
        try:
            word = read(context.kv_transfer_params)
        except ValueError as error:
            logger.warning("cxlspeckv: what a request says of sessions is ignored: %s", error)
            return
        if word is None:
            return
        for hint in word.hints:
            self._tell(hint)
        if word.session is not None:
            context.set_state(word)
            with contextlib.suppress(cxlspeckv.NotFound):  # its first request
                self._prefetcher.arrived(word.session)

    def measured(self, request: str, input_tokens: int, output_tokens: int) -> None:
        """How long a request and its answer were, for the predictor. Before finished()."""
        self._tokens[request] = input_tokens, output_tokens

    def finished(self, context: ReqContext, keys: Sequence[OffloadKey]) -> None:
        """A request ended; these are the keys of its whole blocks, from the first on."""
        word = context.get_state(Word)
        input_tokens, output_tokens = self._tokens.pop(context.req_id, (0, 0))
        if word is None or word.session is None:
            return
        try:
            self._prefetcher.finished(
                word.session, self._core.key_maker.keys(keys).tobytes() if keys else b"",
                input_tokens=input_tokens, output_tokens=output_tokens,
                brings_tool_result=word.tool_result, sub_agent=word.sub_agent)
        except cxlspeckv.Error as error:  # more than it was told to remember
            logger.warning("cxlspeckv: a session is not remembered: %s", error)
        if word.ended:
            with contextlib.suppress(cxlspeckv.NotFound):
                self._prefetcher.ended(word.session)
        elif word.returns is not None:
            self._tell(word.returns)
        self._go_on()

    def _tell(self, hint: Hint) -> None:
        with contextlib.suppress(cxlspeckv.NotFound):  # nothing of it was ever stored
            self._prefetcher.hint(hint.session, hint.eta, hint.confidence)

    def stats(self) -> PrefetchStats:
        """What was staged, and what came of it."""
        return self._prefetcher.stats()

    def close(self) -> None:
        """Ends the thread; what is under way is waited for."""
        self._stop.set()
        self._awake.set()
        if self._thread is not None:
            self._thread.join()
        self._prefetcher.close()

    # ---- our thread

    def _go_on(self) -> None:
        self._awake.set()
        if self._on and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cxlspeckv-stage", daemon=True)
            with ours("stage"):
                self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._awake.wait()
            self._awake.clear()
            while not self._stop.is_set() and (told := self._prefetcher.stats()).sessions:
                wait = self._prefetcher.advance()
                self._stop.wait(min(wait, MOVING_SECONDS) if told.in_flight else wait)
