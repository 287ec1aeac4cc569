// What the scheduler of speculation promises, under random events: the budget is never
// exceeded, what is in use is never given up, nothing is fetched or kept that is worth
// less than what it displaces, and a source that loses falls silent.
#include "prefetch/scheduler.hpp"

#include <algorithm>
#include <map>
#include <random>

#include <gtest/gtest.h>

namespace speckv::prefetch {
namespace {

constexpr std::uint64_t kChunk = 1 << 20;

std::vector<TierView> three_tiers() {
  return {{16 * kChunk, 64e6}, {32 * kChunk, 28e6}, {4096 * kChunk, 7e6}};
}

Options small_options() {
  Options options;
  options.chunk_bytes = kChunk;
  options.most_in_flight = 3 * kChunk;
  options.learning_bytes = 64 * kChunk;
  return options;
}

ReturnDistribution in_class(std::size_t gap_class) {
  ReturnDistribution returns;
  returns.probability[gap_class] = 1;
  return returns;
}

// Sessions with bytes in tiers, moved as the scheduler says, all in order.
class World {
 public:
  World(std::uint64_t seed, Options options)
      : random_(seed), options_(options), scheduler_(three_tiers(), options) {}

  void step() {
    now_ += static_cast<double>(random_() % 1000) / 1000;
    const SessionId session = random_() % 40;
    switch (random_() % 8) {
      case 0:
      case 1:
        return arrive(session);
      case 2:
      case 3:
        if (!sessions_[session].active) return;
        sessions_[session].active = false;
        return scheduler_.completed(session, now_, in_class(random_() % 15));
      case 4:
        return scheduler_.hint(session, now_, now_ + static_cast<double>(random_() % 20),
                               static_cast<double>(random_() % 100 + 1) / 100);
      case 5:
        keep();
        return random_() % 8 == 0 ? scheduler_.ended(session) : finish();
      default:
        return fetch(1 + static_cast<std::uint32_t>(random_() % 2));
    }
  }

 private:
  struct Session {
    bool active = false;
    std::uint64_t bytes[3] = {};
  };

  void put(SessionId session, std::uint32_t tier, std::int64_t bytes) {
    sessions_[session].bytes[tier] += static_cast<std::uint64_t>(bytes);
    used_[tier] += static_cast<std::uint64_t>(bytes);
    scheduler_.held(session, tier, bytes);
  }
  void arrive(SessionId id) {
    Session& session = sessions_[id];
    // Demand takes the links: whatever is under way there is given up.
    for (std::size_t i = under_way_.size(); i-- > 0;)
      finish_one(i, Scheduler::End::displaced);
    session.active = true;
    scheduler_.arrived(id, 4 * kChunk, 2 * kChunk, now_);
    for (std::uint32_t t = 0; t < 3; ++t)
      put(id, t, -static_cast<std::int64_t>(session.bytes[t]));
    put(id, 0, 4 * kChunk);
    make_room();
  }
  void make_room() {
    for (std::uint32_t t = 0; t < 2; ++t) {
      while (used_[t] > three_tiers()[t].capacity) {
        const auto victim = scheduler_.victim(t, now_);
        if (!victim) {
          for (const auto& [id, session] : sessions_)
            EXPECT_TRUE(session.active || session.bytes[t] == 0);
          return;
        }
        ASSERT_FALSE(sessions_[*victim].active) << "what is in use is given up";
        ASSERT_GE(sessions_[*victim].bytes[t], kChunk);
        if (scheduler_.retains_by_value()) {
          const double least = scheduler_.value(*victim, t, now_);
          for (const auto& [id, session] : sessions_) {
            if (session.active || session.bytes[t] == 0) continue;
            ASSERT_LE(least, scheduler_.value(id, t, now_) + 0.05);
          }
        }
        put(*victim, t, -std::int64_t{kChunk});
        put(*victim, t + 1, kChunk);
      }
    }
  }
  void fetch(std::uint32_t from) {
    const auto chunk = scheduler_.next(from, now_);
    if (!chunk) return;
    ASSERT_EQ(chunk->from, from);
    ASSERT_LT(chunk->to, from);
    ASSERT_GT(chunk->bytes, 0U);
    ASSERT_LE(chunk->bytes, options_.chunk_bytes);
    ASSERT_FALSE(sessions_[chunk->session].active);
    ASSERT_GE(sessions_[chunk->session].bytes[from], chunk->bytes) << "it is not there";
    ASSERT_FALSE(scheduler_.next(from, now_)) << "two at a time on one link";
    under_way_.push_back(*chunk);
    std::uint64_t bytes = 0;
    for (const Chunk& each : under_way_)
      bytes += each.bytes;
    ASSERT_EQ(scheduler_.in_flight(), bytes);
    ASSERT_LE(bytes, options_.most_in_flight) << "over the budget";
  }
  // What is in use is kept, and so much of the idle as leaves room.
  void keep() {
    const auto t = static_cast<std::uint32_t>(random_() % 3);
    const std::uint64_t capacity = three_tiers()[t].capacity,
                        others = random_() % capacity;
    const auto& kept = scheduler_.keep(t, capacity, others, now_);
    if (kept.empty()) return;
    std::uint64_t idle = 0, active = 0, active_kept = 0;
    bool expected = false;
    for (const Kept& it : kept) {
      const Session& session = sessions_[it.session];
      ASSERT_LE(it.bytes, session.bytes[t]);
      ASSERT_GT(it.bytes, 0U);
      ASSERT_EQ(it.whole, it.bytes == session.bytes[t]);
      ASSERT_FALSE(session.active && it.expected);
      (session.active ? active_kept : idle) += it.bytes;
      expected = expected || it.expected;
    }
    for (const auto& [id, session] : sessions_)
      active += session.active ? session.bytes[t] : 0;
    ASSERT_TRUE(expected) << "last use does as well";
    ASSERT_EQ(active_kept, active);
    ASSERT_LE(idle + others + active, capacity - capacity / 8);
    ++kept_;
  }
  void finish() {
    if (!under_way_.empty())
      finish_one(random_() % under_way_.size(), Scheduler::End::moved);
  }
  void finish_one(std::size_t i, Scheduler::End end) {
    const Chunk chunk = under_way_[i];
    under_way_.erase(under_way_.begin() + static_cast<std::ptrdiff_t>(i));
    scheduler_.finished(chunk, end);
    if (end == Scheduler::End::displaced) return;
    const auto bytes = static_cast<std::int64_t>(chunk.bytes);
    if (sessions_[chunk.session].bytes[chunk.from] < chunk.bytes) return;
    put(chunk.session, chunk.from, -bytes);
    put(chunk.session, chunk.to, bytes);
    make_room();
  }

