// The whole card in cycles: from a doorbell to its first address, a descriptor's way with
// nothing and with 4 KB to move, layers; and resets in the middle of commands, and
// registers that both read at once.
#include <cstdio>
#include <ctime>
#include <random>

#include <gtest/gtest.h>

#include "base/endian.hpp"
#include "rtl/card_bench.hpp"

namespace speckv::test {
namespace {

using namespace engine;

TEST(CardFigures, ADescriptorsWay) {
  CardBench bench({.budget = 1});
  std::uint64_t nop = 0, copy = 0, first = 0;
  for (int i = 0; i < 5; ++i) {
    bench.put(Descriptor{});
    nop = bench.serve();
    first = bench.first_read;
    bench.put(make(Opcode::copy, kHostRegion, kRings, kCardRegion, 0, 4096));
    copy = bench.serve();
    EXPECT_EQ(bench.answer(bench.tail() - 1), Answer::ok);
  }
  std::printf(
      "doorbell on AXI4-Lite to first address: %llu; to the completion of a NOP: %llu, "
      "of a COPY of 4 KB: %llu cycles, memory answering in the next\n",
      static_cast<unsigned long long>(first), static_cast<unsigned long long>(nop),
      static_cast<unsigned long long>(copy));
  EXPECT_LE(first, 20U);
  EXPECT_LE(copy, 64U + 150U);
}

TEST(CardFigures, Layers) {
  CardBench bench({.budget = 1});
  std::mt19937 random(1);
  constexpr std::uint32_t kPlain = 2 * 2 * 128 * 64 * 2;
  for (std::uint32_t i = 0; i < kPlain; i += 2)  // finite numbers of f16
    store_le(bench.host() + kRings + i, static_cast<std::uint16_t>(random() & 0xbbff));
  for (const std::uint8_t codec : {codec::kRaw, codec::kInt8, codec::kKvq4}) {
    bench.put(layer(Opcode::encode, codec, kPlain));
    const std::uint64_t up = bench.serve();
    ASSERT_EQ(bench.answer(bench.tail() - 1), Answer::ok);
    const auto coded =
        load_le<std::uint32_t>(bench.host() + kCompletion +
                               (bench.tail() - 1) % 64 * CompletionEntry::kBytes + 4);
    bench.put(layer(Opcode::decode, codec, coded));
    const std::uint64_t down = bench.serve();
    ASSERT_EQ(bench.answer(bench.tail() - 1), Answer::ok);
    std::printf("a layer of 64 KB, codec %u: encoded in %llu, decoded in %llu cycles\n",
                codec, static_cast<unsigned long long>(up),
                static_cast<unsigned long long>(down));
    EXPECT_LE(up, 2 * kPlain / 64 + 300);
    EXPECT_LE(down, kPlain / 64 + 300);
  }
}

// What a simulated cycle costs while layers are coded; told, with no bar.
TEST(CardFigures, SimulationSpeed) {
  CardBench bench({.budget = 1});
  constexpr std::uint32_t kPlain = 2 * 2 * 128 * 64 * 2, kLayers = 20;
  const std::uint64_t begin = bench.card().cycles();
  const std::clock_t start = std::clock();
  for (std::uint32_t n = 0; n < kLayers; ++n) {
    bench.put(layer(Opcode::encode, codec::kKvq4, kPlain));
    bench.serve();
    ASSERT_EQ(bench.answer(bench.tail() - 1), Answer::ok);
  }
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  const auto cycles = static_cast<double>(bench.card().cycles() - begin);
  EXPECT_GT(cycles, kLayers * kPlain / 64.0);
  std::printf("the whole card, small: %.0f cycles a second of processor time\n",
              cycles / seconds);
}

// A reset while commands run: afterwards everything is as after power-on, and works.
TEST(Card, ResetInTheMiddle) {
  for (std::uint32_t round = 0; round < 12; ++round) {
    CardBench bench({.seed = round, .latency = 30, .stalls = true, .budget = 10});
    for (std::uint32_t i = 0; i < 40; ++i) {
      bench.put(i % 3 == 0 ? make(Opcode::fill, 0, 0, kCardRegion, 64 * i, 3000)
                : i % 3 == 1
                    ? make(Opcode::copy, kHostRegion, kRings, kCardRegion, i, 5000)
                    : layer(Opcode::encode, codec::kInt8, 65536));
    }
    bench.ring();
    bench.run(17 * (1 + round * round));
    ASSERT_TRUE(bench.reset());
    EXPECT_EQ(bench.read(csr::kControl), 0U);
    EXPECT_EQ(bench.read(kQueueWindow + queue::kStatus), 0U);
    EXPECT_EQ(bench.read(kRegionWindow + kHostRegion * kRegionStride + region::kControl),
              0U);
    bench.set_up();
    bench.put(make(Opcode::copy, kHostRegion, kRings, kCardRegion, 77, 9999));
    bench.put(layer(Opcode::encode, codec::kInt8, 65536));
    bench.serve();
    EXPECT_EQ(bench.answer(0), Answer::ok);
    EXPECT_EQ(bench.answer(1), Answer::ok);
  }
}

TEST(Card, TheHostReadsRegionsWhileCommandsAskForThem) {
  CardBench bench({.latency = 5, .stalls = true});
  constexpr std::uint32_t kCopies = 40;
  for (std::uint32_t i = 0; i < kCopies; ++i)
    bench.put(make(Opcode::copy, kHostRegion, kRings, kCardRegion, 256 * i, 100 + i));
  bench.ring();
  std::uint32_t reads = 0;
  while (!bench.completed(kCopies - 1)) {
    ASSERT_EQ(bench.read(kRegionWindow + kCardRegion * kRegionStride + region::kLength),
              kCard);
    ASSERT_LT(++reads, 100000U);
  }
  EXPECT_GT(reads, kCopies);
  for (std::uint32_t i = 0; i < kCopies; ++i)
    EXPECT_EQ(bench.answer(i), Answer::ok) << i;
}

}  // namespace
}  // namespace speckv::test
