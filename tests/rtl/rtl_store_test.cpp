// A store whose tiers are the card's RTL: sim:, as rtl_device.cpp answers to it.
#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"

#include "support/store_fixture.hpp"

namespace speckv::test {
namespace {

StoreOptions on(std::initializer_list<const char*> devices) {
  StoreOptions options;
  options.layouts = {small_layout()};
  for (const char* uri : devices) {
    auto device = open_device(uri);
    EXPECT_TRUE(device.ok()) << device.error().message();
    if (device.ok()) options.tiers.push_back(tier_on(uri, *std::move(device)));
  }
  return options;
}

TEST(RtlStore, keeps_blocks_in_the_card) {
  StoreUnderTest store(on({"sim:1M"}));
  ASSERT_TRUE(store) << store.error().message();
  for (std::uint64_t n = 0; n < 50; ++n)
    ASSERT_EQ(store.save(n), Code::ok) << n;
  for (std::uint64_t n = 0; n < 50; ++n)
    ASSERT_EQ(store.load(n), Code::ok) << n;
  EXPECT_EQ(store->stats(0).blocks, 50U);
  EXPECT_GE(store->stats(0).bytes_read, 50 * small_layout().bytes());
}

TEST(RtlStore, what_has_no_room_above_comes_back_from_the_card) {
  StoreUnderTest store(on({"dram:64K", "sim:1M"}));
  ASSERT_TRUE(store) << store.error().message();
  for (std::uint64_t n = 0; n < 60; ++n)
    ASSERT_EQ(store.save(n), Code::ok) << n;
  for (std::uint64_t n = 0; n < 60; ++n) {
    const Code code = store.load(n);
    ASSERT_TRUE(code == Code::ok || code == Code::not_found) << n;  // never wrong bytes
  }
  const TierStats below = store->stats(1);
  EXPECT_GT(below.demotions_in, 0U);
  EXPECT_GT(below.hits, 0U);
  EXPECT_EQ(below.corrupted + below.io_errors, 0U);
  EXPECT_FALSE(below.fenced);
}

}  // namespace
}  // namespace speckv::test
