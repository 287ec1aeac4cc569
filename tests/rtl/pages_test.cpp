// The whole card and regions that are lists of pages: what they cost in cycles, lists
// that cannot be read, a bus that falls silent, resets and orders to invalidate at any
// moment.
#include <cstdio>
#include <numeric>
#include <random>

#include "base/endian.hpp"
#include "rtl/card_bench.hpp"
#include "rtl/sim.hpp"

namespace speckv::test {
namespace {

using namespace engine;
using sim::Bus;

constexpr std::uint32_t kPage = 4096, kRegion = 20, kPages = 64;
constexpr std::uint64_t kList = kRings, kFirstPage = 128 << 10, kBytes = kPages * kPage;
constexpr std::uint64_t kFlat = kFirstPage;  // the same pages, by their addresses

class CardPages : public testing::Test {
 protected:
  // A list of pages in any order; what the card knew of the last one is forgotten.
  void list_pages(CardBench& bench) {
    invalidate(bench);
    std::iota(order_.begin(), order_.end(), 0U);
    std::shuffle(order_.begin(), order_.end(), random_);
    for (std::uint32_t i = 0; i < kPages; ++i)
      store_le(bench.host() + kList + std::uint64_t{8} * i,
               kFirstPage + std::uint64_t{order_[i]} * kPage);
    const std::uint32_t at = kRegionWindow + kRegion * kRegionStride;
    bench.write(at + region::kBase, kList);
    bench.write(at + region::kLength, kBytes);
    bench.write(at + region::kControl,
                region::kControlValid.put(1) | region::kControlRead.put(1) |
                    region::kControlWrite.put(1) | region::kControlPaged.put(1) |
                    region::kControlPageShift.put(12));
  }
  static void invalidate(CardBench& bench) {
    bench.write(kRegionWindow + kRegion * kRegionStride + region::kControl, 0);
    bench.write(csr::kInvalidate, kRegion);
    while (csr::kInvalidateBusy.get(bench.read(csr::kInvalidate)) != 0) {}
  }
  void renew(CardBench& bench) {
    for (std::uint64_t i = 0; i < kBytes; ++i) {
      bench.host()[kFirstPage + i] = static_cast<std::byte>(random_());
      bench.memory()[i] = static_cast<std::byte>(random_());
    }
    bench.card().stored(0, kBytes);
  }
  // Whether device memory from `to` on holds the region's bytes from `at` on.
  bool same(CardBench& bench, std::uint64_t at, std::uint64_t to, std::uint64_t bytes) {
    for (std::uint64_t i = 0; i < bytes; ++i) {
      const std::uint64_t page = order_[(at + i) / kPage];
      if (bench.host()[kFirstPage + page * kPage + (at + i) % kPage] !=
          bench.memory()[to + i])
        return false;
    }
    return true;
  }
  static Descriptor up(std::uint64_t at, std::uint64_t to, std::uint32_t bytes) {
    return make(Opcode::copy, kRegion, at, kCardRegion, to, bytes);
  }
  static Descriptor down(std::uint64_t from, std::uint64_t at, std::uint32_t bytes) {
    return make(Opcode::copy, kCardRegion, from, kRegion, at, bytes);
  }
  // From a doorbell to the completion, of a card that rests.
  static std::uint64_t cycles(CardBench& bench, const Descriptor& d) {
    while (bench.card().run()) {}
    bench.put(d);
    const std::uint64_t cycles = bench.serve();
    EXPECT_EQ(bench.answer(bench.tail() - 1), Answer::ok);
    return cycles;
  }

