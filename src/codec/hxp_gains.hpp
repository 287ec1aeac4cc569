// codec/hxp_gains.hpp -- how finely each token is coded: what the profile predicts from
// its K and V (internal). docs/block-format.md, "hxp". Encoders only.
#pragma once

#include <cassert>
#include <cstdint>

#include "codec/fixed_unit.hpp"
#include "codec/hxp.hpp"

namespace speckv::hxp {

// n * 2^e, rounded half up, within 2^40.
constexpr std::int64_t scaled(std::int64_t n, int e) noexcept {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  if (e < 0) {
    const int down = std::min(-e, 62);
    const std::int64_t half = std::int64_t{1} << (down - 1);
    return std::clamp((std::clamp(n, -(kMost << 21), kMost << 21) + half) >> down, -kMost,
                      kMost);
  }
  const std::int64_t limit = e > 40 ? 0 : kMost >> e;
  if (n > limit) return kMost;
  if (n < -limit) return -kMost;
  return n == 0 ? 0 : n * (std::int64_t{1} << e);
}

// What a unit's fixed-point numbers say of a token: the logarithm of its energy,
// absolute, in 32nds of an octave of its size.
inline std::int64_t log_size(const rt::Work& work, const std::int32_t* row,
                             std::uint32_t channels) noexcept {
  std::uint64_t energy = 0;
  for (std::uint32_t c = 0; c < channels; ++c)
    energy += static_cast<std::uint64_t>(std::int64_t{row[c]} * row[c]);
  return log_scale::log2_of(energy) + std::int64_t{32} * work.exponent;
}

// One gain a token, 0 to 15. `prediction` is room for `tokens` numbers.
inline void predict_gains(const HxpShape& shape, const HxpPlace& place,
                          const rt::Work& keys, const rt::Work& values,
                          std::int64_t* prediction, std::uint8_t* gain) noexcept {
  const ModelProfile& p = place.block.profile;
  const std::uint32_t first = ModelProfile::kSizes, d = shape.channels;
  std::int64_t sum = 0;
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const std::int32_t* const k = keys.x + std::size_t{t} * d;
    const std::int32_t* const v = values.x + std::size_t{t} * d;
    const std::int64_t lk = log_size(keys, k, d), lv = log_size(values, v, d);
    std::int64_t of_keys = 0, of_values = 0;
    for (std::uint32_t c = 0; c < d; ++c) {
      of_keys += std::int64_t{p.weight(place.head, first + c)} * k[c];
      of_values += std::int64_t{p.weight(place.head, first + d + c)} * v[c];
    }
    const std::int64_t logs = p.weight(place.head, 0) * lv + p.weight(place.head, 1) * lk;
    prediction[t] =
        scaled(logs, p.exponent(place.head, 0)) +
        scaled(p.weight(place.head, 2) * (lv * lv), p.exponent(place.head, 1)) +
        scaled(of_keys, p.exponent(place.head, 2) + keys.exponent) +
        scaled(of_values, p.exponent(place.head, 3) + values.exponent);
    sum += prediction[t];
  }
  // Of 2^-14 octaves; a unit's mean says nothing, since its step is free.
  constexpr std::int64_t kStep = std::int64_t{HxpShape::kGainStep} << 8;
  const std::int64_t tokens = shape.tokens;
  assert(tokens > 0);
  const std::int64_t mean = (sum - ((sum % tokens) + tokens) % tokens) / tokens;
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const std::int64_t over = prediction[t] - mean + 8 * kStep;
    gain[t] = over < 0 ? std::uint8_t{0}
                       : static_cast<std::uint8_t>(
                             std::min<std::int64_t>(over / kStep, HxpShape::kGains - 1));
  }
}

}  // namespace speckv::hxp
