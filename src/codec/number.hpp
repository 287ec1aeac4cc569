// codec/number.hpp -- the arithmetic of the lossy codecs, in integers only (internal).
//
// Stated so that C++, SIMD, RTL and a kernel without an FPU give the same bits, whatever
// the rounding or denormal mode of the caller's thread. docs/block-format.md,
// "Arithmetic", has the same rules in words. Nothing here divides by a scale per value:
// the encoder multiplies by the scale's inverse, rounded once to 13 bits.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/endian.hpp"

namespace speckv::number {

// A 16-bit floating-point format: a sign, an exponent, `mantissa` bits.
template <int mantissa, int bias>
struct Format16 {
  static constexpr int kMantissa = mantissa, kBias = bias;
  static constexpr std::uint32_t kInfinity = 0x7FFFU >> mantissa << mantissa;
  static constexpr std::uint32_t kLargest = kInfinity - 1;  // the largest finite
  static constexpr int kLeast = 1 - bias - mantissa;        // the unit is 2^kLeast
};
using F16 = Format16<10, 15>;
using Bf16 = Format16<7, 127>;

inline constexpr std::uint32_t kSign = 0x8000, kMagnitude = 0x7FFF;

// significand * 2^exponent, never negative.
struct Scaled {
  std::uint32_t significand = 0;
  int exponent = 0;
};

// REQUIRES: magnitude < F::kInfinity.
template <class F>
constexpr Scaled unpack(std::uint32_t magnitude) noexcept {
  const std::uint32_t biased = magnitude >> F::kMantissa;
  const std::uint32_t fraction = magnitude & ((1U << F::kMantissa) - 1);
  if (biased == 0) return {fraction, F::kLeast};
  return {fraction | (1U << F::kMantissa), static_cast<int>(biased) - 1 + F::kLeast};
}

enum class Rounding { nearest_even, up };

// value / 2^shift, rounded. REQUIRES: value < 2^63, shift >= 1.
constexpr std::uint64_t shift_right(std::uint64_t value, int shift,
                                    Rounding rounding) noexcept {
  shift = std::min(shift, 63);
  const std::uint64_t quotient = value >> shift;
  const std::uint64_t rest = value - (quotient << shift), half = 1ULL << (shift - 1);
  const bool up = rounding == Rounding::up
                      ? rest != 0
                      : rest > half || (rest == half && (quotient & 1) != 0);
  return quotient + (up ? 1 : 0);
}

// The magnitude of value * 2^exponent; what is too large becomes the largest finite
// value. `sticky`: the true value is a little more than `value` says. REQUIRES: value <
// 2^62.
template <class F>
constexpr std::uint32_t pack(std::uint64_t value, int exponent, Rounding rounding,
                             bool sticky = false) noexcept {
  if (value == 0 && !sticky) return 0;
  // One more bit at the bottom carries the sticky bit: it only ever breaks ties.
  value = (value << 1) | (sticky ? 1 : 0);
  exponent -= 1;
  const int excess = static_cast<int>(std::bit_width(value)) - (F::kMantissa + 1);
  const int shift = std::max(excess, F::kLeast - exponent);
  const std::uint64_t significand =
      shift > 0 ? shift_right(value, shift, rounding) : value << -shift;
  const auto rise = static_cast<std::uint64_t>(exponent + shift - F::kLeast);
  if (rise > kMagnitude >> F::kMantissa) return F::kLargest;
  const std::uint64_t magnitude = (rise << F::kMantissa) + significand;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(magnitude, F::kLargest));
}

// ratio of a Scaled to a small whole number, in F.
template <class F>
constexpr std::uint32_t divide(std::uint64_t value, int exponent, std::uint32_t divisor,
                               Rounding rounding) noexcept {
  // With 2^50 times the quotient's precision, only exactness matters below: sticky.
  const int up = 61 - static_cast<int>(std::bit_width(value));
  const std::uint64_t scaled = value << up;
  return pack<F>(scaled / divisor, exponent - up, rounding, scaled % divisor != 0);
}

