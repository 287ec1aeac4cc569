// codec/hx.hpp -- where the parts of an hx unit lie, and its code tables (internal).
// docs/block-format.md, "hx".
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "codec/builtin.hpp"

namespace speckv {

struct HxShape {
  static constexpr std::uint8_t kVersion = 1, kWideMeans = 1;
  static constexpr std::uint64_t kHead = 16;  // CRC, version, flags, step, words, escapes
  static constexpr std::uint32_t kLanes = 16, kMostTokens = 256, kMostChannels = 1024,
                                 kMostValues = 65536,
                                 kMostSlot = kMostValues / 8192 * 5120;
  static constexpr std::int32_t kMostSteps = 8191, kMostLog = 12800;

  std::uint32_t tokens, channels;
  std::uint64_t stride;  // plain bytes from a token to the next
  std::uint64_t slot;    // bytes of the unit
  bool keys;             // has means; else a gain a token

  std::uint64_t tables() const noexcept { return kHead; }
  std::uint64_t means() const noexcept { return kHead + channels / 2; }
  // The words: behind the means or gains, at an even place.
  std::uint64_t words(bool wide) const noexcept {
    return means() + (keys ? channels * (wide ? 2ULL : 1ULL) : (tokens + 1ULL) / 2 * 2);
  }
};

namespace hx {

// A code table: symbols of up to 7 bits for the upper part of a number, whose `raw` lower
// bits follow as they are. Symbol 31 says that the number stands among the escapes.
struct Table {
  static constexpr std::uint32_t kEscape = 31, kBias = 15, kWindow = 128;
  std::uint32_t raw = 0, most = 0;  // most: bits of the longest symbol, with its raw bits
  std::array<std::uint8_t, kWindow> symbol{}, length{};  // by the next 7 bits
  std::array<std::uint8_t, 32> code{}, code_length{};    // by symbol; 0: there is none
  std::array<std::uint8_t, 32> cost{};  // bits of a number, by symbol, all counted

  std::uint32_t symbol_of(std::int32_t x) const noexcept {
    const auto upper = static_cast<std::uint32_t>((x >> raw) + std::int32_t{kBias});
    return std::min(upper, kEscape);
  }
};

// Made for normal numbers with deviations of 0.35 * 2^(0.4 j).
const std::array<Table, 16>& tables() noexcept;

// The definition. decode_units() is as HxLoops::decode says.
template <class F>
bool encode_unit(const HxShape& shape, const std::byte* plain,
                 MutableBytes unit) noexcept;

}  // namespace hx

struct HxUnit {
  Bytes encoded;
  std::byte* plain;  // of the first token
};

namespace hx {
template <class F>
bool decode_units(const HxShape& shape, std::span<const HxUnit> units,
                  bool stream) noexcept;
}  // namespace hx

struct HxLoops {
  static constexpr std::size_t kMostUnits = 4;
  // All but the checksum of a unit that is zero. False: a NaN or an infinity.
  bool (*encode)(const HxShape& shape, const std::byte* plain,
                 MutableBytes unit) noexcept;
  // Units of one shape side by side: a decoder mostly waits for its tables. False: one
  // that no encoder wrote. REQUIRES: units.size() <= kMostUnits.
  bool (*decode)(const HxShape& shape, std::span<const HxUnit> units,
                 bool stream) noexcept;
};

namespace codec_detail {
extern const HxLoops kHxScalarF16, kHxScalarBf16, kHx256F16, kHx256Bf16, kHxAvx512F16,
    kHxAvx512Bf16;
}  // namespace codec_detail

}  // namespace speckv
