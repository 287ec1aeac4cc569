// Codes of bounded length: the best there are, complete, canonical; and streams of bits
// that are read without leaving them.
#include "codec/prefix_code.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "codec/lossless_loops.hpp"

namespace speckv::prefix {
namespace {

using Counts = std::vector<std::uint32_t>;

std::vector<std::uint8_t> lengths_of(const Counts& counts, int most) {
  std::vector<std::uint8_t> lengths(counts.size());
  code_lengths(counts, most, lengths);
  return lengths;
}
std::uint64_t bits_of(const Counts& counts, std::span<const std::uint8_t> lengths) {
  std::uint64_t bits = 0;
  for (std::size_t s = 0; s < counts.size(); ++s)
    bits += std::uint64_t{counts[s]} * lengths[s];
  return bits;
}

// The least bits of any complete code, by trying all: symbols in order of their counts,
// each at least as long as the one before. `left`: room, in codes of `most` bits.
std::uint64_t least_bits(const Counts& sorted, std::size_t at, int from, int most,
                         std::uint64_t left) {
  if (at == sorted.size()) return left == 0 ? 0 : UINT64_MAX;
  std::uint64_t best = UINT64_MAX;
  for (int length = from; length <= most; ++length) {
    const std::uint64_t room = std::uint64_t{1} << (most - length);
    if (room > left) continue;
    const std::uint64_t rest = least_bits(sorted, at + 1, length, most, left - room);
    if (rest != UINT64_MAX)
      best = std::min(best, rest + sorted[at] * static_cast<std::uint64_t>(length));
  }
  return best;
}

TEST(PrefixCode, no_code_of_bounded_length_is_shorter) {
  std::mt19937 random(4);
  for (int round = 0; round < 300; ++round) {
    Counts counts(2 + random() % 7);
    for (auto& count : counts)
      count = static_cast<std::uint32_t>(
          1 + std::pow(2.0, static_cast<double>(random() % 1400) / 100));
    const int most = 3 + static_cast<int>(random() % 4);
    Counts sorted = counts;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    EXPECT_EQ(bits_of(counts, lengths_of(counts, most)),
              least_bits(sorted, 0, 1, most, std::uint64_t{1} << most));
  }
}

TEST(PrefixCode, symbols_that_do_not_occur_have_no_code) {
  Counts counts(256, 0);
  counts[7] = 5;
  counts[200] = 1;
  const auto lengths = lengths_of(counts, 11);
  EXPECT_EQ(lengths[7], 1);
  EXPECT_EQ(lengths[200], 1);
  EXPECT_EQ(std::accumulate(lengths.begin(), lengths.end(), 0), 2);
}

TEST(PrefixCode, only_complete_codes_are_taken) {
  std::array<Code, 4> codes;
  const auto taken = [&](std::array<std::uint8_t, 4> lengths) {
    return assign_codes(lengths, 11, codes);
  };
  EXPECT_TRUE(taken({1, 2, 3, 3}));
  EXPECT_TRUE(taken({2, 2, 2, 2}));
  EXPECT_TRUE(taken({1, 1, 0, 0}));
  EXPECT_FALSE(taken({0, 0, 0, 0}));
  EXPECT_FALSE(taken({1, 0, 0, 0}));
  EXPECT_FALSE(taken({1, 2, 0, 0}));
  EXPECT_FALSE(taken({1, 1, 1, 0}));
  EXPECT_FALSE(taken({1, 2, 3, 12}));
  ASSERT_TRUE(taken({3, 1, 3, 2}));
  EXPECT_EQ(codes[1].bits, 0b0);
  EXPECT_EQ(codes[3].bits, 0b01);  // 10, the first bit lowest
  EXPECT_EQ(codes[0].bits, 0b011);
  EXPECT_EQ(codes[2].bits, 0b111);
}

TEST(PrefixCode, what_was_written_is_read_and_nothing_behind_it) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    Counts counts(2 + random() % 255);
    for (auto& count : counts)
      count = static_cast<std::uint32_t>(
          std::pow(2.0, static_cast<double>(random() % 1600) / 100));
    const auto lengths = lengths_of(counts, 11);
    std::vector<Code> codes(counts.size());
    ASSERT_TRUE(assign_codes(lengths, 11, codes));
    lossless::DecodeTable table;
    ASSERT_TRUE(fill_table(lengths, 11, table));
    lossless::EncodeTable entries{};
    for (std::size_t s = 0; s < codes.size(); ++s)
      entries[s] = lossless::entry_of(codes[s].bits, codes[s].length);
    std::vector<std::uint8_t> symbols(random() % 200);
    std::size_t bits = 0;
    for (auto& symbol : symbols) {
      symbol = static_cast<std::uint8_t>(random() % counts.size());
      bits += codes[symbol].length;
    }
    std::vector<std::byte> bytes((bits + 7) / 8);
    lossless::OutStream out{bytes.data(), bytes.data() + bytes.size()};
    for (const auto symbol : symbols)
      lossless::write_one(entries, symbol, out);
    out.finish();
    ASSERT_EQ(out.at, bytes.data() + bytes.size());
    const auto reads_all = [&](Bytes from) {
      lossless::InStream in{from.data(), from.size(), 0};
      for (const auto symbol : symbols) {
        if (lossless::read_one(table, in) != symbol) return false;
      }
      return in.at_end();
    };
    EXPECT_TRUE(reads_all(bytes));
    if (bits % 8 != 0) {
      bytes.back() ^= std::byte{0x80};
      EXPECT_FALSE(reads_all(bytes)) << "padding";
      bytes.back() ^= std::byte{0x80};
    }
    bytes.push_back(std::byte{0});
    EXPECT_FALSE(reads_all(bytes)) << "a byte too many";
    bytes.resize(bytes.size() - 1);
    if (bytes.empty()) continue;
    bytes.pop_back();
    EXPECT_FALSE(reads_all(bytes)) << "a byte too few";
  }
}

}  // namespace
}  // namespace speckv::prefix
