// Layers of a large block are ready before the whole of it has landed.
#include <thread>

#include <gtest/gtest.h>

#include "support/fault_device.hpp"
#include "support/held_device.hpp"
#include "support/invariants.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using test::FaultDevice;
using test::HeldDevice;
using test::key_of;
using test::StoreUnderTest;
using test::tier_on;
using Op = Transfer::Op;
using Kind = test::HeapDevice::Kind;

// 8 layers of 128 KiB: 1 MiB, which is read in four groups of two layers.
constexpr BlockLayout kLarge{
    .layers = 8, .kv_heads = 4, .head_dim = 128, .tokens = 64, .dtype = DType::f16};
constexpr std::uint32_t kGroups = 4, kLayersOfGroup = 2;
static_assert(kLarge.layer_bytes() == 128 << 10);

StoreOptions store_on(std::shared_ptr<Device> device) {
  StoreOptions options;
  options.layouts = {kLarge};
  options.tiers.push_back(tier_on("held", std::move(device)));
  return options;
}

// How many layers are ready once there are `count`, or when patience ends.
std::uint32_t ready(const Operation& op, std::uint32_t count) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (op.layers_ready(0) < count && std::chrono::steady_clock::now() < give_up)
    std::this_thread::yield();
  return op.layers_ready(0);
}

// Whether the first `layers` of those from `first` on are in memory.
bool arrived(Bytes memory, std::uint32_t first, std::uint32_t layers) {
  const auto wanted = test::bytes_of_block(kLarge, 1);
  const auto from = static_cast<std::ptrdiff_t>(first * kLarge.layer_bytes());
  const auto bytes = static_cast<std::ptrdiff_t>(layers * kLarge.layer_bytes());
  return std::equal(wanted.begin() + from, wanted.begin() + from + bytes, memory.begin());
}

TEST(Readiness, grows_group_by_group_while_the_device_holds_the_rest_back) {
  const auto device = std::make_shared<HeldDevice>(8 << 20);
  StoreUnderTest store(store_on(device), 2);
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(store.save(1), Code::ok);
  const Segment where = store.place(1);
  const BlockTransfer transfer{key_of(1), {&where, 1}, 0, {}};
  for (std::uint32_t groups = 0; groups < kGroups; ++groups) {
    std::fill(store.bytes(1).begin(), store.bytes(1).end(), std::byte{0xEE});
    device->hold(Op::read, groups);
    Operation load = store->load({&transfer, 1});
    EXPECT_TRUE(device->holds(kGroups - groups));
    const std::uint32_t layers = groups * kLayersOfGroup;
    EXPECT_EQ(ready(load, layers), layers);
    EXPECT_TRUE(arrived(store.bytes(1), 0, layers));
    EXPECT_FALSE(load.done());
    device->let_go();
    EXPECT_TRUE(load.wait().ok());
    EXPECT_EQ(load.layers_ready(0), kLarge.layers);
    EXPECT_TRUE(arrived(store.bytes(1), 0, kLarge.layers));
  }
}

TEST(Readiness, counts_from_the_first_layer_that_was_asked_for) {
  const auto device = std::make_shared<HeldDevice>(8 << 20);
  StoreUnderTest store(store_on(device), 2);
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(store.save(1), Code::ok);
  const Segment where{store.place(1).region, store.place(1).offset,
                      5 * kLarge.layer_bytes()};
  const BlockTransfer transfer{key_of(1), {&where, 1}, 0, {}};
  TransferOptions options;
  options.layers = {3, 5};    // 640 KiB: two groups of two layers and a half
  device->hold(Op::read, 2);  // the header, and the first group
  Operation load = store->load({&transfer, 1}, options);
  EXPECT_TRUE(device->holds(1));
  EXPECT_EQ(ready(load, 2), 2U);
  EXPECT_TRUE(arrived(store.bytes(1), 3, 2));
  EXPECT_FALSE(load.done());
  device->let_go();
  EXPECT_TRUE(load.wait().ok());
  EXPECT_EQ(load.layers_ready(0), 5U);
  EXPECT_TRUE(arrived(store.bytes(1), 3, 5));
}

