#include <gtest/gtest.h>

#include "cxlspeckv/promotion.hpp"

#include "base/endian.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using test::frame_bytes;
using test::HeapDevice;
using test::key_of;
using test::small_layout;
using test::StoreUnderTest;
using test::tier_on;
using Kind = HeapDevice::Kind;

std::shared_ptr<HeapDevice> memory_for(std::uint64_t blocks) {
  return std::make_shared<HeapDevice>(blocks * frame_bytes(small_layout()), Kind::memory);
}
std::shared_ptr<HeapDevice> disk(std::uint64_t bytes = 4 << 20) {
  return std::make_shared<HeapDevice>(bytes, Kind::disk);
}
StoreOptions options_of(std::vector<std::shared_ptr<Device>> devices) {
  StoreOptions options;
  options.layouts = {small_layout()};
  for (std::size_t i = 0; i < devices.size(); ++i) {
    options.tiers.push_back(tier_on("t" + std::to_string(i), devices[i]));
  }
  return options;
}

TEST(Store, loads_the_bytes_that_were_saved) {
  StoreUnderTest store(options_of({memory_for(8)}));
  ASSERT_TRUE(store) << store.error().message();
  for (std::uint64_t n = 0; n < 8; ++n)
    EXPECT_EQ(store.save(n), Code::ok);
  for (std::uint64_t n = 0; n < 8; ++n)
    EXPECT_EQ(store.load(n), Code::ok);
  EXPECT_EQ(store.load(99), Code::not_found);
}

TEST(Store, counts_bytes_exactly_and_evicts_the_coldest_when_full) {
  StoreUnderTest store(options_of({memory_for(4)}));
  ASSERT_TRUE(store) << store.error().message();
  for (std::uint64_t n = 0; n < 4; ++n)
    EXPECT_EQ(store.save(n), Code::ok);
  EXPECT_EQ(store->stats(0).used, store->stats(0).capacity);
  EXPECT_EQ(store.load(0), Code::ok);  // 1 is the coldest now
  EXPECT_EQ(store.save(4), Code::ok);
  EXPECT_EQ(store.load(1), Code::not_found);
  EXPECT_EQ(store.load(0), Code::ok);
  EXPECT_EQ(store->stats(0).blocks, 4U);
  EXPECT_EQ(store->stats(0).evictions, 1U);
}

TEST(Store, match_counts_the_leading_run) {
  StoreUnderTest store(options_of({memory_for(8)}));
  ASSERT_TRUE(store);
  for (const std::uint64_t n : {0U, 1U, 2U, 4U})
    EXPECT_EQ(store.save(n), Code::ok);
  std::vector<BlockKey> keys;
  for (std::uint64_t n = 0; n < 6; ++n)
    keys.push_back(key_of(n));
  EXPECT_EQ(store->match(keys), 3U);
  std::vector<std::int8_t> tiers(6);
  store->lookup(keys, tiers);
  EXPECT_EQ(tiers, (std::vector<std::int8_t>{0, 0, 0, -1, 0, -1}));
}

TEST(Store, a_full_fast_tier_moves_its_coldest_blocks_down) {
  StoreUnderTest store(options_of({memory_for(8), disk()}));
  ASSERT_TRUE(store) << store.error().message();
  for (std::uint64_t n = 0; n < 64; ++n)
    EXPECT_EQ(store.save(n), Code::ok);
  for (std::uint64_t n = 0; n < 64; ++n)
    EXPECT_EQ(store.load(n), Code::ok) << n;
  EXPECT_GT(store->stats(1).blocks, 50U);
  EXPECT_EQ(store->stats(0).saves_dropped + store->stats(1).saves_dropped, 0U);
}

TEST(Store, promote_brings_a_block_to_the_fastest_tier_and_keeps_its_bytes) {
  StoreUnderTest store(options_of({memory_for(8), disk()}));
  ASSERT_TRUE(store);
  for (std::uint64_t n = 0; n < 64; ++n)
    EXPECT_EQ(store.save(n), Code::ok);
  std::uint64_t low = 0;
  while (low < 64 && store.tier_of(low) != 1)
    ++low;
  ASSERT_LT(low, 64U);
  const BlockKey key = key_of(low);
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (store.tier_of(low) != 0 && std::chrono::steady_clock::now() < give_up) {
    ASSERT_TRUE(store->promote({&key, 1}).ok());
    std::this_thread::yield();
  }
  EXPECT_EQ(store.tier_of(low), 0);
  EXPECT_EQ(store.load(low), Code::ok);
  EXPECT_GE(store->stats(0).promotions_in, 1U);
}

TEST(Store, a_disk_pool_has_its_blocks_again_after_reopening) {
  const auto device = disk();
  {
    StoreUnderTest store(options_of({device}));
    ASSERT_TRUE(store) << store.error().message();
    for (std::uint64_t n = 0; n < 32; ++n)
      EXPECT_EQ(store.save(n), Code::ok);
  }
  StoreUnderTest store(options_of({device}));
  ASSERT_TRUE(store) << store.error().message();
  for (std::uint64_t n = 0; n < 32; ++n)
    EXPECT_EQ(store.load(n), Code::ok) << n;
}

