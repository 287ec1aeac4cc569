// codec/int8.hpp -- rows of 8-bit values under one scale: what int8 and int8_delta_rle
// have in common (internal). docs/block-format.md states the arithmetic and its bound.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cxlspeckv/block.hpp"

namespace speckv {

// Writes the row's scale (2 bytes, of the row's own dtype) and `channels` values in
// -127..127. False: the row holds a NaN or an infinity, and nothing was written.
bool int8_row(DType dtype, const std::byte* row, std::size_t channels, std::byte* scale,
              std::int8_t* values) noexcept;

// The reverse. False: the scale is negative or not finite, or a value is -128.
bool int8_restore(DType dtype, const std::byte* scale, const std::int8_t* values,
                  std::size_t channels, std::byte* row) noexcept;

}  // namespace speckv
