// A Prefetcher over a live store, held against the store's own counters; time is a clock
// that the test turns, and what has to be waited for is told by a completion queue.
#include "cxlspeckv/prefetcher.hpp"

#include <cmath>
#include <random>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "cxlspeckv/promotion.hpp"

#include "prefetch/prefetcher_impl.hpp"
#include "support/gated_device.hpp"
#include "support/invariants.hpp"
#include "support/live_prefetcher.hpp"

namespace speckv {
namespace {

using namespace std::chrono_literals;
using test::kBlock;
using test::key_of;
using test::kFrame;
using test::Live;
using test::Numbers;

std::uint64_t accounted(const PrefetchStats::Source& s) {
  return s.useful + s.late + s.wasted + s.unread;
}

TEST(Prefetcher, a_hinted_session_finds_its_blocks_in_the_fast_tier) {
  constexpr Numbers kHinted{0, 12}, kOther{100, 12};
  Live live(48, 128);
  live.open();
  const auto hinted = live.save_below(kHinted), other = live.save_below(kOther);
  ASSERT_TRUE(live.prefetcher->finished(7, hinted).ok());
  ASSERT_TRUE(live.prefetcher->finished(8, other).ok());
  live.run();
  EXPECT_EQ(live.in_tier(hinted, 0), 0U) << "nobody said that it returns";

  ASSERT_TRUE(live.prefetcher->hint(7, 2, 1).ok());
  live.run();
  EXPECT_EQ(live.in_tier(hinted, 0), kHinted.count);
  EXPECT_EQ(live.in_tier(other, 0), 0U);
  EXPECT_EQ(live.store->stats(0).promotions_in, kHinted.count);

  live.clock.turn(2);
  ASSERT_TRUE(live.prefetcher->arrived(7).ok());
  ASSERT_TRUE(live.prefetcher->arrived(8).ok());
  const TierStats fast = live.store->stats(0), slow = live.store->stats(1);
  live.load(kHinted);
  EXPECT_EQ(live.store->stats(0).hits - fast.hits, kHinted.count);
  EXPECT_EQ(live.store->stats(1).bytes_read, slow.bytes_read) << "it waited for none";
  live.load(kOther);
  EXPECT_EQ(live.store->stats(1).hits - slow.hits, kOther.count);

  const PrefetchStats stats = live.prefetcher->stats();
  EXPECT_EQ(stats.hinted.staged, kHinted.count * kBlock);
  EXPECT_EQ(stats.hinted.useful, kHinted.count * kBlock);
  EXPECT_EQ(stats.hinted.chunks, 3U);
  EXPECT_EQ(stats.learned.chunks, 0U);
  EXPECT_EQ(stats.peak_in_flight, 4 * kBlock) << "one chunk a link";
}

TEST(Prefetcher, what_nobody_comes_for_is_given_back) {
  constexpr Numbers kBlocks{0, 16};
  Live live(32, 128);
  live.open();
  const auto keys = live.save_below(kBlocks);
  ASSERT_TRUE(live.prefetcher->finished(1, keys).ok());
  ASSERT_TRUE(live.prefetcher->hint(1, 1, 1).ok());
  live.run();
  EXPECT_EQ(live.prefetcher->stats().hinted.unread, kBlocks.count * kBlock);
  live.clock.turn(1 + 10.5);
  live.run();
  const PrefetchStats stats = live.prefetcher->stats();
  EXPECT_EQ(stats.hinted.wasted, kBlocks.count * kBlock);
  EXPECT_EQ(stats.hinted.unread, 0U);
  EXPECT_EQ(live.store->stats(0).pinned, 0U);
  for (std::uint64_t n = 500; n < 540; ++n)  // others take the room, and it costs nothing
    EXPECT_EQ(live.store.save(n), Code::ok);
  EXPECT_EQ(live.in_tier(keys, 0), 0U);
  EXPECT_EQ(live.in_tier(keys, 1), kBlocks.count);
  live.load(kBlocks);
}

TEST(Prefetcher, what_was_staged_for_nothing_is_staged_again_only_if_somebody_says_so) {
  constexpr Numbers kBlocks{0, 16};
  Live live(32, 128);
  live.prefetch.retain = false;
  live.open();
  const auto keys = live.save_below(kBlocks);
  ASSERT_TRUE(live.prefetcher->finished(1, keys).ok());
  ASSERT_TRUE(live.prefetcher->hint(1, 5, 1).ok());
  live.run();
  ASSERT_EQ(live.in_tier(keys, 0), kBlocks.count);
  std::vector<BlockKey> others;
  for (std::uint64_t n = 500; n < 540; ++n) {
    ASSERT_EQ(live.store.save(n), Code::ok);
    others.push_back(key_of(n));
  }
  ASSERT_EQ(live.in_tier(keys, 0), 0U) << "the store's policy gave them up";
  (void)live.store->erase(others);
  for (int i = 0; i < 5; ++i) {
    live.clock.turn(0.2);
    live.run();
  }
  EXPECT_EQ(live.prefetcher->stats().hinted.wasted, kBlocks.count * kBlock);
  EXPECT_EQ(live.prefetcher->stats().hinted.staged, kBlocks.count * kBlock);
  EXPECT_EQ(live.in_tier(keys, 0), 0U);
  ASSERT_TRUE(live.prefetcher->hint(1, 3, 1).ok());
  live.run();
  EXPECT_EQ(live.in_tier(keys, 0), kBlocks.count);
  EXPECT_EQ(live.prefetcher->stats().hinted.staged, 2 * kBlocks.count * kBlock);
}

// A chunk of 200 blocks under way, of which the mover has begun what its queue holds: at
// most 32. Nothing completes until the gate is opened.
class UnderWay : public testing::Test {
 protected:
  void SetUp() override {
    live.prefetch.chunk_bytes = live.prefetch.most_in_flight = 200 * kBlock;
    live.open();
    wanted = live.save_below({900, 2});
    staged = live.save_below({0, 200});
    ASSERT_TRUE(live.prefetcher->finished(1, staged).ok());
    ASSERT_TRUE(live.prefetcher->finished(2, wanted).ok());
    gate->close();
    ASSERT_TRUE(live.prefetcher->hint(1, 1, 1).ok());
    ASSERT_EQ(live.prefetcher->stats().in_flight, 200 * kBlock);
  }
  std::shared_ptr<test::GatedDevice> gate =
      std::make_shared<test::GatedDevice>(512 * kFrame);
  Live live{256, gate};
  std::vector<BlockKey> wanted, staged;
};

TEST_F(UnderWay, a_request_overtakes_it) {
  ASSERT_TRUE(live.prefetcher->arrived(2).ok());
  const Segment place = live.store.place(3);
  const BlockTransfer transfer{wanted[0], {&place, 1}, 0, {}};
  Operation load = live.store->load({&transfer, 1});
  gate->open();
  EXPECT_TRUE(load.wait().ok());
  EXPECT_LE(live.store->stats(0).promotions_in, 32U) << "begun after the request came";
  live.run();
  const PrefetchStats stats = live.prefetcher->stats();
  EXPECT_LE(live.in_tier(staged, 0), 32U);
  EXPECT_EQ(stats.hinted.displaced, 1U);
  EXPECT_EQ(stats.hinted.staged, live.in_tier(staged, 0) * kBlock);
  EXPECT_EQ(stats.hinted.unread, stats.hinted.staged);
  live.clock.turn(1);  // the request has what it loads; the link is free again
  live.run();
  EXPECT_EQ(live.in_tier(staged, 0), staged.size());
}

TEST_F(UnderWay, what_comes_after_its_session_is_late) {
  ASSERT_TRUE(live.prefetcher->arrived(1).ok());
  gate->open();
  live.run();
  const PrefetchStats stats = live.prefetcher->stats();
  EXPECT_LE(live.in_tier(staged, 0), 32U) << "the rest was cancelled";
  EXPECT_EQ(stats.hinted.staged, live.in_tier(staged, 0) * kBlock);
  EXPECT_EQ(stats.hinted.late, stats.hinted.staged);
}

TEST_F(UnderWay, an_end_and_a_hint_taken_back_cancel_it) {
  ASSERT_TRUE(live.prefetcher->hint(1, 0, 0).ok());
  ASSERT_TRUE(live.prefetcher->ended(1).ok());
  EXPECT_EQ(live.prefetcher->ended(1).code(), Code::not_found);
  ASSERT_TRUE(live.prefetcher->finished(1, wanted).ok()) << "the name is free at once";
  gate->open();
  live.run();
  const PrefetchStats stats = live.prefetcher->stats();
  EXPECT_LE(live.in_tier(staged, 0), 32U);
  EXPECT_EQ(stats.hinted.wasted, stats.hinted.staged);
  EXPECT_EQ(stats.hinted.staged, live.in_tier(staged, 0) * kBlock);
  EXPECT_EQ(stats.blocks, 2 * wanted.size()) << "of two sessions";
}

TEST_F(UnderWay, the_prefetcher_goes_and_leaves_nothing) {
  {
    const std::jthread opener([&] { gate->open(); });
    live.prefetcher.reset();
  }
  EXPECT_EQ(test::check_invariants(*live.store), "");
  live.load({0, 200});
}

TEST(Prefetcher, off_costs_nothing) {
  Live live(16, 64);
  live.prefetch.learned = live.prefetch.hinted = false;
  live.open();
  const auto keys = live.save_below({0, 8});
  for (std::uint64_t session = 0; session < 100; ++session) {
    ASSERT_TRUE(live.prefetcher->finished(session, keys).ok());
    ASSERT_TRUE(live.prefetcher->hint(session, 1, 1).ok());
    ASSERT_TRUE(live.prefetcher->arrived(session).ok());
    ASSERT_TRUE(live.prefetcher->ended(session).ok());
  }
  EXPECT_EQ(live.prefetcher->advance(), std::chrono::nanoseconds::max());
  EXPECT_EQ(live.prefetcher->stats().sessions, 0U);
  EXPECT_EQ(live.store->stats(0).promotions_in, 0U);
}

TEST(Prefetcher, refuses_what_it_cannot_believe) {
  Live live(16, 64);
  const auto refused = [&](auto&& change) {
    PrefetchOptions options;
    change(options);
    const auto made = Prefetcher::create(*live.store, options);
    return !made.ok() && made.error().code() == Code::invalid_argument &&
           !made.error().message().empty();
  };
  EXPECT_TRUE(refused([](auto& o) { o.layout = static_cast<LayoutId>(1); }));
  EXPECT_TRUE(refused([](auto& o) { o.sessions = 0; }));
  EXPECT_TRUE(refused([](auto& o) { o.sessions = (1U << 16) + 1; }));
  EXPECT_TRUE(refused([](auto& o) { o.blocks = 0; }));
  EXPECT_TRUE(refused([](auto& o) { o.chunk_bytes = 0; }));
  EXPECT_TRUE(refused([](auto& o) { o.most_in_flight = 0; }));
  EXPECT_TRUE(refused([](auto& o) { o.learning_bytes = 0; }));
  EXPECT_TRUE(refused([](auto& o) { o.hint_life = -1ns; }));
  EXPECT_TRUE(refused([](auto& o) { o.unread_life = -1ns; }));
  EXPECT_TRUE(refused([](auto& o) { o.bytes_per_second = {1e9}; }));
  EXPECT_TRUE(refused([](auto& o) { o.bytes_per_second = {1e9, NAN}; }));

  live.prefetch.sessions = 2;
  live.prefetch.blocks = 8;
  live.open();
  Prefetcher& it = *live.prefetcher;
  EXPECT_EQ(it.arrived(1).code(), Code::not_found);
  EXPECT_EQ(it.ended(1).code(), Code::not_found);
  EXPECT_EQ(it.hint(1, 1, 1).code(), Code::not_found);
  std::vector<BlockKey> keys;
  for (std::uint64_t n = 0; n < 9; ++n)
    keys.push_back(key_of(n));
  EXPECT_EQ(it.finished(1, keys).code(), Code::invalid_argument) << "too many keys";
  keys.pop_back();
  ASSERT_TRUE(it.finished(1, keys).ok());
  for (const double eta : {-1.0, -1e-9, double{NAN}, double{INFINITY}})
    EXPECT_EQ(it.hint(1, eta, 1).code(), Code::invalid_argument) << eta;
  for (const double confidence : {-0.01, 1.01, double{NAN}})
    EXPECT_EQ(it.hint(1, 1, confidence).code(), Code::invalid_argument) << confidence;
  EXPECT_TRUE(it.hint(1, 0, 0).ok());

  // What is in use is not forgotten for what is new; what is idle is.
  ASSERT_TRUE(it.arrived(1).ok());
  EXPECT_EQ(it.finished(2, std::span(keys).first(1)).code(), Code::no_space) << "blocks";
  ASSERT_TRUE(it.arrived(2).ok());
  EXPECT_EQ(it.finished(3, {}).code(), Code::no_space) << "sessions";
  ASSERT_TRUE(it.finished(1, keys).ok());
  ASSERT_TRUE(it.finished(3, {}).ok());
  EXPECT_EQ(it.arrived(1).code(), Code::not_found) << "it was silent for longest";
  EXPECT_EQ(it.stats().sessions, 2U);
  EXPECT_EQ(it.stats().blocks, 0U);
}

// Whatever engines say and in whatever order: the numbers add up, the budget holds, the
// sessions known are those that a set of names knows, and a scheduler that is told the
// same afterwards chooses the same chunks and keeps the same.
TEST(Prefetcher, random_events_and_the_same_decisions_afterwards) {
  constexpr std::uint64_t kSessions = 12, kLength = 10;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    std::mt19937_64 random(seed);
    Live live(40, 160);
    live.prefetch.learning_bytes = 64 * kBlock;
    live.prefetch.learned = seed % 2 == 0;
    live.open();
    prefetch::Journal journal;
    live.prefetcher->impl().record(&journal);
    std::vector<std::vector<BlockKey>> chains;
    for (std::uint64_t s = 0; s < kSessions; ++s)
      chains.push_back(live.save_below({s * kLength, kLength}));
    for (std::uint64_t s = 1; s < kSessions; s += 2)  // two share their first blocks
      std::copy_n(chains[s - 1].begin(), 3, chains[s].begin());
    std::set<std::uint64_t> known;
    for (int i = 0; i < 2000; ++i) {
      live.clock.turn(static_cast<double>(random() % 1000) / 1000);
      const std::uint64_t session = random() % kSessions;
      const Code expected = known.contains(session) ? Code::ok : Code::not_found;
      switch (random() % 8) {
        case 0:
        case 1: {
          const auto length = kLength - random() % 3;
          ASSERT_TRUE(
              live.prefetcher->finished(session, std::span(chains[session]).first(length))
                  .ok());
          known.insert(session);
          break;
        }
        case 2:
          ASSERT_EQ(live.prefetcher->arrived(session).code(), expected);
          break;
        case 3:
          ASSERT_EQ(live.prefetcher->ended(session).code(), expected);
          known.erase(session);
          break;
        case 4:
          live.load({session * kLength + random() % kLength, 1});
          break;
        case 5:
          if (random() % 4 == 0) live.run();
          break;
        case 6: {  // the store moves blocks by itself, and forgets some
          const std::uint64_t other = 5000 + random() % 30;
          ASSERT_EQ(live.store.save(other), Code::ok);
          break;
        }
        default:
          ASSERT_EQ(live.prefetcher
                        ->hint(session, static_cast<double>(random() % 8),
                               static_cast<double>(random() % 101) / 100)
                        .code(),
                    expected);
      }
      const PrefetchStats stats = live.prefetcher->stats();
      ASSERT_EQ(stats.sessions, known.size());
      ASSERT_LE(stats.peak_in_flight, live.prefetch.most_in_flight);
      ASSERT_EQ(stats.learned.staged, accounted(stats.learned));
      ASSERT_EQ(stats.hinted.staged, accounted(stats.hinted));
    }
    live.run();
    const PrefetchStats stats = live.prefetcher->stats();
    EXPECT_EQ(stats.in_flight, 0U);
    EXPECT_GT(stats.hinted.useful, 0U);
    EXPECT_GT(stats.hinted.wasted, 0U);
    EXPECT_LE((stats.hinted.staged + stats.learned.staged) / kBlock,
              live.store->stats(0).promotions_in + stats.failed);

    live.prefetcher->impl().record(nullptr);
    const prefetch::Journal again = prefetch::replay(journal);
    ASSERT_EQ(again.chunks.size(), stats.hinted.chunks + stats.learned.chunks);
    ASSERT_GT(again.chunks.size(), 20U);
    for (std::size_t i = 0; i < again.chunks.size(); ++i) {
      const prefetch::Chunk &a = again.chunks[i], &b = journal.chunks[i];
      ASSERT_TRUE(a.session == b.session && a.from == b.from && a.to == b.to &&
                  a.bytes == b.bytes && a.source == b.source);
    }
    ASSERT_GT(again.kept.size(), 20U);
    ASSERT_EQ(again.kept, journal.kept);
    live.prefetcher.reset();
    EXPECT_EQ(test::check_invariants(*live.store), "");
  }
}

TEST(Promotion, tells_what_came_of_each_block) {
  Live live(16, 64);
  const auto below = live.save_below({0, 2});
  ASSERT_EQ(live.store.save(10), Code::ok);
  ASSERT_EQ(live.store.tier_of(10), 0);
  const std::vector<BlockKey> keys{below[0], key_of(10), key_of(99), below[1]};
  Operation op =
      promote(*live.store, keys, 0, {.completions = &live.completions, .tag = 5});
  EXPECT_EQ(op.wait().code(), Code::not_found);
  EXPECT_EQ(op.code(0), Code::ok);
  EXPECT_EQ(op.code(1), Code::ok);
  EXPECT_EQ(op.code(2), Code::not_found);
  EXPECT_EQ(op.code(3), Code::ok);
  EXPECT_EQ(live.in_tier(below, 0), 2U);
  CompletionQueue::Entry entry;
  ASSERT_EQ(live.completions.poll({&entry, 1}), 1U);
  EXPECT_EQ(entry.tag, 5U);
  Operation none = promote(*live.store, {}, 0, {.completions = &live.completions});
  EXPECT_TRUE(none.done());
  EXPECT_EQ(live.completions.poll({&entry, 1}), 1U);
}

}  // namespace
}  // namespace speckv
