// base/crc32c_lanes.hpp -- CRC-32C by the processor's own instruction, for the
// instruction set of the file that includes this (internal).
//
// Before including it: SPECKV_CRC_TARGET, its target attribute, and in namespace
// speckv::crc32c_detail a word Running for the CRC, step(Running, eight bytes),
// step(Running, one byte), and times(Running, word), the carry-less product.
#pragma once

#include <algorithm>
#include <cstring>

#include "base/crc32c.hpp"

namespace speckv::crc32c_detail {
namespace {

enum class Store { none, cached, stream };

// Continues the inverted value `c`, and copies where asked: for heads, tails, short runs.
template <Store store>
SPECKV_CRC_TARGET std::uint32_t short_run(std::uint32_t crc, std::byte* to,
                                          const std::byte* from,
                                          std::size_t size) noexcept {
  Running c = crc;
  for (; size >= 8; size -= 8, from += 8) {
    std::uint64_t v;
    std::memcpy(&v, from, 8);
    c = step(c, v);
    if constexpr (store != Store::none) {
      std::memcpy(to, &v, 8);
      to += 8;
    }
  }
  for (; size > 0; --size, ++from) {
    c = step(c, std::to_integer<std::uint8_t>(*from));
    if constexpr (store != Store::none) *to++ = *from;
  }
  return static_cast<std::uint32_t>(c);
}

// The instruction takes one step a clock but answers after two or three: three runs side
// by side.
inline constexpr std::size_t kLane = 1024;

// c times x^(8 * bytes), where k = x^(8 * bytes - 33): the product of two reflected words
// is one bit short of a 64-bit message, and the instruction multiplies by x^32 itself.
SPECKV_CRC_TARGET inline Running shifted(Running c, std::uint32_t k) noexcept {
  return step(Running{0}, times(c, k));
}

// `left` bytes lie at `data`; the stretch after this one is fetched meanwhile.
SPECKV_CRC_TARGET inline std::uint32_t three_lanes(std::uint32_t c, const std::byte* data,
                                                   std::size_t left) noexcept {
  const std::byte* ahead = left >= 6 * kLane ? data + 3 * kLane : data;
  constexpr std::uint32_t kOne = x_to(8 * kLane - 33), kTwo = x_to(16 * kLane - 33);
  Running a = c, b = 0, d = 0;
  for (std::size_t i = 0; i < kLane; i += 8) {
    if (i % 64 == 0) {
      for (std::size_t lane = 0; lane < 3; ++lane)
        __builtin_prefetch(ahead + lane * kLane + i);
    }
    std::uint64_t v[3];
    std::memcpy(&v[0], data + i, 8);
    std::memcpy(&v[1], data + kLane + i, 8);
    std::memcpy(&v[2], data + 2 * kLane + i, 8);
    a = step(a, v[0]);
    b = step(b, v[1]);
    d = step(d, v[2]);
  }
  return static_cast<std::uint32_t>(shifted(a, kTwo) ^ shifted(b, kOne) ^ d);
}

SPECKV_CRC_TARGET inline std::uint32_t lanes_crc(std::uint32_t crc, const std::byte* data,
                                                 std::size_t size) noexcept {
  std::uint32_t c = ~crc;
  for (; size >= 3 * kLane; size -= 3 * kLane, data += 3 * kLane)
    c = three_lanes(c, data, size);
  return ~short_run<Store::none>(c, nullptr, data, size);
}

}  // namespace
}  // namespace speckv::crc32c_detail
