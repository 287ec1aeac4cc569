// codec/log_scale.hpp -- powers of two in parts of an octave, in whole numbers
// (internal).
//
// Scales of the rt codecs are sixteenths of an octave, steps of the hx codecs are 64ths:
// a table of significands is all that a decoder needs, and an encoder's logarithms are
// comparisons with the same table. docs/block-format.md, "Powers".
#pragma once

#include <bit>
#include <cstdint>

#include "codec/number.hpp"

namespace speckv::log_scale {

inline constexpr int kBits = 10;  // of a significand behind its point

// round(2^(i / 64) * 2^10)
inline constexpr std::int32_t kSignificand[64] = {
    1024, 1035, 1046, 1058, 1069, 1081, 1093, 1105, 1117, 1129, 1141, 1154, 1166,
    1179, 1192, 1205, 1218, 1231, 1244, 1258, 1272, 1286, 1300, 1314, 1328, 1342,
    1357, 1372, 1387, 1402, 1417, 1433, 1448, 1464, 1480, 1496, 1512, 1529, 1545,
    1562, 1579, 1596, 1614, 1631, 1649, 1667, 1685, 1704, 1722, 1741, 1760, 1779,
    1798, 1818, 1838, 1858, 1878, 1898, 1919, 1940, 1961, 1983, 2004, 2026};

inline constexpr int kSteps = 16;  // of an octave, in what follows

constexpr int floor_octave(int sixteenths) noexcept {
  return sixteenths >> 4;
}
constexpr std::int32_t significand(int sixteenths) noexcept {
  return kSignificand[(sixteenths & 15) * 4];
}

// 2^(parts / 64), with eleven bits.
constexpr number::Scaled power64(int parts) noexcept {
  return {static_cast<std::uint32_t>(kSignificand[parts & 63]), (parts >> 6) - kBits};
}
// 2^(sixteenths / 16)
constexpr number::Scaled power(int sixteenths) noexcept {
  return power64(4 * sixteenths);
}

// 2^(-parts / 64) as 1 / power64(parts), to nearest in 13 bits (4096..8192).
constexpr number::Scaled inverse64(int parts) noexcept {
  const number::Scaled s = power64(parts);
  constexpr int kTop = kBits + 13;
  return {((1U << kTop) + s.significand / 2) / s.significand, -s.exponent - kTop};
}

// Where the steps of an octave lie among its eleven-bit numbers: a 32nd of them has one
// at most. By 32nds: the step below (the lowest four bits), and from where it is the
// next.
constexpr int kStepBits = 4;
struct Steps {
  std::int16_t part[32];
};
constexpr Steps steps() noexcept {
  Steps made{};
  for (int part = 0, step = 0; part < 32; ++part) {
    const int end = (1 << kBits) + 32 * (part + 1);
    const bool inside = step + 1 < kSteps && significand(step + 1) < end;
    const int next = inside ? significand(step + 1) : 2 << kBits;
    made.part[part] =
        static_cast<std::int16_t>(((next - (1 << kBits)) << kStepBits) | step);
    step += inside ? 1 : 0;
  }
  return made;
}
alignas(64) inline constexpr Steps kStepsOf = steps();

// The logarithm in sixteenths, rounded down, of the value cut to eleven bits. 0 counts
// as 1.
constexpr int log2_of(std::uint64_t value) noexcept {
  value |= value == 0 ? 1 : 0;
  const int octave = static_cast<int>(std::bit_width(value)) - 1;
  const auto m = static_cast<int>(value << (63 - octave) >> (63 - kBits)) - (1 << kBits);
  const int entry = kStepsOf.part[m >> 5];
  const bool beyond = (m << kStepBits | (kSteps - 1)) >= entry;
  return octave * kSteps + (entry & (kSteps - 1)) + (beyond ? 1 : 0);
}

}  // namespace speckv::log_scale
