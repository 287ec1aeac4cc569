// An operation ends at its deadline wherever it stands, and leaves nothing half done: not
// in the store, nor in the caller's memory.
#include <thread>

#include <gtest/gtest.h>

#include "cxlspeckv/promotion.hpp"

#include "support/held_device.hpp"
#include "support/invariants.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using test::bytes_of_block;
using test::HeldDevice;
using test::key_of;
using test::small_layout;
using test::StoreUnderTest;
using test::tier_on;
using Op = Transfer::Op;
using Kind = test::HeapDevice::Kind;
using std::chrono::milliseconds;

constexpr std::chrono::seconds kPatience{10};

// Memory of its own, which is gone as soon as it may be.
class Lent {
 public:
  Lent(BlockStore& store, std::uint64_t number, bool filled)
      : store_(store), memory_(small_layout().bytes()), key_(key_of(number)) {
    if (filled) memory_ = bytes_of_block(small_layout(), number);
    where_ = {*store.attach(memory_), 0, memory_.size()};
  }
  BlockTransfer transfer() const { return {key_, {&where_, 1}, 0, {}}; }
  Status give_back() {
    Status detached = store_.detach(where_.region);
    memory_ = {};  // a late write would be one into freed memory
    return detached;
  }

 private:
  BlockStore& store_;
  std::vector<std::byte> memory_;
  BlockKey key_;
  Segment where_;
};

class Deadline : public testing::Test {
 protected:
  void open(Kind kind = Kind::volatile_disk, std::shared_ptr<Device> faster = {}) {
    device_ = std::make_shared<HeldDevice>(4 << 20, kind);
    StoreOptions options;
    options.layouts = {small_layout()};
    if (faster != nullptr) options.tiers.push_back(tier_on("fast", std::move(faster)));
    options.tiers.push_back(tier_on("held", device_));
    options.clock = &clock_;
    store_.emplace(std::move(options));
    ASSERT_TRUE(*store_) << store_->error().message();
  }

  TransferOptions within(milliseconds deadline, bool durable = false) const {
    TransferOptions options;
    options.deadline = deadline;
    options.durable = durable;
    return options;
  }

  // Its deadline passes: what ends in time, and how.
  Code after_deadline(Operation& op, milliseconds deadline) {
    EXPECT_FALSE(op.done());
    clock_.advance(deadline);
    (void)op.wait_for(kPatience);
    return op.done() ? op.code(op.size() - 1) : Code::busy;
  }

  // The device goes on. Nothing is left of what it was late with.
  void settle() {
    device_->let_go();
    EXPECT_TRUE(device_->holds(0));
    const auto quiet = [&] {
      for (std::size_t t = 0; t < (*store_)->tier_count(); ++t)
        if ((*store_)->stats(t).pinned != 0) return false;
      return store_->tier_of(1) != BlockStore::kPending;
    };
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (!quiet() && std::chrono::steady_clock::now() < give_up)
      std::this_thread::yield();
    EXPECT_TRUE(quiet());
    EXPECT_EQ(test::check_invariants(**store_), "");
    for (std::size_t t = 0; t < (*store_)->tier_count(); ++t)
      EXPECT_FALSE((*store_)->stats(t).fenced);
  }

  test::ManualClock clock_;
  std::shared_ptr<HeldDevice> device_;
  std::optional<StoreUnderTest> store_;
};

TEST_F(Deadline, of_a_save_whose_write_is_held_ends_it_whole_or_absent) {
  open();
  Lent block(**store_, 1, true);
  const BlockTransfer transfer = block.transfer();
  device_->hold(Op::write);
  Operation save = (*store_)->save({&transfer, 1}, within(milliseconds(20)));
  EXPECT_TRUE(device_->holds(1));
  EXPECT_EQ(after_deadline(save, milliseconds(20)), Code::timed_out);
  EXPECT_TRUE(block.give_back().ok());
  settle();
  EXPECT_EQ(store_->load(1), store_->tier_of(1) == 0 ? Code::ok : Code::not_found);
  EXPECT_EQ((*store_)->stats(0).saves_dropped, 1U);
}

TEST_F(Deadline, of_a_load_whose_read_is_held_ends_it_and_frees_its_memory) {
  open();
  ASSERT_EQ(store_->save(1), Code::ok);
  Lent block(**store_, 1, false);
  const BlockTransfer transfer = block.transfer();
  device_->hold(Op::read);
  Operation load = (*store_)->load({&transfer, 1}, within(milliseconds(20)));
  EXPECT_TRUE(device_->holds(1));
  EXPECT_EQ(after_deadline(load, milliseconds(20)), Code::timed_out);
  EXPECT_TRUE(block.give_back().ok());
  settle();
  EXPECT_EQ(store_->load(1), Code::ok);
}

TEST_F(Deadline, of_a_load_of_some_layers_ends_it_between_header_and_layers) {
  open();
  ASSERT_EQ(store_->save(1), Code::ok);
  const Segment half{store_->place(1).region, store_->place(1).offset,
                     small_layout().layer_bytes()};
  const BlockTransfer transfer{key_of(1), {&half, 1}, 0, {}};
  TransferOptions options = within(milliseconds(20));
  options.layers = {1, 1};
  for (const std::size_t pass : {0U, 1U}) {  // held: the header; the layers after it
    device_->hold(Op::read, pass);
    Operation load = (*store_)->load({&transfer, 1}, options);
    EXPECT_TRUE(device_->holds(1));
    EXPECT_EQ(after_deadline(load, milliseconds(20)), Code::timed_out);
    EXPECT_EQ(load.layers_ready(0), 0U);
    settle();
  }
  EXPECT_TRUE((*store_)->load({&transfer, 1}, options).wait().ok());
}

