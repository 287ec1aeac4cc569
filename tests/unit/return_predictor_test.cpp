// The return-time predictor: what it learns, and what it must not fall for.
#include "predict/return_predictor.hpp"

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "predict/recent_table.hpp"
#include "predict/return_table.hpp"

namespace speckv::predict {
namespace {

std::unique_ptr<ReturnPredictor> make(std::uint32_t sessions = 1000) {
  return *make_return_predictor({.sessions = sessions, .table_rows = 1U << 12});
}

Completion at(SessionId session, double time, bool tool = false) {
  return {.session = session,
          .arrived = time - 1,
          .completed = time,
          .input_tokens = 1000,
          .output_tokens = 100,
          .blocks = 20,
          .reused_blocks = 10,
          .stops_for_tool = tool};
}

double total(const ReturnDistribution& d) {
  return std::accumulate(d.probability.begin(), d.probability.end(), 0.0);
}

TEST(RecentTable, forgets_the_oldest_and_finds_the_rest) {
  RecentTable<int> table(3);
  bool fresh = false;
  for (int i = 0; i < 3; ++i) {
    table.touch(static_cast<std::uint64_t>(i), -1, fresh) = i;
    EXPECT_TRUE(fresh);
  }
  table.touch(0, -1, fresh);
  EXPECT_FALSE(fresh);
  table.touch(7, 70, fresh);  // 1 was touched longest ago
  EXPECT_EQ(table.find(1), nullptr);
  EXPECT_EQ(*table.find(0), 0);
  EXPECT_EQ(*table.find(7), 70);
  EXPECT_EQ(table.oldest().first, 2U);
  table.erase(0);
  table.erase(99);
  EXPECT_EQ(table.size(), 2U);
  table.touch(8, 80, fresh);
  EXPECT_EQ(table.size(), 3U);
  EXPECT_EQ(*table.find(2), 2);
}

TEST(RecentTable, equals_a_model_under_random_use) {
  std::mt19937 random(1);
  RecentTable<std::uint32_t> table(16);
  std::vector<std::pair<std::uint64_t, std::uint32_t>> model;  // the oldest first
  for (std::uint32_t i = 0; i < 20000; ++i) {
    const std::uint64_t key = random() % 40;
    const auto known = std::find_if(model.begin(), model.end(),
                                    [&](const auto& one) { return one.first == key; });
    if (random() % 4 == 0) {
      table.erase(key);
      if (known != model.end()) model.erase(known);
    } else {
      bool fresh = false;
      std::uint32_t& value = table.touch(key, 0, fresh);
      ASSERT_EQ(fresh, known == model.end());
      ASSERT_EQ(value, fresh ? 0 : known->second);
      if (!fresh)
        model.erase(known);
      else if (model.size() == 16)
        model.erase(model.begin());
      model.emplace_back(key, value = i);
    }
    ASSERT_EQ(table.size(), model.size());
    if (model.empty()) continue;
    ASSERT_EQ(table.oldest().first, model.front().first);
  }
}

TEST(ReturnPredictor, learns_that_a_tool_is_quick_and_a_person_is_not) {
  const auto p = make();
  std::mt19937 random(2);
  double now = 10;
  ReturnDistribution tool, person;
  for (int round = 0; round < 4000; ++round) {
    const bool quick = random() % 2 == 0;
    const SessionId session = random() % 50;
    const ReturnDistribution said = p->completed(at(session, now, quick));
    EXPECT_NEAR(total(said), 1, 1e-4);
    (quick ? tool : person) = said;
    now += quick ? 3 : 300;
    p->arrived(session, now);
    now += 1;
  }
  EXPECT_GT(tool.within(4), 0.9);
  EXPECT_LT(person.within(64), 0.1);
  EXPECT_GT(person.within(512), 0.9);
  const ReturnScore score = p->score();
  EXPECT_EQ(score.outcomes, 4000U);
  EXPECT_LT(score.bits / 4000, 0.5);
}

// Half of all sessions return after 10 s, half never. An estimate from ended waits only
// would call the return certain, long before the first wait is old enough to be never.
TEST(ReturnPredictor, waits_that_are_not_over_count_as_far_as_they_got) {
  const auto p = make(10000);
  ReturnDistribution last;
  for (SessionId session = 0; session < 2000; ++session) {
    const auto now = 2 * static_cast<double>(session);
    if (session >= 5 && session % 2 == 1) p->arrived(session - 5, now);
    last = p->completed(at(session, now));
  }
  EXPECT_NEAR(last.within(16), 0.5, 0.1);
  EXPECT_LT(last.within(8), 0.05);
  EXPECT_LT(last.hazard(20, 1000), 0.1);
}

TEST(ReturnPredictor, a_session_that_says_it_ended_never_returns) {
  const auto p = make();
  ReturnDistribution last;
  for (int i = 0; i < 500; ++i) {
    last = p->completed(at(static_cast<SessionId>(i), i));
    p->ended(static_cast<SessionId>(i));
  }
  EXPECT_GT(last.probability[kNever], 0.9F);
  EXPECT_EQ(p->score().outcomes, 500U);
}

TEST(ReturnPredictor, old_waits_are_never) {
  const auto p = make();
  p->completed(at(1, 0));
  p->advance(kLongestGap - 1);
  EXPECT_EQ(p->score().outcomes, 0U);
  p->advance(kLongestGap + 1);
  EXPECT_EQ(p->score().outcomes, 1U);
  p->arrived(1, kLongestGap + 2);
  EXPECT_EQ(p->score().outcomes, 1U);
}

TEST(ReturnPredictor, forgets_sessions_and_survives_wild_numbers) {
  const auto p = make(8);
  const double infinity = std::numeric_limits<double>::infinity();
  const double wild[] = {std::nan(""), -infinity, 1e300, 0, infinity};
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    const SessionId session = random() % 30;
    const double time = i % 50 == 0 ? wild[random() % 5] : i;
    Completion c = at(session, time, i % 2 == 0);
    c.arrived = i % 70 == 0 ? wild[random() % 5] : time;
    c.input_tokens = static_cast<std::uint32_t>(random());
    c.output_tokens = static_cast<std::uint32_t>(random());
    c.blocks = i % 3 == 0 ? 0 : static_cast<std::uint32_t>(random());
    const ReturnDistribution said = p->completed(c);
    ASSERT_NEAR(total(said), 1, 1e-4);
    for (const float one : said.probability)
      ASSERT_GE(one, 0);
    if (i % 3 == 0) p->arrived(random() % 30, time);
    if (i % 11 == 0) p->ended(random() % 30);
  }
  EXPECT_TRUE(std::isfinite(p->score().bits));
}

TEST(ReturnPredictor, options_out_of_bounds_are_refused) {
  EXPECT_EQ(make_return_predictor({.sessions = 0}).error().code(),
            Code::invalid_argument);
  EXPECT_EQ(make_return_predictor({.table_rows = 1000}).error().code(),
            Code::invalid_argument);
}

}  // namespace
}  // namespace speckv::predict
