// codec/hxp_offsets.hpp -- where a head's keys and values lie on average, at any
// position, in whole numbers (internal). docs/block-format.md, "hxp".
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "codec/hx.hpp"
#include "codec/number.hpp"
#include "codec/profile.hpp"

namespace speckv::hxp {

inline constexpr int kOffsetBits = 18;  // behind the point
inline constexpr std::int64_t kMostOffset = std::int64_t{1} << 30;
inline constexpr int kSineBits = 15;

namespace offsets_detail {

// sin(x) for x in 0..pi/2: terms of the series until none changes the sum. Computed by
// the compiler, on numbers that are never near a half.
constexpr double sine(double x) noexcept {
  double term = x, sum = x;
  for (int n = 1; n < 20; ++n) {
    term *= -x * x / (2 * n * (2 * n + 1));
    sum += term;
  }
  return sum;
}
constexpr std::array<std::int32_t, 257> quarter() noexcept {
  std::array<std::int32_t, 257> table{};
  for (std::size_t i = 0; i < table.size(); ++i) {
    const double x = 1.57079632679489661923 * static_cast<double>(i) / 256;
    table[i] = (static_cast<std::int32_t>(sine(x) * (2 << kSineBits)) + 1) / 2;
  }
  return table;
}
inline constexpr std::array<std::int32_t, 257> kQuarter = quarter();

// Of i / 1024 of a turn.
constexpr std::int32_t sine_at(std::uint32_t i) noexcept {
  const std::uint32_t within = i & 255;
  const std::int32_t size = kQuarter[(i & 256) == 0 ? within : 256 - within];
  return (i & 512) == 0 ? size : -size;
}

}  // namespace offsets_detail

// sin of phase / 2^32 of a turn, times 2^kSineBits: between the nearest of 1024 angles.
constexpr std::int32_t sine(std::uint32_t phase) noexcept {
  const std::uint32_t i = phase >> 22;
  const auto within = static_cast<std::int32_t>(phase >> 6 & 0xFFFF);
  const std::int32_t low = offsets_detail::sine_at(i),
                     high = offsets_detail::sine_at(i + 1);
  return low + (((high - low) * within + (1 << 15)) >> 16);
}
constexpr std::int32_t cosine(std::uint32_t phase) noexcept {
  return sine(phase + (1U << 30));
}

// The bits of an f16 as a whole number of 2^-kOffsetBits, half away from zero.
constexpr std::int32_t offset_of(std::uint32_t bits) noexcept {
  const number::Scaled s = number::unpack<number::F16>(bits & number::kMagnitude);
  const int up = s.exponent + kOffsetBits;
  const std::int64_t size =
      up >= 0 ? std::int64_t{s.significand} << up
              : (std::int64_t{s.significand} + (1LL << (-up - 1))) >> -up;
  const auto kept = static_cast<std::int32_t>(std::min(size, kMostOffset));
  return (bits & number::kSign) != 0 ? -kept : kept;
}

// The means of a head, as its tokens have them.
class Offsets {
 public:
  Offsets(const ModelProfile& profile, const ModelProfile::Head& head) noexcept
      : profile_(profile), rotates_(!head.value) {
    for (std::uint32_t c = 0; c < profile.shape().head_dim; ++c)
      mean_[c] = offset_of(profile.mean(head, c));
  }

  // As the profile has them.
  const std::int32_t* means() const noexcept { return mean_; }

  // Of every channel at a position. K's turn with it.
  void at(std::uint32_t position, std::int32_t* to) const noexcept {
    const std::uint32_t pairs = rotates_ ? profile_.shape().pairs : 0;
    for (std::uint32_t i = 0; i < pairs; ++i) {
      const std::uint32_t phase = position * profile_.frequency(i);
      const std::int64_t c = cosine(phase), s = sine(phase);
      const std::int64_t a = mean_[i], b = mean_[pairs + i];
      to[i] = rounded(a * c - b * s);
      to[pairs + i] = rounded(b * c + a * s);
    }
    std::copy(mean_ + std::size_t{2} * pairs, mean_ + profile_.shape().head_dim,
              to + std::size_t{2} * pairs);
  }

 private:
  static std::int32_t rounded(std::int64_t x) noexcept {
    return static_cast<std::int32_t>((x + (1 << (kSineBits - 1))) >> kSineBits);
  }

  const ModelProfile& profile_;
  bool rotates_;
  std::int32_t mean_[256];
};

// An offset in steps, by the inverse of the step: rounded half up.
constexpr std::int32_t steps_of(std::int32_t offset, number::Scaled inverse) noexcept {
  constexpr std::int64_t kMost = HxShape::kMostSteps;
  std::int64_t n = std::int64_t{offset} * std::int64_t{inverse.significand};
  const int down = kOffsetBits - inverse.exponent;
  if (down >= 1) {
    const int shift = std::min(down, 60);
    n = (n + (std::int64_t{1} << (shift - 1))) >> shift;
  } else {
    n *= std::int64_t{1} << std::min(-down, 12);
  }
  return static_cast<std::int32_t>(std::clamp(n, -kMost, kMost));
}

}  // namespace speckv::hxp
