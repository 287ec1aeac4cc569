// A Prefetcher over a live store of two tiers, with a clock that the test turns; what has
// to be waited for is told by a completion queue.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/prefetcher.hpp"
#include "cxlspeckv/promotion.hpp"

#include "support/store_fixture.hpp"

namespace speckv::test {

inline constexpr std::uint64_t kBlock = 4096,
                               kFrame = 4608;  // of small_layout(), on a disk

class ManualClock final : public Clock {
 public:
  time_point now() noexcept override { return time_point(at_.load()); }
  void turn(double seconds) {
    at_.store(at_.load() + std::chrono::nanoseconds(std::llround(seconds * 1e9)));
  }

 private:
  std::atomic<std::chrono::nanoseconds> at_{std::chrono::nanoseconds(0)};
};

struct Numbers {
  std::uint64_t first = 0, count = 0;
};

// The fast tier has the room that it rests with. Room is made in the background, by the
// mover of the slow tier, in each round before it begins what it was asked for. It
// answers in a later round than it was asked before that, so after two answers a whole
// round has gone by. Asked for something whose time has passed, it does nothing else.
// below: a block of the slow tier alone.
inline void rest(BlockStore& store, const BlockKey& below) {
  using namespace std::chrono_literals;
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(promote(store, {&below, 1}, 0, {.deadline = 1ns}).wait().code(),
              Code::timed_out);
  }
}

// A fast tier of memory over a slow one: behind a throttled link, or behind a gate.
class Live {
 public:
  Live(std::uint64_t fast, std::uint64_t slow)
      : Live(fast, throttled(std::make_shared<HeapDevice>(slow * kFrame,
                                                          HeapDevice::Kind::memory),
                             {std::chrono::microseconds(10), 1e9})) {}
  Live(std::uint64_t fast, std::shared_ptr<Device> slow)
      : store(options(fast, std::move(slow))) {
    prefetch.chunk_bytes = 4 * kBlock;
    prefetch.most_in_flight = 8 * kBlock;
    prefetch.learned = false;
    prefetch.clock = &clock;
    prefetch.completions = &completions;
  }

  void open() {
    auto made = Prefetcher::create(*store, prefetch);
    ASSERT_TRUE(made.ok()) << made.error().message();
    prefetcher = *std::move(made);
  }

  // Saves blocks so that only the slow tier has them: the fast one is full and held.
  std::vector<BlockKey> save_below(Numbers blocks) {
    std::vector<BlockKey> fillers, keys;
    {
      std::vector<Pin> pins;
      // One that the mover has carried down already leaves room: then there is another.
      const auto fill = [&] {
        for (;;) {
          const std::uint64_t n = 1'000'000 + fillers.size();
          EXPECT_EQ(store.save(n), Code::ok);
          fillers.push_back(key_of(n));
          if (store.tier_of(n) != 0) return;
          pins.push_back(*store->pin(key_of(n)));
        }
      };
      fill();
      for (std::uint64_t n = blocks.first; n < blocks.first + blocks.count; ++n) {
        keys.push_back(key_of(n));
        EXPECT_EQ(store.save(n), Code::ok);
        while (store.tier_of(n) != 1) {
          (void)store->erase({&keys.back(), 1});
          fill();
          EXPECT_EQ(store.save(n), Code::ok);
        }
      }
    }
    (void)store->erase(fillers);
    return keys;
  }

  // Until nothing is under way and nothing more begins.
  void run() {
    for (;;) {
      (void)prefetcher->advance();
      if (prefetcher->stats().in_flight == 0) return;
      ASSERT_TRUE(completions.wait(std::chrono::seconds(30)))
          << "a chunk was never finished";
      CompletionQueue::Entry entry;
      (void)completions.poll({&entry, 1});
    }
  }

  std::uint64_t in_tier(std::span<const BlockKey> keys, int tier) const {
    std::vector<std::int8_t> tiers(keys.size());
    const_cast<StoreUnderTest&>(store)->lookup(keys, tiers);
    return static_cast<std::uint64_t>(std::count(tiers.begin(), tiers.end(), tier));
  }
  void load(Numbers blocks) {
    for (std::uint64_t n = blocks.first; n < blocks.first + blocks.count; ++n)
      EXPECT_EQ(store.load(n), Code::ok);
  }

  ManualClock clock;
  CompletionQueue completions;
  PrefetchOptions prefetch;
  StoreUnderTest store;
  std::unique_ptr<Prefetcher> prefetcher;

 private:
  static StoreOptions options(std::uint64_t fast, std::shared_ptr<Device> slow) {
    StoreOptions options;
    options.layouts = {small_layout()};
    options.tiers.push_back(tier_on(
        "fast", std::make_shared<HeapDevice>(fast * kFrame, HeapDevice::Kind::memory)));
    options.tiers.push_back(tier_on("slow", std::move(slow)));
    return options;
  }
};

}  // namespace speckv::test
