// Every checksum kernel gives the bits of the definition, at all lengths and alignments,
// and writes nothing but its range.
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "base/checksum.hpp"
#include "base/crc32c.hpp"

namespace speckv {
namespace {

std::vector<std::byte> random_bytes(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& b : bytes)
    b = static_cast<std::byte>(random());
  return bytes;
}

// One bit at a time, straight from the polynomial.
std::uint32_t bit_by_bit(std::uint32_t crc, Bytes data) {
  std::uint32_t c = ~crc;
  for (const std::byte b : data) {
    c ^= std::to_integer<std::uint32_t>(b);
    for (int i = 0; i < 8; ++i)
      c = crc32c_detail::times_x(c);
  }
  return ~c;
}

class Kernel : public ::testing::TestWithParam<std::size_t> {
 protected:
  void SetUp() override {
    if (!kernel().usable()) GTEST_SKIP() << "this machine cannot run " << kernel().name;
  }
  const ChecksumKernel& kernel() const { return checksum_kernels()[GetParam()]; }
};

TEST_P(Kernel, agrees_with_the_polynomial_at_all_short_lengths) {
  const std::vector<std::byte> data = random_bytes(1400, 1);
  for (std::size_t size = 0; size < 1300; ++size) {
    const std::uint32_t start = static_cast<std::uint32_t>(size) * 0x9E3779B9U;
    const Bytes run = Bytes(data).subspan(size % 67, size);
    ASSERT_EQ(kernel().crc(start, run.data(), size), bit_by_bit(start, run)) << size;
  }
}

TEST_P(Kernel, agrees_with_the_polynomial_on_long_runs) {
  const std::vector<std::byte> data = random_bytes(300 << 10, 2);
  for (const int length :
       {3071, 3072, 3073, 4096, 6144, 9216, 65536, 100001, 300 << 10}) {
    const auto size = static_cast<std::size_t>(length);
    ASSERT_EQ(kernel().crc(7, data.data(), size), bit_by_bit(7, Bytes(data).first(size)))
        << size;
  }
}

// Canaries on both sides; every alignment of source and target within a cache line.
TEST_P(Kernel, copies_exactly_its_range_at_every_alignment) {
  constexpr std::size_t kMargin = 64;
  const std::vector<std::byte> data = random_bytes(4096 + 64, 3);
  std::vector<std::byte> to(4096 + 3 * kMargin);
  for (const int length : {0, 1, 7, 8, 63, 64, 511, 512, 513, 1000, 3100, 4000}) {
    const auto size = static_cast<std::size_t>(length);
    for (std::size_t in = 0; in < 64; in += 7) {
      for (std::size_t out = 0; out < 64; out += 3) {
        for (const bool stream : {false, true}) {
          std::memset(to.data(), 0xA5, to.size());
          std::byte* start = to.data() + kMargin + out;
          const std::uint32_t crc =
              kernel().copy(99, start, data.data() + in, size, stream);
          ASSERT_EQ(crc, kernel().crc(99, data.data() + in, size));
          ASSERT_EQ(std::memcmp(start, data.data() + in, size), 0);
          for (std::byte* b = to.data(); b < start; ++b)
            ASSERT_EQ(*b, std::byte{0xA5});
          for (std::byte* b = start + size; b < to.data() + to.size(); ++b) {
            ASSERT_EQ(*b, std::byte{0xA5});
          }
        }
      }
    }
  }
}

TEST_P(Kernel, sees_every_single_flipped_bit) {
  std::vector<std::byte> data = random_bytes(777, 4);
  const std::uint32_t sound = kernel().crc(0, data.data(), data.size());
  for (std::size_t bit = 0; bit < 8 * data.size(); ++bit) {
    const auto mask = static_cast<std::byte>(1 << (bit % 8));
    data[bit / 8] ^= mask;
    ASSERT_NE(kernel().crc(0, data.data(), data.size()), sound) << bit;
    data[bit / 8] ^= mask;
  }
}

INSTANTIATE_TEST_SUITE_P(Every, Kernel,
                         ::testing::Range<std::size_t>(0, checksum_kernels().size()),
                         [](const auto& kernel) {
                           return std::string(checksum_kernels()[kernel.param].name);
                         });

}  // namespace
}  // namespace speckv
