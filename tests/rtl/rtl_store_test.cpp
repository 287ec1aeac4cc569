// A store whose tiers are the card's RTL: sim:, as rtl_device.cpp answers to it.
#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"

#include "rtl/bit_flips.hpp"
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

TEST(RtlStore, bits_that_flip_on_the_buses_are_misses_and_never_wrong_bytes) {
  StoreUnderTest store(on({"sim:1M"}));
  ASSERT_TRUE(store) << store.error().message();
  const std::uint64_t before = bit_flips.done.load();
  bit_flips.within.store(500);
  std::uint64_t missed = 0;
  constexpr std::uint64_t kBlocks = 150;
  for (std::uint64_t n = 0; n < kBlocks; ++n) {
    EXPECT_EQ(store.save(n), Code::ok) << n;
    const Code code = store.load(n);
    EXPECT_TRUE(code == Code::ok || code == Code::not_found || code == Code::corrupted)
        << "block " << n << ": " << static_cast<int>(code);
    missed += code != Code::ok;
  }
  bit_flips.within.store(0);
  EXPECT_GT(bit_flips.done.load(), before);
  EXPECT_GT(missed, 0U);
  EXPECT_LT(missed, kBlocks);
  EXPECT_GT(store->stats(0).corrupted, 0U);
  for (std::uint64_t n = 0; n < 20; ++n) {
    ASSERT_EQ(store.save(kBlocks + n), Code::ok) << n;
    ASSERT_EQ(store.load(kBlocks + n), Code::ok) << n;
  }
  EXPECT_FALSE(store->stats(0).fenced);
}

}  // namespace
}  // namespace speckv::test
