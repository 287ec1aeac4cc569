// What speculation costs where every prediction is meant to hurt: at most a hundredth of
// what requests wait without it, in a simulated store of two tiers whose fast one keeps
// what was used last. Liars know when each session comes. All of it in virtual time.
#include <algorithm>
#include <functional>
#include <list>
#include <random>
#include <unordered_map>

#include <gtest/gtest.h>

#include "prefetch/scheduler.hpp"

namespace speckv::prefetch {
namespace {

constexpr std::uint64_t kBlock = 1 << 20;
constexpr std::uint64_t kFast = 64, kLength = 8;  // blocks; of a session
constexpr std::uint64_t kHot = 6, kCold = 40;     // sessions
constexpr double kRate = 7e9, kStep = 0.05;       // bytes/s out of the slow tier; s
constexpr std::size_t kSteps = 40'000;

ReturnDistribution in_class(std::size_t gap_class) {
  ReturnDistribution returns;
  returns.probability[gap_class] = 1;
  return returns;
}

// Which session comes at each step: hot ones, which stay in the fast tier, and now and
// then a cold one, which has to be loaded.
std::vector<SessionId> coming() {
  std::mt19937_64 random(5);
  std::vector<SessionId> sessions;
  for (std::size_t i = 0; i < kSteps; ++i)
    sessions.push_back(random() % 4 != 0 ? i % kHot : kHot + random() % kCold);
  return sessions;
}

class SimulatedStore {
 public:
  explicit SimulatedStore(bool stage, bool guard = true)
      : scheduler({{kFast * kBlock, 64e9}, {100 * kFast * kBlock, kRate}},
                  options(stage, guard)) {}

  // The session's request comes, takes no time but to load, and is done.
  void request(SessionId session, double now, const ReturnDistribution& returns) {
    const bool is_new = !known_[session];
    known_[session] = true;
    const std::uint64_t bytes = kLength * kBlock;
    scheduler.arrived(session, bytes, is_new ? 0 : bytes, now);
    std::uint64_t below = 0;
    for (std::uint64_t n = session * kLength; n < (session + 1) * kLength; ++n) {
      const auto found = fast_.find(n);
      if (found == fast_.end()) {
        below += is_new ? 0 : 1;
        insert(n, is_new, now);
      } else {
        settle(found->second, Scheduler::Outcome::useful, now);
        order_.splice(order_.begin(), order_, found->second.place);
      }
    }
    scheduler.missed(below * kBlock, now);
    waited += static_cast<double>(below * kBlock) / kRate;
    scheduler.completed(session, now, returns);
  }

  // Chunks that fit between two requests; one that does not is given up.
  void idle(double now, double until) {
    while (const auto chunk = scheduler.next(1, now)) {
      now += static_cast<double>(chunk->bytes) / kRate;
      if (now > until) return scheduler.finished(*chunk, Scheduler::End::displaced);
      for (std::uint64_t n = chunk->session * kLength; n < (chunk->session + 1) * kLength;
           ++n) {
        if (fast_.contains(n)) continue;
        insert(n, false, now);
        fast_[n].staged = true;
        fast_[n].source = chunk->source;
        break;
      }
      scheduler.finished(*chunk, Scheduler::End::moved);
    }
  }

  Scheduler scheduler;
  double waited = 0;  // s, for the slow tier

 private:
  struct Place {
    std::list<std::uint64_t>::iterator place{};
    bool staged = false;  // and not read
    Source source{};
  };

  static Options options(bool stage, bool guard) {
    Options options;
    options.stage = stage;
    options.guard = guard;
    options.chunk_bytes = kBlock;
    options.most_in_flight = kBlock;
    options.learning_bytes = kFast * kBlock;  // as a Prefetcher has it
    return options;
  }
  void move(std::uint64_t block, std::uint32_t to, bool is_new) {
    const auto bytes = static_cast<std::int64_t>(kBlock);
    scheduler.held(block / kLength, to, bytes);
    if (!is_new) scheduler.held(block / kLength, 1 - to, -bytes);
  }
  void settle(Place& it, Scheduler::Outcome outcome, double now) {
    if (std::exchange(it.staged, false))
      scheduler.outcome(it.source, kBlock, outcome, now);
  }
  void insert(std::uint64_t block, bool is_new, double now) {
    if (order_.size() == kFast) {
      const std::uint64_t last = order_.back();
      settle(fast_[last], Scheduler::Outcome::wasted, now);
      fast_.erase(last);
      order_.pop_back();
      move(last, 1, false);
    }
    order_.push_front(block);
    fast_[block] = {.place = order_.begin()};
    move(block, 0, is_new);
  }

