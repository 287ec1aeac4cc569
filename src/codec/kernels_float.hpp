// codec/kernels_float.hpp -- where floats give the definition's bits (internal).
//
// A 16-bit value times a 13-bit inverse fits the 24 bits of a float, and so does (q -
// zero)
// * scale; each is rounded once, by an instruction that names its rounding. F16 always
// lies within float's normal numbers. bf16 does not, so rows and groups whose scale is
// very small or very large, or that hold subnormal numbers, go to the definition.
#pragma once

#include <bit>
#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "codec/kernels.hpp"
#include "codec/number.hpp"

namespace speckv::codec_detail {

template <class F>
inline constexpr bool kIsF16 = F::kMantissa == 10;

// Scales of bf16 within which every product and quotient is a normal float.
inline constexpr int kLeastScale = 16 << 7, kMostScale = 224 << 7;
template <class F>
constexpr bool is_unusual(std::uint32_t scale) noexcept {
  return !kIsF16<F> && (scale < kLeastScale || scale >= kMostScale);
}

// Whether parameters are sound, and floats can go on with them; ask: the definition.
enum class Sound : std::uint8_t { yes, no, ask };

// What takes over outside of that.
template <class F>
const CodecLoops& exact() noexcept {
  return kIsF16<F> ? kScalar.f16 : kScalar.bf16;
}

// `inv` as a float, exactly. REQUIRES: of a scale that is not unusual.
constexpr float as_float(number::Scaled inv) noexcept {
  const auto power = static_cast<std::uint32_t>(inv.exponent + 127) << 23;
  return static_cast<float>(inv.significand) * std::bit_cast<float>(power);
}

// The fixed point of docs/block-format.md: 2^-exponent, and whether the largest biased
// exponent of a unit allows its use. Where it does not, values and scales are not normal
// binary32 numbers.
constexpr float fixed_scale(std::int32_t exponent) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(127 - exponent) << 23);
}
template <class F>
constexpr bool has_fixed_point(std::uint32_t top) noexcept {
  return kIsF16<F> || top >= 40;
}

#if defined(__x86_64__)
inline bool has_f16c() noexcept {  // clang 14's __builtin_cpu_supports does not know it
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

}  // namespace speckv::codec_detail
