// codec/kvq4.hpp -- where the parts of a kvq4 unit lie (internal). docs/block-format.md.
#pragma once

#include <cstdint>

#include "cxlspeckv/block.hpp"

#include "codec/builtin.hpp"

namespace speckv {

struct Kvq4Shape {
  static constexpr std::uint64_t kParameterBytes = 4;  // a scale, and a zero (int16)
  static constexpr std::int32_t kTop = 15;
  static constexpr std::int32_t kMaxZero = 8176;  // |q - zero| stays within 13 bits

  std::uint32_t tokens, channels;
  std::uint64_t stride;  // plain bytes from a token to the next
  std::uint32_t group;   // channels of a V group

  std::uint64_t row_bytes() const noexcept { return channels / 2; }
  std::uint64_t value_groups() const noexcept {
    return std::uint64_t{tokens} * (channels / group);
  }
  std::uint64_t key_parameters() const noexcept { return channels * kParameterBytes; }
  std::uint64_t value_parameters() const noexcept {
    return value_groups() * kParameterBytes;
  }
  std::uint64_t nibbles() const noexcept { return tokens * row_bytes(); }
  // Where the plain values of V group `g` start.
  std::uint64_t group_at(std::uint64_t g) const noexcept {
    const std::uint64_t groups = channels / group;
    return g / groups * stride + g % groups * group * 2;
  }
};

// Up to 256 channels are one group; longer rows (latent caches) have groups of 64.
inline Kvq4Shape kvq4_shape(const BlockLayout& layout) noexcept {
  return {layout.tokens, layout.head_dim, unit_rows(layout, 0).stride,
          layout.head_dim <= 256 ? layout.head_dim : 64};
}

}  // namespace speckv