  std::mt19937 random_{1};
  std::array<std::uint32_t, kPages> order_{};
};

// Beside the same bytes in one piece.
TEST_F(CardPages, CostWhatTheListCosts) {
  for (const std::uint32_t latency : {1U, 200U}) {
    CardBench bench({.latency = latency, .budget = 1});
    renew(bench);
    for (const std::uint32_t bytes : {kPage, static_cast<std::uint32_t>(kBytes)}) {
      for (const bool writing : {false, true}) {
        Descriptor d = writing ? down(0, 0, bytes) : up(0, 0, bytes);
        list_pages(bench);
        const std::uint64_t first = cycles(bench, d), again = cycles(bench, d);
        EXPECT_TRUE(same(bench, 0, 0, bytes));
        (writing ? d.dst_region : d.src_region) = kHostRegion;
        (writing ? d.dst_offset : d.src_offset) = kFlat;
        const std::uint64_t flat = cycles(bench, d);
        std::printf(
            "memory answering after %u: %u bytes %s pages: %llu cycles, with a list "
            "that is known %llu, in one piece %llu: %.1f bytes a clock\n",
            latency, bytes, writing ? "to" : "from",
            static_cast<unsigned long long>(first),
            static_cast<unsigned long long>(again), static_cast<unsigned long long>(flat),
            static_cast<double>(bytes) / static_cast<double>(again));
        const std::uint64_t lines = bytes / kPage / 8 + 1;
        EXPECT_LE(again, flat + lines + 15);
        EXPECT_LE(first, flat + lines + latency + 30);
        EXPECT_GE(first, again + latency);
      }
    }
  }
}

// Every beat of a list in turn; the descriptor was the first beat that was read.
TEST_F(CardPages, AListThatCannotBeReadIsOneDescriptorsError) {
  CardBench bench({.latency = 5, .stalls = true});
  constexpr std::uint32_t kMoved = 60 * kPage, kBeats = 8;
  for (std::uint32_t n = 0; n < 2 * kBeats; ++n) {
    SCOPED_TRACE(n);
    renew(bench);
    list_pages(bench);
    const Descriptor d = n % 2 == 0 ? down(0, 77, kMoved) : up(77, 0, kMoved);
    const std::vector<std::byte> host(bench.host() + kFirstPage,
                                      bench.host() + kFirstPage + kBytes);
    const std::vector<std::byte> memory(bench.memory(), bench.memory() + kCard);
    bench.card().fail(
        Bus::host, false, 2 + n / 2,
        n % 4 < 2 ? sim::Response::slave_error : sim::Response::decode_error);
    EXPECT_EQ(bench.serve(d), Answer::bus_error);
    EXPECT_FALSE(bench.card().unfailed(Bus::host));
    EXPECT_TRUE(std::equal(host.begin(), host.end(), bench.host() + kFirstPage));
    EXPECT_TRUE(std::equal(memory.begin(), memory.end(), bench.memory()));
    EXPECT_EQ(bench.read(csr::kErrorPending), 0U);
    EXPECT_EQ(bench.serve(d), Answer::ok);
    EXPECT_TRUE(same(bench, 77, 0, kMoved));
    EXPECT_EQ(bench.serve(make(Opcode::nop, 0, 0, 0, 0, 0)), Answer::ok);
  }
}

// In any cycle: the copy has ended, or the card says that it is stuck and works again
// when the bus does.
TEST_F(CardPages, ABusThatFallsSilentWhileAListIsReadIsFatal) {
  std::uint32_t fatal = 0, ended = 0;
  CardBench bench({.latency = 9, .budget = 1});
  for (std::uint32_t when = 0; when < 150 && ended < 3; when += 3) {
    SCOPED_TRACE(when);
    renew(bench);
    list_pages(bench);
    bench.put(up(4000, 0, 200));
    bench.ring();
    bench.run(when);
    bench.card().silence(Bus::host, sim::channel::kReadData);
    for (int i = 0; i < 4000 && bench.card().run(); ++i) {}
    bench.card().silence(Bus::host, 0);
    if (csr::kStatusFatal.get(bench.read(csr::kStatus)) == 0) {
      ++ended;
      EXPECT_EQ(bench.answer(bench.tail() - 1), Answer::ok);
      continue;
    }
    ++fatal;
    EXPECT_EQ(bench.read(csr::kErrorPending), 1U);
    ASSERT_TRUE(bench.reset());
    bench.set_up();
    list_pages(bench);
    EXPECT_EQ(bench.serve(up(4000, 0, 200)), Answer::ok);
    EXPECT_TRUE(same(bench, 4000, 0, 200));
  }
  EXPECT_GE(fatal, 10U);
  EXPECT_GE(ended, 1U);
}

// Afterwards nothing of the last list is known.
TEST_F(CardPages, AResetInTheMiddleForgetsThem) {
  for (std::uint32_t round = 0; round < 30; ++round) {
    SCOPED_TRACE(round);
    CardBench bench({.seed = round, .latency = 30, .stalls = true, .budget = 7});
    renew(bench);
    list_pages(bench);
    for (std::uint32_t i = 0; i < 20; ++i)
      bench.put(i % 2 == 0 ? up(1000 * i, 0, 20000) : down(0, 1000 * i, 20000));
    bench.ring();
    bench.run(3 * round * round);
    ASSERT_TRUE(bench.reset());
    bench.set_up();
    renew(bench);
    list_pages(bench);
    EXPECT_EQ(bench.serve(up(5000, 3, 50000)), Answer::ok);
    EXPECT_TRUE(same(bench, 5000, 3, 50000));
    EXPECT_EQ(bench.serve(down(100, 7000, 50000)), Answer::ok);
    EXPECT_TRUE(same(bench, 7000, 100, 50000));
  }
}

// While descriptors use the region: each is answered, and from `busy` = 0 on none uses
// the list as it was.
TEST_F(CardPages, AnEntryThatChangesUnderLoad) {
  CardBench bench({.latency = 5, .stalls = true, .budget = 50});
  std::uint32_t refused = 0;
  for (std::uint32_t round = 0; round < 20; ++round) {
    SCOPED_TRACE(round);
    renew(bench);
    list_pages(bench);
    const std::uint32_t first = bench.tail();
    for (std::uint32_t i = 0; i < 20; ++i)
      bench.put(up(std::uint64_t{12288} * i, std::uint64_t{12288} * i, 9000));
    bench.ring();
    bench.run(static_cast<std::uint32_t>(random_() % 60));
    invalidate(bench);
    // Nobody looks here any more.
    for (std::uint32_t i = 0; i < kPages; ++i)
      store_le(bench.host() + kList + std::uint64_t{8} * i, std::uint64_t{1} << 50);
    while (bench.card().run()) {}
    for (std::uint32_t n = first; n < bench.tail(); ++n) {
      const Answer answer = bench.answer(n);
      const std::uint64_t at = std::uint64_t{12288} * (n - first);
      if (answer == Answer::ok) {
        EXPECT_TRUE(same(bench, at, at, 9000));
      } else {
        EXPECT_EQ(answer, Answer::bad_region);
        ++refused;
      }
    }
    list_pages(bench);
    EXPECT_EQ(bench.serve(up(0, 0, 9000)), Answer::ok);
    EXPECT_TRUE(same(bench, 0, 0, 9000));
  }
  EXPECT_GT(refused, 20U);
}

}  // namespace
}  // namespace speckv::test
