// codec/rt_encode.hpp -- the coefficients of an rt unit, in whole numbers throughout
// (internal).
//
// Compiled once for each instruction set, like fixed_unit.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "base/endian.hpp"
#include "codec/fixed_unit.hpp"
#include "codec/log_scale.hpp"
#include "codec/number.hpp"
#include "codec/rt.hpp"

namespace speckv::rt {

inline constexpr int kCoefficientBits = 19;

// From the logarithms of the channels' energies, and their sum.
SPECKV_LANES void settle_weights(const RtShape& shape, std::int32_t sum,
                                 Work& work) noexcept {
  const std::int32_t average = sum / static_cast<std::int32_t>(shape.channels);
  for (std::uint32_t c = 0; c < shape.channels; ++c)
    work.weight[c] = std::clamp((work.weight[c] - average + 8) >> 4, -8, 7);
}

// A channel's weight is the fourth root of its energy over the average (of logarithms).
SPECKV_LANES void weigh(const RtShape& shape, Work& work) noexcept {
  alignas(64) std::uint64_t energy[RtShape::kMostChannels];
  std::memset(energy, 0, shape.channels * sizeof *energy);
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      const std::int64_t x = work.x[std::size_t{t} * shape.channels + c];
      energy[c] += static_cast<std::uint64_t>(x * x);
    }
  }
  std::int32_t sum = 0;
  for (std::uint32_t c = 0; c < shape.channels; ++c)
    sum += work.weight[c] = log_scale::log2_of(energy[c]);
  settle_weights(shape, sum, work);
}

// The transform of `n` values, in natural order.
template <class T>
SPECKV_LANES void hadamard(T* x, std::uint32_t n) noexcept {
  for (std::uint32_t half = 1; half < n; half *= 2) {
    for (std::uint32_t i = 0; i < n; i += 2 * half) {
      for (std::uint32_t j = i; j < i + half; ++j) {
        const T a = x[j], b = x[j + half];
        x[j] = static_cast<T>(a + b);
        x[j + half] = static_cast<T>(a - b);
      }
    }
  }
}

SPECKV_LANES std::int32_t rounded_shift(std::int32_t x, int down) noexcept {
  return (x + (1 << (down - 1))) >> down;
}

// By channel: what divides by its weight and turns its sign, and the shift that follows.
SPECKV_LANES void find_factors(const RtShape& shape, const Work& work,
                               std::int32_t* factor, std::int32_t* down) noexcept {
  for (std::uint32_t c = 0; c < shape.channels; ++c) {
    const std::int32_t log = shape.keys ? -4 * work.weight[c] : 0;
    factor[c] = log_scale::significand(log) * (turns(c) ? -1 : 1);
    down[c] = log_scale::kBits - log_scale::floor_octave(log);
  }
}

// Divides by the weights, turns signs, transforms, and scales all to kCoefficientBits.
SPECKV_LANES void transform(const RtShape& shape, Work& work) noexcept {
  alignas(64) std::int32_t factor[RtShape::kMostChannels], down[RtShape::kMostChannels];
  find_factors(shape, work, factor, down);
  const std::uint32_t block = shape.block();
  std::uint32_t most = 0;
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    std::int32_t* const row = work.x + std::size_t{t} * shape.channels;
    for (std::uint32_t c = 0; c < shape.channels; ++c)
      row[c] = rounded_shift(row[c] * factor[c], down[c]);
    for (std::uint32_t c = 0; c < shape.channels; c += block)
      hadamard(row + c, block);
    for (std::uint32_t c = 0; c < shape.channels; ++c)
      most = std::max(most, static_cast<std::uint32_t>(row[c] < 0 ? -row[c] : row[c]));
  }
  work.shift = std::max(0, static_cast<int>(std::bit_width(most)) - kCoefficientBits);
  const std::int32_t size =
      log_scale::log2_of(shape.channels);  // of the energy's sum over the mean
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    std::int32_t* const row = work.x + std::size_t{t} * shape.channels;
    std::uint64_t energy = 0;
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      row[c] >>= work.shift;
      const std::int64_t y = row[c];
      energy += static_cast<std::uint64_t>(y * y);
    }
    work.rms[t] = energy == 0 ? kNone : (log_scale::log2_of(energy) - size) >> 1;
  }
}

// All of these, one after the other. False: a NaN or an infinity.
template <class F>
SPECKV_LANES bool prepare_unit(const RtShape& shape, const std::byte* plain,
                               Work& work) noexcept {
  if (!load_unit<F>(shape, plain, work)) return false;
  if (shape.keys) {
    remove_means(shape, work);
    weigh(shape, work);
  }
  transform(shape, work);
  return true;
}

}  // namespace speckv::rt