  std::mt19937_64 random_;
  Options options_;
  Scheduler scheduler_;
  std::map<SessionId, Session> sessions_;
  std::uint64_t used_[3] = {};
  std::vector<Chunk> under_way_;
  double now_ = 0;
  int kept_ = 0;

 public:
  int plans() const { return kept_; }  // in which anything was kept
};

TEST(Scheduler, keeps_its_promises_under_random_events) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    Options options = small_options();
    options.most_in_flight = (1 + seed % 2) * kChunk;  // two links could carry two
    World world(seed, options);
    for (int i = 0; i < 20000 && !testing::Test::HasFatalFailure(); ++i)
      world.step();
    EXPECT_GT(world.plans(), 100);
  }
}

// Two sessions of which one returns soon and one late; both below the first tier.
class Choosing : public testing::Test {
 protected:
  Choosing() : scheduler(three_tiers(), small_options()) {
    for (const SessionId id : {1U, 2U}) {
      scheduler.arrived(id, 4 * kChunk, 0, 0);
      scheduler.held(id, 2, 4 * kChunk);
    }
  }
  void fill_the_top(SessionId id, std::size_t gap_class) {
    scheduler.arrived(id, 16 * kChunk, 0, 1);
    scheduler.held(id, 0, 16 * kChunk);
    scheduler.completed(id, 1, in_class(gap_class));
  }
  Scheduler scheduler;
};

TEST_F(Choosing, fetches_the_sooner_first_and_the_active_never) {
  EXPECT_FALSE(scheduler.next(2, 1)) << "both are in use";
  scheduler.completed(1, 1, in_class(10));
  scheduler.completed(2, 1, in_class(1));
  const auto chunk = scheduler.next(2, 1.1);
  ASSERT_TRUE(chunk);
  EXPECT_EQ(chunk->session, 2U);
  EXPECT_EQ(chunk->to, 0U);
  EXPECT_EQ(chunk->source, Source::learned);
  scheduler.finished(*chunk, Scheduler::End::displaced);
  EXPECT_EQ(scheduler.in_flight(), 0U);
  EXPECT_EQ(scheduler.counters(Source::learned).staged, 0U) << "giving up costs nothing";
  scheduler.ended(2);
  scheduler.ended(1);
  EXPECT_FALSE(scheduler.next(2, 1.2)) << "nobody returns";
}