TEST(Readiness, stops_before_a_layer_that_is_corrupted) {
  const auto device = std::make_shared<HeldDevice>(8 << 20);
  StoreUnderTest store(store_on(device), 2);
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(store.save(1), Code::ok);
  const std::uint64_t header = test::frame_bytes(kLarge) - kLarge.bytes();
  device->raw()[header + 5 * kLarge.layer_bytes() + 77] ^= std::byte{1};
  const Segment where = store.place(1);
  const BlockTransfer transfer{key_of(1), {&where, 1}, 0, {}};
  Operation load = store->load({&transfer, 1});
  EXPECT_EQ(load.wait().code(), Code::corrupted);
  EXPECT_EQ(load.layers_ready(0), 5U);
  EXPECT_TRUE(arrived(store.bytes(1), 0, 5));
  EXPECT_EQ(test::check_invariants(*store), "");
}

TEST(Readiness, of_a_load_whose_device_fails_is_what_was_read_before) {
  const auto device =
      std::make_shared<FaultDevice>(std::make_shared<HeldDevice>(8 << 20));
  StoreUnderTest store(store_on(device), 2);
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(store.save(1), Code::ok);
  const Segment where = store.place(1);
  const BlockTransfer transfer{key_of(1), {&where, 1}, 0, {}};
  for (std::uint32_t group = 0; group < kGroups; ++group) {
    device->inject(group, {.code = Code::io_error}, Op::read);
    Operation load = store->load({&transfer, 1});
    EXPECT_EQ(load.wait().code(), Code::io_error);
    EXPECT_EQ(load.layers_ready(0), group * kLayersOfGroup);
    EXPECT_EQ(store.load(1), Code::ok);
  }
  EXPECT_EQ(store->stats(0).pinned, 0U);
}

TEST(Readiness, lasts_when_another_tier_has_to_give_the_rest) {
  const auto upper = std::make_shared<HeldDevice>(8 << 20);
  const auto lower = std::make_shared<HeldDevice>(8 << 20, Kind::disk);
  StoreOptions options = store_on(upper);
  options.tiers.push_back(tier_on("lower", lower));
  StoreUnderTest store(std::move(options), 2);
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(store.save(1), Code::ok);
  ASSERT_TRUE(store->flush().ok());  // now both have it
  const std::uint64_t header = test::frame_bytes(kLarge) - kLarge.bytes();
  upper->raw()[header + 3 * kLarge.layer_bytes() + 77] ^= std::byte{1};
  lower->hold(Op::read);
  const Segment where = store.place(1);
  const BlockTransfer transfer{key_of(1), {&where, 1}, 0, {}};
  Operation load = store->load({&transfer, 1});
  EXPECT_TRUE(lower->holds(kGroups));
  EXPECT_EQ(load.layers_ready(0), 3U);
  EXPECT_TRUE(arrived(store.bytes(1), 0, 3));
  lower->let_go();
  EXPECT_TRUE(load.wait().ok());
  EXPECT_EQ(load.layers_ready(0), kLarge.layers);
  EXPECT_TRUE(arrived(store.bytes(1), 0, kLarge.layers));
  EXPECT_EQ(store->stats(0).corrupted, 1U);
}

TEST(Readiness, of_a_load_that_timed_out_is_what_had_landed) {
  const auto device = std::make_shared<HeldDevice>(8 << 20);
  test::ManualClock clock;
  StoreOptions options = store_on(device);
  options.clock = &clock;
  StoreUnderTest store(std::move(options), 2);
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(store.save(1), Code::ok);
  const Segment where = store.place(1);
  const BlockTransfer transfer{key_of(1), {&where, 1}, 0, {}};
  TransferOptions within;
  within.deadline = std::chrono::milliseconds(20);
  device->hold(Op::read, 1);
  Operation load = store->load({&transfer, 1}, within);
  EXPECT_TRUE(device->holds(kGroups - 1));
  EXPECT_EQ(ready(load, kLayersOfGroup), kLayersOfGroup);
  clock.advance(within.deadline);
  EXPECT_EQ(load.wait_for(std::chrono::seconds(10)).code(), Code::timed_out);
  EXPECT_TRUE(load.done());
  EXPECT_EQ(load.layers_ready(0), kLayersOfGroup);
  device->let_go();
  EXPECT_TRUE(device->holds(0));
  EXPECT_EQ(store.load(1), Code::ok);
}

}  // namespace
}  // namespace speckv
