// The mapping that several processes share, played by two in one: locks of the dead are
// taken over, their pins go, and a slot they were filling is free again.
#include <set>

#include <gtest/gtest.h>

#include "support/invariants.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using test::HeapDevice;
using test::key_of;
using test::small_layout;
using Kind = HeapDevice::Kind;

struct Living {
  static bool alive(void* self, std::uint32_t id) {
    return static_cast<Living*>(self)->ids.contains(id);
  }
  std::set<std::uint32_t> ids;
};

// What the analysis cannot follow: one thread that plays several owners.
void pass_on_locks() SPECKV_UNCHECKED {
  Living living{{7, 8}};
  const Owner seven{7, Living::alive, &living}, eight{8, Living::alive, &living};
  RobustLock lock{};
  EXPECT_FALSE(lock.lock(seven));
  bool stolen = false;
  EXPECT_FALSE(lock.try_lock(eight, stolen));
  living.ids.erase(7);
  EXPECT_TRUE(lock.lock(eight)) << "what it protects must be rebuilt";
  lock.unlock();
  EXPECT_FALSE(lock.lock(eight));
  living.ids = {9};
  const Owner nine{9, Living::alive, &living};
  EXPECT_TRUE(lock.try_lock(nine, stolen));
  EXPECT_TRUE(stolen);
  lock.unlock();
}

TEST(RobustLock, passes_from_the_dead_to_the_living_and_tells_them) {
  pass_on_locks();
}

// Two stores on one index and one device, as two processes would have them.
class SharedMapping : public testing::Test {
 protected:
  SharedMapping() { device_->mutable_info().shared = true; }

  StoreOptions options(std::uint32_t id, bool fresh) {
    StoreOptions options;
    options.layouts = {small_layout()};
    options.tiers.push_back(test::tier_on("t", device_));
    if (memory_.empty()) {
      // The amount must be known before there is any.
      std::vector<Line> some(1);
      options.index.bytes = std::as_writable_bytes(std::span(some));
      memory_.resize(*index_bytes(options) / sizeof(Line) + 1);
    }
    options.index = {.bytes = std::as_writable_bytes(std::span(memory_)),
                     .fresh = fresh,
                     .process = id,
                     .alive = Living::alive,
                     .context = &living_};
    living_.ids.insert(id);
    return options;
  }
  std::unique_ptr<BlockStore> open(std::uint32_t id, bool fresh) {
    auto opened = BlockStore::open(options(id, fresh));
    EXPECT_TRUE(opened.ok()) << opened.error().message();
    return *std::move(opened);
  }

  struct alignas(64) Line {
    std::byte bytes[64];
  };
  Living living_;
  std::vector<Line> memory_;
  const std::shared_ptr<HeapDevice> device_ =
      std::make_shared<HeapDevice>(64 << 10, Kind::memory);
};

// Takes a slot for `key` as a save would, and leaves it at that.
void leave_half_saved(BlockStore& store, BlockKey key) {
  BlockTable& table = *store.impl().table;
  Copy copy;
  copy.key = key;
  ASSERT_EQ(table.reserve(0, 4000, 5, copy.node), Code::ok);
  ASSERT_EQ(table.link(copy, {}), Code::ok);
}

TEST_F(SharedMapping, what_a_dead_process_held_and_began_is_free_again) {
  auto first = open(65, true);
  const auto region_bytes = test::bytes_of_block(small_layout(), 1);
  std::vector<std::byte> memory = region_bytes;
  const Segment where{*first->attach(memory), 0, memory.size()};
  const BlockTransfer transfer{key_of(1), {&where, 1}, 0, {}};
  ASSERT_TRUE(first->save({&transfer, 1}).wait().ok());

  BlockTable& table = *first->impl().table;
  // Another owner's marks, as if a second process had made and left them.
  living_.ids.insert(66);
  Mapping& mapping = *first->impl().mapping;
  IndexMemory other{.bytes = std::as_writable_bytes(std::span(memory_)),
                    .fresh = false,
                    .process = 66,
                    .alive = Living::alive,
                    .context = &living_};
  auto joined = Mapping::attach(mapping.plan(), std::move(other));
  ASSERT_TRUE(joined.ok()) << joined.error().message();
  (*joined)->enter([] {});
  Copy copy;
  ASSERT_EQ(table.acquire(key_of(1), copy), BlockTable::Found::resident);
  table.unpin(copy);
  (*joined)->my_pins(0, copy.node).fetch_add(1);
  (*joined)->my_refs(copy.entry).fetch_add(1);
  leave_half_saved(*first, key_of(2));
  std::uint32_t tier = 0;
  ASSERT_EQ(table.find(key_of(2), tier), BlockTable::Found::pending);
  for (std::uint32_t n = 0; n < mapping.tier(0).extents.bump; ++n) {
    if (mapping.nodes(0)[n].state == NodeState::filling) mapping.nodes(0)[n].owner = 66;
  }
  EXPECT_TRUE(mapping.pinned(0, copy.node));
  EXPECT_TRUE(mapping.referenced(copy.entry));

  living_.ids.erase(66);
  int buried = 0;
  mapping.bury_dead([&] {
    ++buried;
    table.adopt_orphans();
  });
  EXPECT_EQ(buried, 1);
  EXPECT_FALSE(mapping.pinned(0, copy.node));
  EXPECT_FALSE(mapping.referenced(copy.entry));
  EXPECT_EQ(table.find(key_of(2), tier), BlockTable::Found::absent);
  EXPECT_EQ(table.find(key_of(1), tier), BlockTable::Found::resident);
  EXPECT_EQ(first->tenant_bytes(TenantId{5}), 0U);
  EXPECT_EQ(test::check_invariants(*first), "");
}

TEST_F(SharedMapping, a_store_of_other_options_is_refused) {
  auto first = open(65, true);
  StoreOptions other = options(66, false);
  other.layouts[0].tokens *= 2;
  auto refused = BlockStore::open(std::move(other));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::invalid_argument);
}

TEST_F(SharedMapping, owner_zero_and_too_little_memory_are_refused) {
  StoreOptions zero = options(0, true);
  EXPECT_EQ(BlockStore::open(std::move(zero)).error().code(), Code::invalid_argument);
  StoreOptions small = options(65, true);
  small.index.bytes = small.index.bytes.first(4096);
  EXPECT_EQ(BlockStore::open(std::move(small)).error().code(), Code::invalid_argument);
}

}  // namespace
}  // namespace speckv
