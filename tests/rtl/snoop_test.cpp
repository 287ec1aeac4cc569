// What the host stores to device memory by itself (BAR2) is what descriptors read
// afterwards, also where the fast buffer held the line or was just being filled with it.
#include <random>
#include <string>

#include "base/endian.hpp"
#include "rtl/card_bench.hpp"
#include "rtl/sim.hpp"

namespace speckv::test {
namespace {

using namespace engine;

constexpr std::uint32_t kLine = 4096, kLines = 16;  // of the small set's buffer

Descriptor prefetch(std::uint64_t at, std::uint32_t length) {
  return make(Opcode::prefetch, kCardRegion, at, 0, 0, length);
}

class Snoop : public testing::Test {
 protected:
  // As a shell does: the bytes are in memory, then the card is told.
  void store(CardBench& bench, std::uint64_t at, std::uint32_t length,
             std::uint32_t between = 0) {
    for (std::uint32_t i = 0; i < length; ++i)
      bench.memory()[at + i] = static_cast<std::byte>(random_());
    bench.run(between);
    bench.card().stored(at, length);
  }
  // Whether a COPY gives what memory holds.
  static testing::AssertionResult reads(CardBench& bench, std::uint64_t at,
                                        std::uint32_t length) {
    const Answer answer =
        bench.serve(make(Opcode::copy, kCardRegion, at, kHostRegion, kRings, length));
    if (answer != Answer::ok) {
      return testing::AssertionFailure() << "answer " << static_cast<int>(answer);
    }
    for (std::uint32_t i = 0; i < length; ++i) {
      if (bench.host()[kRings + i] != bench.memory()[at + i]) {
        return testing::AssertionFailure()
               << "byte " << i << " of " << length << " at " << at;
      }
    }
    return testing::AssertionSuccess();
  }