  std::list<std::uint64_t> order_;  // of the fast tier, the last used first
  std::unordered_map<std::uint64_t, Place> fast_;
  std::unordered_map<SessionId, bool> known_;
};

// Says something before each step, and what a session that is done is predicted to do.
struct Predictions {
  std::function<void(Scheduler&, std::span<const SessionId> to_come, double now)> hint{};
  std::function<ReturnDistribution(SessionId)> returns = [](SessionId) {
    return in_class(predict::kNever);
  };
};

struct Made {
  double waited = 0;
  std::array<Counters, kSources> counters{};
};

Made run(const Predictions* told, bool guard = true) {
  static const std::vector<SessionId> sessions = coming();
  SimulatedStore store(told != nullptr, guard);
  for (std::size_t i = 0; i < kSteps; ++i) {
    const double now = static_cast<double>(i) * kStep;
    store.request(
        sessions[i], now,
        told != nullptr ? told->returns(sessions[i]) : in_class(predict::kNever));
    if (told != nullptr && told->hint)
      told->hint(store.scheduler, std::span(sessions).subspan(i + 1), now);
    store.idle(now, now + kStep);
  }
  return {store.waited,
          {store.scheduler.counters(Source::learned),
           store.scheduler.counters(Source::hint)}};
}

// A cold session that is not among those to come soon.
SessionId nobody_soon(std::span<const SessionId> to_come) {
  constexpr std::size_t kSoon = 60;
  const auto soon = to_come.first(std::min(kSoon, to_come.size()));
  for (SessionId session = kHot; session < kHot + kCold; ++session) {
    const SessionId one = kHot + (session * 7 + to_come.size()) % kCold;
    if (std::find(soon.begin(), soon.end(), one) == soon.end()) return one;
  }
  return kHot;
}

SessionId next_cold(std::span<const SessionId> to_come) {
  const auto found = std::find_if(to_come.begin(), to_come.end(),
                                  [](SessionId session) { return session >= kHot; });
  return found == to_come.end() ? kHot : *found;
}

void lie(Scheduler& scheduler, std::span<const SessionId> to_come, double now) {
  scheduler.hint(nobody_soon(to_come), now, now + kStep, 1);
}
void tell_truth(Scheduler& scheduler, std::span<const SessionId> to_come, double now) {
  scheduler.hint(next_cold(to_come), now, now + kStep, 1);
}

ReturnDistribution opposite(SessionId session) {
  return session < kHot ? in_class(predict::kNever) : in_class(0);
}

class SpeculationCost : public testing::Test {
 protected:
  static double ratio(const Predictions& told, bool guard = true) {
    static const double without = run(nullptr).waited;
    EXPECT_GT(without, 10);
    last = run(&told, guard);
    return last.waited / without;
  }
  static Made last;
};
Made SpeculationCost::last;

TEST_F(SpeculationCost, what_is_true_pays) {
  EXPECT_LT(ratio({.hint = tell_truth}), 0.5);
}

TEST_F(SpeculationCost, hints_that_nobody_follows) {
  EXPECT_LE(ratio({.hint = lie}), 1.01);
  EXPECT_GE(last.counters[1].pauses, 3U);
  EXPECT_GT(ratio({.hint = lie}, false), 1.1) << "unguarded they do hurt";
}

TEST_F(SpeculationCost, the_opposite_is_learned) {
  EXPECT_LE(ratio({.returns = opposite}), 1.01);
  EXPECT_GE(last.counters[0].pauses, 1U);
}

TEST_F(SpeculationCost, both_sources_lie) {
  EXPECT_LE(ratio({.hint = lie, .returns = opposite}), 1.01);
}

TEST_F(SpeculationCost, a_good_name_is_not_worth_more_than_it_earned) {
  const double now_and_then = ratio({.hint = [](Scheduler& s, auto to_come, double now) {
    (to_come.size() / 2000 % 2 == 0 ? tell_truth : lie)(s, to_come, now);
  }});
  EXPECT_LE(now_and_then, 1.01);
}

TEST_F(SpeculationCost, half_of_it_is_true) {
  const double half = ratio({.hint = [](Scheduler& s, auto to_come, double now) {
    (to_come.size() % 2 == 0 ? tell_truth : lie)(s, to_come, now);
  }});
  EXPECT_LE(half, 1.01);
}

// True hints whose sessions displace others that come as soon: nothing is won by them.
TEST_F(SpeculationCost, what_is_true_displaces_what_is_hot) {
  const double loop = ratio({.hint = [](Scheduler& s, auto to_come, double now) {
    tell_truth(s, to_come, now);
    lie(s, to_come, now);
    lie(s, to_come.subspan(std::min<std::size_t>(1, to_come.size())), now);
  }});
  EXPECT_LE(loop, 1.01);
}

}  // namespace
}  // namespace speckv::prefetch
