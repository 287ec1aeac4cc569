"""The published allocator: KV entries of many requests, by address, on the published C calls.

`CxlSpeckvKVAllocator` keeps the interface of the published CXL-SpecKV design for programs that
were written for it. New programs use `Sequence` or `BlockStore`.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from cxlspeckv import errors
from cxlspeckv.scoped import Scoped

# `speckv_status_t`, as exceptions.
_RAISES = {-1: errors.Busy, -2: errors.DeviceError, -3: errors.NoSpace, -4: errors.InvalidArgument}
_LIBRARY = pathlib.Path(__file__).with_name("libcxlspeckv.so.0")


def _load(library: str) -> ctypes.CDLL:
    """Load one more copy of a library, with state of its own."""
    ctypes.CDLL(library)  # whose dependencies the copy then finds loaded
    # Left open, because the loader knows what it loaded by this name.
    copy = os.memfd_create("libcxlspeckv.so", os.MFD_CLOEXEC)
    with open(copy, "wb", closefd=False) as out:
        out.write(pathlib.Path(library).read_bytes())
    calls = ctypes.CDLL(f"/proc/{os.getpid()}/fd/{copy}")
    u16, u32, u64 = ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64
    tokens = ctypes.POINTER(ctypes.c_int32)
    arguments = {
        "speckv_init": (ctypes.c_char_p,),
        "speckv_alloc": (ctypes.c_size_t, ctypes.c_void_p, ctypes.POINTER(u64)),
        "speckv_free": (u64,),
        "speckv_access": (u64, u64, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)),
        "speckv_prefetch": (u32, u16, u32, u32, tokens, u32),
    }
    for name, types in arguments.items():
        function = getattr(calls, name)  # AttributeError: not a library of ours
        function.argtypes, function.restype = types, ctypes.c_int
    calls.speckv_last_error.restype = ctypes.c_char_p
    return calls


class Device:
    """A device behind the published calls, on a copy of the library that no other device uses.

    Those calls have one device a process. Copies whose device is closed are used again.
    """

    _idle: ClassVar[dict[str, list[ctypes.CDLL]]] = {}

    def __init__(self, library: str, path: str) -> None:
        idle = self._idle.setdefault(library, [])
        try:
            self._calls = idle.pop() if idle else _load(library)
        except (OSError, AttributeError) as error:
            raise errors.InvalidArgument(f"{library} cannot be loaded: {error}") from error
        self._library = library
        try:
            self._check(self._calls.speckv_init(path.encode()))
        except errors.Error:
            idle.append(self._calls)
            raise

    def _check(self, status: int) -> None:
        if status != 0:
            text = self._calls.speckv_last_error().decode(errors="replace")
            raise _RAISES.get(status, errors.Internal)(text)

    def finalize(self) -> None:
        """Free every handle, and close the device."""
        self._calls.speckv_finalize()
        self._idle[self._library].append(self._calls)

    def allocate(self, size: int) -> int:
        """Return a handle of so many bytes of zeros."""
        handle = ctypes.c_uint64()
        self._check(self._calls.speckv_alloc(size, None, ctypes.byref(handle)))
        return handle.value

    def free(self, handle: int) -> None:
        """Free a handle, after what is under way on it."""
        self._check(self._calls.speckv_free(handle))

    def access(self, handle: int, offset: int, length: int) -> int:
        """Make a span resident, and return its address, good until the next call on the handle."""
        address = ctypes.c_void_p()
        self._check(self._calls.speckv_access(handle, offset, length, ctypes.byref(address)))
        return address.value or 0

    def prefetch(
        self, req_id: int, layer: int, cur_pos: int, tokens: Sequence[int], depth_k: int
    ) -> None:
        """Stage what follows the last access of this thread."""
        history = (ctypes.c_int32 * len(tokens))(*tokens)
        self._check(
            self._calls.speckv_prefetch(req_id, layer, cur_pos, depth_k, history, len(tokens))
        )


_lock = threading.Lock()
_devices: dict[tuple[str, str], tuple[Device, int]] = {}  # and how many allocators use it


@dataclass(frozen=True)
class _Request:
    """The memory of one request: entries as [layer][K, then V][position][head][channel]."""

    handle: int
    tokens: int
    layers: int
    heads: int
    entry_bytes: int

    def offset(self, layer: int, head: int, pos: int, kind: int) -> int:
        fields = {
            "layer": (layer, self.layers),
            "head": (head, self.heads),
            "pos": (pos, self.tokens),
            "kind": (kind, 2),
        }
        for name, (value, limit) in fields.items():
            if not 0 <= value < limit:
                raise errors.InvalidArgument(f"{name} is 0 to {limit - 1}, not {value}")
        row = ((layer * 2 + kind) * self.tokens + pos) * self.heads + head
        return row * self.entry_bytes


class CxlSpeckvKVAllocator(Scoped):
    """KV entries of many requests on one device. Any thread; any number of instances.

    `lib_path`: of libcxlspeckv.so; "" is the one of this package. `dev_path`: what
    `speckv_init` takes ("soft:?size=1G", "file:/path?size=8G"); instances that name the same
    one share the device and its capacity. `page_size`: a power of two, to which the memory of
    each request is rounded up.

    Raises `InvalidArgument`, or `DeviceError` if the device cannot be opened.
    """

    def __init__(
        self,
        lib_path: str | os.PathLike[str] = "",
        dev_path: str = "/dev/speckv0",
        page_size: int = 4096,
    ) -> None:
        if page_size < 1 or page_size & (page_size - 1):
            raise errors.InvalidArgument(f"page_size is a power of two, not {page_size}")
        self._page_size = page_size
        self._name = (os.path.realpath(lib_path or _LIBRARY), dev_path)
        self._requests: dict[int, _Request] = {}
        self._waiting: list[_Request] = []  # allocated, and not yet asked for by any request
        self._mutex = threading.Lock()
        self._open = True
        with _lock:
            device, users = _devices.get(self._name) or (Device(*self._name), 0)
            _devices[self._name] = (device, users + 1)
        self._device = device

    def allocate(
        self,
        num_tokens: int,
        num_layers: int,
        num_heads: int,
        head_dim: int,
        bytes_per_element: int,
        req_id: int | None = None,
    ) -> int:
        """Reserve the K and V of one more request, and return its handle.

        The memory is that of `req_id`; without one, of the first request that is asked for and
        has none. It reads as zeros. Raises `NoSpace` or `InvalidArgument`.
        """
        extents = (num_tokens, num_layers, num_heads, head_dim, bytes_per_element)
        if min(extents) < 1:
            raise errors.InvalidArgument(f"every extent is at least 1: {extents}")
        entry = head_dim * bytes_per_element
        size = 2 * num_tokens * num_layers * num_heads * entry
        size = -(-size // self._page_size) * self._page_size
        if size >= 1 << 63:
            raise errors.NoSpace(f"{size} bytes")
        with self._mutex:
            self._check_open()
            if req_id in self._requests:
                raise errors.InvalidArgument(f"request {req_id} has memory already")
            handle = self._device.allocate(size)
            request = _Request(handle, num_tokens, num_layers, num_heads, entry)
            if req_id is None:
                self._waiting.append(request)
            else:
                self._requests[req_id] = request
        return handle

    def get_kv_ptr(
        self, req_id: int, layer: int, head: int, pos: int, kind: int, entry_bytes: int
    ) -> int:
        """Make one entry (kind 0 is K, 1 is V) resident, and return its address.

        `entry_bytes`: head_dim x bytes_per_element of the request. The address is good for
        reading and writing until the next call for this request.
        """
        with self._mutex:
            request = self._request(req_id)
            if entry_bytes != request.entry_bytes:
                raise errors.InvalidArgument(
                    f"an entry of request {req_id} has {request.entry_bytes} bytes, "
                    f"not {entry_bytes}"
                )
            offset = request.offset(layer, head, pos, kind)
            return self._device.access(request.handle, offset, entry_bytes)

    def prefetch_step(
        self,
        req_id: int,
        layer: int,
        cur_pos: int,
        recent_tokens: Sequence[int],
        depth_k: int = 4,
    ) -> None:
        """Stage up to `depth_k` (1 to 16) pages after this thread's last access.

        Returns at once. Raises `Busy` when the queue is full, `InvalidArgument`.
        """
        if not recent_tokens:
            raise errors.InvalidArgument("recent_tokens is empty")
        with self._mutex:
            self._request(req_id).offset(layer, 0, cur_pos, 0)  # checks both
        self._device.prefetch(req_id, layer, cur_pos, recent_tokens, depth_k)

    def release(self, req_id: int) -> None:
        """Free the memory of a request."""
        with self._mutex:
            self._device.free(self._request(req_id).handle)
            del self._requests[req_id]

    def close(self) -> None:
        """Free all that this instance allocated. Twice is fine."""
        with self._mutex:
            if not self._open:
                return
            self._open = False
            for request in (*self._requests.values(), *self._waiting):
                self._device.free(request.handle)
            self._requests.clear()
            self._waiting.clear()
        with _lock:
            device, users = _devices.pop(self._name)
            if users > 1:
                _devices[self._name] = (device, users - 1)
            else:
                device.finalize()

    def _leave(self) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_device", None) is not None:
            self.close()

    def _check_open(self) -> None:
        if not self._open:
            raise errors.InvalidArgument("the allocator is closed")

    def _request(self, req_id: int) -> _Request:
        self._check_open()
        if req_id not in self._requests:
            if not self._waiting:
                raise errors.InvalidArgument(f"request {req_id} has no memory: allocate() it first")
            self._requests[req_id] = self._waiting.pop(0)
        return self._requests[req_id]
