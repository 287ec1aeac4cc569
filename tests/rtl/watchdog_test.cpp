// A bus that falls silent: said once, as the fatal state of the card, whose registers go
// on; afterwards the card works again, by register if the bus came back, else by the
// function's reset.
#include <random>

#include "base/endian.hpp"
#include "rtl/card_bench.hpp"
#include "rtl/sim.hpp"

namespace speckv::test {
namespace {

using namespace engine;
using sim::Bus;

constexpr std::uint64_t kPatience = 2000;      // cycles, of the small set
constexpr std::uint32_t kErrors = kMaxQueues;  // vector

class Watchdog : public testing::Test {
 protected:
  // Every channel of both buses is needed, again and again.
  static void work(CardBench& bench) {
    for (std::uint32_t i = 0; i < 4; ++i) {
      const std::uint64_t at = kRings + 64 * i;
      bench.put(make(Opcode::copy, kHostRegion, at, kCardRegion, 70000 * i, 9000));
      bench.put(make(Opcode::prefetch, kCardRegion, 70000 * i, 0, 0, 5000));
      bench.put(make(Opcode::copy, kCardRegion, 70000 * i, kHostRegion, kRings, 9000));
      bench.put(layer(Opcode::encode, codec::kInt8, 65536));
    }
    bench.ring();
  }
  static bool fatal(CardBench& bench) {
    return csr::kStatusFatal.get(bench.read(csr::kStatus)) != 0;
  }
  static std::uint32_t completed(CardBench& bench) {
    std::uint32_t n = 0;
    while (n < bench.tail() && bench.completed(n)) {
      EXPECT_EQ(bench.answer(n), Answer::ok) << n;
      ++n;
    }
    return n;
  }
  static void expect_said_once(CardBench& bench) {
    EXPECT_EQ(bench.read(csr::kFatalCause),
              static_cast<std::uint32_t>(FatalCause::watchdog));
    EXPECT_EQ(bench.read(csr::kErrorPending), 1U);
    EXPECT_EQ(bench.read(csr::kErrorInfo), 0x83U);
    EXPECT_EQ(bench.read(csr::kErrorInfo + 4), 0U);
    EXPECT_EQ(bench.interrupts(kErrors), 1U);
    EXPECT_EQ(bench.counter(Counter::errors_logged), 1U);
  }
  static void expect_works(CardBench& bench) {
    bench.set_up();
    EXPECT_FALSE(fatal(bench));
    EXPECT_EQ(bench.read(csr::kErrorPending), 0U);
    for (std::uint64_t i = 0; i < 9000; ++i)
      bench.host()[kRings + i] = static_cast<std::byte>(i * 7 >> 3 & 0x3b);
    ASSERT_EQ(bench.serve(make(Opcode::copy, kHostRegion, kRings, kCardRegion, 77, 9000)),
              Answer::ok);
    ASSERT_EQ(bench.serve(
                  make(Opcode::copy, kCardRegion, 77, kHostRegion, kRings + 16384, 9000)),
              Answer::ok);
    EXPECT_EQ(std::memcmp(bench.host() + kRings, bench.host() + kRings + 16384, 9000), 0);
  }

