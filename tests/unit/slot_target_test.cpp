// Budgets of tiers: each its own, changed while the store runs, for new blocks only, and
// refused where they cannot be kept.
#include <gtest/gtest.h>

#include "cxlspeckv/open_store.hpp"

#include "codec/frame.hpp"
#include "support/blocks.hpp"
#include "support/profiles.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using test::HeapDevice;
using test::StoreUnderTest;
using test::tier_on;

constexpr BlockLayout kLayout{2, 3, 64, 64, DType::f16};  // 12 heads: 768 values a token
constexpr char k3x2[] = "hxp?bytes_per_token=480", k5x3[] = "hxp?bytes_per_token=288";

std::uint64_t frame_of(std::uint64_t bytes_per_token) {
  return frame_header_bytes(kLayout.layers) + bytes_per_token * kLayout.tokens;
}

StoreOptions store_on(std::initializer_list<const char*> codecs) {
  StoreOptions options;
  options.layouts = {kLayout};
  options.profile = test::random_profile(kLayout, 21);
  for (const char* codec : codecs) {
    const bool first = options.tiers.empty();
    options.tiers.push_back(
        tier_on(first ? "memory" : "disk",
                std::make_shared<HeapDevice>(
                    4 << 20, first ? HeapDevice::Kind::memory : HeapDevice::Kind::disk),
                codec));
  }
  return options;
}

std::vector<std::byte> values(std::uint64_t number) {
  return test::make_block(kLayout, test::Fill::normal, number);
}

Code save(StoreUnderTest& store, std::uint64_t number, bool durable = false) {
  const auto block = values(number);
  std::copy(block.begin(), block.end(), store.bytes(0).begin());
  const Segment where = store.place(0);
  const auto position = static_cast<std::uint32_t>(number * kLayout.tokens);
  const BlockTransfer transfer{test::key_of(number), {&where, 1}, position, {}};
  TransferOptions options;
  options.durable = durable;
  return store->save({&transfer, 1}, options).wait().code();
}

// Empty: it was not found, or did not decode.
std::vector<std::byte> load(StoreUnderTest& store, std::uint64_t number) {
  const Segment where = store.place(1);
  const BlockTransfer transfer{test::key_of(number), {&where, 1}, kNoPosition, {}};
  if (!store->load({&transfer, 1}).wait().ok()) return {};
  return {store.bytes(1).begin(), store.bytes(1).end()};
}

// Of a block's energy; that a block is there and right but for its coding.
double share_lost(StoreUnderTest& store, std::uint64_t number) {
  const auto wanted = values(number), got = load(store, number);
  if (got.empty()) return 1;
  double energy = 0, error = 0;
  for (std::uint64_t i = 0; i < wanted.size() / 2; ++i) {
    const double x = test::value_of(DType::f16, test::bits_at(wanted, i));
    const double y = test::value_of(DType::f16, test::bits_at(got, i));
    energy += x * x;
    error += (x - y) * (x - y);
  }
  return error / energy;
}

std::uint64_t written(StoreUnderTest& store) {
  return store->stats(0).bytes_written;
}

TEST(SlotTargetOfAStore, that_changes_is_that_of_new_blocks_only) {
  StoreUnderTest store(store_on({k3x2}));
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(save(store, 1), Code::ok);
  EXPECT_EQ(written(store), frame_of(480)) << "all of the budget, and no more";
  const auto before = load(store, 1);

  ASSERT_TRUE(store->set_codec(0, *find_codec(k5x3)).ok());
  ASSERT_EQ(save(store, 2), Code::ok);
  EXPECT_EQ(written(store), frame_of(480) + frame_of(288));
  EXPECT_EQ(load(store, 1), before);
  EXPECT_LT(share_lost(store, 1), 0.05);
  EXPECT_LT(share_lost(store, 2), 0.3);
  EXPECT_GT(share_lost(store, 2), 2 * share_lost(store, 1));

  // By what it should lose: what it takes is what the plan says.
  const std::vector<std::byte> profile = test::random_profile(kLayout, 21);
  ASSERT_TRUE(store->set_codec(0, *find_codec("hxp?loss=0.5")).ok());
  ASSERT_EQ(save(store, 3), Code::ok);
  const auto plan = profile_plan(profile, "hxp?loss=0.5");
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(written(store),
            frame_of(480) + frame_of(288) +
                frame_of(static_cast<std::uint64_t>(plan->bytes_per_token)));
  EXPECT_LT(share_lost(store, 3), 0.3);
  EXPECT_EQ(load(store, 1), before);
}

