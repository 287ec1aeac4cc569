// codec/kvq4_group.hpp -- one group of kvq4: its scale and zero, exactly (internal).
//
// A value is (q - zero) * scale, which is exact before its one rounding: 13 bits
// times 11.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/endian.hpp"
#include "codec/kvq4.hpp"
#include "codec/number.hpp"

namespace speckv::kvq4 {

using namespace number;

struct Parameters {
  std::uint32_t scale = 0;
  std::int32_t zero = 0;
};

inline void put(std::byte* at, const Parameters& p) noexcept {
  store_le(at, static_cast<std::uint16_t>(p.scale));
  store_le(at + 2, static_cast<std::int16_t>(p.zero));
}
inline Parameters get(const std::byte* at) noexcept {
  return {load_le<std::uint16_t>(at), load_le<std::int16_t>(at + 2)};
}

// The value's place in the order of numbers; both zeros share one.
constexpr std::int32_t rank(std::uint32_t bits) noexcept {
  const auto magnitude = static_cast<std::int32_t>(bits & kMagnitude);
  const auto minus = -static_cast<std::int32_t>((bits & kSign) >> 15);
  return (magnitude ^ minus) - minus;
}

// Smallest and largest rank of a group.
struct Extent {
  std::int32_t low = INT32_MAX, high = INT32_MIN;
  void add(std::uint32_t bits) noexcept {
    const std::int32_t r = rank(bits);
    low = std::min(low, r);
    high = std::max(high, r);
  }
  std::uint32_t largest() const noexcept {
    return static_cast<std::uint32_t>(std::max(-low, high));
  }
};

// high - low, in units of 2^(exponent - 40), where `exponent` is that of the larger. What
// lies below one unit counts as one: rounded up to a scale, the quotient is the exact
// one's.
template <class F>
std::uint64_t range(const Extent& x, int exponent) noexcept {
  const auto fixed = [exponent](std::int32_t r) {
    const Scaled s = unpack<F>(static_cast<std::uint32_t>(r < 0 ? -r : r));
    const std::uint64_t wide = std::uint64_t{s.significand} << 40;
    const int shift = exponent - s.exponent;
    const auto size = static_cast<std::int64_t>(
        shift > 0 ? shift_right(wide, shift, Rounding::up) : wide);
    return r < 0 ? -size : size;
  };
  return static_cast<std::uint64_t>(fixed(x.high) - fixed(x.low));
}

// A fifteenth of the range, rounded up, but at least the spacing of numbers near the
// largest: |zero| then stays below 2^(mantissa + 1), and a constant group is exact.
template <class F>
std::uint32_t group_scale(const Extent& x) noexcept {
  const int exponent = unpack<F>(x.largest()).exponent;
  const auto fifteenth =
      divide<F>(range<F>(x, exponent), exponent - 40, Kvq4Shape::kTop, Rounding::up);
  return std::max(fifteenth, pack<F>(1, exponent, Rounding::up));
}

// What one group's values are multiplied and shifted by.
struct Quantiser {
  Scaled inverse{};
  std::int32_t zero = 0;
};

// REQUIRES: x.largest() < F::kInfinity.
template <class F>
Parameters parameters(const Extent& x, Quantiser& quantiser) noexcept {
  const std::uint32_t scale = group_scale<F>(x);
  quantiser.inverse = inverse<F>(scale);
  const auto size = static_cast<std::uint32_t>(x.low < 0 ? -x.low : x.low);
  const std::int32_t n = times<F>(size, quantiser.inverse);
  quantiser.zero = x.low < 0 ? n : -n;
  return {scale, quantiser.zero};
}

}  // namespace speckv::kvq4