  std::mt19937_64 random_{1};
};

TEST_F(Watchdog, ASilentBusIsFatalAndSaidOnce) {
  CardBench bench({.latency = 9, .budget = 10});
  std::uint64_t way = 0;
  for (std::uint64_t round = 0; round < rtl::scaled(3, 1); ++round) {
    for (const Bus bus : {Bus::host, Bus::memory}) {
      for (unsigned channel = 1; channel < sim::channel::kAll; channel *= 2) {
        SCOPED_TRACE(testing::Message() << "bus " << static_cast<int>(bus) << " channel "
                                        << channel << " way " << way % 3);
        work(bench);
        bench.run(static_cast<std::uint32_t>(random_() % 400));
        bench.interrupts(kErrors) = 0;
        bench.card().silence(bus, channel);
        for (int i = 0; i < 2000 && bench.interrupts(kErrors) == 0; ++i)
          bench.run(1);
        ASSERT_TRUE(fatal(bench));
        const std::uint32_t before = completed(bench);
        EXPECT_LT(before, bench.tail());
        expect_said_once(bench);
        bench.ring();
        bench.run(3 * kPatience / 10);
        expect_said_once(bench);
        EXPECT_EQ(completed(bench), before);
        // Back before the reset, during it, or never.
        if (way % 3 == 0) bench.card().silence(bus, 0);
        EXPECT_EQ(bench.reset(kPatience / 5), way % 3 == 0);
        bench.card().silence(bus, 0);
        if (way % 3 == 1) {
          EXPECT_TRUE(bench.reset());
        } else if (way % 3 == 2) {
          bench.card().reset();
        }
        expect_works(bench);
        ++way;
      }
    }
  }
}

TEST_F(Watchdog, ItsPatienceIsWhatTheParameterSays) {
  CardBench bench({.budget = 1});
  bench.card().silence(Bus::host, sim::channel::kReadData);
  bench.put(Descriptor{});
  const std::uint64_t begin = bench.card().cycles();
  bench.ring();
  while (bench.interrupts(kErrors) == 0 && bench.card().cycles() < begin + 2 * kPatience)
    bench.run(1);
  EXPECT_GE(bench.card().cycles() - begin, kPatience);
  EXPECT_LE(bench.card().cycles() - begin, kPatience + 40);
}

// Each channel alone counts as something that moves: one step of it, in the middle of a
// pause that is longer in all than the watchdog waits.
TEST_F(Watchdog, ASlowBusIsNoFault) {
  CardBench bench({.budget = 1});
  constexpr auto kPause = static_cast<std::uint32_t>(kPatience * 3 / 4);
  for (const Bus bus : {Bus::host, Bus::memory}) {
    for (unsigned channel = 1; channel < sim::channel::kAll; channel *= 2) {
      SCOPED_TRACE(testing::Message()
                   << "bus " << static_cast<int>(bus) << " channel " << channel);
      const bool reads = channel <= sim::channel::kReadData;
      const std::uint32_t region = bus == Bus::host ? kHostRegion : kCardRegion;
      const std::uint32_t other = kHostRegion + kCardRegion - region;
      bench.put(reads ? make(Opcode::copy, region, 70000, other, 140000, 9000)
                      : make(Opcode::fill, 0, 0, region, 140000, 9000));
      bench.ring();
      if (bus == Bus::host && reads) bench.run(20);  // the descriptor itself
      bench.card().silence(bus, channel);
      bench.run(kPause / 2);  // all others come to where they wait for it
      for (const Bus each : {Bus::host, Bus::memory})
        bench.card().silence(each, sim::channel::kAll);
      bench.run(kPause / 2);
      bench.card().silence(bus, sim::channel::kAll & ~channel);
      bench.run(1);
      bench.card().silence(bus, sim::channel::kAll);
      bench.run(kPause);
      for (const Bus each : {Bus::host, Bus::memory})
        bench.card().silence(each, 0);
      bench.serve();
      EXPECT_EQ(bench.answer(bench.tail() - 1), Answer::ok);
      EXPECT_FALSE(fatal(bench));
    }
  }
  EXPECT_EQ(bench.interrupts(kErrors), 0U);
}

// An interrupt that waits for its time is no work that stands still.
TEST_F(Watchdog, WaitingIsNotStandingStill) {
  CardBench bench({.budget = 100});
  constexpr std::uint64_t kMicroseconds = 3 * kPatience / 10;  // of 10 cycles
  bench.write(kQueueWindow + queue::kControl, 2);
  bench.write(kQueueWindow + queue::kCoalesce, kMicroseconds << 16 | 8);
  bench.set_up_queue();
  bench.write(kQueueWindow + queue::kControl,
              queue::kControlEnable.put(1) | queue::kControlInterrupt.put(1));
  bench.interrupts(0) = 0;
  bench.write(kDoorbellWindow + doorbell::kArm, 1);
  bench.put(Descriptor{});
  const std::uint64_t begin = bench.card().cycles();
  bench.serve();
  while (bench.interrupts(0) == 0 && bench.card().cycles() < begin + 10 * kPatience)
    bench.run(1);
  EXPECT_EQ(bench.interrupts(0), 1U);
  EXPECT_GT(bench.card().cycles() - begin, 2 * kPatience);
  EXPECT_FALSE(fatal(bench));
}

}  // namespace
}  // namespace speckv::test
