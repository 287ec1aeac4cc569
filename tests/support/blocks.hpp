// support/blocks.hpp -- blocks of every temper, by seed, and exact 16-bit numbers.
//
// The conversions are written on doubles, which hold every f16 and bf16 exactly: they
// share nothing with the library's integer arithmetic.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "cxlspeckv/block.hpp"

namespace speckv::test {

struct Format {
  int mantissa, bias;
  std::uint32_t infinity() const { return 0x7FFFU >> mantissa << mantissa; }
  double unit() const { return std::ldexp(1.0, 1 - bias - mantissa); }
};
inline Format format_of(DType dtype) {
  return dtype == DType::f16 ? Format{10, 15} : Format{7, 127};
}

inline double value_of(DType dtype, std::uint32_t bits) {
  const Format f = format_of(dtype);
  const std::uint32_t biased = (bits & 0x7FFF) >> f.mantissa;
  const auto fraction = static_cast<double>(bits & ((1U << f.mantissa) - 1));
  const double hidden = biased == 0 ? 0.0 : std::ldexp(1.0, f.mantissa);
  const int exponent = std::max(static_cast<int>(biased), 1) - f.bias - f.mantissa;
  const double magnitude = std::ldexp(fraction + hidden, exponent);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// The distance of neighbouring numbers around `x`.
inline double spacing(DType dtype, double x) {
  const Format f = format_of(dtype);
  if (x == 0) return f.unit();
  return std::max(std::ldexp(1.0, std::ilogb(x) - f.mantissa), f.unit());
}

// To nearest even; what is too large becomes the largest finite number.
inline std::uint16_t nearest(DType dtype, double x) {
  const Format f = format_of(dtype);
  const double magnitude =
      std::nearbyint(std::abs(x) / spacing(dtype, x)) * spacing(dtype, x);
  std::uint32_t bits = 0;
  if (magnitude >= std::ldexp(1.0, f.bias + 1)) {
    bits = f.infinity() - 1;
  } else if (magnitude < std::ldexp(1.0, 1 - f.bias)) {
    bits = static_cast<std::uint32_t>(magnitude / f.unit());
  } else {
    const int e = std::ilogb(magnitude);
    bits = (static_cast<std::uint32_t>(e + f.bias - 1) << f.mantissa) +
           static_cast<std::uint32_t>(std::ldexp(magnitude, f.mantissa - e));
  }
  return static_cast<std::uint16_t>(bits | (std::signbit(x) ? 0x8000 : 0));
}

enum class Fill {
  normal,      // a bell curve a channel
  zero,        // zeros of both signs
  constant,    // one value a block
  offset,      // large means, small deviations: keys of real models
  outliers,    // a few values 1000 times the rest
  subnormal,   // below the normal numbers
  any_finite,  // every bit pattern but infinities and NaNs
  extreme,     // the largest numbers, of both signs
  runs,        // long runs of equal values
};
inline constexpr Fill kFills[] = {Fill::normal,     Fill::zero,     Fill::constant,
                                  Fill::offset,     Fill::outliers, Fill::subnormal,
                                  Fill::any_finite, Fill::extreme,  Fill::runs};

// One 16-bit value number `i`.
inline std::uint16_t make_value(DType dtype, Fill fill, std::mt19937_64& random,
                                std::uint64_t i, std::uint32_t head_dim) {
  std::normal_distribution<double> bell;
  const Format f = format_of(dtype);
  const auto sign = static_cast<std::uint16_t>((random() & 1) << 15);
  const double channel = static_cast<double>(i % head_dim);
  switch (fill) {
    case Fill::normal:
      return nearest(dtype, bell(random) * (0.1 + channel / 50));
    case Fill::zero:
      return sign;
    case Fill::constant:
      return nearest(dtype, -3.14159);
    case Fill::offset:
      return nearest(dtype, (i % 3 == 0 ? 40.0 : -7.0) * channel + bell(random) * 0.3);
    case Fill::outliers:
      return nearest(dtype, bell(random) * (random() % 97 == 0 ? 1000 : 1));
    case Fill::subnormal:
      return static_cast<std::uint16_t>(sign | (random() % (1ULL << f.mantissa)));
    case Fill::any_finite:
      return static_cast<std::uint16_t>(sign | (random() % f.infinity()));
    case Fill::extreme:
      return static_cast<std::uint16_t>(sign | (f.infinity() - 1 - random() % 3));
    case Fill::runs:
      return nearest(dtype, static_cast<double>(i / 7 % 5) - 2);
  }
  return 0;
}

// A plain block. f32 and f8 blocks are random bytes, as only raw takes them.
inline std::vector<std::byte> make_block(const BlockLayout& layout, Fill fill,
                                         std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> block(layout.bytes());
  const bool wide = layout.dtype == DType::f16 || layout.dtype == DType::bf16;
  if (!wide) {
    for (std::byte& b : block)
      b = static_cast<std::byte>(random());
    return block;
  }
  for (std::uint64_t i = 0; i < block.size() / 2; ++i) {
    const std::uint16_t bits = make_value(layout.dtype, fill, random, i, layout.head_dim);
    block[2 * i] = static_cast<std::byte>(bits);
    block[2 * i + 1] = static_cast<std::byte>(bits >> 8);
  }
  return block;
}

inline std::uint32_t bits_at(Bytes block, std::uint64_t i) {
  return std::to_integer<std::uint32_t>(block[2 * i]) |
         std::to_integer<std::uint32_t>(block[2 * i + 1]) << 8;
}

}  // namespace speckv::test