// 1 / scale with a significand of 13 bits (4096..8192), rounded to nearest; a tie cannot
// happen. REQUIRES: scale is not zero.
template <class F>
constexpr Scaled inverse(std::uint32_t scale) noexcept {
  Scaled s = unpack<F>(scale);
  const int lift = F::kMantissa + 1 - static_cast<int>(std::bit_width(s.significand));
  s.significand <<= lift;
  s.exponent -= lift;
  // s in [2^M, 2^(M+1)), hence the quotient in (2^12, 2^13].
  constexpr int kTop = F::kMantissa + 13;
  return {((1U << kTop) + s.significand / 2) / s.significand, -s.exponent - kTop};
}

// round(x * inverse), half to even, x given by its magnitude. The product of an 11-bit
// and a 13-bit significand is exact in 24 bits. REQUIRES: the result is below 2^14.
template <class F>
constexpr std::int32_t times(std::uint32_t magnitude, Scaled inv) noexcept {
  const std::uint32_t biased = magnitude >> F::kMantissa;
  const std::uint32_t normal = std::min(biased, 1U);
  const std::uint32_t x = magnitude - ((biased - normal) << F::kMantissa);
  const int exponent = static_cast<int>(biased - normal) + F::kLeast;
  const std::uint32_t product = x * inv.significand;
  const int shift = std::clamp(-(exponent + inv.exponent), 1, 31);
  const std::uint32_t odd = (product >> shift) & 1;
  return static_cast<std::int32_t>((product + (1U << (shift - 1)) - 1 + odd) >> shift);
}

template <class F>
constexpr std::int32_t signed_times(std::uint32_t bits, Scaled inv) noexcept {
  const std::int32_t n = times<F>(bits & kMagnitude, inv);
  const auto minus =
      -static_cast<std::int32_t>((bits & kSign) >> 15);  // no branch to miss
  return (n ^ minus) - minus;
}

// n * scale, rounded once to nearest even; the magnitude saturates at the largest finite
// value. REQUIRES: |n| < 2^14. A zero is always positive.
template <class F>
constexpr std::uint16_t product(std::int32_t n, Scaled scale) noexcept {
  const auto size = static_cast<std::uint64_t>(n < 0 ? -n : n);
  const std::uint32_t magnitude =
      pack<F>(size * scale.significand, scale.exponent, Rounding::nearest_even);
  return static_cast<std::uint16_t>(magnitude | (n < 0 && magnitude != 0 ? kSign : 0));
}

// product() for a scale that is not subnormal, hence with nothing to lose at the bottom:
// the same bits in a third of the time. The conversion only normalises a whole number
// below 2^24, exactly; it depends on no rounding mode.
template <class F>
constexpr std::uint16_t normal_product(std::int32_t n, Scaled scale) noexcept {
  constexpr int kDrop = 23 - F::kMantissa;
  const auto size = static_cast<std::uint32_t>(n < 0 ? -n : n) * scale.significand;
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(size));
  const std::uint32_t rounded =
      (bits + (1U << (kDrop - 1)) - 1 + ((bits >> kDrop) & 1)) >> kDrop;
  const int rise = scale.exponent + F::kBias - 127;
  const auto magnitude = static_cast<std::int32_t>(rounded) + rise * (1 << F::kMantissa);
  const auto largest = static_cast<std::int32_t>(F::kLargest);
  const auto kept =
      size == 0 ? 0U : static_cast<std::uint32_t>(std::min(magnitude, largest));
  return static_cast<std::uint16_t>(kept | (n < 0 ? kSign : 0));
}

inline constexpr std::uint32_t kInt8Steps = 127;

// The scale of an int8 row: amax / 127 to nearest even; among the subnormal numbers,
// where that could lose most of the range, rounded up.
template <class F>
constexpr std::uint32_t int8_scale(std::uint32_t amax) noexcept {
  const Scaled a = unpack<F>(amax);
  const auto scale =
      divide<F>(a.significand, a.exponent, kInt8Steps, Rounding::nearest_even);
  if (scale >> F::kMantissa != 0) return scale;
  return divide<F>(a.significand, a.exponent, kInt8Steps, Rounding::up);
}

}  // namespace speckv::number
