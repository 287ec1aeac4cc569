// What every predictor of streams keeps, and what each is there for.
#include "predict/sequence_predictors.hpp"

#include <functional>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "support/lstm_cases.hpp"

namespace speckv::predict {
namespace {

using Made = std::unique_ptr<SequencePredictor>;
struct Kind {
  const char* name;
  std::function<Made(std::uint32_t streams)> make;
};

std::shared_ptr<const Int8Weights> some_weights() {
  test::Lcg lcg(3);
  return std::make_shared<const Int8Weights>(*quantise(test::random_lstm(
      {.inputs = 16, .vocabulary = 60, .shortlist = 20, .cluster = 15}, 0.3, lcg)));
}

class SequencePredictors : public testing::TestWithParam<Kind> {
 protected:
  static std::vector<Candidate> ask(const SequencePredictor& p, StreamId stream,
                                    std::size_t most) {
    std::vector<Candidate> best(most);
    best.resize(p.predict(stream, best));
    return best;
  }
};

TEST_P(SequencePredictors, answers_are_distinct_confident_in_bounds_and_repeatable) {
  const Made a = GetParam().make(4), b = GetParam().make(4);
  std::mt19937 random(1);
  for (std::size_t i = 0; i < 3000; ++i) {
    const StreamId stream = random() % 9;  // more than there is room for
    const std::uint32_t symbol = 1000 + static_cast<std::uint32_t>(random() % 80);
    if (random() % 40 == 0) {
      a->forget(stream);
      b->forget(stream);
      ASSERT_TRUE(ask(*a, stream, 4).empty());
    }
    a->observe(stream, symbol);
    b->observe(stream, symbol);
    const auto best = ask(*a, stream, 1 + i % 8), again = ask(*b, stream, 1 + i % 8);
    ASSERT_LE(best.size(), 1 + i % 8);
    ASSERT_EQ(best.size(), again.size());
    std::set<std::uint32_t> seen;
    for (std::size_t k = 0; k < best.size(); ++k) {
      ASSERT_TRUE(seen.insert(best[k].symbol).second);
      ASSERT_GE(best[k].confidence, 0);
      ASSERT_LE(best[k].confidence, 1);
      ASSERT_EQ(best[k].symbol, again[k].symbol);
      ASSERT_EQ(best[k].confidence, again[k].confidence);
    }
  }
}

TEST_P(SequencePredictors, nothing_is_asked_of_a_stream_that_never_was) {
  EXPECT_TRUE(ask(*GetParam().make(2), 5, 4).empty());
}

INSTANTIATE_TEST_SUITE_P(
    All, SequencePredictors,
    testing::Values(
        Kind{"lstm", [](auto n) { return *make_lstm_predictor(some_weights(), n); }},
        Kind{"unigram",
             [](auto n) { return std::make_unique<NgramPredictor>(0, n, 256); }},
        Kind{"ngram", [](auto n) { return std::make_unique<NgramPredictor>(5, n, 256); }},
        Kind{"suffix", [](auto n) { return std::make_unique<SuffixPredictor>(n); }}),
    [](const auto& one) { return std::string(one.param.name); });

TEST(StatefulPredictors, streams_do_not_see_each_other_s_past) {
  const auto make = [](bool lstm) -> Made {
    if (lstm) return *make_lstm_predictor(some_weights(), 4);
    return std::make_unique<SuffixPredictor>(4);
  };
  for (const bool lstm : {true, false}) {
    const Made together = make(lstm), alone = make(lstm);
    for (std::uint32_t i = 0; i < 40; ++i) {
      together->observe(1, 1000 + i % 7);
      together->observe(2, 1000 + i * i % 13);
      alone->observe(1, 1000 + i % 7);
    }
    Candidate x[4], y[4];
    const std::size_t count = together->predict(1, x);
    ASSERT_EQ(alone->predict(1, y), count);
    EXPECT_GT(count, 0U);
    for (std::size_t k = 0; k < count; ++k)
      EXPECT_EQ(x[k].symbol, y[k].symbol);
  }
}

TEST(SuffixPredictor, goes_on_with_what_was_there_before) {
  SuffixPredictor p(1);
  for (std::uint32_t i = 0; i < 3000; ++i)
    p.observe(0, i);
  int told = 0;
  for (std::uint32_t i = 2000; i < 2900; ++i) {
    p.observe(0, i);
    Candidate best;
    if (p.predict(0, {&best, 1}) == 0) continue;
    ASSERT_EQ(best.symbol, i + 1);
    ++told;
  }
  EXPECT_GE(told, 850);  // places of contexts are shared, and the newest has it
}

TEST(NgramPredictor, the_longest_context_decides_and_learning_stops_when_told) {
  NgramPredictor p(3, 2);
  for (int i = 0; i < 20; ++i) {
    for (const std::uint32_t s : {1U, 2U, 3U, 4U, 9U, 2U, 3U, 5U})
      p.observe(0, s);
  }
  p.learn(false);
  const auto after = [&](std::initializer_list<std::uint32_t> symbols) {
    p.forget(1);
    for (const std::uint32_t s : symbols)
      p.observe(1, s);
    Candidate best;
    return p.predict(1, {&best, 1}) == 1 ? best.symbol : 0;
  };
  EXPECT_EQ(after({1, 2, 3}), 4U);
  EXPECT_EQ(after({9, 2, 3}), 5U);
  EXPECT_EQ(after({7, 7, 1}), 2U);
  EXPECT_EQ(after({7, 7, 6}), after({7, 7, 7}));
}

TEST(LstmPredictor, refuses_weights_of_features) {
  test::Lcg lcg(3);
  const auto weights = std::make_shared<const Int8Weights>(
      *quantise(test::random_lstm({.inputs = 8, .shortlist = 3}, 0.3, lcg)));
  EXPECT_EQ(make_lstm_predictor(weights, 1).error().code(), Code::invalid_argument);
  EXPECT_EQ(make_lstm_predictor(nullptr, 1).error().code(), Code::invalid_argument);
}

}  // namespace
}  // namespace speckv::predict
