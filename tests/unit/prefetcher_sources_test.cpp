// Whom a Prefetcher listens to, and for how long: what is learned, what is hinted, and
// what is silenced because it does not pay.
#include <gtest/gtest.h>

#include "support/live_prefetcher.hpp"

namespace speckv {
namespace {

using test::kBlock;
using test::kFrame;
using test::Live;

std::uint64_t accounted(const PrefetchStats::Source& s) {
  return s.useful + s.late + s.wasted + s.unread;
}

// Blocks of sessions 40 to 59 that were staged when they had been idle for `pause`
// seconds, all of them returning then, or none.
std::uint64_t staged_after_learning(double pause, bool return_then) {
  Live live(48, 128);
  live.prefetch.learned = true;
  live.prefetch.hinted = false;
  live.open();
  std::uint64_t staged = 0;
  for (std::uint64_t session = 0; session < 60; ++session) {
    const auto keys = live.save_below({session * 8, 8});
    EXPECT_TRUE(live.prefetcher->finished(session, keys).ok());
    EXPECT_TRUE(live.prefetcher->hint(session, 1, 1).ok()) << "heard, and ignored";
    live.run();
    if (session >= 40) staged += live.in_tier(keys, 0);
    live.clock.turn(pause);
    if (return_then) {
      EXPECT_TRUE(live.prefetcher->arrived(session).ok());
      EXPECT_TRUE(live.prefetcher->ended(session).ok());
    }
    live.run();
    (void)live.store->erase(keys);
  }
  const PrefetchStats stats = live.prefetcher->stats();
  EXPECT_EQ(stats.hinted.chunks, 0U);
  EXPECT_EQ(stats.learned.staged, accounted(stats.learned));
  EXPECT_EQ(return_then ? stats.learned.useful : stats.learned.wasted,
            stats.learned.staged);
  return staged;
}

TEST(Prefetcher, learns_whether_sessions_return) {
  EXPECT_GE(staged_after_learning(1.5, true), 150U) << "of 160";
  EXPECT_LE(staged_after_learning(10000, false), 10U);
}

// The default budget is more than these tiers have, so the first tier's size counts.
TEST(Prefetcher, a_source_that_stages_for_nothing_is_silent_in_time) {
  constexpr std::uint64_t kFast = 48, kLength = 8, kSessions = 12, kRounds = 100;
  Live live(kFast, 256);
  live.open();
  std::vector<std::vector<BlockKey>> chains;
  for (std::uint64_t session = 0; session < kSessions; ++session) {
    chains.push_back(live.save_below({session * kLength, kLength}));
    ASSERT_TRUE(live.prefetcher->finished(session, chains.back()).ok());
  }
  for (std::uint64_t i = 0; i < kRounds; ++i) {
    ASSERT_TRUE(live.prefetcher->hint(i % kSessions, 1, 1).ok());
    live.run();
    live.clock.turn(12);  // and nobody comes
    for (std::uint64_t n = 0; n < 2 * kLength; ++n)
      ASSERT_EQ(live.store.save(10'000 + i % 2 * 100 + n), Code::ok);
  }
  const PrefetchStats stats = live.prefetcher->stats();
  EXPECT_GE(stats.hinted.pauses, 3U);
  EXPECT_GE(stats.hinted.wasted, kFast * kBlock) << "it had its chance";
  EXPECT_LE(stats.hinted.staged,
            2 * kFast * kFrame + stats.hinted.pauses * kLength * kBlock)
      << "twice the tier and a chain a trial, not 800 blocks";
}

TEST(Prefetcher, by_default_only_hints_are_heard) {
  const PrefetchOptions options;
  EXPECT_TRUE(options.hinted);
  EXPECT_FALSE(options.learned);
}

}  // namespace
}  // namespace speckv
