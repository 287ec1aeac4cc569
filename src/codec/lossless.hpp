// codec/lossless.hpp -- one unit of the lossless codec (internal). docs/block-format.md.
#pragma once

#include <cstdint>

#include "codec/builtin.hpp"

namespace speckv::lossless {

// Where the plain rows of a unit lie, and of what they consist.
struct Rows {
  std::uint32_t tokens, channels, width;  // width: bytes of a value, which is its planes
  std::uint64_t stride;                   // bytes from a row to the next
};

std::uint64_t unit_bound(const Rows& rows) noexcept;

// Returns the bytes used, a multiple of 64. REQUIRES: out.size() >= unit_bound().
std::uint64_t encode_unit(const Rows& rows, const std::byte* plain,
                          MutableBytes out) noexcept;

// False: no encoder wrote these bytes.
bool decode_unit(const Rows& rows, Bytes unit, std::byte* plain) noexcept;

}  // namespace speckv::lossless
