// codec/hxp_waves.hpp -- tables of steps and sines of hxp, for vectors (internal).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "codec/hxp.hpp"
#include "codec/hxp_offsets.hpp"
#include "codec/log_scale.hpp"

namespace speckv::hxp {

inline constexpr std::uint32_t kMostChannels = 256;

// By the 64ths of an octave: log_scale::power64() and inverse64() of 0 to 63.
struct Octave {
  alignas(64) std::uint16_t power[64];
  alignas(64) std::uint16_t inverse[64 + 1];  // one more: vectors read two at once
};
constexpr Octave octave() noexcept {
  Octave made{};
  for (int i = 0; i < 64; ++i) {
    made.power[i] = static_cast<std::uint16_t>(log_scale::power64(i).significand);
    made.inverse[i] = static_cast<std::uint16_t>(log_scale::inverse64(i).significand);
  }
  return made;
}
inline constexpr Octave kOctave = octave();

// Sines by 1024ths of a turn, times 2^kSineBits and 2^10, and below that the way to the
// next.
constexpr std::array<std::int32_t, 1024> waves() noexcept {
  std::array<std::int32_t, 1024> made{};
  for (std::uint32_t i = 0; i < made.size(); ++i) {
    const std::int32_t low = offsets_detail::sine_at(i),
                       way = offsets_detail::sine_at(i + 1) - low;
    made[i] = low * 1024 + (way & 1023);
  }
  return made;
}
alignas(64) inline constexpr std::array<std::int32_t, 1024> kWaves = waves();

// Cosines and sines of a block's positions, for K: of each token as many pairs as vectors
// take at once.
struct Waves {
  static constexpr std::uint32_t kMost = HxShape::kMostValues / 2, kLanes = 16,
                                 kMostPairs = kMostChannels / 2 + kLanes;
  std::uint32_t pairs = 0;
  alignas(64) float cosine[kMost + kLanes], sine[kMost + kLanes];

  void take(const ModelProfile& profile, std::uint32_t* frequency) noexcept {
    pairs = profile.shape().pairs;
    std::fill_n(frequency, kMostPairs, 0U);
    for (std::uint32_t i = 0; i < pairs; ++i)
      frequency[i] = profile.frequency(i);
  }
};

// Whether vectors can turn them: eight pairs at once.
inline bool has_whole_turns(const ModelProfile& profile) noexcept {
  return profile.shape().pairs % 8 == 0;
}

}  // namespace speckv::hxp
