"""The packed address of one token's K or V: 89 bits, the same as in C++ and C."""

from __future__ import annotations

from typing import NamedTuple, Self

from cxlspeckv import _core
from cxlspeckv.errors import InvalidArgument


class Address(NamedTuple):
    """Request (32 bits), layer (16), head (8), position (32), and kind: 0 is K, 1 is V."""

    request: int
    layer: int
    head: int
    position: int
    kind: int

    def pack(self) -> int:
        """Return the address as one number below 2^89. `InvalidArgument`: a field is too large."""
        for value, bits, name in zip(self, (32, 16, 8, 32, 1), self._fields, strict=True):
            if not 0 <= value < 1 << bits:
                raise InvalidArgument(f"{name} {value} is not of {bits} bits")
        high, low = _core.pack_address(*self)
        return high << 64 | low

    @classmethod
    def unpack(cls, packed: int) -> Self:
        """Return what `pack` was given. `InvalidArgument`: a bit beyond the 89 is set."""
        if not 0 <= packed < 1 << 89:
            raise InvalidArgument("an address has 89 bits")
        return cls(*_core.unpack_address(packed >> 64, packed & (1 << 64) - 1))