TEST(Store, a_persistent_memory_pool_has_its_blocks_again_after_reopening) {
  const auto device = std::make_shared<HeapDevice>(4 << 20, Kind::persistent_memory);
  {
    StoreUnderTest store(options_of({device}));
    ASSERT_TRUE(store) << store.error().message();
    for (std::uint64_t n = 0; n < 32; ++n)
      EXPECT_EQ(store.save(n), Code::ok);
  }
  StoreUnderTest store(options_of({device}));
  ASSERT_TRUE(store) << store.error().message();
  for (std::uint64_t n = 0; n < 32; ++n)
    EXPECT_EQ(store.load(n), Code::ok) << n;
}

TEST(Store, a_small_disk_pool_evicts_and_goes_on) {
  const auto device = disk(256 << 10);
  StoreUnderTest store(options_of({device}));
  ASSERT_TRUE(store) << store.error().message();
  for (std::uint64_t n = 0; n < 500; ++n)
    ASSERT_EQ(store.save(n), Code::ok) << n;
  EXPECT_GT(store->stats(0).evictions, 400U);
  EXPECT_EQ(store.load(499), Code::ok);
  EXPECT_EQ(store.load(0), Code::not_found);
}

TEST(Store, every_bit_flipped_in_memory_is_noticed) {
  const auto device = memory_for(2);
  StoreUnderTest store(options_of({device}));
  ASSERT_TRUE(store);
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    ASSERT_EQ(store.save(1), Code::ok);
    const std::size_t bit = random() % (frame_bytes(small_layout()) * 8);
    // Block 1 is alone in the tier, so its frame begins at 0; padding bits are no data.
    device->raw()[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    const Code code = store.load(1);
    EXPECT_TRUE(code == Code::corrupted || code == Code::ok) << to_string(code);
    if (bit / 8 >= 128 || bit / 8 < 80) {
      EXPECT_EQ(code, Code::corrupted) << "bit " << bit;
    }
    const BlockKey key = key_of(1);
    store->erase({&key, 1});
  }
}

TEST(Store, a_corrupted_copy_is_dropped_and_the_one_below_is_used) {
  const auto fast = memory_for(8);
  StoreUnderTest store(options_of({fast, disk()}));
  ASSERT_TRUE(store);
  ASSERT_EQ(store.save(1), Code::ok);
  ASSERT_TRUE(store->flush().ok());
  EXPECT_EQ(store.tier_of(1), 0);
  fast->raw()[500] ^= std::byte{1};
  EXPECT_EQ(store.load(1), Code::ok);
  EXPECT_EQ(store.tier_of(1), 1);
  EXPECT_EQ(store->stats(0).corrupted, 1U);
}

TEST(Store, a_pinned_block_is_not_evicted_and_an_erased_one_lives_until_unpinned) {
  StoreUnderTest store(options_of({memory_for(2)}));
  ASSERT_TRUE(store);
  ASSERT_EQ(store.save(1), Code::ok);
  auto pin = store->pin(key_of(1));
  ASSERT_TRUE(pin.ok());
  for (std::uint64_t n = 2; n < 10; ++n)
    EXPECT_EQ(store.save(n), Code::ok);
  EXPECT_EQ(store.load(1), Code::ok);
  EXPECT_EQ(store->stats(0).pinned, frame_bytes(small_layout()));
  const BlockKey key = key_of(1);
  EXPECT_EQ(store->erase({&key, 1}), 1U);
  EXPECT_EQ(store.load(1), Code::not_found);
  EXPECT_EQ(store->stats(0).used, 2 * frame_bytes(small_layout()));
  *pin = Pin();
  EXPECT_EQ(store->stats(0).used, frame_bytes(small_layout()));
  EXPECT_EQ(store->stats(0).pinned, 0U);
  { const Pin gone = *std::move(pin); }
  EXPECT_EQ(store->stats(0).used, frame_bytes(small_layout()));
}

TEST(Store, a_tenant_beyond_its_quota_is_refused_and_purge_takes_all_it_has) {
  StoreUnderTest store(options_of({memory_for(8)}));
  ASSERT_TRUE(store);
  ASSERT_TRUE(store->set_quota(TenantId{3}, 3 * frame_bytes(small_layout())).ok());
  TransferOptions options;
  options.tenant = TenantId{3};
  for (std::uint64_t n = 0; n < 3; ++n)
    EXPECT_EQ(store.save(n, options), Code::ok);
  EXPECT_EQ(store.save(3, options), Code::no_space);
  EXPECT_EQ(store.save(4), Code::ok);
  EXPECT_EQ(store->tenant_bytes(TenantId{3}), 3 * frame_bytes(small_layout()));
  EXPECT_EQ(store->purge(TenantId{3}), 3U);
  EXPECT_EQ(store->tenant_bytes(TenantId{3}), 0U);
  EXPECT_EQ(store.load(4), Code::ok);
}

