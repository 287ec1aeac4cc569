// Algorithm 1 over a live store, held against the store's own counters; time is a clock
// that the test turns, and what has to be waited for is told by a completion queue.
#include "cxlspeckv/stream_prefetcher.hpp"

#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "predict/sequence_training.hpp"
#include "support/gated_device.hpp"
#include "support/invariants.hpp"
#include "support/live_prefetcher.hpp"

namespace speckv {
namespace {

using test::kBlock;
using test::key_of;
using test::kFrame;
using test::Live;

// Streams of pages: a page's number is that of its block.
class Streams : public Live {
 public:
  using Live::Live;

  void open(StreamPrefetchOptions options = {}) {
    options.clock = &clock;
    options.completions = &completions;
    auto made = StreamPrefetcher::create(*store, options);
    ASSERT_TRUE(made.ok()) << made.error().message();
    ahead = *std::move(made);
  }
  void touch(std::uint64_t stream, std::uint64_t page) {
    const auto symbol = static_cast<std::uint32_t>(page);
    ASSERT_TRUE(ahead->touched(stream, symbol, key_of(page)).ok());
  }
  // Until all has come that is under way.
  void run() {
    for (ahead->advance(); ahead->stats().in_flight > 0; ahead->advance()) {
      ASSERT_TRUE(completions.wait(std::chrono::seconds(30))) << "a block never came";
      CompletionQueue::Entry entry;
      (void)completions.poll({&entry, 1});
    }
  }
  void use(std::uint64_t stream, std::uint64_t page) {
    touch(stream, page);
    EXPECT_EQ(store.load(page), Code::ok);
    run();
  }
  // Until the store's policy has given up these blocks in the first tier.
  void displace(std::span<const BlockKey> keys) {
    std::vector<BlockKey> others;
    for (int i = 0; i < 1000 && in_tier(keys, 0) > 0; ++i) {
      EXPECT_EQ(store.save(next_), Code::ok);
      others.push_back(key_of(next_++));
    }
    ASSERT_EQ(in_tier(keys, 0), 0U);
    (void)store->erase(others);
  }
  StreamPrefetchStats stats() const { return ahead->stats(); }

  std::unique_ptr<StreamPrefetcher> ahead;

