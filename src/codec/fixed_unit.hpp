// codec/fixed_unit.hpp -- the values of a unit as whole numbers, for encoders (internal).
//
// Compiled once for each instruction set (SPECKV_LANES makes every function part of its
// caller), so that all give the same bits. docs/block-format.md, "Powers".
#pragma once

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>

#include "base/endian.hpp"
#include "codec/log_scale.hpp"
#include "codec/number.hpp"
#include "codec/rt.hpp"

#define SPECKV_LANES __attribute__((always_inline)) inline

namespace speckv::rt {

inline constexpr int kFixedBits = 18;  // of a plain value's magnitude

// What the passes over a unit know of it.
struct Work {
  alignas(64) std::int32_t x[RtShape::kMostValues];  // [token][channel]
  alignas(64) std::int32_t mean[RtShape::kMostChannels];
  alignas(64) std::int32_t weight[RtShape::kMostChannels];  // quarter octaves
  std::int32_t rms[RtShape::kMostTokens];                   // sixteenths; kNone: zeros
  std::int32_t exponent;                                    // of x: one is 2^exponent
  std::int32_t shift;  // of coefficients, to have kCoefficientBits
};
inline constexpr std::int32_t kNone = INT32_MIN;

// Plain values as fixed-point numbers whose largest has kFixedBits. False: a NaN or an
// infinity.
template <class F>
SPECKV_LANES bool load_unit(const RtShape& shape, const std::byte* plain,
                            Work& work) noexcept {
  constexpr int kM = F::kMantissa;
  constexpr int kLift = kFixedBits - (kM + 1);
  std::uint32_t most = 0;
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const std::byte* const row = plain + t * shape.stride;
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      const std::uint32_t bits = load_le<std::uint16_t>(row + 2 * c);
      most = std::max(most, bits & number::kMagnitude);
    }
  }
  if (most >= F::kInfinity) return false;
  const std::uint32_t top = std::max(most >> kM, 1U);
  work.exponent = static_cast<std::int32_t>(top) - 1 + F::kLeast - kLift;
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const std::byte* const row = plain + t * shape.stride;
    std::int32_t* const to = work.x + std::size_t{t} * shape.channels;
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      const std::uint32_t bits = load_le<std::uint16_t>(row + 2 * c);
      const std::uint32_t biased = (bits & number::kMagnitude) >> kM;
      const std::uint32_t normal = std::min(biased, 1U);
      const std::uint32_t significand = (bits & ((1U << kM) - 1)) | normal << kM;
      const std::uint32_t down = std::min(top - (biased + 1 - normal), 31U);
      const auto size =
          static_cast<std::int32_t>(((significand << (kLift + 1) >> down) + 1) >> 1);
      to[c] = (bits & number::kSign) != 0 ? -size : size;
    }
  }
  return true;
}

SPECKV_LANES void remove_means(const RtShape& shape, Work& work) noexcept {
  const auto tokens = static_cast<std::int32_t>(shape.tokens);
  assert(tokens > 0);
  std::memset(work.mean, 0, shape.channels * sizeof *work.mean);
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    for (std::uint32_t c = 0; c < shape.channels; ++c)
      work.mean[c] += work.x[std::size_t{t} * shape.channels + c];
  }
  for (std::uint32_t c = 0; c < shape.channels; ++c) {
    const std::int32_t sum = work.mean[c] + tokens / 2;
    work.mean[c] = sum / tokens - (sum % tokens < 0 ? 1 : 0);  // rounded down
  }
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    for (std::uint32_t c = 0; c < shape.channels; ++c)
      work.x[std::size_t{t} * shape.channels + c] -= work.mean[c];
  }
}

// The mean of a channel in steps of 2^(log / 64), rounded half up.
SPECKV_LANES std::int64_t mean_steps64(const Work& work, std::uint32_t c,
                                       std::int32_t log) noexcept {
  const number::Scaled step = log_scale::power64(log);
  const int down = step.exponent - work.exponent;
  std::int64_t a = work.mean[c], b = step.significand;
  if (down >= 0) {
    b <<= std::min(down, 40);
  } else {
    a *= std::int64_t{1} << std::min(-down, 40);
  }
  const std::int64_t twice = 2 * a + b;
  return twice / (2 * b) - (twice % (2 * b) < 0 ? 1 : 0);
}

}  // namespace speckv::rt