TEST(SlotTargetOfAStore, is_each_tiers_own) {
  StoreUnderTest store(store_on({k3x2, k5x3}));
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(save(store, 1), Code::ok);
  ASSERT_EQ(save(store, 2, true), Code::ok);
  EXPECT_EQ(store.tier_of(1), 0);
  EXPECT_EQ(store.tier_of(2), 1);
  EXPECT_EQ(store->stats(0).bytes_written, frame_of(480));
  EXPECT_GE(store->stats(1).used, frame_of(288));
  EXPECT_LT(store->stats(1).used, frame_of(480));
  EXPECT_GT(share_lost(store, 2), 2 * share_lost(store, 1));
  EXPECT_LT(share_lost(store, 2), 0.3);
}

TEST(SlotTargetOfAStore, that_cannot_be_kept_is_refused_and_changes_nothing) {
  StoreUnderTest store(store_on({k5x3}));
  ASSERT_TRUE(store) << store.error().message();
  for (const char* codec :
       {"hxp?bytes_per_token=191", "hxp?bytes_per_token=721", "hxp?loss=0.000001"}) {
    const Status refused = store->set_codec(0, *find_codec(codec));
    EXPECT_EQ(refused.code(), Code::invalid_argument) << codec;
    EXPECT_NE(refused.message().find(codec), std::string::npos) << refused.message();
    EXPECT_FALSE(StoreUnderTest(store_on({codec}))) << codec;
    StoreOptions pages = store_on({codec});
    pages.layouts[0].kind = BlockLayout::Kind::transposed;
    EXPECT_FALSE(StoreUnderTest(std::move(pages))) << codec;
    StoreOptions layer = store_on({"raw"});
    layer.tiers[0].per_layer = {{{1, 1}, find_codec(codec)}};
    EXPECT_FALSE(StoreUnderTest(std::move(layer))) << codec;
  }
  ASSERT_EQ(save(store, 1), Code::ok);
  EXPECT_EQ(written(store), frame_of(288));
}

TEST(SlotTargetOfAStore, without_losses_is_spent_alike_or_refused) {
  for (const bool with_profile : {false, true}) {
    ProfileShape shape = test::shape_for(kLayout);
    shape.sizes = 0;
    StoreOptions options = store_on({k3x2}), by_loss = store_on({"hxp?loss=1"});
    options.profile.clear();
    if (with_profile)
      options.profile = *test::write_parts(shape, test::random_parts(shape, 22));
    by_loss.profile = options.profile;
    StoreUnderTest none(std::move(by_loss));
    EXPECT_FALSE(none);
    EXPECT_EQ(none.error().code(), Code::invalid_argument);
    EXPECT_NE(none.error().message().find("losses"), std::string::npos);
    StoreUnderTest store(std::move(options));
    ASSERT_TRUE(store) << store.error().message();
    ASSERT_EQ(save(store, 1), Code::ok);
    EXPECT_EQ(written(store), frame_of(480));
    EXPECT_LT(share_lost(store, 1), 0.05);
  }
}

TEST(SlotTargetOfAStore, has_a_name_that_options_take) {
  StoreConfig config;
  config.layouts = {kLayout};
  config.profile = test::random_profile(kLayout, 21);
  TierConfig& tier = config.tiers.emplace_back();
  tier.device = "dram:4M";
  tier.codec = "hxp?loss=0.5";
  tier.layers = {{{0, 1}, "hxp?slot=5120"}};
  EXPECT_TRUE(open_store(config).ok());
  tier.codec = "hxp?loss=none";
  const auto refused = open_store(config);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::not_found);
  EXPECT_NE(refused.error().message().find("hxp?bytes_per_token=N"), std::string::npos);
}

}  // namespace
}  // namespace speckv
