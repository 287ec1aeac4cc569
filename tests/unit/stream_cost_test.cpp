// What Algorithm 1 costs where its guesses are meant to hurt, and what it is worth where
// they are good: waits of streams with and without it, in a simulated store of two tiers
// whose fast one keeps what was used last, behind one link. Liars know the future. All of
// it in virtual time.
#include <deque>
#include <functional>
#include <list>
#include <random>
#include <unordered_map>

#include <gtest/gtest.h>

#include "predict/sequence_predictors.hpp"
#include "prefetch/stream_scheduler.hpp"

namespace speckv::prefetch {
namespace {

using predict::Candidate;
using predict::SequencePredictor;
using predict::StreamId;
using Symbols = std::vector<std::uint32_t>;

constexpr std::uint64_t kBlock = 1 << 20;
constexpr std::size_t kFast = 64, kTouches = 40'000;  // blocks; of a run
constexpr double kMove = 0.01;                        // s, of one block over the link

BlockKey key_of(std::uint32_t symbol) {
  return {symbol, symbol * 0x9E3779B97F4A7C15U + 1};
}

// A stream uses one block after the other, and computes for `think` seconds with each.
class SimulatedStore {
 public:
  SimulatedStore(std::unique_ptr<SequencePredictor> predictor, double think, bool guard)
      : think_(think) {
    if (predictor == nullptr) return;
    StreamOptions options;
    options.block_bytes = kBlock;
    options.first_tier = kFast * kBlock;
    options.bytes_per_second = kBlock / kMove;
    options.lookahead.confidence = 0.05F;
    options.guard = guard;
    scheduler = *StreamScheduler::make(std::move(predictor), options);
  }

  // The load goes first; what is asked for then waits behind it, and later loads wait for
  // that: a device that takes all at once, and gives nothing back.
  void touch(std::uint32_t symbol) {
    const bool there = fast_.contains(symbol);
    if (scheduler != nullptr) ask(symbol);
    if (!there) {
      const double begun = std::max(now_, link_free_);
      waited += begun + kMove - now_;
      now_ = link_free_ = begun + kMove;
    }
    insert(symbol);
    for (; !asked_.empty(); asked_.pop_front()) {
      link_free_ = std::max(now_, link_free_) + kMove;
      moving_.push_back({asked_.front(), link_free_});
    }
    land();  // what came while it was waited for
    now_ += think_;
    land();
  }

  std::unique_ptr<StreamScheduler> scheduler;
  double waited = 0;  // s

 private:
  struct Moving {
    std::uint32_t symbol = 0;
    double at = 0;  // which it is there
  };

  void ask(std::uint32_t symbol) {
    std::array<StreamScheduler::Fetch, StreamScheduler::kMost> fetch;
    const auto tier_of = [this](BlockKey key) {
      const auto n = static_cast<std::uint32_t>(key.high);
      return fast_.contains(n) ? 0 : 1;
    };
    const std::size_t count =
        scheduler->touched(1, {symbol, key_of(symbol)}, now_, tier_of, fetch);
    for (std::size_t i = 0; i < count; ++i)
      asked_.push_back(fetch[i].symbol);
  }
  void land() {
    for (; !moving_.empty() && moving_.front().at <= now_; moving_.pop_front()) {
      insert(moving_.front().symbol);
      scheduler->landed(moving_.front().symbol, StreamScheduler::Landing::moved, now_);
    }
  }
  void insert(std::uint32_t symbol) {
    if (const auto found = fast_.find(symbol); found != fast_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return;
    }
    if (order_.size() == kFast) {
      fast_.erase(order_.back());
      order_.pop_back();
    }
    order_.push_front(symbol);
    fast_[symbol] = order_.begin();
  }

  const double think_;
  double now_ = 0, link_free_ = 0;
  std::deque<std::uint32_t> asked_;
  std::deque<Moving> moving_;
  std::list<std::uint32_t> order_;  // of the fast tier, the last used first
  std::unordered_map<std::uint32_t, std::list<std::uint32_t>::iterator> fast_;
};

// Says of each use what it likes, knowing all that is to come.
class Oracle final : public SequencePredictor {
 public:
  using Says = std::function<std::uint32_t(std::span<const std::uint32_t> to_come,
                                           std::uint32_t guess)>;
  Oracle(const Symbols& all, Says says) : all_(all), says_(std::move(says)) {}
  void observe(StreamId, std::uint32_t) noexcept override { ++seen_; }
  std::size_t predict(StreamId, std::span<Candidate> best) const noexcept override {
    const std::size_t count = std::min(best.size(), all_.size() - seen_);
    for (std::uint32_t i = 0; i < count; ++i)
      best[i] = {says_(std::span(all_).subspan(seen_), i), 1};
    return count;
  }
  void forget(StreamId) noexcept override {}

