// The semantic score as a policy of the library (src/policy/semantic.hpp).
#include "policy/semantic.hpp"

#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace speckv {
namespace {

class NoPins final : public PinnedSlots {
 public:
  bool contains(Slot) const noexcept override { return false; }
};

class Semantic : public testing::Test {
 protected:
  struct alignas(64) Line {
    std::byte bytes[64]{};
  };
  void SetUp() override { bind(8); }
  void bind(std::uint32_t slots) {
    state_.assign(policy_->state_bytes(slots) / sizeof(Line) + 1, Line{});
    policy_->bind(
        std::as_writable_bytes(std::span(state_)).first(policy_->state_bytes(slots)),
        slots, true);
    for (std::uint32_t n = 0; n < slots; ++n)
      policy_->filled(Slot{n}, n);
  }
  // Empties `count` victims one after the other.
  std::vector<std::uint32_t> victims(std::size_t count) {
    std::vector<std::uint32_t> found;
    while (found.size() < count) {
      const auto victim = policy_->victim(NoPins());
      if (!victim) break;
      found.push_back(static_cast<std::uint32_t>(*victim));
      policy_->emptied(*victim);
    }
    return found;
  }

  const std::unique_ptr<SemanticPolicy> policy_ = make_semantic();
  std::vector<Line> state_;
};

TEST_F(Semantic, keeps_what_is_recent_frequent_and_expected) {
  for (int i = 0; i < 5; ++i)
    policy_->touched(Slot{6});
  policy_->step(400);
  policy_->touched(Slot{2});
  policy_->expected(Slot{4}, 404);
  policy_->hot(Slot{1});
  const auto order = victims(8);
  ASSERT_EQ(order.size(), 8U);
  const std::set<std::uint32_t> first(order.begin(), order.begin() + 4);
  EXPECT_EQ(first, (std::set<std::uint32_t>{0, 3, 5, 7}));
  EXPECT_EQ(order.back(), 1U);
}

TEST_F(Semantic, evictable_goes_first_and_shared_never) {
  policy_->evictable(Slot{5});
  policy_->share(Slot{0});
  policy_->share(Slot{0});
  policy_->unshare(Slot{0});
  EXPECT_EQ(policy_->victim(NoPins()), Slot{5});
  policy_->touched(Slot{5});  // wanted after all
  const auto order = victims(8);
  EXPECT_EQ(order.size(), 7U);
  EXPECT_EQ(std::count(order.begin(), order.end(), 0U), 0);
  policy_->unshare(Slot{0});
  policy_->unshare(Slot{0});  // there is none left to give back
  EXPECT_EQ(victims(1), std::vector<std::uint32_t>{0});
}

TEST_F(Semantic, without_steps_time_goes_on_with_use) {
  for (int i = 0; i < 64 * 40; ++i)
    policy_->touched(Slot{static_cast<std::uint32_t>(i % 4)});
  const auto order = victims(4);
  EXPECT_EQ(std::set<std::uint32_t>(order.begin(), order.end()),
            (std::set<std::uint32_t>{4, 5, 6, 7}));
}

TEST_F(Semantic, weights_must_be_valid_and_count) {
  EXPECT_FALSE(policy_->set_weights({0, 0, 0, 0, 24, 96, 8}));
  EXPECT_FALSE(policy_->set_weights({1, 1, 1, 1, 96, 24, 8}));
  for (int i = 0; i < 6; ++i)
    policy_->touched(Slot{3});
  policy_->step(300);
  for (std::uint32_t n = 0; n < 8; ++n)
    if (n != 3) policy_->touched(Slot{n});
  EXPECT_TRUE(policy_->set_weights({1, 0, 0, 0, 24, 96, 8}));
  EXPECT_EQ(policy_->victim(NoPins()), Slot{3});  // the least recent
  EXPECT_TRUE(policy_->set_weights({0, 1, 0, 0, 1, 3, 1}));
  policy_->touched(Slot{3});
  EXPECT_NE(policy_->victim(NoPins()), Slot{3});  // the most frequent
}

// A loop that does not fit: least-recently-used keeps nothing of it.
TEST_F(Semantic, a_hot_set_survives_a_scan) {
  constexpr std::uint32_t kSlots = 100, kHot = 20;
  bind(kSlots);
  std::vector<std::uint32_t> block(kSlots);  // which block a slot holds
  for (std::uint32_t n = 0; n < kSlots; ++n)
    block[n] = n;
  std::mt19937_64 random(1);
  std::uint32_t next = kSlots;
  std::uint64_t hits = 0, asked = 0;
  for (int round = 0; round < 5000; ++round) {
    const auto wanted = static_cast<std::uint32_t>(random() % kHot);
    const auto where = std::find(block.begin(), block.end(), wanted);
    ++asked;
    const auto fill = [&](std::uint32_t what) {
      const auto victim = policy_->victim(NoPins());
      policy_->emptied(*victim);
      block[static_cast<std::uint32_t>(*victim)] = what;
      policy_->filled(*victim, 0);
    };
    if (where != block.end()) {
      ++hits;
      policy_->touched(Slot{static_cast<std::uint32_t>(where - block.begin())});
    } else {
      fill(wanted);
    }
    for (int i = 0; i < 8; ++i)
      fill(next++);  // blocks that nobody asks for again
  }
  EXPECT_GT(hits * 10, asked * 9);
}

}  // namespace
}  // namespace speckv
