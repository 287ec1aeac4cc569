// Engine (cxlspeckv/engine.hpp) on the engine of this process; on a card, the guest's.
#include <algorithm>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/engine.hpp"

namespace speckv {
namespace {

constexpr std::uint32_t kTokens = 64;

TokenRange block(std::uint32_t request, std::uint32_t number) {
  return {{.request = request, .position = number * kTokens}, kTokens};
}

class EngineClient : public testing::Test {
 protected:
  void SetUp() override {
    auto engine = Engine::open("soft:");
    ASSERT_TRUE(engine.ok()) << engine.error().message();
    engine_ = *std::move(engine);
    ASSERT_EQ(engine_->info().block_tokens, kTokens);
  }
  std::unique_ptr<Engine> engine_;
};

TEST(EngineNames, what_is_no_engine_is_refused_with_a_code) {
  const std::pair<const char*, Code> bad[] = {
      {"", Code::invalid_argument},
      {"soft:0", Code::invalid_argument},
      {"dram:1M", Code::invalid_argument},
      {"soft:1M?throttle=cxl", Code::invalid_argument},
      {"fd:", Code::invalid_argument},
      {"fd:1x", Code::invalid_argument},
      {"pid:-1", Code::invalid_argument},
      {"cxl:/dev/speckv63", Code::not_found},
      {"/dev/speckv63", Code::not_found},
      {"/dev/null", Code::unsupported},
      {"cxl:/dev/null?size=1M", Code::invalid_argument}};
  for (const auto& [name, code] : bad) {
    const auto engine = Engine::open(name);
    ASSERT_FALSE(engine.ok()) << name;
    EXPECT_EQ(engine.error().code(), code) << name << ": " << engine.error().message();
  }
}

TEST_F(EngineClient, blocks_are_held_used_hinted_and_forgotten) {
  for (std::uint32_t n = 0; n < 4; ++n)
    ASSERT_TRUE(engine_->hold(block(7, n)).ok());
  EXPECT_TRUE(engine_->use(block(7, 1)).ok());
  EXPECT_TRUE(engine_->use(block(8, 0)).ok()) << "a miss is no failure";
  const TokenRange two{{.request = 7, .position = kTokens - 1}, 2};
  EXPECT_EQ(*engine_->hint(BlockHint::hot, two), 2U);
  const auto told = engine_->telemetry();
  ASSERT_TRUE(told.ok());
  EXPECT_EQ(told->blocks, 4U);
  EXPECT_EQ(told->inserted, 4U);
  EXPECT_EQ(told->misses, 1U);
  EXPECT_EQ(told->weights, ScoreWeights());
  EXPECT_EQ(*engine_->hint(BlockHint::share, block(7, 3)), 1U);
  EXPECT_EQ(engine_->hint(BlockHint::forget, block(7, 3)).error().code(), Code::busy);
  EXPECT_EQ(*engine_->hint(BlockHint::unshare, block(7, 3)), 1U);
  EXPECT_EQ(*engine_->hint(BlockHint::forget, block(7, 3)), 1U);
  EXPECT_EQ(engine_->hint(BlockHint::forget, block(7, 3)).error().code(),
            Code::not_found);
}

TEST_F(EngineClient, candidates_are_told_once_by_their_address) {
  ASSERT_TRUE(engine_->hold(block(0xFFFFFFFF, 5)).ok());
  ASSERT_TRUE(engine_->hint(BlockHint::evictable, block(0xFFFFFFFF, 5)).ok());
  EXPECT_EQ(*engine_->step(1), 1U);
  const auto victims = engine_->victims();
  ASSERT_TRUE(victims.ok());
  ASSERT_EQ(victims->size(), 1U);
  EXPECT_EQ(victims->front().block,
            (KvAddress{.request = 0xFFFFFFFF, .position = 5 * kTokens}));
  EXPECT_TRUE(engine_->victims()->empty());
  EXPECT_EQ(*engine_->hint(BlockHint::prefetchable, block(0xFFFFFFFF, 5), 2), 1U);
  EXPECT_EQ(*engine_->step(2), 1U);
  EXPECT_EQ(engine_->prefetches()->size(), 1U);
}

TEST_F(EngineClient, what_is_out_of_range_is_refused_before_the_card_sees_it) {
  const auto failures = [&] { return engine_->telemetry()->failures; };
  const auto refused = [](const Status& status) {
    return status.code() == Code::invalid_argument;
  };
  TokenRange range = block(1, 0);
  EXPECT_TRUE(refused(engine_->hint(static_cast<BlockHint>(0), range).error()));
  EXPECT_TRUE(refused(engine_->hint(BlockHint::hot, range, 3).error()));
  EXPECT_TRUE(refused(engine_->hint(BlockHint::hot, {{}, 0}).error()));
  EXPECT_TRUE(refused(engine_->hint(BlockHint::hot, {{}, 65536}).error()));
  EXPECT_TRUE(refused(engine_->hint(BlockHint::hot, {{.position = ~0U}, 2}).error()));
  range.first.kind = KvKind::value;
  EXPECT_TRUE(refused(engine_->hint(BlockHint::hot, range).error()));
  EXPECT_TRUE(refused(engine_->hold({{.position = 1}, 1})));
  EXPECT_TRUE(refused(engine_->use({{}, kTokens + 1})));
  EXPECT_TRUE(refused(engine_->set_weights({.evict = 0})));
  EXPECT_TRUE(refused(engine_->set_weights({.evict = 90, .prefetch = 91})));
  EXPECT_TRUE(refused(engine_->set_weights({0, 0, 0, 0})));
  EXPECT_EQ(failures(), 0U);
}

TEST_F(EngineClient, counters_are_the_cards_and_grow) {
  const auto value = [&](const char* name) {
    const auto all = engine_->counters();
    for (const auto& [key, count] : *all) {
      if (key == name) return count;
    }
    ADD_FAILURE() << name;
    return std::uint64_t{0};
  };
  const std::uint64_t before = value("descriptors");
  ASSERT_TRUE(engine_->step(1).ok());
  EXPECT_EQ(value("descriptors"), before + 1);
  EXPECT_EQ(value("errors_logged"), 0U);
  EXPECT_FALSE(*engine_->fatal());
}

TEST_F(EngineClient, threads_take_turns) {
  std::vector<std::jthread> threads;
  for (std::uint32_t request = 1; request <= 4; ++request) {
    threads.emplace_back([&, request] {
      for (std::uint32_t n = 0; n < 50; ++n) {
        EXPECT_TRUE(engine_->hold(block(request, n)).ok());
        EXPECT_EQ(*engine_->hint(BlockHint::hot, block(request, n)), 1U);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(engine_->telemetry()->blocks, 200U);
}

}  // namespace
}  // namespace speckv