TEST_F(Choosing, displaces_only_what_is_worth_less) {
  scheduler.completed(1, 1, in_class(6));
  scheduler.completed(2, 1, ReturnDistribution{});
  fill_the_top(3, 1);
  auto chunk = scheduler.next(2, 1.1);
  ASSERT_TRUE(chunk);
  EXPECT_EQ(chunk->to, 1U) << "the first tier holds what returns sooner";
  scheduler.finished(*chunk, Scheduler::End::displaced);
  scheduler.hint(1, 1.1, 1.2, 1);
  scheduler.hint(3, 1.1, 900, 1);
  chunk = scheduler.next(2, 1.1);
  ASSERT_TRUE(chunk);
  EXPECT_EQ(chunk->to, 0U);
  EXPECT_EQ(chunk->source, Source::hint);
}

TEST_F(Choosing, a_hint_is_believed_for_its_time_and_no_longer) {
  scheduler.completed(1, 1, in_class(predict::kNever));
  EXPECT_EQ(scheduler.value(1, 0, 2), 0);
  scheduler.hint(1, 2, 3, 1);
  EXPECT_GT(scheduler.value(1, 0, 2), 0.5);
  EXPECT_GT(scheduler.value(1, 0, 3), scheduler.value(1, 0, 2));
  EXPECT_EQ(scheduler.value(1, 0, 3 + small_options().hint_ttl + 0.1), 0);
  scheduler.hint(1, 20, 21, 0.5);
  EXPECT_NEAR(scheduler.value(1, 0, 21), 0.5, 1e-9) << "half believed";
}

TEST_F(Choosing, a_source_that_wastes_all_is_silent_for_longer_and_longer) {
  scheduler.completed(1, 1, in_class(1));
  const auto waste = [&](double now) {
    scheduler.outcome(Source::learned, small_options().learning_bytes,
                      Scheduler::Outcome::wasted, now);
  };
  waste(1.5);
  EXPECT_EQ(scheduler.counters(Source::learned).pauses, 1U);
  EXPECT_FALSE(scheduler.next(2, 1.6));
  const double pause = small_options().pause;
  scheduler.arrived(1, 4 * kChunk, 4 * kChunk, 2 + pause);
  scheduler.completed(1, 2 + pause, in_class(0));
  const auto chunk = scheduler.next(2, 2.01 + pause);
  ASSERT_TRUE(chunk) << "it is heard again";
  scheduler.finished(*chunk, Scheduler::End::displaced);
  for (int i = 0; i < 2; ++i)
    waste(3 + pause);
  EXPECT_FALSE(scheduler.next(2, 4 + 2.5 * pause));
  // The other source is not touched by it.
  scheduler.hint(1, 4 + pause, 5 + pause, 1);
  EXPECT_TRUE(scheduler.next(2, 4 + pause));
}

// Sessions 1 to 4 fill the first tier, used in this order; each is asked for every 16 s.
class Keeping : public testing::Test {
 protected:
  static Options options() {
    Options options = small_options();
    options.learning_bytes = 16 * kChunk;
    return options;
  }
  Keeping() : scheduler(three_tiers(), options()) {
    for (int round = 0; round < 20; ++round) {
      for (SessionId id = 1; id <= 4; ++id) {
        now += 4;
        scheduler.arrived(id, 4 * kChunk, round == 0 ? 0 : 4 * kChunk, now);
        if (round == 0) scheduler.held(id, 0, 4 * kChunk);
        scheduler.missed(0, now);
        scheduler.completed(id, now, in_class(predict::kNever));
      }
    }
  }
  std::vector<SessionId> kept(std::uint64_t others = 0) {
    std::vector<SessionId> ids;
    for (const Kept& it : scheduler.keep(0, 16 * kChunk, others, now))
      ids.push_back(it.session);
    return ids;
  }
  using Ids = std::vector<SessionId>;
  double now = 0;
  Scheduler scheduler;
};

TEST_F(Keeping, nothing_where_nobody_speaks) {
  EXPECT_EQ(kept(), Ids{});
  scheduler.hint(1, now, now + 100000, 1);
  EXPECT_EQ(kept(), Ids{}) << "that is as good as never";
}

// Room for three beside the next request.
TEST_F(Keeping, the_sooner_and_the_hot_before_the_late) {
  scheduler.hint(1, now, now + 1, 1);
  EXPECT_EQ(kept(), (Ids{4, 1, 3})) << "used just now, expected in 1 s, used 4 s ago";
  scheduler.hint(1, now, now + 11, 1);
  EXPECT_EQ(kept(), Ids{}) << "hot ones do not make room for what comes late";
  scheduler.hint(2, now, now + 7, 1);
  EXPECT_EQ(kept(), (Ids{4, 3, 2}));
  EXPECT_FALSE(scheduler.kept()[1].expected);
  EXPECT_TRUE(scheduler.kept()[2].expected);
}

