// codec/rt_decode.hpp -- decoding an rt unit: checks, and the definition (internal).
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/endian.hpp"
#include "codec/log_scale.hpp"
#include "codec/number.hpp"
#include "codec/rt.hpp"
#include "codec/rt_encode.hpp"

namespace speckv::rt {

// A token's gain as a factor in 32768ths: 2^(-(e + 1) / 16).
constexpr std::int32_t gain(std::uint32_t e) noexcept {
  if (e == RtShape::kNoGain) return 0;
  return log_scale::significand(15 - static_cast<int>(e % 16)) << 4 >> e / 16;
}

// What a decoder needs of the parts before the rows.
struct Parameters {
  std::int32_t scale = 0;                            // sixteenths
  std::int16_t zero[RtShape::kMostKeyChannels];      // K: the means in steps
  std::int16_t step_log[RtShape::kMostKeyChannels];  // K: 2^(this / 16) is a step
  std::int32_t least_log = 0;                        // of a step of K, or a gain of V
  // Whether every result but zero is a normal binary32 number and not zero in F.
  template <class F>
  bool is_usual() const noexcept {
    return scale < 1600 && least_log >= std::max(-1800, 16 * (F::kLeast + 1));
  }
};

inline bool is_padding(Bytes unit, std::uint64_t first, std::uint64_t bytes) noexcept {
  return all_zero(unit.subspan(first + bytes, padded(bytes) - bytes));
}

// False: no encoder wrote these.
inline bool read_parameters(const RtShape& shape, Bytes unit, Parameters& p) noexcept {
  const std::byte* const at = unit.data();
  p.scale = load_le<std::int16_t>(at + 6);
  if (load_le<std::uint16_t>(at + 4) != RtShape::kVersion ||
      p.scale > RtShape::kMaxScale || p.scale < -RtShape::kMaxScale ||
      !all_zero(unit.first(RtShape::kHead).subspan(8)) ||
      !is_padding(unit, shape.weights(), shape.weights_bytes()) ||
      !is_padding(unit, shape.zeros(), shape.zeros_bytes()) ||
      !is_padding(unit, shape.gains(), shape.tokens) ||
      !is_padding(unit, shape.rows(), shape.tokens * shape.row_bytes()))
    return false;
  p.least_log = p.scale - 4 * 8;
  if (!shape.keys) {
    std::uint32_t most = 0;
    for (std::uint32_t t = 0; t < shape.tokens; ++t) {
      const auto e = std::to_integer<std::uint32_t>(at[shape.gains() + t]);
      most = std::max(most, e == RtShape::kNoGain ? 0 : e);
    }
    p.least_log = p.scale - 1 - static_cast<std::int32_t>(most);
  }
  bool sound = true;
  for (std::uint32_t c = 0; shape.keys && c < shape.channels; ++c) {
    const auto pair = std::to_integer<std::uint32_t>(at[shape.weights() + c / 2]);
    const auto weight = static_cast<std::int32_t>((pair >> c % 2 * 4 & 15) ^ 8) - 8;
    p.step_log[c] = static_cast<std::int16_t>(p.scale + 4 * weight);
    p.zero[c] = load_le<std::int16_t>(at + shape.zeros() + 2 * c);
    sound = sound && p.zero[c] <= RtShape::kMaxZero && p.zero[c] >= -RtShape::kMaxZero;
  }
  return sound;
}

// A row's levels, transformed and with their signs: [channel]
template <std::uint32_t rate>
SPECKV_LANES void read_row(const RtShape& shape, const std::byte* row,
                           std::int16_t* h) noexcept {
  const std::uint32_t plane = shape.channels / 8;
  std::uint32_t state = 0;
  for (std::uint32_t c = 0; c < shape.channels; ++c) {
    std::uint32_t bits[rate];
    for (std::uint32_t j = 0; j < rate; ++j)
      bits[j] = std::to_integer<std::uint32_t>(row[j * plane + c / 8]) >> c % 8 & 1;
    std::uint32_t level = subset(state, bits[0]);
    for (std::uint32_t j = 1; j < rate; ++j)
      level |= bits[j] << (j + 1);
    h[c] = Levels<rate>::kLevel[level];
    state = (state << 1 | bits[0]) & 7;
  }
  const std::uint32_t block = shape.block();
  for (std::uint32_t c = 0; c < shape.channels; c += block)
    hadamard(h + c, block);
  for (std::uint32_t c = 0; c < shape.channels; ++c) {
    if (block == 256) h[c] = static_cast<std::int16_t>((h[c] + 1) >> 1);
    if (turns(c)) h[c] = static_cast<std::int16_t>(-h[c]);
  }
}

// The definition.
template <class F, std::uint32_t rate>
bool decode_unit(const RtShape& shape, Bytes unit, std::byte* plain) noexcept {
  constexpr std::int32_t kMost = RtShape::kMaxSteps;
  Parameters p;
  if (!read_parameters(shape, unit, p)) return false;
  std::int16_t h[RtShape::kMostChannels];
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    read_row<rate>(shape, unit.data() + shape.rows() + t * shape.row_bytes(), h);
    std::byte* const to = plain + t * shape.stride;
    const auto e = std::to_integer<std::uint32_t>(unit[shape.gains() + t]);
    const std::int32_t factor = gain(e);
    const std::int32_t log = p.scale - static_cast<std::int32_t>(e) - 1;
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      const std::int32_t v = shape.keys ? ((h[c] * factor + 16384) >> 15) + p.zero[c]
                             : e == RtShape::kNoGain ? 0
                                                     : h[c];
      const number::Scaled step = log_scale::power(shape.keys ? p.step_log[c] : log);
      store_le(to + 2 * c, number::product<F>(std::clamp(v, -kMost, kMost), step));
    }
  }
  return true;
}

}  // namespace speckv::rt
