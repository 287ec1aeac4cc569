// Slots for a budget: no better ones exist, more bytes never lose more, and names that
// ask for what cannot be are refused.
#include "codec/slot_plan.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include <gtest/gtest.h>

#include "support/profiles.hpp"

namespace speckv {
namespace {

constexpr BlockLayout kLayout{2, 3, 64, 16, DType::f16};
constexpr double kOne = 68719476736.0;  // 2^36

LossCurve curve(const std::vector<std::uint32_t>& sizes,
                const std::vector<std::int32_t>& logs) {
  return loss_curve(sizes, logs);
}

// The gains of the first steps are these, all others nothing.
LossCurve gains(std::uint64_t first, const std::vector<std::uint64_t>& won) {
  LossCurve made;
  made.first = first;
  std::copy(won.begin(), won.end(), made.won.begin());
  return made;
}

// The least loss of all ways to take at most `most` steps.
std::uint64_t best_of_all(const std::vector<LossCurve>& curves, std::uint64_t most) {
  std::uint64_t best = ~0ULL;
  std::vector<std::vector<std::uint64_t>> at(curves.size());
  for (std::size_t i = 0; i < curves.size(); ++i)
    for (std::uint32_t n = 0; n <= LossCurve::kSteps; ++n)
      at[i].push_back(curves[i].at(n));
  const std::function<void(std::size_t, std::uint64_t, std::uint64_t)> choose =
      [&](std::size_t i, std::uint64_t left, std::uint64_t loss) {
        if (i == curves.size()) {
          best = std::min(best, loss);
          return;
        }
        for (std::uint32_t n = 0; n <= std::min<std::uint64_t>(left, LossCurve::kSteps);
             ++n)
          choose(i + 1, left - n, loss + at[i][n]);
      };
  choose(0, most, 0);
  return best;
}

std::uint64_t sum_of(const std::vector<LossCurve>& curves, const Allocation& found) {
  std::uint64_t loss = 0;
  for (std::size_t i = 0; i < curves.size(); ++i)
    loss += curves[i].at(found.steps[i]);
  return loss;
}

std::vector<LossCurve> random_curves(std::mt19937& random, std::size_t count) {
  const std::vector<std::uint32_t> sizes{2048, 2560, 3200, 5120, 7168};
  std::vector<LossCurve> curves;
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<std::int32_t> logs{static_cast<std::int32_t>(random() % 1024)};
    while (logs.size() < sizes.size())  // as measured: noise, so that some even rise
      logs.push_back(logs.back() + 100 - static_cast<std::int32_t>(random() % 700));
    curves.push_back(curve(sizes, logs));
  }
  return curves;
}

TEST(LossCurves, go_through_what_is_known_where_that_is_convex) {
  const LossCurve c = curve({2048, 4096, 7680}, {512, 0, -512});
  EXPECT_NEAR(static_cast<double>(c.at(0)), 4 * kOne, 1);
  EXPECT_NEAR(static_cast<double>(c.at(16)), kOne, 1e-6 * kOne);
  EXPECT_NEAR(static_cast<double>(c.at(44)), kOne / 4, 1e-6 * kOne);
  for (std::uint32_t n = 0; n <= 16; ++n)  // two octaves over 16 steps
    EXPECT_NEAR(static_cast<double>(c.at(n)) / kOne, std::exp2(2 - n / 8.0), 1e-6) << n;
}

TEST(LossCurves, are_convex_and_never_above_what_is_known) {
  std::mt19937 random(1);
  for (int i = 0; i < 500; ++i) {
    std::vector<std::int32_t> logs;
    for (int n = 0; n < 4; ++n)
      logs.push_back(static_cast<std::int32_t>(random() % 65536) - 32768);
    const std::vector<std::uint32_t> sizes{2048, 3072, 4096, 6144};
    const LossCurve c = curve(sizes, logs);
    for (std::uint32_t n = 1; n < LossCurve::kSteps; ++n)
      ASSERT_LE(c.won[n], c.won[n - 1]);
    for (std::size_t n = 0; n < sizes.size(); ++n) {
      // Numbers beyond 64 times KIVI-4's are cut; the rest is rounding.
      const double known = std::exp2(std::min(logs[n] / 256.0, 6.0));
      ASSERT_LE(static_cast<double>(c.at((sizes[n] - 2048) / 128)) / kOne,
                known * 1.000001 + 1e-8);
    }
    // Beyond the last size nothing more is known to be won.
    ASSERT_EQ(c.at(32), c.at(44));
    // The lowest is reached.
    const double lowest =
        std::exp2(std::min(*std::min_element(logs.begin(), logs.end()) / 256.0, 6.0));
    ASSERT_NEAR(static_cast<double>(c.at(44)) / kOne, lowest, lowest * 1e-6 + 1e-8);
  }
}

TEST(Allocation, is_the_best_of_all_for_every_budget) {
  std::mt19937 random(2);
  for (int i = 0; i < 6; ++i) {
    const auto curves = random_curves(random, 3);
    for (std::uint64_t most = 0; most <= 3 * LossCurve::kSteps + 2;
         most += 1 + most / 9) {
      const Allocation found = allocate_steps(curves, most, 0);
      ASSERT_LE(found.taken, most);
      ASSERT_EQ(found.loss, sum_of(curves, found));
      ASSERT_EQ(found.loss, best_of_all(curves, most)) << most;
    }
  }
}

TEST(Allocation, takes_the_fewest_steps_for_a_loss) {
  std::mt19937 random(3);
  for (int i = 0; i < 6; ++i) {
    const auto curves = random_curves(random, 3);
    const Allocation all = allocate_steps(curves, ~0ULL, 0);
    const std::uint64_t most = allocate_steps(curves, 0, 0).loss;
    for (int n = 0; n < 10; ++n) {
      const std::uint64_t enough = all.loss + random() % (most - all.loss + 1);
      const Allocation found = allocate_steps(curves, ~0ULL, enough);
      ASSERT_LE(found.loss, enough);
      if (found.taken > 0) {
        ASSERT_GT(best_of_all(curves, found.taken - 1), enough);
      }
    }
  }
}

TEST(Allocation, of_more_bytes_never_loses_more_nor_takes_any_away) {
  std::mt19937 random(4);
  const auto curves = random_curves(random, 40);
  Allocation last = allocate_steps(curves, 0, 0);
  for (std::uint64_t most = 1; most < 40 * LossCurve::kSteps; most += 7) {
    const Allocation found = allocate_steps(curves, most, 0);
    ASSERT_LE(found.loss, last.loss);
    for (std::size_t i = 0; i < curves.size(); ++i)
      ASSERT_GE(found.steps[i], last.steps[i]);
    last = found;
  }
}

TEST(Allocation, gives_equal_curves_equal_slots_and_nothing_where_nothing_is_won) {
  const LossCurve flat = gains(1000, {}), steep = gains(1000, {500, 200, 100});
  const Allocation found = allocate_steps(std::vector{flat, steep, flat, steep}, 4, 0);
  EXPECT_EQ(found.steps, (std::vector<std::uint8_t>{0, 2, 0, 2}));
  const Allocation rich = allocate_steps(std::vector{flat, steep}, 1000, 0);
  EXPECT_EQ(rich.taken, 3U);
  EXPECT_EQ(allocate_steps({}, 10, 0).taken, 0U);
}

TEST(SlotTargets, have_one_name_each) {
  for (const char* name :
       {"hxp?slot=2048", "hxp?slot=7680", "hxp?bytes_per_token=5760", "hxp?loss=0.36",
        "hxp?loss=1", "hxp?loss=0.000001", "hxp?loss=64", "hxp?loss=10.05"}) {
    const auto target = parse_slot_target(name);
    ASSERT_TRUE(target.has_value()) << name;
    EXPECT_EQ(name_of(*target), name);
    const Codec* const codec = find_codec(name);
    ASSERT_NE(codec, nullptr) << name;
    EXPECT_EQ(codec->name(), name);
    EXPECT_EQ(codec, find_codec(name)) << "made once";
    EXPECT_EQ(codec->id(), CodecId::hxp4096);
  }
  EXPECT_EQ(find_codec("hxp?loss=0.360"), find_codec("hxp?loss=0.36"));
  EXPECT_NE(find_codec("hxp?slot=4096"), find_codec("hxp?bytes_per_token=4096"));
}

TEST(SlotTargets, of_other_names_are_none) {
  for (const char* name : {"hxp",
                           "hxp?",
                           "hxp?slot=",
                           "hxp?slot=4095",
                           "hxp?slot=1920",
                           "hxp?slot=7808",
                           "hxp?slot=-4096",
                           "hxp?slot=4096 ",
                           "hxp?slot= 4096",
                           "hxp?slot=0x1000",
                           "hxp?slot=4294971392",
                           "hxp?bytes_per_token=0",
                           "hxp?bytes_per_token=1.5",
                           "hxp?bytes_per_token=1073741825",
                           "hxp?bytes_per_token=99999999999999999999",
                           "hxp?loss=0",
                           "hxp?loss=",
                           "hxp?loss=.5",
                           "hxp?loss=1.",
                           "hxp?loss=0.0000001",
                           "hxp?loss=-1",
                           "hxp?loss=1e-3",
                           "hxp?loss=nan",
                           "hxp?loss=64.000001",
                           "hxp?loss=4295.3",
                           "hxp?loss=0..5",
                           "hxp?loss=0,36",
                           "hxp?rate=1",
                           "hxp?loss=1&slot=4096",
                           "hx?slot=4096",
                           "HXP?slot=4096"}) {
    EXPECT_FALSE(parse_slot_target(name).has_value()) << name;
    EXPECT_EQ(find_codec(name), nullptr) << name;
  }
}

class Plans : public ::testing::Test {
 protected:
  Result<SlotPlan> plan(const std::string& name) const {
    return profile_plan(profile_, name);
  }
  const std::vector<std::byte> profile_ = test::random_profile(kLayout, 11);
  static constexpr std::uint32_t kValues = 12 * 64;  // of a token
};

TEST_F(Plans, keep_to_their_bytes_and_beat_uniform_slots) {
  double last = 1e9;
  for (const std::uint32_t slot : {2048U, 2560U, 3072U, 4096U, 4608U}) {
    const std::uint32_t bytes = slot * kValues / 8192;
    const auto uniform = plan("hxp?slot=" + std::to_string(slot));
    const auto best = plan("hxp?bytes_per_token=" + std::to_string(bytes));
    ASSERT_TRUE(uniform.ok() && best.ok());
    EXPECT_EQ(uniform->slots,
              std::vector<std::uint16_t>(12, static_cast<std::uint16_t>(slot)));
    EXPECT_DOUBLE_EQ(uniform->bytes_per_token, bytes);
    EXPECT_DOUBLE_EQ(best->bytes_per_token, bytes);
    if (slot > 2048) {
      EXPECT_LT(best->loss, uniform->loss);
    } else {
      EXPECT_EQ(best->slots, uniform->slots);
    }
    EXPECT_LT(best->loss, last);
    last = best->loss;
    std::uint32_t sum = 0;
    for (const std::uint16_t s : best->slots)
      sum += s;
    EXPECT_EQ(sum, 12 * slot);
  }
}

TEST_F(Plans, for_a_loss_take_no_more_bytes_than_they_must) {
  const auto all = plan("hxp?bytes_per_token=720");
  ASSERT_TRUE(all.ok());
  for (const double loss : {2.0, 1.0, 0.5}) {
    const auto found = plan("hxp?loss=" + std::to_string(loss));
    ASSERT_TRUE(found.ok()) << found.error().message();
    EXPECT_LE(found->loss, loss);
    // One step of one head less: 128 bytes of 8192 values, of which a token has 64.
    const auto bytes = static_cast<std::uint32_t>(found->bytes_per_token) - 1;
    EXPECT_GT(plan("hxp?bytes_per_token=" + std::to_string(bytes))->loss, loss);
  }
}

TEST_F(Plans, for_named_ratios_are_the_tables_of_the_profile) {
  ModelProfile profile;
  ASSERT_TRUE(profile.open(profile_));
  const auto found = plan("hxp4096");
  ASSERT_TRUE(found.ok());
  for (std::uint64_t head = 0; head < 12; ++head)
    EXPECT_EQ(found->slots[head], profile.slot(0, head));
  EXPECT_EQ(plan("hxp3360")->slots, std::vector<std::uint16_t>(12, 3360));
}

TEST_F(Plans, that_cannot_be_are_refused_with_what_could_be) {
  EXPECT_EQ(plan("hx4096").error().code(), Code::not_found);
  EXPECT_EQ(plan("hxp?slot=100").error().code(), Code::not_found);
  for (const char* bytes : {"191", "721"}) {
    const auto refused = plan(std::string("hxp?bytes_per_token=") + bytes);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code(), Code::invalid_argument);
    EXPECT_NE(refused.error().message().find("192 to 720"), std::string::npos)
        << refused.error().message();
  }
  EXPECT_TRUE(plan("hxp?bytes_per_token=192").ok());
  EXPECT_TRUE(plan("hxp?bytes_per_token=720").ok());
  const auto refused = plan("hxp?loss=0.000001");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::invalid_argument);
  const std::string said = refused.error().message();
  const auto at_least = said.find("at least ");
  ASSERT_NE(at_least, std::string::npos) << said;
  EXPECT_TRUE(plan("hxp?loss=" + said.substr(at_least + 9)).ok()) << said;
  ProfileShape shape = test::shape_for(kLayout);
  shape.sizes = 0;
  const auto none = *test::write_parts(shape, test::random_parts(shape, 1));
  EXPECT_EQ(profile_plan(none, "hxp?loss=1").error().code(), Code::unsupported);
  EXPECT_EQ(profile_plan(Bytes(none).first(70), "hxp4096").error().code(),
            Code::corrupted);
}

TEST_F(Plans, are_the_same_whoever_asks) {
  ModelProfile profile;
  ASSERT_TRUE(profile.open(profile_));
  const SlotTarget target{SlotTarget::Kind::loss, 500'000};
  const auto first = plan_slots(profile, target);
  EXPECT_EQ(plan_slots(profile, target), first) << "remembered";
  for (std::uint32_t i = 1; i <= 100; ++i)  // more than are remembered
    (void)plan_slots(profile, {SlotTarget::Kind::bytes_per_token, 192 + i});
  EXPECT_EQ(plan_slots(profile, target)->slots, first->slots);
  const auto other = test::random_profile(kLayout, 12);
  ASSERT_TRUE(profile.open(other));
  EXPECT_NE(plan_slots(profile, target)->slots, first->slots);
}

}  // namespace
}  // namespace speckv
