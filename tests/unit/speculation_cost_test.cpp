// What speculation costs where every prediction is meant to hurt: at most a hundredth of
// what requests wait without it, in a simulated store of two tiers whose fast one gives
// up what was not used for longest, but for what is retained. Liars know when each
// session comes. All of it in virtual time.
#include <algorithm>
#include <functional>
#include <list>
#include <random>
#include <unordered_map>

#include <gtest/gtest.h>

#include "prefetch/scheduler.hpp"
#include "store/kept_blocks.hpp"

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

// What is done about predictions.
struct Way {
  const char* name;
  bool stage = false, retain = false;
};
constexpr Way kOff{"off"};

BlockKey key_of(std::uint64_t block) {
  return {block, block << 32};
}

class SimulatedStore {
 public:
  explicit SimulatedStore(Way way, bool guard = true)
      : scheduler({{kFast * kBlock, 64e9}, {100 * kFast * kBlock, kRate}},
                  options(way.stage, guard)),
        retains_(way.retain),
        kept_((kHot + kCold) * kLength, kHot + kCold) {
    for (std::uint32_t n = 0; n < (kHot + kCold) * kLength; ++n)
      kept_.own(key_of(n), n / kLength, n % kLength);
  }

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

  // As a Prefetcher does it: what is passed over from now on, and what was.
  void retain(double now) {
    if (!retains_) return;
    for (std::uint32_t source = 0; source < kSources; ++source) {
      const std::uint64_t passed = kept_.passed(source);
      const std::uint64_t more = passed - std::exchange(told_[source], passed);
      if (more > 0) scheduler.retained(static_cast<Source>(source), more * kBlock);
    }
    for (std::uint32_t session = 0; session < kHot + kCold; ++session)
      kept_.keep(session, 0, 0);
    std::uint64_t blocks = 0;
    for (const Kept& it : scheduler.keep(0, kFast * kBlock, 0, now)) {
      const std::uint64_t count = it.bytes / kBlock;
      kept_.keep(static_cast<std::uint32_t>(it.session),
                 it.whole ? KeptBlocks::kAll : static_cast<std::uint32_t>(count),
                 it.expected ? static_cast<std::uint32_t>(it.source) : kSources);
      blocks += count;
    }
    kept_.allow(blocks);
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
      while (kept_.pass(key_of(order_.back())))
        order_.splice(order_.begin(), order_, std::prev(order_.end()));
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

  const bool retains_;
  KeptBlocks kept_;
  std::array<std::uint64_t, kSources> told_{};
  std::list<std::uint64_t> order_;  // of the fast tier, the last used first
  std::unordered_map<std::uint64_t, Place> fast_;
  std::unordered_map<SessionId, bool> known_;
};

// Says something before each step, or of a session that is done.
struct Predictions {
  using ToCome = std::span<const SessionId>;
  std::function<void(Scheduler&, ToCome to_come, double now)> hint{};
  std::function<void(Scheduler&, SessionId done, ToCome to_come, double now)> hint_of{};
  std::function<ReturnDistribution(SessionId)> returns = [](SessionId) {
    return in_class(predict::kNever);
  };
};

struct Made {
  double waited = 0;
  std::array<Counters, kSources> counters{};
};

Made run(Way way, const Predictions& told, bool guard = true) {
  static const std::vector<SessionId> sessions = coming();
  SimulatedStore store(way, guard);
  for (std::size_t i = 0; i < kSteps; ++i) {
    const double now = static_cast<double>(i) * kStep;
    const auto to_come = std::span(sessions).subspan(i + 1);
    store.request(sessions[i], now, told.returns(sessions[i]));
    if (told.hint_of) told.hint_of(store.scheduler, sessions[i], to_come, now);
    if (told.hint) told.hint(store.scheduler, to_come, now);
    store.retain(now);
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

class SpeculationCost : public testing::TestWithParam<Way> {
 protected:
  static double ratio(const Predictions& told, bool guard = true) {
    static const double without = run(kOff, {}).waited;
    EXPECT_GT(without, 10);
    last = run(GetParam(), told, guard);
    return last.waited / without;
  }
  static Made last;
};
Made SpeculationCost::last;

INSTANTIATE_TEST_SUITE_P(Ways, SpeculationCost,
                         testing::Values(Way{"staging", true, false},
                                         Way{"retention", false, true},
                                         Way{"both", true, true}),
                         [](const auto& way) { return std::string(way.param.name); });

// A step ahead there is little left to retain.
TEST_P(SpeculationCost, what_is_true_pays) {
  EXPECT_LT(ratio({.hint = tell_truth}), GetParam().stage ? 0.5 : 1.0);
}

// Each session says when it returns as soon as it is done. Staging alone is silent most
// of the time, since last use gives up what comes next to make room for it.
TEST_P(SpeculationCost, who_knows_when_he_returns_waits_less) {
  const double known =
      ratio({.hint_of = [](Scheduler& s, SessionId done, auto to_come, double now) {
        const auto next = std::find(to_come.begin(), to_come.end(), done);
        if (next == to_come.end()) return;
        const auto steps = static_cast<double>(next - to_come.begin() + 1);
        s.hint(done, now, now + steps * kStep, 1);
      }});
  EXPECT_LT(known, !GetParam().retain ? 1.01 : GetParam().stage ? 0.1 : 0.65);
  if (!GetParam().retain) return;
  EXPECT_GT(last.counters[1].retained, 1000 * kBlock);
}

TEST_P(SpeculationCost, hints_that_nobody_follows) {
  EXPECT_LE(ratio({.hint = lie}), 1.01);
  EXPECT_GE(last.counters[1].pauses, 3U);
  EXPECT_EQ(last.counters[1].retained > 0, GetParam().retain);
  EXPECT_GT(ratio({.hint = lie}, false), 1.1) << "unguarded they do hurt";
}

TEST_P(SpeculationCost, who_comes_soon_is_said_to_come_late) {
  const Predictions opposite_hints{
      .hint_of = [](Scheduler& s, SessionId done, auto, double now) {
        s.hint(done, now, done < kHot ? now + 100 : now + kStep, 1);
      }};
  EXPECT_LE(ratio(opposite_hints), 1.01);
  EXPECT_GT(ratio(opposite_hints, false), 1.1) << "unguarded they do hurt";
}

TEST_P(SpeculationCost, the_opposite_is_learned) {
  EXPECT_LE(ratio({.returns = opposite}), 1.01);
  if (GetParam().retain) return;  // last use counts before anything is lost
  EXPECT_GE(last.counters[0].pauses, 1U);
}

TEST_P(SpeculationCost, both_sources_lie) {
  EXPECT_LE(ratio({.hint = lie, .returns = opposite}), 1.01);
}

TEST_P(SpeculationCost, a_good_name_is_not_worth_more_than_it_earned) {
  const double now_and_then = ratio({.hint = [](Scheduler& s, auto to_come, double now) {
    (to_come.size() / 2000 % 2 == 0 ? tell_truth : lie)(s, to_come, now);
  }});
  EXPECT_LE(now_and_then, 1.01);
}

TEST_P(SpeculationCost, half_of_it_is_true) {
  const double half = ratio({.hint = [](Scheduler& s, auto to_come, double now) {
    (to_come.size() % 2 == 0 ? tell_truth : lie)(s, to_come, now);
  }});
  EXPECT_LE(half, 1.01);
}

// True hints whose sessions displace others that come as soon: nothing is won by them.
TEST_P(SpeculationCost, what_is_true_displaces_what_is_hot) {
  const double loop = ratio({.hint = [](Scheduler& s, auto to_come, double now) {
    tell_truth(s, to_come, now);
    lie(s, to_come, now);
    lie(s, to_come.subspan(std::min<std::size_t>(1, to_come.size())), now);
  }});
  EXPECT_LE(loop, 1.01);
}

}  // namespace
}  // namespace speckv::prefetch
