// codec/rt_write.hpp -- an rt unit from its coefficients, in whole numbers throughout
// (internal).
//
// Compiled once for each instruction set, like fixed_unit.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/endian.hpp"
#include "codec/log_scale.hpp"
#include "codec/rt.hpp"
#include "codec/rt_trellis.hpp"

namespace speckv::rt {

inline constexpr std::int32_t kMostInput = 1280;  // eighths of a level

// The largest token's gain, in sixteenths over the fixed-point numbers, and with it the
// unit's scale. Means must be whole steps that a decoder takes: coarser where they are
// large and the deviations from them small.
struct Scale {
  std::int32_t top, stored;
};
template <std::uint32_t rate>
SPECKV_LANES Scale unit_scale(const RtShape& shape, const Work& work,
                              std::int16_t* zeros) noexcept {
  std::int32_t top = 0;
  bool none = true;
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    if (work.rms[t] == kNone) continue;
    top = none ? work.rms[t] : std::max(top, work.rms[t]);
    none = false;
  }
  const auto block = static_cast<int>(std::bit_width(shape.block())) - 1;
  // Levels count eighths, a gain starts at a sixteenth, and 256 summands are halved.
  const std::int32_t base = 48 - Levels<rate>::kLog + 1 +
                            16 * (work.shift + work.exponent - block + (block == 8));
  bool fits = !shape.keys;
  for (; !fits; top += fits ? 0 : log_scale::kSteps) {
    fits = true;
    for (std::uint32_t c = 0; c < shape.channels && fits; ++c) {
      const std::int64_t steps =
          mean_steps64(work, c, 4 * (base + top) + 16 * work.weight[c]);
      fits = steps <= RtShape::kMaxZero && steps >= -RtShape::kMaxZero;
      zeros[c] = static_cast<std::int16_t>(steps);
    }
  }
  return {top, base + top};
}

// What a token's coefficients are multiplied by, to be inputs of the quantiser, and its
// gain.
struct RowScale {
  std::uint32_t gain;
  std::int32_t factor;
  int down;  // 1 to 31
};
template <std::uint32_t rate>
SPECKV_LANES RowScale row_scale(const Work& work, std::int32_t top,
                                std::uint32_t t) noexcept {
  std::uint32_t e = RtShape::kNoGain;
  if (work.rms[t] != kNone)
    e = static_cast<std::uint32_t>(std::min(top - work.rms[t], 254));
  const std::int32_t log = Levels<rate>::kLog - top + static_cast<std::int32_t>(e);
  const std::int32_t factor = e == RtShape::kNoGain ? 0 : log_scale::significand(log);
  const int down = log_scale::kBits - log_scale::floor_octave(log);
  return {e, factor * (1 << std::clamp(1 - down, 0, 8)), std::clamp(down, 1, 31)};
}

// Rows [first, first + kLanes) of the unit, or as many as there are.
template <std::uint32_t rate>
SPECKV_LANES void encode_rows(const RtShape& shape, const Work& work, std::int32_t top,
                              std::uint32_t first, std::byte* unit) noexcept {
  alignas(64) std::int16_t u[RtShape::kMostChannels][kLanes];
  alignas(64) std::uint8_t packed[RtShape::kMostChannels / 8][rate][kLanes];
  const std::uint32_t count = std::min(kLanes, shape.tokens - first);
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    const std::uint32_t t = first + std::min(i, count - 1);
    const RowScale scale = row_scale<rate>(work, top, t);
    if (i < count) unit[shape.gains() + t] = static_cast<std::byte>(scale.gain);
    const std::int32_t* const row = work.x + std::size_t{t} * shape.channels;
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      const std::int32_t value = rounded_shift(row[c] * scale.factor, scale.down);
      u[c][i] = static_cast<std::int16_t>(std::clamp(value, -kMostInput, kMostInput));
    }
  }
  trellis<rate>(u, shape.channels, packed);
  for (std::uint32_t i = 0; i < count; ++i) {
    std::byte* const row = unit + shape.rows() + (first + i) * shape.row_bytes();
    for (std::uint32_t j = 0; j < rate; ++j) {
      for (std::uint32_t b = 0; b < shape.channels / 8; ++b)
        row[j * (shape.channels / 8) + b] = std::byte{packed[b][j][i]};
    }
  }
}

// All of a unit but its checksum; what is zero in every unit is already.
// rows(top, first) encodes kLanes rows.
template <std::uint32_t rate, class Rows>
SPECKV_LANES void write_unit(const RtShape& shape, const Work& work, std::byte* unit,
                             Rows&& rows) noexcept {
  std::int16_t zeros[RtShape::kMostChannels];
  const Scale scale = unit_scale<rate>(shape, work, zeros);
  store_le(unit + 4, std::uint16_t{RtShape::kVersion});
  store_le(unit + 6, static_cast<std::int16_t>(scale.stored));
  if (shape.keys) {
    for (std::uint32_t c = 0; c < shape.channels; c += 2) {
      const auto low = static_cast<std::uint32_t>(work.weight[c]) & 15;
      const auto high = static_cast<std::uint32_t>(work.weight[c + 1]) & 15;
      unit[shape.weights() + c / 2] = static_cast<std::byte>(low | high << 4);
    }
    for (std::uint32_t c = 0; c < shape.channels; ++c)
      store_le(unit + shape.zeros() + 2 * c, zeros[c]);
  }
  for (std::uint32_t t = 0; t < shape.tokens; t += kLanes)
    rows(scale.top, t);
}

}  // namespace speckv::rt
