// Algorithm 1: its limits under random use, and that depth follows what pays.
#include "predict/lookahead.hpp"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "predict/sequence_predictors.hpp"

namespace speckv::predict {
namespace {

using Rule = LookaheadOptions::Rule;
using Fetch = std::array<std::uint32_t, kMostDepth>;

// Guesses the next `right` of a run of numbers, then what never comes.
class Runner final : public SequencePredictor {
 public:
  std::uint32_t right = 8;
  void observe(StreamId, std::uint32_t symbol) noexcept override { last_ = symbol; }
  std::size_t predict(StreamId, std::span<Candidate> best) const noexcept override {
    for (std::uint32_t i = 0; i < best.size(); ++i)
      best[i] = {i < right ? last_ + 1 + i : 1'000'000'000 + last_ * 16 + i,
                 0.9F - 0.05F * static_cast<float>(i)};
    return best.size();
  }
  void forget(StreamId) noexcept override {}

 private:
  std::uint32_t last_ = 0;
};

TEST(Lookahead, keeps_its_limits_and_counts_every_guess_once) {
  std::mt19937 random(5);
  for (const Rule rule : {Rule::fixed, Rule::adaptive, Rule::bandit}) {
    NgramPredictor predictor(3, 4, 1U << 10);
    auto ahead = Lookahead::make(predictor, {.rule = rule,
                                             .depth = 6,
                                             .confidence = 0.01F,
                                             .outstanding = 8,
                                             .patience = 50});
    ASSERT_TRUE(ahead.ok());
    std::set<std::uint32_t> flying;  // an independent account of what is asked for
    std::vector<std::pair<std::uint32_t, std::uint64_t>> asked;
    for (std::uint64_t i = 1; i <= 20000; ++i) {
      const auto symbol = static_cast<std::uint32_t>(
          random() % 3 == 0 ? random() % 60 : (i * 7 + i / 11) % 40);
      std::erase_if(asked, [&](const auto& one) {
        return i - one.second > 50 || one.first == symbol;
      });
      flying.clear();
      for (const auto& one : asked)
        flying.insert(one.first);
      Fetch fetch;
      const auto resident = [](std::uint32_t s) { return s % 5 == 0; };
      const std::size_t count = ahead->observe(i % 6, symbol, resident, fetch);
      ASSERT_LE(count, ahead->depth());
      for (std::size_t k = 0; k < count; ++k) {
        ASSERT_FALSE(resident(fetch[k]));
        ASSERT_TRUE(flying.insert(fetch[k]).second) << "asked for twice";
        asked.emplace_back(fetch[k], i);
        if (random() % 2 == 0) ahead->arrived(fetch[k]);
      }
      ASSERT_LE(ahead->outstanding(), 8U);
      ASSERT_EQ(ahead->outstanding(), flying.size());
      const LookaheadCounts& c = ahead->counts();
      ASSERT_EQ(c.asked, c.useful + c.late + c.wasted + ahead->outstanding());
    }
    const LookaheadCounts& c = ahead->counts();
    EXPECT_EQ(c.symbols, 20000U);
    EXPECT_GT(c.useful, 0U);
    EXPECT_GT(c.late, 0U);
    EXPECT_GT(c.wasted, 0U);
    EXPECT_GT(c.resident, 0U);
    EXPECT_GT(c.repeated, 0U);
    EXPECT_GT(c.unlikely, 0U);
    EXPECT_GT(c.full, 0U);
  }
}

std::uint32_t depth_after(Rule rule, std::uint32_t right, double busy) {
  Runner runner;
  runner.right = right;
  auto ahead = Lookahead::make(
      runner, {.rule = rule, .confidence = 0, .outstanding = 1000, .patience = 20});
  ahead->set_busy(busy);
  std::vector<std::uint32_t> depths;
  for (std::uint32_t i = 1; i < 12000; ++i) {
    Fetch fetch;
    // A run ends now and then, so that deep guesses about it are lost.
    const std::uint32_t symbol = i / 10 * 1000 + i % 10;
    const std::size_t count = ahead->observe(
        1, symbol, [](std::uint32_t) { return false; }, fetch);
    for (std::size_t k = 0; k < count; ++k)
      ahead->arrived(fetch[k]);
    if (i > 6000) depths.push_back(ahead->depth());
  }
  std::nth_element(depths.begin(), depths.begin() + 3000, depths.end());
  return depths[3000];
}

TEST(Lookahead, depth_follows_what_is_used) {
  EXPECT_EQ(depth_after(Rule::adaptive, 1, 0), 2U);
  EXPECT_GE(depth_after(Rule::bandit, 8, 0), 4U);
  EXPECT_EQ(depth_after(Rule::bandit, 1, 0.9), 2U);
  EXPECT_EQ(depth_after(Rule::fixed, 8, 0), 4U);
}

TEST(Lookahead, a_predictor_that_is_always_right_goes_deep) {
  Runner runner;
  auto ahead = Lookahead::make(runner, {.rule = Rule::adaptive, .confidence = 0});
  for (std::uint32_t i = 1; i < 3000; ++i) {
    Fetch fetch;
    ahead->observe(
        1, i, [](std::uint32_t) { return false; }, fetch);
  }
  EXPECT_EQ(ahead->depth(), 8U);
  EXPECT_EQ(ahead->counts().wasted, 0U);
}

TEST(Lookahead, what_does_not_come_and_what_goes_again) {
  Runner runner;
  auto ahead = Lookahead::make(runner, {.rule = Rule::fixed, .confidence = 0});
  const auto nowhere = [](std::uint32_t) { return false; };
  Fetch fetch;
  ASSERT_EQ(ahead->observe(1, 10, nowhere, fetch), 4U);  // 11 to 14
  ahead->failed(11);
  ahead->failed(11);
  ahead->failed(99);
  ahead->arrived(12);
  ahead->gone(12);
  ahead->gone(13);  // it has not come yet
  EXPECT_EQ(ahead->outstanding(), 2U);
  EXPECT_FALSE(ahead->asked_for(12));
  EXPECT_TRUE(ahead->asked_for(13));
  ahead->watch(1, 13);
  ahead->arrived(14);
  ahead->watch(1, 14);
  const LookaheadCounts& c = ahead->counts();
  EXPECT_EQ(c.symbols, 3U);
  EXPECT_EQ(c.asked, 4U);
  EXPECT_EQ(c.failed, 1U);
  EXPECT_EQ(c.wasted, 1U);
  EXPECT_EQ(c.late, 1U);
  EXPECT_EQ(c.useful, 1U);
  EXPECT_EQ(ahead->outstanding(), 0U);
}

std::vector<std::uint32_t> guesses(const SequencePredictor& predictor, StreamId stream,
                                   std::size_t most = 8) {
  std::vector<Candidate> best(most);
  best.resize(predictor.predict(stream, best));
  std::vector<std::uint32_t> symbols;
  float last = 1;
  for (const Candidate& guess : best) {
    EXPECT_LE(guess.confidence, last);
    EXPECT_GE(guess.confidence, 0);
    last = guess.confidence;
    symbols.push_back(guess.symbol);
  }
  return symbols;
}

TEST(Successors, lead_ever_further_ahead_and_not_in_circles) {
  using Symbols = std::vector<std::uint32_t>;
  SuccessorPredictor predictor(4, 64);
  EXPECT_EQ(guesses(predictor, 1), Symbols{});
  for (const std::uint32_t symbol : {5U, 6U, 7U, 8U, 5U})
    predictor.observe(1, symbol);
  EXPECT_EQ(guesses(predictor, 1), (Symbols{6, 7, 8}));
  EXPECT_EQ(guesses(predictor, 1, 2), (Symbols{6, 7}));
  predictor.observe(2, 7);  // links are every stream's
  EXPECT_EQ(guesses(predictor, 2), (Symbols{8, 5, 6}));
  // A loop that does not come back to where it began.
  for (const std::uint32_t symbol : {20U, 21U, 22U, 21U, 22U})
    predictor.observe(3, symbol);
  predictor.observe(4, 20);
  EXPECT_EQ(guesses(predictor, 4), (Symbols{21, 22}));
  predictor.forget(4);
  EXPECT_EQ(guesses(predictor, 4), Symbols{});
}

TEST(Successors, unlearn_what_is_no_longer_so) {
  SuccessorPredictor predictor(2, 64);
  const auto run = [&](std::uint32_t second, int times) {
    for (int i = 0; i < times; ++i) {
      predictor.observe(1, 1);
      predictor.observe(1, second);
    }
    predictor.observe(1, 1);
    return guesses(predictor, 1).at(0);
  };
  EXPECT_EQ(run(2, 20), 2U);
  EXPECT_EQ(run(3, 1), 2U) << "once is nothing";
  EXPECT_EQ(run(3, 10), 3U);
}

TEST(Lookahead, options_out_of_bounds_are_refused) {
  Runner runner;
  for (const LookaheadOptions& bad :
       {LookaheadOptions{.depth = 0}, LookaheadOptions{.depth = 17},
        LookaheadOptions{.confidence = -1}, LookaheadOptions{.outstanding = 0},
        LookaheadOptions{.patience = 0}})
    EXPECT_EQ(Lookahead::make(runner, bad).error().code(), Code::invalid_argument);
}

}  // namespace
}  // namespace speckv::predict