TEST_F(Keeping, what_is_in_use_or_of_others_takes_room) {
  now += 1;
  scheduler.hint(1, now, now, 1);
  EXPECT_EQ(kept(8 * kChunk), Ids{1});
  EXPECT_EQ(kept(12 * kChunk), Ids{});
  scheduler.arrived(4, 4 * kChunk, 4 * kChunk, now);
  EXPECT_EQ(kept(), (Ids{4, 1, 3, 2})) << "half of the last one beside the eighth";
  EXPECT_FALSE(scheduler.kept().back().whole);
  EXPECT_EQ(scheduler.kept().back().bytes, 2 * kChunk);
}

// One chunk of session 1 is there, beside blocks of which nobody says anything.
TEST_F(Keeping, blocks_of_nobody_make_way_for_what_is_staged) {
  for (SessionId id = 1; id <= 4; ++id) {
    const auto below = static_cast<std::int64_t>((id == 1 ? 3 : 4) * kChunk);
    scheduler.held(id, 0, -below);
    scheduler.held(id, 1, below);
  }
  scheduler.hint(1, now, now + 1, 1);
  EXPECT_EQ(kept(15 * kChunk), Ids{});
  const auto chunk = scheduler.next(1, now);
  ASSERT_TRUE(chunk);
  EXPECT_EQ(chunk->session, 1U);
}

// What was retained was in the way of session 2, which last use would have had.
TEST_F(Keeping, who_retains_for_nothing_is_silent_in_time) {
  for (int i = 0; i < 4; ++i) {
    scheduler.hint(1, now, now, 1);
    ASSERT_FALSE(kept().empty()) << i;
    scheduler.retained(Source::hint, 4 * kChunk);
    now += 4;
    scheduler.arrived(2, 4 * kChunk, 4 * kChunk, now);
    scheduler.missed(4 * kChunk, now);
    scheduler.completed(2, now, in_class(predict::kNever));
  }
  EXPECT_EQ(scheduler.counters(Source::hint).retained, 16 * kChunk);
  EXPECT_EQ(scheduler.counters(Source::hint).pauses, 1U);
  scheduler.hint(1, now, now, 1);
  EXPECT_TRUE(kept().empty());
  EXPECT_EQ(scheduler.counters(Source::learned).pauses, 0U) << "it said nothing";
  now += options().pause + 1;
  scheduler.hint(1, now, now, 1);
  EXPECT_FALSE(kept().empty()) << "it is tried again";
}

// What last use would have given up was there: that pays for as much that was not.
TEST_F(Keeping, who_retains_what_is_read_is_heard_for_longer) {
  const auto request = [&](SessionId id, std::uint64_t bytes, std::uint64_t missed) {
    scheduler.arrived(id, bytes, bytes, now += 1);
    scheduler.missed(missed, now);
    scheduler.completed(id, now, in_class(predict::kNever));
  };
  for (SessionId i = 0; i < 8; ++i) {
    request(100 + i, 16 * kChunk, 16 * kChunk);  // by last use all else has to go
    scheduler.retained(Source::hint, 4 * kChunk);
    request(1, 4 * kChunk, 0);
    request(2, 4 * kChunk, 4 * kChunk);
    scheduler.retained(Source::hint, 4 * kChunk);
    request(2, 4 * kChunk, 4 * kChunk);  // which was used last
  }
  EXPECT_EQ(scheduler.counters(Source::hint).pauses, 0U);
}

// Predictions that are the opposite of what happens: keeping by them loses, so the
// scheduler keeps by last use.
TEST(Scheduler, follows_last_use_where_predictions_mislead) {
  Options options = small_options();
  options.stage = false;
  Scheduler scheduler(three_tiers(), options);
  double now = 0;
  for (int round = 0; round < 60; ++round) {
    for (SessionId id = 0; id < 3; ++id) {  // these return at once, and are said not to
      scheduler.arrived(id, 4 * kChunk, round == 0 ? 0 : 4 * kChunk, now += 1);
      scheduler.completed(id, now += 0.1, in_class(predict::kNever));
    }
    const auto once = static_cast<SessionId>(1000 + round);  // and these never do
    scheduler.arrived(once, 8 * kChunk, 0, now += 1);
    scheduler.completed(once, now += 0.1, in_class(13));
  }
  EXPECT_FALSE(scheduler.retains_by_value());
}

}  // namespace
}  // namespace speckv::prefetch
