// predict/int8_arithmetic.hpp -- the whole numbers of the INT8 LSTM: its definition
// (docs/lstm-format.md), which kernels and hardware equal to the bit.
//
// Inputs and outputs h are multiples of 1/128, gates and cells of 1/4096 within -8..8,
// what sigmoid and tanh give of 1/32768. Logits are in bits, multiples of 1/4096.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace speckv::predict::int8 {

inline constexpr std::uint32_t kMostShift = 24;
inline constexpr int kFraction = 12;          // bits of a gate behind the point
inline constexpr int kScale = kFraction - 7;  // shift + kScale: -log2 of a row's unit
inline constexpr std::int32_t kMostMultiplier = 255, kMostBias = 1 << 30;
inline constexpr std::int32_t kMost = 32767;  // of a gate or a cell, either side

// 32768 / (1 + exp(-i / 8)) and 32768 / 2^(i / 32), rounded.
inline constexpr std::array<std::int16_t, 65> kSigmoid = {
    16384, 17407, 18421, 19420, 20397, 21344, 22255, 23127, 23955, 24737, 25471,
    26155, 26790, 27377, 27917, 28411, 28862, 29272, 29644, 29979, 30282, 30555,
    30799, 31018, 31214, 31389, 31545, 31684, 31807, 31917, 32015, 32102, 32179,
    32247, 32307, 32361, 32408, 32450, 32487, 32520, 32549, 32574, 32597, 32617,
    32635, 32650, 32664, 32676, 32687, 32696, 32705, 32712, 32719, 32725, 32730,
    32734, 32738, 32742, 32745, 32747, 32750, 32752, 32754, 32756, 32757};
inline constexpr std::array<std::int32_t, 33> kPower = {
    32768, 32066, 31379, 30706, 30048, 29405, 28774, 28158, 27554, 26964, 26386,
    25821, 25268, 24726, 24196, 23678, 23170, 22674, 22188, 21713, 21247, 20792,
    20347, 19911, 19484, 19066, 18658, 18258, 17867, 17484, 17109, 16743, 16384};

// A feature or an embedding's component.
inline std::int8_t input(float value) noexcept {
  const float most = 127.0F / 128;
  const float kept = value == value ? std::clamp(value, -most, most) : 0.0F;
  return static_cast<std::int8_t>(std::lround(kept * 128));
}

constexpr std::int32_t affine(std::int32_t sum, std::int32_t multiplier,
                              std::int32_t bias, std::uint32_t shift) noexcept {
  return (sum * multiplier + bias + (1 << (shift - 1))) >> shift;
}

constexpr std::int16_t saturate(std::int32_t x) noexcept {
  return static_cast<std::int16_t>(std::clamp(x, -kMost, kMost));
}

// (a * b) / 32768, rounded half up.
constexpr std::int32_t times(std::int32_t a, std::int32_t b) noexcept {
  return (a * b + (1 << 14)) >> 15;
}

constexpr std::int32_t sigmoid(std::int16_t x) noexcept {
  const auto size = static_cast<std::uint32_t>(x < 0 ? -x : x);
  const std::uint32_t i = size >> 9, part = size & 511;
  const std::int32_t y = kSigmoid[i] + times(kSigmoid[i + 1] - kSigmoid[i],
                                             static_cast<std::int32_t>(part << 6));
  return x < 0 ? 32768 - y : y;
}

constexpr std::int32_t tanh(std::int16_t x) noexcept {
  return 2 * sigmoid(saturate(2 * x)) - 32768;
}

struct Cell {
  std::int16_t c;
  std::int8_t h;
};

// One cell, from its four gates (of affine(), not yet saturated) and its last c.
constexpr Cell cell(std::int32_t i, std::int32_t f, std::int32_t g, std::int32_t o,
                    std::int16_t c) noexcept {
  const std::int32_t kept = times(sigmoid(saturate(f)), c);
  const std::int32_t added = times(sigmoid(saturate(i)), tanh(saturate(g)));
  const std::int16_t now = saturate(kept + ((added + 4) >> 3));
  const std::int32_t h = times(sigmoid(saturate(o)), tanh(now));
  return {now, static_cast<std::int8_t>(std::clamp((h + 128) >> 8, -127, 127))};
}

// 32768 / 2^(below / 4096), cut: the weight of a logit so far below the largest one.
constexpr std::uint32_t weight(std::uint32_t below) noexcept {
  const std::uint32_t whole = below >> kFraction;
  if (whole > 15) return 0;
  const std::uint32_t i = below >> 7 & 31, part = below & 127;
  const std::int32_t step = kPower[i] - kPower[i + 1];
  const std::int32_t y = kPower[i] - ((step * static_cast<std::int32_t>(part) + 64) >> 7);
  return static_cast<std::uint32_t>(y) >> whole;
}

}  // namespace speckv::predict::int8