TEST_F(Deadline, of_what_only_waits_for_its_turn_drops_it) {
  open();
  ASSERT_EQ(store_->save(1), Code::ok);
  const Segment where = store_->place(1);
  const std::vector<BlockTransfer> same(100,
                                        BlockTransfer{key_of(1), {&where, 1}, 0, {}});
  device_->hold(Op::read);
  Operation loads = (*store_)->load(same, within(milliseconds(20)));
  EXPECT_EQ(after_deadline(loads, milliseconds(20)), Code::timed_out);
  for (std::size_t i = 0; i < same.size(); ++i)
    EXPECT_EQ(loads.code(i), Code::timed_out);
  settle();
  EXPECT_EQ(store_->load(1), Code::ok);
}

TEST_F(Deadline, of_a_durable_save_whose_flush_is_held_ends_it) {
  open(Kind::disk);
  device_->hold(Op::flush);
  Lent block(**store_, 1, true);
  const BlockTransfer transfer = block.transfer();
  Operation save = (*store_)->save({&transfer, 1}, within(milliseconds(20), true));
  EXPECT_TRUE(device_->holds(1));
  EXPECT_EQ(after_deadline(save, milliseconds(20)), Code::timed_out);
  EXPECT_TRUE(block.give_back().ok());
  settle();
  EXPECT_EQ(store_->load(1), Code::ok);  // it had been written
  EXPECT_EQ((*store_)->stats(0).saves_dropped, 1U) << "as far as anybody was told";
}

TEST_F(Deadline, of_a_durable_save_of_what_a_faster_tier_has_ends_it) {
  open(Kind::disk, std::make_shared<test::HeapDevice>(1 << 20, Kind::memory));
  ASSERT_EQ(store_->save(1), Code::ok);
  device_->hold(Op::write);
  Lent block(**store_, 1, true);
  const BlockTransfer transfer = block.transfer();
  Operation save = (*store_)->save({&transfer, 1}, within(milliseconds(20), true));
  EXPECT_TRUE(device_->holds(1));
  EXPECT_EQ(after_deadline(save, milliseconds(20)), Code::timed_out);
  EXPECT_TRUE(block.give_back().ok());
  settle();
  EXPECT_EQ(store_->load(1), Code::ok);
}

TEST_F(Deadline, keeps_what_was_done_before_it) {
  open(Kind::disk, std::make_shared<test::HeapDevice>(1 << 20, Kind::memory));
  ASSERT_EQ(store_->save(1), Code::ok);
  TransferOptions durable;
  durable.durable = true;
  ASSERT_EQ(store_->save(2, durable), Code::ok);
  ASSERT_EQ(store_->tier_of(1), 0);
  ASSERT_EQ(store_->tier_of(2), 1);
  const Segment here = store_->place(1), there = store_->place(2);
  const BlockTransfer both[] = {{key_of(1), {&here, 1}, 0, {}},
                                {key_of(2), {&there, 1}, 0, {}}};
  device_->hold(Op::read);
  Operation loads = (*store_)->load(both, within(milliseconds(20)));
  EXPECT_TRUE(device_->holds(1));
  EXPECT_EQ(after_deadline(loads, milliseconds(20)), Code::timed_out);
  EXPECT_EQ(loads.code(0), Code::ok);
  settle();
}

// A fence whose question takes all the time there is.
struct SlowFence {
  test::ManualClock* clock;
  ReadyFence fence{[](void* self) {
                     static_cast<SlowFence*>(self)->clock->advance(milliseconds(20));
                     return true;
                   },
                   this};
};

TEST_F(Deadline, that_has_passed_begins_no_other_block) {
  open(Kind::volatile_disk, std::make_shared<test::HeapDevice>(1 << 20, Kind::memory));
  const Segment first = store_->place(1), second = store_->place(2);
  const BlockTransfer both[] = {{key_of(1), {&first, 1}, 0, {}},
                                {key_of(2), {&second, 1}, 0, {}}};
  SlowFence slow{&clock_};
  TransferOptions options = within(milliseconds(20));
  options.fence = &slow.fence;
  for (const bool saving : {true, false}) {
    Operation op =
        saving ? (*store_)->save(both, options) : (*store_)->load(both, options);
    EXPECT_TRUE(op.done());
    EXPECT_EQ(op.code(0), Code::ok);
    EXPECT_EQ(op.code(1), Code::timed_out);
  }
  EXPECT_EQ(store_->tier_of(2), BlockStore::kAbsent);
  EXPECT_EQ((*store_)->stats(0).saves_dropped, 1U);
}

TEST_F(Deadline, beyond_the_end_of_time_is_none) {
  open(Kind::disk, std::make_shared<test::HeapDevice>(1 << 20, Kind::memory));
  clock_.advance(milliseconds(1));
  TransferOptions options = within({}, true);
  options.deadline = std::chrono::nanoseconds::max();
  EXPECT_EQ(store_->save(1, options), Code::ok);
  ASSERT_EQ(store_->tier_of(1), 1);
  const BlockKey key = key_of(1);
  EXPECT_TRUE(promote(**store_, {&key, 1}, 0, options).wait().ok());
  EXPECT_EQ(store_->tier_of(1), 0);
}

}  // namespace
}  // namespace speckv