  std::mt19937_64 random_{1};
};

TEST_F(Snoop, WhatTheHostWroteIsCopied) {
  CardBench bench({});
  for (const std::uint64_t line : {0U, 3U, 15U, 16U, 255U}) {
    const std::uint64_t at = line * kLine;
    store(bench, at, kLine);
    ASSERT_EQ(bench.serve(prefetch(at, 1)), Answer::ok);
    const std::uint64_t hits = bench.counter(Counter::buffer_hits);
    ASSERT_TRUE(reads(bench, at, kLine));
    // Another line, of the same place in the buffer and of another, is no reason to drop.
    store(bench, (line ^ 32) * kLine, kLine);
    store(bench, (line ^ 1) * kLine, kLine);
    ASSERT_TRUE(reads(bench, at, kLine));
    EXPECT_EQ(bench.counter(Counter::buffer_hits), hits + 2 * kLine);
    store(bench, at + random_() % kLine, 1);
    ASSERT_TRUE(reads(bench, at, kLine));
    EXPECT_EQ(bench.counter(Counter::buffer_hits), hits + 2 * kLine);
  }
}

// As for guests that map the memory: without it the card would give what it was.
TEST_F(Snoop, WhereStoresAreNotSeenTheCardIsToldOfWhatItRead) {
  for (const bool mapped : {false, true}) {
    CardBench bench({.mapped = mapped});
    bool stale = false;
    for (int round = 0; round < 100; ++round) {
      const std::uint64_t at = random_() % 64 * kLine;
      ASSERT_EQ(bench.serve(prefetch(at, 1 + random_() % (4 * kLine))), Answer::ok);
      bench.memory()[at + random_() % kLine] ^= std::byte{1};
      stale |= !reads(bench, at, kLine);
    }
    EXPECT_EQ(stale, !mapped);
  }
}

// A coded layer that the host replaces by another one.
TEST_F(Snoop, WhatTheHostWroteIsDecoded) {
  CardBench bench({});
  constexpr std::uint32_t kPlain = 2 * 2 * 128 * 64 * 2;
  std::vector<std::byte> coded[2], plain[2];
  Descriptor load;
  for (int i = 0; i < 2; ++i) {
    for (std::uint32_t at = 0; at < kPlain; at += 2)  // finite numbers of f16
      store_le(bench.host() + kRings + at,
               static_cast<std::uint16_t>(random_() & 0xbbff));
    ASSERT_EQ(bench.serve(layer(Opcode::encode, codec::kInt8, kPlain)), Answer::ok);
    const std::uint32_t length = bench.entry(bench.tail() - 1).result;
    load = layer(Opcode::decode, codec::kInt8, length);
    coded[i].assign(bench.memory(), bench.memory() + length);
    ASSERT_EQ(bench.serve(load), Answer::ok);
    plain[i].assign(bench.host() + kRings, bench.host() + kRings + kPlain);
  }
  ASSERT_NE(plain[0], plain[1]);
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(bench.serve(prefetch(0, load.length)), Answer::ok);
    const std::vector<std::byte>& now = coded[i % 2];
    std::copy(now.begin(), now.end(), bench.memory());
    bench.card().stored(0, now.size());
    ASSERT_EQ(bench.serve(load), Answer::ok);
    ASSERT_TRUE(
        std::equal(plain[i % 2].begin(), plain[i % 2].end(), bench.host() + kRings));
  }
}

// The host writes in any cycle of a PREFETCH, which it rang for before.
TEST_F(Snoop, WhatIsWrittenDuringAPrefetchDoesNotStay) {
  CardBench bench({.latency = 7, .budget = 1});
  bench.put(prefetch(0, 1));
  const std::uint64_t whole = bench.serve();
  ASSERT_LT(whole, 400U);
  std::uint64_t kept = 0;
  for (std::uint64_t cycle = 0; cycle < whole + 8; ++cycle) {
    const std::uint64_t at = cycle % 64 * kLine;
    store(bench, at, kLine);
    bench.put(prefetch(at, kLine));
    bench.ring();
    bench.run(static_cast<std::uint32_t>(cycle));
    store(bench, at + 64 * (random_() % 64), 64);
    bench.serve();
    const std::uint64_t before = bench.counter(Counter::buffer_hits);
    ASSERT_TRUE(reads(bench, at, kLine)) << "written after " << cycle << " cycles";
    kept += bench.counter(Counter::buffer_hits) - before;
  }
  EXPECT_GT(kept, 0U);  // what was written before the line was read stays

  // What is written elsewhere changes nothing.
  for (const std::uint64_t other : {9U, 8U + kLines, 7U}) {
    store(bench, 8 * kLine, kLine);
    bench.put(prefetch(8 * kLine, kLine));
    bench.ring();
    bench.run(static_cast<std::uint32_t>(whole / 2));
    store(bench, other * kLine, kLine);
    bench.serve();
    const std::uint64_t before = bench.counter(Counter::buffer_hits);
    ASSERT_TRUE(reads(bench, 8 * kLine, kLine));
    EXPECT_EQ(bench.counter(Counter::buffer_hits), before + kLine);
  }
}

// The two at once, at random, with a shell that tells some cycles later; what counts is
// what memory holds when nothing is under way.
TEST_F(Snoop, WhateverComesFirst) {
  CardBench bench({.latency = 20, .stalls = true, .budget = 3});
  const auto somewhere = [&] {  // few lines, of which some share a place
    return random_() % 4 * kLines * kLine + random_() % 3 * kLine + random_() % kLine;
  };
  for (std::uint64_t round = 0; round < rtl::scaled(400, 40); ++round) {
    const std::uint64_t first = somewhere();
    for (std::uint64_t n = random_() % 3; n > 0; --n) {
      const auto length = static_cast<std::uint32_t>(1 + random_() % 9000);
      bench.put(random_() % 3 != 0
                    ? prefetch(random_() % 2 == 0 ? first : somewhere(), length)
                    : make(Opcode::fill, 0, 0, kCardRegion, somewhere(), length));
    }
    bench.ring();
    for (std::uint64_t n = random_() % 3; n > 0; --n) {
      bench.run(static_cast<std::uint32_t>(random_() % 150));
      store(bench, random_() % 2 == 0 ? first : somewhere(),
            static_cast<std::uint32_t>(1 + random_() % 5000),
            static_cast<std::uint32_t>(random_() % 20));
    }
    for (const std::uint64_t at : {first, somewhere()}) {
      ASSERT_TRUE(reads(bench, at, static_cast<std::uint32_t>(1 + random_() % 9000)))
          << "round " << round;
    }
  }
  EXPECT_GT(bench.counter(Counter::buffer_hits), 0U);
}

}  // namespace
}  // namespace speckv::test
