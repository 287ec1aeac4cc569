// codec/int8.hpp -- where the parts of an int8 unit lie, and its tokens alone (internal).
#pragma once

#include <cstdint>

#include "codec/builtin.hpp"

namespace speckv {

// A unit: `tokens` scales, then `tokens` rows of values, each part padded to 64 bytes.
struct Int8Unit {
  std::uint64_t scales, values, bytes;
};
constexpr Int8Unit int8_unit(const BlockLayout& layout) noexcept {
  const std::uint64_t scales = std::uint64_t{layout.tokens} * 2;
  const std::uint64_t values = std::uint64_t{layout.tokens} * layout.head_dim;
  return {scales, values, padded(scales) + padded(values)};
}

// Encodes some tokens of every unit of a layer; the rest of `out` stays. False: a NaN or
// an infinity, and some of them may be written.
bool int8_encode_tokens(const BlockLayout& layout, std::uint32_t first,
                        std::uint32_t count, Bytes plain, MutableBytes out) noexcept;

}  // namespace speckv
