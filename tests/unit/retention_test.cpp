// What a live store keeps because somebody expects it back: the set of blocks that a full
// tier passes over, and the Prefetcher that says which; time is a clock that the test
// turns.
#include <thread>

#include <gtest/gtest.h>

#include "cxlspeckv/promotion.hpp"

#include "store/kept_blocks.hpp"
#include "support/invariants.hpp"
#include "support/live_prefetcher.hpp"

namespace speckv {
namespace {

using test::kBlock;
using test::key_of;
using test::Live;
using test::small_layout;
using test::StoreUnderTest;

// ---- the set

TEST(KeptBlocks, knows_whose_each_block_is_and_how_deep_it_lies) {
  constexpr std::uint32_t kOwners = 50, kLength = 40;
  KeptBlocks kept(kOwners * kLength, kOwners);
  for (std::uint32_t n = 0; n < kOwners * kLength; ++n)
    kept.own(key_of(n), n / kLength, n % kLength);
  for (std::uint32_t owner = 0; owner < kOwners; ++owner)
    kept.keep(owner, owner % 2 == 0 ? owner % kLength : KeptBlocks::kAll, owner % 3);
  EXPECT_FALSE(kept.pass(key_of(40))) << "nothing is allowed yet";
  kept.allow(1'000'000);
  std::uint32_t wrong = 0;
  for (std::uint32_t n = 0; n < kOwners * kLength; ++n) {
    const std::uint32_t owner = n / kLength, depth = n % kLength;
    const bool is = owner % 2 != 0 || depth < owner % kLength;
    wrong += kept.pass(key_of(n)) == is ? 0U : 1U;
  }
  EXPECT_LE(wrong, 20U) << "of 2,000: lines with more than they hold are few";
  for (std::uint32_t n = 0; n < 100'000; ++n)
    ASSERT_FALSE(kept.pass(key_of(1'000'000 + n))) << "nobody spoke of it";

  kept.disown(key_of(45), 2);
  EXPECT_TRUE(kept.pass(key_of(45))) << "it is not his";
  kept.disown(key_of(45), 1);
  EXPECT_FALSE(kept.pass(key_of(45)));
  kept.own(key_of(46), 0, 3);
  EXPECT_FALSE(kept.pass(key_of(46))) << "0 keeps none";
  kept.keep(1, 0, 0);
  EXPECT_FALSE(kept.pass(key_of(47)));
}

TEST(KeptBlocks, holds_each_back_as_often_as_it_was_allowed) {
  KeptBlocks kept(8, 1);
  for (std::uint32_t n = 0; n < 8; ++n)
    kept.own(key_of(n), 0, n);
  kept.keep(0, KeptBlocks::kAll, 2);
  kept.allow(5);
  std::uint32_t passed = 0;
  for (std::uint32_t n = 0; n < 24; ++n)
    passed += kept.pass(key_of(n % 8)) ? 1U : 0U;
  EXPECT_EQ(passed, 5U);
  EXPECT_EQ(kept.passed(2), 5U);
  EXPECT_EQ(kept.passed(0) + kept.passed(1), 0U);
}

TEST(KeptBlocks, tells_once_whose_blocks_left) {
  KeptBlocks kept(8, 2);
  kept.own(key_of(1), 0, 0);
  kept.own(key_of(2), 1, 0);
  kept.left(key_of(2));
  kept.left(key_of(3));
  EXPECT_FALSE(kept.lost(0));
  EXPECT_TRUE(kept.lost(1));
  EXPECT_FALSE(kept.lost(1));
}

TEST(KeptBlocks, is_asked_while_it_is_written) {
  constexpr std::uint32_t kBlocks = 64;
  KeptBlocks kept(kBlocks, 2);
  std::array<std::uint64_t, 2> passed{};
  std::vector<std::thread> readers;
  for (std::uint64_t& mine : passed) {
    readers.emplace_back([&kept, &mine] {
      for (std::uint32_t n = 0; n < 200'000; ++n) {
        mine += kept.pass(key_of(n % kBlocks)) ? 1U : 0U;
        EXPECT_FALSE(kept.pass(key_of(1000 + n % kBlocks)));
      }
    });
  }
  for (std::uint32_t i = 0; i < 50'000; ++i) {
    const std::uint32_t n = i % kBlocks, owner = i / kBlocks % 2;
    kept.own(key_of(n), owner, n);
    kept.keep(owner, i % 100, owner);
    if (i % 3 == 0) kept.disown(key_of(n), owner);
    kept.allow(i % 7 == 0 ? 0 : 1'000'000);
  }
  for (std::thread& reader : readers)
    reader.join();
  EXPECT_EQ(passed[0] + passed[1], kept.passed(0) + kept.passed(1));
}

// ---- the store

constexpr std::uint64_t kSlots = 20;

StoreOptions of_tiers(std::initializer_list<std::uint64_t> slots,
                      std::string_view policy = "lru") {
  StoreOptions options;
  options.layouts = {small_layout()};
  for (const std::uint64_t count : slots) {
    const std::uint64_t bytes = count * test::frame_bytes(small_layout());
    options.tiers.push_back(test::tier_on(
        "t" + std::to_string(options.tiers.size()),
        std::make_shared<test::HeapDevice>(bytes, test::HeapDevice::Kind::memory)));
    options.tiers.back().policy = make_policy(policy);
  }
  return options;
}

// The first `count` blocks are kept, for ever as far as a test goes.
std::shared_ptr<KeptBlocks> the_first(std::uint32_t count,
                                      std::uint64_t allowed = 1U << 30) {
  auto kept = std::make_shared<KeptBlocks>(64, 1);
  for (std::uint32_t n = 0; n < 64; ++n)
    kept->own(key_of(n), 0, n);
  kept->keep(0, count, 0);
  kept->allow(allowed);
  return kept;
}

std::uint64_t stored(StoreUnderTest& store, std::uint64_t first, std::uint64_t count,
                     int tier = 0) {
  std::uint64_t found = 0;
  for (std::uint64_t n = first; n < first + count; ++n)
    found += store.tier_of(n) == tier ? 1U : 0U;
  return found;
}

class Policies : public testing::TestWithParam<std::string_view> {};
INSTANTIATE_TEST_SUITE_P(Retention, Policies,
                         testing::ValuesIn(policy_names().begin(), policy_names().end()),
                         [](const auto& name) { return std::string(name.param); });

TEST_P(Policies, a_full_tier_passes_over_what_is_kept) {
  StoreUnderTest store(of_tiers({kSlots}, GetParam()));
  const auto kept = the_first(5);
  ASSERT_TRUE(retain(*store, 0, kept));
  for (std::uint64_t n = 0; n < 200; ++n)
    ASSERT_EQ(store.save(n), Code::ok);
  EXPECT_EQ(stored(store, 0, 5), 5U);
  EXPECT_EQ(stored(store, 0, 200), kSlots) << "the others made room";
  EXPECT_GT(kept->passed(0), 0U);
  EXPECT_EQ(test::check_invariants(*store), "");
}

TEST_P(Policies, no_save_is_refused_where_all_is_kept) {
  StoreUnderTest store(of_tiers({kSlots}, GetParam()));
  ASSERT_TRUE(retain(*store, 0, the_first(64)));
  for (std::uint64_t n = 0; n < 64; ++n) {
    ASSERT_EQ(store.save(n), Code::ok);
    ASSERT_EQ(store.tier_of(n), 0);
  }
  EXPECT_EQ(stored(store, 0, 64), kSlots);
  EXPECT_EQ(test::check_invariants(*store), "");
}

// Two stores that do the same, one of them with a set in which nothing is kept.
TEST_P(Policies, an_empty_set_changes_no_victim) {
  StoreUnderTest with(of_tiers({kSlots}, GetParam())),
      without(of_tiers({kSlots}, GetParam()));
  ASSERT_TRUE(retain(*with, 0, the_first(0)));
  std::mt19937_64 random(3);
  for (int i = 0; i < 3000; ++i) {
    const std::uint64_t block = random() % 40;
    if (random() % 2 == 0) {
      ASSERT_EQ(with.save(block), without.save(block));
    } else {
      ASSERT_EQ(with.load(block), without.load(block));
    }
    for (std::uint64_t n = 0; n < 40; ++n)
      ASSERT_EQ(with.tier_of(n), without.tier_of(n)) << "after " << i;
  }
}

TEST(Retention, what_nobody_renews_is_held_back_once) {
  StoreUnderTest store(of_tiers({kSlots}));
  const auto kept = the_first(5, 5);
  ASSERT_TRUE(retain(*store, 0, kept));
  for (std::uint64_t n = 0; n < kSlots + 10; ++n)
    ASSERT_EQ(store.save(n), Code::ok);
  EXPECT_EQ(stored(store, 0, 5), 5U);
  for (std::uint64_t n = 100; n < 100 + 2 * kSlots; ++n)
    ASSERT_EQ(store.save(n), Code::ok);
  EXPECT_EQ(stored(store, 0, 5), 0U);
  EXPECT_EQ(kept->passed(0), 5U);
}

TEST(Retention, a_tier_follows_one_set_at_a_time) {
  StoreUnderTest store(of_tiers({kSlots}));
  const auto first = the_first(5), second = the_first(10);
  EXPECT_TRUE(retain(*store, 0, first));
  EXPECT_TRUE(retain(*store, 0, first));
  EXPECT_FALSE(retain(*store, 0, second));
  release(*store, 0, *second);
  for (std::uint64_t n = 0; n < 100; ++n)
    ASSERT_EQ(store.save(n), Code::ok);
  EXPECT_EQ(stored(store, 0, 10), 5U) << "by the first";
  release(*store, 0, *first);
  EXPECT_EQ(first.use_count(), 1);
  EXPECT_TRUE(retain(*store, 0, second));
}

// What must be copied down before it may go is chosen the same way.
TEST(Retention, what_is_kept_is_not_moved_down) {
  StoreUnderTest store(of_tiers({kSlots, 4000}));
  ASSERT_TRUE(retain(*store, 0, the_first(5)));
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  for (std::uint64_t n = 0; store->stats(1).demotions_in < 3 * kSlots &&
                            std::chrono::steady_clock::now() < until;
       ++n) {
    ASSERT_EQ(store.save(n), Code::ok);
    const BlockKey old = key_of(n - 1000);
    if (n > 1005) (void)store->erase({&old, 1});
  }
  EXPECT_GE(store->stats(1).demotions_in, 3 * kSlots);
  EXPECT_EQ(stored(store, 0, 5), 5U);
  EXPECT_EQ(test::check_invariants(*store), "");
}

// ---- the prefetcher

// Sessions of eight blocks over a fast tier that holds six of them; requests bring their
// chains to the fast tier and leave them there.
class Served {
 public:
  static constexpr std::uint64_t kFast = 48, kLength = 8;

  Served(std::uint64_t sessions, bool retain, bool stage = false)
      : live_(kFast, (sessions + 8) * kLength) {
    live_.prefetch.retain = retain;
    live_.prefetch.stage = stage;
    live_.open();
    for (std::uint64_t session = 0; session < sessions; ++session)
      chains_.push_back(live_.save_below({session * kLength, kLength}));
    below_ = live_.save_below({sessions * kLength, 1}).front();
  }
  // Blocks of it that the request finds in the fast tier.
  std::uint64_t request(std::uint64_t session) {
    live_.clock.turn(1);
    const auto& chain = chains_[session];
    (void)live_.prefetcher->arrived(session);
    const std::uint64_t found = live_.in_tier(chain, 0);
    live_.load({session * kLength, kLength});
    Operation bring = promote(*live_.store, chain, 0);
    (void)bring.wait();
    for (std::size_t i = 0; i < kLength; ++i)
      EXPECT_EQ(bring.code(i), Code::ok);
    EXPECT_TRUE(live_.prefetcher->finished(session, chain).ok());
    test::rest(*live_.store, below_);
    return found;
  }
  void hint(std::uint64_t session, double eta) {
    EXPECT_TRUE(live_.prefetcher->hint(session, eta, 1).ok());
    if (live_.prefetch.stage) live_.run();
  }
  Live& live() { return live_; }

 private:
  Live live_;
  std::vector<std::vector<BlockKey>> chains_;
  BlockKey below_{};  // of no session: it stays in the slow tier
};

// Twelve sessions, one after the other, over and over: what last use gives up is what
// comes next. Each tells when it returns.
double found_in_a_loop(bool retain, bool stage) {
  constexpr std::uint64_t kSessions = 12, kRounds = 20, kWarm = 4;
  Served served(kSessions, retain, stage);
  std::uint64_t found = 0;
  for (std::uint64_t i = 0; i < kSessions * kRounds; ++i) {
    const std::uint64_t here = served.request(i % kSessions);
    served.hint(i % kSessions, double{kSessions});
    if (i >= kSessions * kWarm) found += here;
  }
  const PrefetchStats stats = served.live().prefetcher->stats();
  EXPECT_EQ(stats.hinted.retained > 0, retain);
  EXPECT_EQ(stats.hinted.staged > 0, stage);
  EXPECT_EQ(stats.learned.retained, 0U);
  EXPECT_EQ(test::check_invariants(*served.live().store), "");
  const double share =
      static_cast<double>(found) /
      static_cast<double>(kSessions * (kRounds - kWarm) * Served::kLength);
  testing::Test::RecordProperty(stage ? "found_with_staging" : "found",
                                std::to_string(share));
  return share;
}

// The best that six of twelve can do is 5 / 11.
TEST(Retention, keeps_what_returns_sooner_than_what_was_used_later) {
  EXPECT_EQ(found_in_a_loop(false, false), 0);
  EXPECT_GE(found_in_a_loop(true, false), 0.3);
}

TEST(Retention, what_is_staged_stays_until_it_is_read) {
  EXPECT_GE(found_in_a_loop(true, true), 0.9);
}

// Two hot sessions, of which nobody says anything, between twelve that are expected, but
// later: the hot ones are there each time, and some of the others besides.
TEST(Retention, what_is_hot_does_not_make_room_for_what_comes_late) {
  constexpr std::uint64_t kHot = 2, kOthers = 12;
  for (const bool retain : {false, true}) {
    Served served(kHot + kOthers, retain);
    std::uint64_t missed = 0, found = 0;
    for (std::uint64_t i = 0; i < 400; ++i) {
      const std::uint64_t hot = served.request(i % kHot);
      const std::uint64_t other = kHot + i % kOthers;
      const std::uint64_t here = served.request(other);
      served.hint(other, 2.0 * kOthers);
      if (i < 50) continue;
      missed += Served::kLength - hot;
      found += here;
    }
    EXPECT_EQ(missed, 0U) << retain;
    EXPECT_EQ(found > 350 * Served::kLength / 10, retain) << found;
  }
}

// Five sessions that fit, in a loop, and now and then one that comes once and is said to
// return at once: it costs what a source may lose, and not more.
TEST(Retention, who_lies_is_heard_until_he_has_lost_what_he_may) {
  constexpr std::uint64_t kHot = 5, kSteps = 1000, kOnce = kSteps / 5;
  std::array<std::uint64_t, 2> missed{};
  std::uint64_t pauses = 0;
  for (const bool retain : {false, true}) {
    Served served(kHot + kOnce, retain);
    for (std::uint64_t i = 0; i < kSteps; ++i) {
      missed[retain ? 1 : 0] += Served::kLength - served.request(i % kHot);
      if (i % 5 != 4) continue;
      (void)served.request(kHot + i / 5);
      served.hint(kHot + i / 5, 1);
    }
    pauses = served.live().prefetcher->stats().hinted.pauses;
  }
  EXPECT_GE(pauses, 2U) << "it did harm";
  EXPECT_GT(missed[1], missed[0]);
  EXPECT_LE(missed[1], missed[0] + (2 + pauses) * Served::kFast);
}

TEST(Retention, a_store_follows_the_first_of_its_prefetchers) {
  Served served(8, true);
  auto second = Prefetcher::create(*served.live().store, served.live().prefetch);
  ASSERT_TRUE(second.ok());
  const auto third = the_first(1);
  EXPECT_FALSE(retain(*served.live().store, 0, third));
  served.live().prefetcher.reset();
  EXPECT_TRUE(retain(*served.live().store, 0, third)) << "the second does not";
  release(*served.live().store, 0, *third);
}

}  // namespace
}  // namespace speckv
