// codec/builtin.hpp -- what the built-in codecs have in common (internal).
//
// A *unit* is what one head has of K, or of V, in one layer. Encoded layers are laid out
// unit by unit, and every part of a unit is padded with zeros to 64 bytes, so that
// hardware can stream it and a unit can be found without a scan.
#pragma once

#include <algorithm>

#include "cxlspeckv/codec.hpp"

namespace speckv {

const Codec& raw_codec() noexcept;
const Codec& int8_codec() noexcept;
const Codec& int8_delta_rle_codec() noexcept;
const Codec& kvq4_codec() noexcept;
const Codec& lossless_codec() noexcept;
std::span<const Codec* const> rt_codecs() noexcept;
std::span<const Codec* const> hx_codecs() noexcept;
std::span<const Codec* const> hxp_codecs() noexcept;

constexpr std::uint64_t padded(std::uint64_t bytes) noexcept {
  return (bytes + 63) / 64 * 64;
}

constexpr std::uint64_t layer_units(const BlockLayout& layout) noexcept {
  return layout.layer_rows() / layout.tokens;
}

// Where the rows of unit `unit` lie in a plain layer, in bytes: the first, and from each
// to the next. Encoded layers have K's units first whatever the kind, so that `kv` and
// `interleaved` blocks of equal values are encoded to equal bytes.
struct UnitRows {
  std::uint64_t first = 0, stride = 0;
};
constexpr UnitRows unit_rows(const BlockLayout& layout, std::uint64_t unit) noexcept {
  const std::uint64_t row = std::uint64_t{layout.head_dim} * bytes_of(layout.dtype);
  if (layout.kind != BlockLayout::Kind::interleaved) {
    return {unit * layout.tokens * row, row};
  }
  const std::uint64_t head = unit % layout.kv_heads, value = unit / layout.kv_heads;
  return {(head * layout.tokens * 2 + value) * row, 2 * row};
}

// What the lossy codecs take: f32 has too wide a range for 16-bit scales, and f8 is as
// small as their result.
constexpr bool has_16_bit_rows(const BlockLayout& layout) noexcept {
  return has_rows(layout) && (layout.dtype == DType::f16 || layout.dtype == DType::bf16);
}

inline bool all_zero(Bytes bytes) noexcept {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace speckv
