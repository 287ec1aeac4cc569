// codec/rt.hpp -- where the parts of an rt unit lie, and its tables (internal).
// docs/block-format.md, "rt".
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "codec/builtin.hpp"

namespace speckv {

struct RtShape {
  static constexpr std::uint32_t kMostTokens = 256, kMostChannels = 1024,
                                 kMostKeyChannels = 256, kMostValues = 65536, kLanes = 32;
  static constexpr std::uint8_t kVersion = 1;
  static constexpr std::uint64_t kHead = 64;  // CRC, version, 0, scale (int16), zeros
  static constexpr std::int32_t kMaxZero = 4095, kMaxSteps = 8191, kMaxScale = 4096;
  static constexpr std::uint32_t kNoGain = 255;

  std::uint32_t tokens, channels;
  std::uint64_t stride;  // plain bytes from a token to the next
  std::uint32_t rate;    // bits of a value
  bool keys;             // has means and weights

  std::uint64_t weights_bytes() const noexcept { return keys ? channels / 2 : 0; }
  std::uint64_t zeros_bytes() const noexcept { return keys ? channels * 2ULL : 0; }
  std::uint64_t row_bytes() const noexcept { return channels / 8 * rate; }

  std::uint64_t weights() const noexcept { return kHead; }
  std::uint64_t zeros() const noexcept { return kHead + padded(weights_bytes()); }
  std::uint64_t gains() const noexcept { return zeros() + padded(zeros_bytes()); }
  std::uint64_t rows() const noexcept { return gains() + padded(tokens); }
  std::uint64_t bytes() const noexcept { return rows() + padded(tokens * row_bytes()); }

  // Channels that are transformed together.
  std::uint32_t block() const noexcept {
    return std::min(channels & (~channels + 1), 256U);
  }
};

inline bool rt_takes(const BlockLayout& layout) noexcept {
  return has_16_bit_rows(layout) && layout.tokens >= 16 &&
         layout.tokens <= RtShape::kMostTokens && layout.head_dim % 16 == 0 &&
         layout.head_dim <= RtShape::kMostChannels &&
         std::uint64_t{layout.tokens} * layout.head_dim <= RtShape::kMostValues;
}

namespace rt {

// Bit c of word c / 64: the sign of channel c is turned before the transform.
inline constexpr std::uint64_t kSigns[4] = {0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F,
                                            0x165667B19E3779F9, 0x85EBCA77C2B2AE63};
constexpr bool turns(std::uint32_t channel) noexcept {
  return (kSigns[channel / 64 % 4] >> channel % 64 & 1) != 0;
}

// The levels of each rate, ascending: level 4 f + s is number f of subset s. They fit
// values whose root mean square is 2^(log / 16) eighths of a level.
template <std::uint32_t rate>
struct Levels;
template <>
struct Levels<2> {
  static constexpr std::int32_t kLog = 145;
  static constexpr std::int16_t kLevel[8] = {-125, -72, -41, -13, 13, 41, 72, 125};
};
template <>
struct Levels<3> {
  static constexpr std::int32_t kLog = 139;
  static constexpr std::int16_t kLevel[16] = {-127, -92, -69, -53, -39, -28, -16, -6,
                                              6,    16,  28,  39,  53,  69,  92,  127};
};
template <>
struct Levels<4> {
  static constexpr std::int32_t kLog = 133;
  static constexpr std::int16_t kLevel[32] = {
      -127, -105, -90, -79, -69, -62, -55, -48, -42, -36, -30, -25, -19, -14, -8,  -3,
      3,    8,    14,  19,  25,  30,  36,  42,  48,  55,  62,  69,  79,  90,  105, 127};
};

// The subset that the last four trellis bits choose: `now`, and before it those of
// `state`, the latest lowest.
constexpr std::uint32_t subset(std::uint32_t state, std::uint32_t now) noexcept {
  return ((now ^ state ^ state >> 2) & 1) << 1 | (state >> 1 & 1);
}

}  // namespace rt

// By rate, less 2. Encoding: all but the checksum of a unit that is zero; false for a NaN
// or an infinity. Decoding: false for what no encoder writes.
struct RtLoops {
  using Encode = bool (*)(const RtShape&, const std::byte* plain,
                          std::byte* unit) noexcept;
  using Decode = bool (*)(const RtShape&, Bytes unit, std::byte* plain,
                          bool stream) noexcept;
  Encode encode[3];
  Decode decode[3];
};

namespace codec_detail {
extern const RtLoops kRtScalarF16, kRtScalarBf16, kRt256F16, kRt256Bf16, kRtAvx512F16,
    kRtAvx512Bf16;
}  // namespace codec_detail

}  // namespace speckv
