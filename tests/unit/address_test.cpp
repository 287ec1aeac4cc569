#include "cxlspeckv/address.hpp"

#include <bit>
#include <random>

#include <gtest/gtest.h>

namespace speckv {
namespace {

constexpr KvAddress kLast{0xFFFFFFFF, 0xFFFF, 0xFF, 0xFFFFFFFF, KvKind::value};

static_assert(unpack(pack(KvAddress{1, 2, 3, 4, KvKind::value})) ==
              KvAddress{1, 2, 3, 4, KvKind::value});

// Injective by having an inverse.
TEST(KvAddress, unpacks_to_what_was_packed) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 100000; ++i) {
    const KvAddress a{
        static_cast<std::uint32_t>(random()), static_cast<std::uint16_t>(random()),
        static_cast<std::uint8_t>(random()), static_cast<std::uint32_t>(random()),
        KvKind{static_cast<std::uint8_t>(random() & 1)}};
    ASSERT_EQ(unpack(pack(a)), a);
  }
  EXPECT_EQ(unpack(pack(KvAddress{})), KvAddress{});
  EXPECT_EQ(unpack(pack(kLast)), kLast);
}

// The published sketch cut the 89 bits to 64, so that requests aliased.
TEST(KvAddress, every_bit_of_every_field_has_its_own_place) {
  PackedAddress seen{};
  int bits = 0;
  const auto add = [&](const KvAddress& a) {
    const PackedAddress p = pack(a);
    EXPECT_EQ(std::popcount(p.high) + std::popcount(p.low), 1);
    EXPECT_EQ(p.high & seen.high, 0U);
    EXPECT_EQ(p.low & seen.low, 0U);
    seen.high |= p.high;
    seen.low |= p.low;
    ++bits;
  };
  for (unsigned i = 0; i < 32; ++i)
    add({.request = 1U << i});
  for (unsigned i = 0; i < 16; ++i)
    add({.layer = static_cast<std::uint16_t>(1U << i)});
  for (unsigned i = 0; i < 8; ++i)
    add({.head = static_cast<std::uint8_t>(1U << i)});
  for (unsigned i = 0; i < 32; ++i)
    add({.position = 1U << i});
  add({.kind = KvKind::value});
  EXPECT_EQ(bits, 89);
  EXPECT_EQ(seen, pack(kLast));
  EXPECT_EQ(seen.low, ~0ULL);
  EXPECT_EQ(seen.high, (1ULL << 25) - 1);
}

TEST(KvAddress, the_tokens_of_a_run_are_neighbours) {
  const PackedAddress first = pack({.request = 9, .layer = 8, .head = 7, .position = 41});
  const PackedAddress next = pack({.request = 9, .layer = 8, .head = 7, .position = 42});
  EXPECT_EQ(next.low, first.low + 1);
  EXPECT_EQ(next.high, first.high);
}

TEST(KvAddress, a_word_with_other_bits_is_no_address) {
  for (unsigned bit = 25; bit < 64; ++bit) {
    EXPECT_FALSE(unpack({.high = 1ULL << bit, .low = 0})) << bit;
  }
}

}  // namespace
}  // namespace speckv
