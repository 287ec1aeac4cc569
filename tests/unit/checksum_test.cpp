#include "base/checksum.hpp"

#include <vector>

#include <gtest/gtest.h>

#include "base/crc32c.hpp"

namespace speckv {
namespace {

std::uint32_t crc_of(std::span<const std::uint8_t> bytes) {
  return crc32c(0, std::as_bytes(bytes));
}

// The examples of RFC 3720, appendix B.4, and the usual check word.
TEST(Checksum, known_answers) {
  std::vector<std::uint8_t> bytes(32, 0x00);
  EXPECT_EQ(crc_of(bytes), 0x8A9136AAU);
  bytes.assign(32, 0xFF);
  EXPECT_EQ(crc_of(bytes), 0x62A8AB43U);
  for (std::uint8_t i = 0; i < 32; ++i)
    bytes[i] = i;
  EXPECT_EQ(crc_of(bytes), 0x46DD794EU);
  for (std::uint8_t i = 0; i < 32; ++i)
    bytes[i] = static_cast<std::uint8_t>(31 - i);
  EXPECT_EQ(crc_of(bytes), 0x113FDB5CU);
  EXPECT_EQ(crc32c(0, std::as_bytes(std::span("123456789", 9))), 0xE3069283U);
}

TEST(Checksum, nothing_changes_nothing) {
  EXPECT_EQ(crc32c(0, {}), 0U);
  EXPECT_EQ(crc32c(0x12345678, {}), 0x12345678U);
  EXPECT_EQ(copy_crc32c(0x12345678, nullptr, {}, true), 0x12345678U);
}

TEST(Checksum, pieces_give_the_value_of_the_whole) {
  std::vector<std::byte> bytes(5000);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(i * i);
  const std::uint32_t whole = crc32c(0, bytes);
  for (const std::size_t cut : {0UL, 1UL, 63UL, 64UL, 700UL, 3072UL, 4999UL, 5000UL}) {
    const std::uint32_t first = crc32c(0, Bytes(bytes).first(cut));
    EXPECT_EQ(crc32c(first, Bytes(bytes).subspan(cut)), whole) << cut;
  }
}

// A polynomial is its own definition: x^32 modulo it is what is left of it.
TEST(Checksum, powers_of_x_follow_the_polynomial) {
  using namespace crc32c_detail;
  EXPECT_EQ(x_to(0), 0x80000000U);
  EXPECT_EQ(x_to(31), 1U);
  EXPECT_EQ(x_to(32), kPolynomial);
  EXPECT_EQ(multiply(x_to(700), x_to(1348)), x_to(2048));
  std::uint32_t v = 0x80000000;
  for (int i = 0; i < 991; ++i)
    v = times_x(v);
  EXPECT_EQ(x_to(991), v);
}

class Selection : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_TRUE(set_checksum_kernel("")); }
};

TEST_F(Selection, ends_with_the_definition_that_always_works) {
  EXPECT_EQ(checksum_kernels().back().name, "scalar");
  EXPECT_TRUE(checksum_kernels().back().usable());
}

TEST_F(Selection, takes_the_first_usable_kernel) {
  for (const ChecksumKernel& kernel : checksum_kernels()) {
    if (!kernel.usable()) continue;
    EXPECT_EQ(checksum_kernel().name, kernel.name);
    break;
  }
}

TEST_F(Selection, by_name_holds_until_taken_back) {
  const std::string_view before = checksum_kernel().name;
  ASSERT_TRUE(set_checksum_kernel("scalar"));
  EXPECT_EQ(checksum_kernel().name, "scalar");
  ASSERT_TRUE(set_checksum_kernel(""));
  EXPECT_EQ(checksum_kernel().name, before);
}

TEST_F(Selection, refuses_an_unknown_name_and_changes_nothing) {
  ASSERT_TRUE(set_checksum_kernel("scalar"));
  EXPECT_FALSE(set_checksum_kernel("Scalar"));
  EXPECT_FALSE(set_checksum_kernel("crc32"));
  EXPECT_EQ(checksum_kernel().name, "scalar");
}

}  // namespace
}  // namespace speckv