 private:
  std::uint64_t next_ = 1'000'000'000;  // of blocks that nobody else uses
};

std::uint64_t accounted(const StreamPrefetchStats& s) {
  return s.useful + s.late + s.wasted + s.failed + s.outstanding;
}

TEST(StreamPrefetcher, what_is_used_next_is_in_the_first_tier_before) {
  constexpr std::uint64_t kPages = 24;
  Streams live(48, 128);
  live.open();
  const auto keys = live.save_below({0, kPages});
  for (std::uint64_t page = 0; page < kPages; ++page)
    live.use(1, page);
  EXPECT_EQ(live.in_tier(keys, 0), 0U) << "nothing was known, and loads bring nothing";
  EXPECT_EQ(live.stats().missed, kPages);

  const TierStats before = live.store->stats(0);
  for (std::uint64_t page = 0; page < kPages; ++page) {
    ASSERT_EQ(live.store.tier_of(page), page == 0 ? 1 : 0) << page;
    live.use(2, page);
  }
  const TierStats after = live.store->stats(0);
  EXPECT_EQ(after.hits - before.hits, kPages - 1);
  EXPECT_EQ(after.promotions_in - before.promotions_in, kPages - 1);
  const StreamPrefetchStats stats = live.stats();
  EXPECT_EQ(stats.touched, 2 * kPages);
  EXPECT_EQ(stats.missed, kPages + 1);
  EXPECT_EQ(stats.asked, kPages - 1);
  EXPECT_EQ(stats.useful, kPages - 1);
  EXPECT_EQ(stats.late + stats.wasted + stats.failed + stats.pauses, 0U);
  EXPECT_GT(stats.repeated + stats.resident, 0U) << "deeper guesses meet themselves";
  EXPECT_EQ(test::check_invariants(*live.store), "");
}

// More pages than the first tier holds.
TEST(StreamPrefetcher, depth_follows_what_is_used_and_silence_what_is_not) {
  constexpr std::uint64_t kFast = 48, kPages = 150;
  Streams live(kFast, 400);
  live.open();
  std::vector<std::uint64_t> pages;
  (void)live.save_below({0, kPages});
  for (int round = 0; round < 4; ++round) {
    for (std::uint64_t page = 0; page < kPages; ++page)
      live.use(1, page);
  }
  const StreamPrefetchStats good = live.stats();
  EXPECT_EQ(good.depth, 8U);
  EXPECT_GE(good.useful, 3 * kPages - 8);
  EXPECT_EQ(good.wasted + good.pauses, 0U);
  EXPECT_EQ(good.asked, accounted(good));

  // Then nothing follows what it followed.
  std::mt19937 random(3);
  for (std::uint64_t page = 0; page < kPages; ++page)
    pages.push_back(page);
  const auto disorder = [&] {
    std::shuffle(pages.begin(), pages.end(), random);
    for (const std::uint64_t page : pages)
      live.use(1, page);
  };
  while (live.stats().pauses == 0)
    disorder();
  const StreamPrefetchStats bad = live.stats();
  EXPECT_LT(bad.depth, 8U);
  EXPECT_GT(bad.wasted, kFast / 2) << "it had its chance";
  const std::uint64_t lost = bad.wasted + bad.displaced + bad.delayed;
  EXPECT_LE(lost, bad.useful - good.useful + 2 * kFast + kPages)
      << "twice the tier, what was earned since, and what the last round began";
  EXPECT_EQ(bad.asked, accounted(bad));

  disorder();
  EXPECT_EQ(live.stats().asked, bad.asked) << "it is silent";
  EXPECT_GE(live.stats().unheard, kPages);
  live.clock.turn(61);
  disorder();
  EXPECT_GT(live.stats().asked, bad.asked) << "and is tried again";
}

TEST(StreamPrefetcher, a_fixed_depth_stays) {
  Streams live(48, 256);
  live.open({.rule = StreamPrefetchOptions::Rule::fixed, .depth = 3});
  (void)live.save_below({0, 100});
  for (std::uint64_t i = 0; i < 400; ++i)
    live.use(1, i % 100);
  EXPECT_EQ(live.stats().depth, 3U);
  EXPECT_GE(live.stats().useful, 290U);
}

// Nothing comes from the slow tier while the gate is closed.
class GatedStreams : public testing::Test {
 protected:
  void begin(const StreamPrefetchOptions& options) {
    live_.open(options);
    const auto keys = live_.save_below({0, 40});
    for (std::uint64_t round = 0; round < 3; ++round) {
      for (std::uint64_t page = 0; page < 40; ++page)
        live_.touch(round, page);
      live_.run();
      live_.displace(keys);
    }
    before_ = live_.stats();
    gate_->close();
  }
  std::shared_ptr<test::GatedDevice> gate_ =
      std::make_shared<test::GatedDevice>(512 * kFrame);
  Streams live_{48, gate_};
  StreamPrefetchStats before_;
};

TEST_F(GatedStreams, what_is_used_before_it_comes_is_late) {
  begin({.depth = 4});
  live_.touch(9, 0);
  ASSERT_GT(live_.stats().in_flight, 0U);
  live_.touch(9, 1);
  EXPECT_EQ(live_.stats().late, before_.late + 1);
  EXPECT_EQ(live_.stats().missed, before_.missed + 2);
  gate_->open();
  live_.run();
  const StreamPrefetchStats stats = live_.stats();
  EXPECT_EQ(stats.asked, accounted(stats));
  EXPECT_EQ(live_.store.load(2), Code::ok);
}

TEST_F(GatedStreams, no_more_is_in_flight_than_may_be) {
  begin({.depth = 8, .most_in_flight = 3 * kBlock});
  EXPECT_LE(before_.peak_in_flight, 3 * kBlock);
  for (std::uint64_t page = 0; page < 40; page += 4) {
    live_.touch(9, page);
    ASSERT_LE(live_.stats().in_flight, 3 * kBlock);
    live_.ahead->ended(9);
  }
  EXPECT_EQ(live_.stats().peak_in_flight, 3 * kBlock);
  EXPECT_GT(live_.stats().full, before_.full);
  gate_->open();
  live_.run();
  EXPECT_EQ(live_.stats().asked, accounted(live_.stats()));
}

TEST_F(GatedStreams, it_goes_and_leaves_nothing) {
  begin({});
  live_.touch(9, 0);
  ASSERT_GT(live_.stats().in_flight, 0U);
  {
    const std::jthread opener([&] { gate_->open(); });
    live_.ahead.reset();
  }
  EXPECT_EQ(test::check_invariants(*live_.store), "");
  live_.load({0, 40});
}

TEST(StreamPrefetcher, the_lstm_says_what_comes) {
  constexpr std::uint32_t kPages = 6, kFirst = 100;
  std::vector<predict::Stream> learned(20);
  for (std::uint32_t n = 0; n < learned.size(); ++n) {
    for (std::uint32_t i = 0; i < 12; ++i)
      learned[n].push_back(kFirst + (n + i) % kPages);
  }
  const auto trained = predict::train_sequences(
      learned, {.batches = 60, .sequences = 8, .steps = 8, .rate = 1e-2});
  ASSERT_TRUE(trained.ok());
  std::vector<std::byte> file = predict::write_weights(trained->weights);

  Streams live(48, 128);
  live.open({.rule = StreamPrefetchOptions::Rule::fixed,
             .depth = 1,
             .confidence = 0.3F,
             .lstm = file});
  const auto keys = live.save_below({kFirst, kPages});
  std::uint64_t there = 0;
  for (std::uint64_t stream = 0; stream < 6; ++stream) {
    for (std::uint64_t page = kFirst; page < kFirst + kPages; ++page) {
      there += live.store.tier_of(page) == 0 ? 1U : 0U;
      live.use(stream, page);
    }
    live.displace(keys);
  }
  EXPECT_EQ(live.stats().useful, there);
  EXPECT_GE(there, 20U) << "the first round shows which block a page lies in; of each of "
                           "the five others all but the first page can be foretold";

  file[file.size() / 2] ^= std::byte{1};
  const auto damaged = StreamPrefetcher::create(*live.store, {.lstm = file});
  EXPECT_EQ(damaged.error().code(), Code::corrupted);
}

TEST(StreamPrefetcher, refuses_what_it_cannot_do) {
  Streams live(48, 64);
  using Options = StreamPrefetchOptions;
  for (const Options& bad :
       {Options{.rule = static_cast<Options::Rule>(3)}, Options{.depth = 0},
        Options{.depth = 17}, Options{.confidence = 1.5F}, Options{.patience = 0},
        Options{.streams = 0}, Options{.streams = (1U << 20) + 1}, Options{.symbols = 0},
        Options{.layout = LayoutId{1}}, Options{.most_in_flight = kBlock - 1},
        Options{.learning_bytes = 0}, Options{.bytes_per_second = 0},
        Options{.bytes_per_second = std::numeric_limits<double>::infinity()}}) {
    const auto made = StreamPrefetcher::create(*live.store, bad);
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().code(), Code::invalid_argument);
  }
  StoreOptions flat;
  flat.layouts = {test::small_layout()};
  flat.tiers.push_back(test::tier_on(
      "only",
      std::make_shared<test::HeapDevice>(kFrame * 8, test::HeapDevice::Kind::memory)));
  test::StoreUnderTest one(std::move(flat));
  EXPECT_EQ(StreamPrefetcher::create(*one).error().code(), Code::invalid_argument);
}

TEST(StreamPrefetcher, streams_of_many_threads) {
  constexpr std::uint64_t kPages = 64, kThreads = 4, kUses = 2000;
  Streams live(32, 256);
  live.open({.most_in_flight = 16 * kBlock, .learning_bytes = 1ULL << 40});
  (void)live.save_below({0, kPages});
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937_64 random(t);
        std::uint64_t page = 0;
        for (std::uint64_t i = 0; i < kUses; ++i) {
          page = random() % 8 == 0 ? random() % kPages : (page + 1) % kPages;
          const auto symbol = static_cast<std::uint32_t>(page);
          EXPECT_TRUE(live.ahead->touched(t, symbol, key_of(page)).ok());
          if (random() % 100 == 0) live.ahead->ended(t);
        }
      });
    }
  }
  live.run();
  const StreamPrefetchStats stats = live.stats();
  EXPECT_EQ(stats.touched, kThreads * kUses);
  EXPECT_EQ(stats.asked, accounted(stats));
  EXPECT_LE(stats.peak_in_flight, 16 * kBlock);
  EXPECT_EQ(test::check_invariants(*live.store), "");
  live.load({0, kPages});
}

}  // namespace
}  // namespace speckv