 private:
  const Symbols& all_;
  Says says_;
  std::size_t seen_ = 0;
};

// Most uses are of a few hot pages, every third of a cold one, in no order.
Symbols mixed() {
  std::mt19937 random(5);
  Symbols symbols;
  for (std::size_t i = 0; i < kTouches; ++i)
    symbols.push_back(static_cast<std::uint32_t>(i % 3 == 0 ? 1000 + random() % 3000
                                                            : random() % (kFast - 16)));
  return symbols;
}
// More pages than fit, over and over: last use keeps none of them.
Symbols loop() {
  Symbols symbols;
  for (std::size_t i = 0; i < kTouches; ++i)
    symbols.push_back(static_cast<std::uint32_t>(i % (3 * kFast)));
  return symbols;
}
// Runs whose order is the same for a while, and then another.
Symbols phases() {
  std::mt19937 random(6);
  Symbols order(4 * kFast), symbols;
  for (std::uint32_t i = 0; i < order.size(); ++i)
    order[i] = i;
  while (symbols.size() < kTouches) {
    if (symbols.size() / 4000 % 2 == 0 || symbols.size() % 4000 < order.size())
      std::shuffle(order.begin(), order.end(), random);
    symbols.insert(symbols.end(), order.begin(), order.end());
  }
  symbols.resize(kTouches);
  return symbols;
}

class StreamCost : public testing::Test {
 protected:
  // Waits with the predictor over those without.
  double ratio(const Symbols& symbols, std::unique_ptr<SequencePredictor> predictor,
               double think = 1.5 * kMove, bool guard = true) {
    SimulatedStore without(nullptr, think, guard);
    SimulatedStore with(std::move(predictor), think, guard);
    for (const std::uint32_t symbol : symbols) {
      without.touch(symbol);
      with.touch(symbol);
    }
    EXPECT_GT(without.waited, kTouches * kMove / 5);
    guesses_ = with.scheduler->guesses();
    counters_ = with.scheduler->counters();
    depth_ = with.scheduler->depth();
    EXPECT_EQ(guesses_.asked, guesses_.useful + guesses_.late + guesses_.wasted +
                                  guesses_.failed + with.scheduler->outstanding());
    return with.waited / without.waited;
  }
  static std::unique_ptr<SequencePredictor> successors() {
    return std::make_unique<predict::SuccessorPredictor>(4, 1U << 14);
  }
  static std::unique_ptr<SequencePredictor> oracle(const Symbols& all,
                                                   Oracle::Says says) {
    return std::make_unique<Oracle>(all, std::move(says));
  }

  predict::LookaheadCounts guesses_;
  StreamCounters counters_;
  std::uint32_t depth_ = 0;
};

std::uint32_t truth(std::span<const std::uint32_t> to_come, std::uint32_t guess) {
  return to_come[guess];
}
// A cold page of mixed() that is not used soon.
std::uint32_t lie(std::span<const std::uint32_t> to_come, std::uint32_t guess) {
  const auto soon = to_come.first(std::min<std::size_t>(400, to_come.size()));
  auto page = static_cast<std::uint32_t>(1000 + (to_come.size() * 7 + guess * 13) % 3000);
  while (std::find(soon.begin(), soon.end(), page) != soon.end())
    page = 1000 + (page - 999) % 3000;
  return page;
}

TEST_F(StreamCost, a_loop_is_staged_before_it_is_used) {
  EXPECT_LT(ratio(loop(), successors()), 0.05);
  EXPECT_EQ(depth_, 8U);
  EXPECT_EQ(counters_.pauses, 0U);
  EXPECT_GT(guesses_.useful, guesses_.asked * 95 / 100);
}

TEST_F(StreamCost, what_is_true_pays) {
  const Symbols all = mixed();
  EXPECT_LT(ratio(all, oracle(all, truth)), 0.2);
}

TEST_F(StreamCost, an_order_that_changes_is_unlearned) {
  EXPECT_LT(ratio(phases(), successors()), 1.01);
}

TEST_F(StreamCost, no_order_at_all) {
  EXPECT_LE(ratio(mixed(), successors()), 1.01);
}

TEST_F(StreamCost, guesses_that_nobody_follows) {
  const Symbols all = mixed();
  EXPECT_LE(ratio(all, oracle(all, lie)), 1.01);
  EXPECT_EQ(depth_, 2U);
  EXPECT_GE(counters_.pauses, 3U);
  EXPECT_GT(counters_.unheard, kTouches * 9 / 10);
  EXPECT_GT(ratio(all, oracle(all, lie), 1.5 * kMove, false), 1.1)
      << "unguarded they do hurt";
}

TEST_F(StreamCost, half_of_it_is_true) {
  const Symbols all = mixed();
  const auto half = [](std::span<const std::uint32_t> to_come, std::uint32_t guess) {
    return (guess % 2 == 0 ? truth : lie)(to_come, guess);
  };
  EXPECT_LE(ratio(all, oracle(all, half)), 1.01);
}

TEST_F(StreamCost, a_good_name_is_not_worth_more_than_it_earned) {
  const Symbols all = mixed();
  const auto then = [](std::span<const std::uint32_t> to_come, std::uint32_t guess) {
    return (to_come.size() / 2000 % 2 == 0 ? truth : lie)(to_come, guess);
  };
  EXPECT_LE(ratio(all, oracle(all, then)), 1.01);
}

// True, but told when it is too late to be of use: the link has no time left.
TEST_F(StreamCost, guesses_that_come_too_late) {
  const Symbols all = loop();
  for (const double think : {0.0, 0.2, 0.5, 0.9})
    EXPECT_LE(ratio(all, oracle(all, truth), think * kMove), 1.01) << think;
}

TEST_F(StreamCost, the_same_twice_is_the_same) {
  const double first = ratio(phases(), successors());
  const predict::LookaheadCounts before = guesses_;
  EXPECT_EQ(ratio(phases(), successors()), first);
  EXPECT_EQ(guesses_.asked, before.asked);
  EXPECT_EQ(guesses_.wasted, before.wasted);
}

}  // namespace
}  // namespace speckv::prefetch
