"""How the values of a block are written down: one layer in, bytes out, and back.

The same code as the store's, so the bytes are those in a tier (docs/block-format.md), without
the frame around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxlspeckv import _core
from cxlspeckv._core import BlockLayout

# NumPy has no bf16 and no f8: arrays hold their bits.
_DTYPES = {"f16": "<f2", "bf16": "<u2", "f32": "<f4", "f8e4m3": "u1"}


def names() -> tuple[str, ...]:
    """Return the built-in codecs."""
    return _core.codecs()


def dtype_of(layout: BlockLayout) -> np.dtype[Any]:
    """Return the NumPy type that carries the values of a layout; of bf16 and f8e4m3 their bits."""
    return np.dtype(_DTYPES[layout.dtype])


def layer_shape(layout: BlockLayout) -> tuple[int, ...]:
    """Return the shape of one layer of a plain block, by the layout's kind."""
    return _core.layer_shape(layout)


def supports(codec: str, layout: BlockLayout) -> bool:
    """Whether a codec can take a layout. Raises `NotFound`."""
    return _core.supports(codec, layout)


def max_layer_bytes(codec: str, layout: BlockLayout) -> int:
    """Return the most bytes that one layer can take."""
    return _core.max_layer_bytes(codec, layout)


def profile_shape(file: bytes) -> dict[str, Any]:
    """Check every byte of a model's profile, and return of what model it is.

    Keys: layers, kv_heads, head_dim, pairs, targets, rope_base, sizes (of slots whose losses it
    knows, 0: none), and model, which is `profile_model` of its name and tokenizer. Raises
    `Corrupted` and, for another version, `Unsupported`.
    """
    return _core.profile_shape(file)


@dataclass(frozen=True)
class SlotPlan:
    """What an `hxp` codec spends where, and what that should cost."""

    slots: npt.NDArray[np.uint16]
    """[layer, 2 (K, V), head]: bytes of 8192 values."""
    bytes_per_token: float
    """Of all layers and heads."""
    loss: float
    """Predicted from the profile, over that of KIVI-4 in groups of 32 (3.20x)."""


def profile_plan(file: bytes, codec: str) -> SlotPlan:
    """Return what an `hxp` codec does under a profile, by its name.

    Names are `hxp4096` and its like, `hxp?slot=4096`, `hxp?bytes_per_token=5760` and
    `hxp?loss=0.36` (docs/codecs.md). Raises `NotFound` for another name, `Unsupported` where the
    profile knows no losses, `InvalidArgument` where it cannot meet the target, and what
    `profile_shape` does. Any thread.
    """
    return SlotPlan(*_core.profile_plan(file, codec))


def profile_model(name: str, tokenizer: bytes) -> bytes:
    """Return the 16 bytes that name a model and its tokenizer in a profile."""
    return _core.profile_model(name, tokenizer)


def encode(
    codec: str,
    layout: BlockLayout,
    plain: npt.NDArray[np.generic],
    *,
    layer: int = 0,
    first_position: int | None = None,
    profile: bytes = b"",
) -> npt.NDArray[np.uint8]:
    """Encode one layer: a contiguous array of `layout.layer_bytes` bytes, of any shape.

    The same values give the same bytes on every machine. `Unsupported`: the codec cannot take
    the layout, or not these values (a store would then write them raw).
    """
    encoded = _core.encode(codec, layout, plain, layer, first_position, profile)
    return np.frombuffer(encoded, np.uint8)


def decode(
    codec: str,
    layout: BlockLayout,
    encoded: npt.NDArray[np.uint8] | bytes,
    *,
    layer: int = 0,
    first_position: int | None = None,
    profile: bytes = b"",
) -> npt.NDArray[np.generic]:
    """Decode one layer into a new array of `layer_shape(layout)` and `dtype_of(layout)`.

    Safe on any bytes: raises `Corrupted` rather than guess.
    """
    return _core.decode(codec, layout, encoded, layer, first_position, profile)


def encode_second_plane(
    layout: BlockLayout,
    plain: npt.NDArray[np.generic],
    first: npt.NDArray[np.uint8] | bytes,
) -> npt.NDArray[np.uint8]:
    """Return what `first`, the layer that codec `kvq4` made of `plain`, leaves of the values.

    Four bits more a value, as in QuantSpec: a draft decodes `first` alone, whoever verifies decodes
    both by `decode_planes`. Raises `Unsupported` (a layout that kvq4 does not take), `Corrupted`
    (`first` is not what kvq4 writes), `InvalidArgument` (not a layer). Any thread.
    """
    return np.frombuffer(_core.encode_second_plane(layout, plain, first), np.uint8)


def decode_planes(
    layout: BlockLayout,
    first: npt.NDArray[np.uint8] | bytes,
    second: npt.NDArray[np.uint8] | bytes,
) -> npt.NDArray[np.generic]:
    """Decode both planes into a new array of `layer_shape(layout)` and `dtype_of(layout)`.

    Safe on any bytes: raises `Corrupted` rather than guess. Any thread.
    """
    return _core.decode_planes(layout, first, second)
