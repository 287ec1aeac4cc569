// codec/turn.hpp -- layers without rows as codecs see them, and back (internal).
#pragma once

#include "cxlspeckv/codec.hpp"

namespace speckv {

// Copies a transposed or tiled layer to or from the kv layer of equal values, the one of
// coded_layout(). Both are layout.layer_bytes() and do not overlap.
void to_rows(const BlockLayout& layout, Bytes plain, MutableBytes rows) noexcept;
void from_rows(const BlockLayout& layout, Bytes rows, MutableBytes plain) noexcept;

}  // namespace speckv
