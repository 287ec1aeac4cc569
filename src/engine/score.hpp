// engine/score.hpp -- how much a block is worth keeping: P = w_r R + w_f F + w_s S + w_d
// D.
//
// Whole numbers only, and nothing wraps, so that RTL and a kernel give the same bits.
// docs/queue-protocol.md, "Scores", has the same rules in words. Values; any thread.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "engine/contract.hpp"

namespace speckv::engine {

// Weights and thresholds, as in the registers of those names.
struct Weights {
  std::uint8_t recency = 0, frequency = 0, step = 0, durability = 0;
  std::uint8_t evict = 0, prefetch = 0, hysteresis = 0;
  bool operator==(const Weights&) const = default;

  constexpr std::uint32_t sum() const noexcept {
    return std::uint32_t{recency} + frequency + step + durability;
  }
  // The rule of the opcode WEIGHTS: thresholds that neither evict everything nor
  // prefetch nothing, whatever the weights.
  constexpr bool valid() const noexcept {
    return sum() != 0 && evict >= 1 &&
           evict + hysteresis <= static_cast<int>(prefetch) - hysteresis;
  }
  static constexpr Weights unpack(std::uint32_t weights,
                                  std::uint32_t thresholds) noexcept {
    const auto byte = [](Field field, std::uint32_t word) {
      return static_cast<std::uint8_t>(field.get(word));
    };
    return {byte(csr::kWeightsRecency, weights),
            byte(csr::kWeightsFrequency, weights),
            byte(csr::kWeightsStep, weights),
            byte(csr::kWeightsDurability, weights),
            byte(csr::kThresholdsEvict, thresholds),
            byte(csr::kThresholdsPrefetch, thresholds),
            byte(csr::kThresholdsHysteresis, thresholds)};
  }
  constexpr std::uint32_t packed_weights() const noexcept {
    return static_cast<std::uint32_t>(
        csr::kWeightsRecency.put(recency) | csr::kWeightsFrequency.put(frequency) |
        csr::kWeightsStep.put(step) | csr::kWeightsDurability.put(durability));
  }
  constexpr std::uint32_t packed_thresholds() const noexcept {
    return static_cast<std::uint32_t>(csr::kThresholdsEvict.put(evict) |
                                      csr::kThresholdsPrefetch.put(prefetch) |
                                      csr::kThresholdsHysteresis.put(hysteresis));
  }
};
inline constexpr Weights kDefaultWeights =
    Weights::unpack(csr::kWeightsReset, csr::kThresholdsReset);
static_assert(kDefaultWeights.valid());

// Whether step a comes after step b, modulo 2^32.
constexpr bool later(std::uint32_t a, std::uint32_t b) noexcept {
  return static_cast<std::int32_t>(a - b) > 0;
}

// Sixteen times the logarithm of a distance in steps, 0 to 255; never falls as d grows.
constexpr std::uint32_t log_distance(std::uint32_t d) noexcept {
  const std::uint32_t n = std::min(d, 65535U) + 1;
  const auto e = static_cast<std::uint32_t>(std::bit_width(n)) - 1;
  const std::uint32_t fraction = (e >= 4 ? n >> (e - 4) : n << (4 - e)) & 15;
  return std::min(16 * e + fraction, 255U);
}

// What is remembered about the use of one block. All zero: never used.
struct Use {
  std::uint32_t last = 0;  // step of the last use
  std::uint32_t due = 0;   // step at which it will be wanted, if has_due
  std::uint8_t freq = 0;
  std::uint8_t refs = 0;
  std::uint8_t has_due = 0;    // 0 or 1; whole bytes, as they may lie in shared memory
  std::uint8_t evictable = 0;  // 0 or 1

  constexpr std::uint32_t frequency(std::uint32_t step) const noexcept {
    const std::uint32_t age = step - last;
    return static_cast<std::uint32_t>(freq) >> std::min(age >> kScoreFrequencyShift, 8U);
  }

  constexpr void touch(std::uint32_t step) noexcept {
    freq = static_cast<std::uint8_t>(std::min(frequency(step) + kScoreTouch, 255U));
    last = step;
    evictable = 0;
    if (has_due != 0 && !later(due, step)) has_due = 0;
  }
  constexpr void expect(std::uint32_t step) noexcept {
    due = step;
    has_due = 1;
    evictable = 0;
  }

  // At most 4 * 255 * 255, which is below 2^18.
  constexpr std::uint32_t score(const Weights& w, std::uint32_t step) const noexcept {
    if (evictable != 0) return 0;
    const std::uint32_t recency = 255 - log_distance(step - last);
    const std::uint32_t away = later(due, step) ? due - step : step - due;
    const std::uint32_t proximity = has_due != 0 ? 255 - log_distance(away) : 0;
    const std::uint32_t durability = std::min(kScoreReference * refs, 255U);
    return w.recency * recency + w.frequency * frequency(step) + w.step * proximity +
           w.durability * durability;
  }
};
static_assert(4U * 255 * 255 < 1U << kScoreBits);

// Thresholds are compared as t W, so that they mean the same for all weights.
constexpr bool below(std::uint32_t score, std::uint32_t threshold,
                     const Weights& w) noexcept {
  return score < threshold * w.sum();
}

}  // namespace speckv::engine
