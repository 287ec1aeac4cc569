// Every eviction policy keeps the contract of tier.hpp.
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/tier.hpp"

namespace speckv {
namespace {

class Pins final : public PinnedSlots {
 public:
  bool contains(Slot slot) const noexcept override { return slots.contains(slot); }
  std::set<Slot> slots;
};

class PolicyConformance : public testing::TestWithParam<std::string_view> {
 protected:
  static constexpr std::uint32_t kSlots = 100;
  // 64-byte aligned memory, as the store gives it.
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::unique_ptr<Policy> bind(bool reset) {
    auto policy = make_policy(GetParam());
    state_.resize(policy->state_bytes(kSlots) / sizeof(Line) + 1);
    policy->bind(
        std::as_writable_bytes(std::span(state_)).first(policy->state_bytes(kSlots)),
        kSlots, reset);
    return policy;
  }
  std::vector<Line> state_;
};

TEST_P(PolicyConformance, zeroed_memory_is_empty) {
  const auto policy = bind(false);
  EXPECT_EQ(policy->size(), 0U);
  EXPECT_FALSE(policy->victim(Pins()).has_value());
  EXPECT_EQ(policy->name(), GetParam());
}

TEST_P(PolicyConformance, names_only_filled_unpinned_slots_and_any_of_them_in_the_end) {
  const auto policy = bind(false);
  std::mt19937_64 random(1);
  std::set<Slot> filled;
  Pins pins;
  for (int i = 0; i < 20000; ++i) {
    const Slot slot{static_cast<std::uint32_t>(random() % kSlots)};
    switch (random() % 5) {
      case 0:
      case 1:
        if (filled.insert(slot).second) policy->filled(slot, random() % 300);
        break;
      case 2:
        if (filled.contains(slot)) policy->touched(slot);
        break;
      case 3:
        if (!pins.slots.erase(slot) && pins.slots.size() < 20) pins.slots.insert(slot);
        break;
      default:
        if (filled.erase(slot) != 0) policy->emptied(slot);
    }
    ASSERT_EQ(policy->size(), filled.size());
    const auto victim = policy->victim(pins);
    std::set<Slot> may;
    for (const Slot s : filled)
      if (!pins.contains(s)) may.insert(s);
    ASSERT_EQ(victim.has_value(), !may.empty());
    if (!victim) continue;
    ASSERT_TRUE(may.contains(*victim));
    if (random() % 4 == 0) {
      policy->emptied(*victim);
      filled.erase(*victim);
    }
  }
  for (const Pins none; !filled.empty();) {
    const auto victim = policy->victim(none);
    ASSERT_TRUE(victim.has_value());
    ASSERT_EQ(filled.erase(*victim), 1U);
    policy->emptied(*victim);
  }
}

TEST_P(PolicyConformance, a_second_binding_sees_what_the_first_left_and_a_reset_nothing) {
  const auto first = bind(false);
  for (std::uint32_t n = 0; n < 10; ++n)
    first->filled(Slot{n}, n);
  const auto second = bind(false);
  EXPECT_EQ(second->size(), 10U);
  EXPECT_EQ(second->victim(Pins()), first->victim(Pins()));
  second->emptied(*second->victim(Pins()));
  EXPECT_EQ(first->size(), 9U);
  EXPECT_EQ(bind(true)->size(), 0U);
}

TEST(Lru, gives_up_what_was_not_used_for_longest) {
  const auto policy = make_policy("lru");
  std::vector<std::uint64_t> state(policy->state_bytes(8) / 8 + 1);
  policy->bind(std::as_writable_bytes(std::span(state)), 8, true);
  for (std::uint32_t n = 0; n < 4; ++n)
    policy->filled(Slot{n}, n);
  policy->touched(Slot{0});
  policy->touched(Slot{2});
  Pins pins;
  EXPECT_EQ(policy->victim(pins), Slot{1});
  pins.slots.insert(Slot{1});
  EXPECT_EQ(policy->victim(pins), Slot{3});
  pins.slots.insert(Slot{3});
  EXPECT_EQ(policy->victim(pins), Slot{0});
}

TEST(Policies, an_unknown_name_is_none) {
  EXPECT_EQ(make_policy("no such policy"), nullptr);
  EXPECT_EQ(make_policy(""), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Policies, PolicyConformance,
                         testing::ValuesIn(policy_names().begin(), policy_names().end()),
                         [](const auto& name) { return std::string(name.param); });

}  // namespace
}  // namespace speckv
