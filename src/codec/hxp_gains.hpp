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

// What the fixed-point numbers of a token's K and V add up to: squares, and products with
// the profile's weights.
struct TokenSums {
  std::uint64_t key_energy = 0, value_energy = 0;
  std::int64_t keys = 0, values = 0;
};

inline TokenSums sums_of(const HxpPlace& place, const std::int32_t* k,
                         const std::int32_t* v, std::uint32_t channels) noexcept {
  const ModelProfile& p = place.block.profile;
  const std::uint32_t first = ModelProfile::kSizes;
  TokenSums s;
  for (std::uint32_t c = 0; c < channels; ++c) {
    s.key_energy += static_cast<std::uint64_t>(std::int64_t{k[c]} * k[c]);
    s.value_energy += static_cast<std::uint64_t>(std::int64_t{v[c]} * v[c]);
    s.keys += std::int64_t{p.weight(place.head, first + c)} * k[c];
    s.values += std::int64_t{p.weight(place.head, first + channels + c)} * v[c];
  }
  return s;
}

// One gain a token, 0 to 15. The exponents: of K's and V's numbers, one being
// 2^exponent. sums(t): those of a token. `prediction` is room for `tokens` numbers.
template <class Sums>
void predict_gains(const HxpShape& shape, const HxpPlace& place, int of_keys,
                   int of_values, Sums&& sums, std::int64_t* prediction,
                   std::uint8_t* gain) noexcept {
  const ModelProfile& p = place.block.profile;
  const auto exponent = [&](std::uint32_t i) { return p.exponent(place.head, i); };
  const auto weight = [&](std::uint32_t i) { return p.weight(place.head, i); };
  std::int64_t sum = 0;
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const TokenSums s = sums(t);
    // The logarithms of energies, absolute: in 32nds of an octave of a size.
    const std::int64_t lk = log_scale::log2_of(s.key_energy) + std::int64_t{32} * of_keys;
    const std::int64_t lv =
        log_scale::log2_of(s.value_energy) + std::int64_t{32} * of_values;
    prediction[t] = scaled(weight(0) * lv + weight(1) * lk, exponent(0)) +
                    scaled(weight(2) * (lv * lv), exponent(1)) +
                    scaled(s.keys, exponent(2) + of_keys) +
                    scaled(s.values, exponent(3) + of_values);
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
