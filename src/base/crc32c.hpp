// base/crc32c.hpp -- polynomial arithmetic behind every CRC-32C kernel (internal).
//
// Bit-reflected: bit 31 of a word is the coefficient of x^0. Constants are computed from
// the polynomial here, at compile time; none is copied from a table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/checksum.hpp"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SPECKV_CRC32C_X86 1
#else
#define SPECKV_CRC32C_X86 0
#endif
#if defined(__aarch64__) && defined(__linux__) && \
    (defined(__GNUC__) || defined(__clang__))
#define SPECKV_CRC32C_ARM 1
#else
#define SPECKV_CRC32C_ARM 0
#endif

namespace speckv::crc32c_detail {

inline constexpr std::uint32_t kPolynomial = 0x82F63B78;  // 0x1EDC6F41 reflected

constexpr std::uint32_t times_x(std::uint32_t v) noexcept {
  return (v >> 1) ^ ((v & 1) != 0 ? kPolynomial : 0);
}

// x^n modulo the polynomial, by squaring: n is in the thousands.
constexpr std::uint32_t multiply(std::uint32_t a, std::uint32_t b) noexcept {
  std::uint32_t sum = 0;
  for (std::uint32_t bit = 0x80000000; bit != 0; bit >>= 1, b = times_x(b)) {
    if ((a & bit) != 0) sum ^= b;
  }
  return sum;
}
constexpr std::uint32_t x_to(std::uint64_t n) noexcept {
  std::uint32_t power = 0x80000000;   // 1
  std::uint32_t square = 0x40000000;  // x
  for (; n != 0; n >>= 1, square = multiply(square, square)) {
    if ((n & 1) != 0) power = multiply(power, square);
  }
  return power;
}

// Row 0 advances a CRC by one byte, row k by one byte and k zero bytes.
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;
constexpr Tables make_tables() noexcept {
  Tables t{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t v = i;
    for (int bit = 0; bit < 8; ++bit)
      v = times_x(v);
    t[0][i] = v;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t i = 0; i < 256; ++i) {
      t[k][i] = (t[k - 1][i] >> 8) ^ t[0][t[k - 1][i] & 0xFF];
    }
  }
  return t;
}

#if SPECKV_CRC32C_X86
extern const ChecksumKernel kSse42;
extern const ChecksumKernel kVpclmul512;
#endif
#if SPECKV_CRC32C_ARM
extern const ChecksumKernel kArmv8;
#endif

}  // namespace speckv::crc32c_detail