TEST(Store, layers_can_be_loaded_alone) {
  for (const bool on_disk : {false, true}) {
    StoreUnderTest store(options_of({on_disk ? disk() : memory_for(8)}));
    ASSERT_TRUE(store);
    ASSERT_EQ(store.save(1), Code::ok);
    const Segment half{store.place(1).region, store.place(1).offset,
                       small_layout().layer_bytes()};
    const BlockTransfer transfer{key_of(1), {&half, 1}, 0, {}};
    TransferOptions options;
    options.layers = {1, 1};
    Operation op = store->load({&transfer, 1}, options);
    ASSERT_TRUE(op.wait().ok()) << op.wait().message();
    EXPECT_EQ(op.layers_ready(0), 1U);
    const auto wanted = test::bytes_of_block(small_layout(), 1);
    EXPECT_TRUE(std::equal(wanted.begin() + static_cast<std::ptrdiff_t>(half.length),
                           wanted.end(), store.bytes(1).begin()));
  }
}

TEST(Store, refuses_options_that_make_no_sense_and_says_which) {
  const auto expect = [](StoreOptions options, const char* why) {
    const auto store = BlockStore::open(std::move(options));
    ASSERT_FALSE(store.ok()) << why;
    EXPECT_EQ(store.error().code(), Code::invalid_argument);
    EXPECT_NE(store.error().message().find(why), std::string::npos)
        << store.error().message();
  };
  const auto with_tier = [](std::uint64_t capacity) {
    StoreOptions options = options_of({memory_for(8)});
    options.tiers[0].capacity = capacity;
    return options;
  };
  const auto with_layout = [](std::uint32_t layers, std::uint32_t tokens) {
    StoreOptions options = options_of({memory_for(8)});
    options.layouts[0].layers = layers;
    options.layouts[0].tokens = tokens;
    return options;
  };
  expect(with_tier(64), "tier t0: capacity is less than one block");
  expect(with_tier(frame_bytes(small_layout()) - 1), "less than one block");
  expect(with_tier(1ULL << 40), "tier t0: capacity is more than its device has");
  expect(with_tier(~0ULL), "capacity is more than its device has");
  expect(with_layout(0, 16), "at least one layer, head, channel and token");
  expect(with_layout(2, 0), "at least one layer, head, channel and token");
  expect(with_layout(~0U, 16), "at most 1024 layers");
  expect(with_layout(1024, ~0U), "a block is at most 256 MiB");
  expect(options_of({}), "a store has 1 to 6 tiers");
  expect(options_of({nullptr}), "a tier needs a device");
  StoreOptions options = options_of({memory_for(8), memory_for(8)});
  options.tiers[1].name = "t0";
  expect(std::move(options), "tiers need names, each its own");
  options = options_of({memory_for(8)});
  options.layouts.clear();
  expect(std::move(options), "a store needs a layout");
}

// Codecs that turn K by its position need it, wherever the block has got to by then.
TEST(Store, a_block_keeps_its_position_in_every_tier_and_after_a_restart) {
  const auto position_in = [](HeapDevice& device) {           // of the frame at its front
    return load_le<std::uint32_t>(device.raw().data() + 40);  // docs/block-format.md
  };
  const auto pool = disk();
  for (const bool reopened : {false, true}) {
    const auto fast = memory_for(1), middle = memory_for(1);
    StoreOptions options = options_of({fast, middle, pool});
    options.tiers[0].codec = find_codec(reopened ? "raw" : "int8");
    options.tiers[1].codec = find_codec("raw");
    StoreUnderTest store(std::move(options));
    ASSERT_TRUE(store) << store.error().message();
    const BlockKey key = key_of(1);
    if (!reopened) {
      const Segment where = store.place(0);
      const BlockTransfer block{key, {&where, 1}, 640, {}};
      ASSERT_TRUE(store->save({&block, 1}).wait().ok());
      EXPECT_EQ(position_in(*fast), 640U);
      ASSERT_TRUE(store->flush().ok());
      continue;
    }
    ASSERT_TRUE(promote(*store, {&key, 1}, 1).wait().ok());
    EXPECT_EQ(position_in(*middle), 640U);
    ASSERT_TRUE(promote(*store, {&key, 1}, 0).wait().ok());
    EXPECT_EQ(position_in(*fast), 640U);
  }
}

TEST(Store, a_disk_that_holds_something_else_is_left_alone) {
  const auto device = disk();
  device->raw()[100] = std::byte{7};
  EXPECT_EQ(BlockStore::open(options_of({device})).error().code(), Code::corrupted);
  EXPECT_EQ(device->raw()[100], std::byte{7});
}

}  // namespace
}  // namespace speckv
