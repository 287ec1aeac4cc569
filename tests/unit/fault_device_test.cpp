#include "support/fault_device.hpp"

#include <array>
#include <cstring>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"

namespace speckv::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Op = Transfer::Op;

constexpr RegionId kRegion{1};
constexpr std::uint64_t kBlock = 4096, kSector = 512;

class Faults : public testing::Test {
 protected:
  void open(FaultOptions options = {}) {
    queue_.reset();  // before the device it belongs to
    auto inner = open_device("dram:1M");
    ASSERT_TRUE(inner.ok());
    inner_ = *inner;
    device_ = std::make_shared<FaultDevice>(inner_, options);
    ASSERT_TRUE(device_->attach(kRegion, memory_).ok());
    auto queue = device_->open_queue(16);
    ASSERT_TRUE(queue.ok());
    queue_ = std::move(*queue);
  }

  static Transfer block(Op op, std::uint64_t number, std::uint64_t tag = 0) {
    return {op, number * kBlock, {kRegion, 0, kBlock}, tag};
  }

  bool submit(const Transfer& transfer) { return queue_->submit({&transfer, 1}) == 1; }

  Completion next() {
    Completion done{~0ULL, Code::internal};
    queue_->wait(60s);
    EXPECT_EQ(queue_->poll({&done, 1}), 1U);
    return done;
  }

  Code run(const Transfer& transfer) {
    EXPECT_TRUE(submit(transfer));
    return next().code;
  }

  Code write(std::uint64_t number, int value) {
    std::ranges::fill(memory_, static_cast<std::byte>(value));
    return run(block(Op::write, number));
  }
  Code flush() { return run({Op::flush, 0, {}, 0}); }

  // How many of the block's bytes hold `value`, on the device as it is inside.
  std::uint64_t inside(std::uint64_t number, int value) const {
    const auto bytes = inner_->memory().subspan(number * kBlock, kBlock);
    return static_cast<std::uint64_t>(
        std::ranges::count(bytes, static_cast<std::byte>(value)));
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(kBlock);
  std::shared_ptr<Device> inner_;
  std::shared_ptr<FaultDevice> device_;
  std::unique_ptr<Queue> queue_;
};

TEST_F(Faults, the_nth_transfer_fails_and_does_nothing) {
  open();
  device_->inject(1, {.code = Code::no_space});
  EXPECT_EQ(write(0, 1), Code::ok);
  EXPECT_EQ(write(1, 1), Code::no_space);
  EXPECT_EQ(write(2, 1), Code::ok);
  EXPECT_EQ(inside(0, 1), kBlock);
  EXPECT_EQ(inside(1, 1), 0U);
  EXPECT_EQ(inside(2, 1), kBlock);
  EXPECT_EQ(device_->transfers(), 3U);
}

TEST_F(Faults, the_nth_of_one_kind_can_be_meant) {
  open();
  device_->inject(0, {.code = Code::io_error}, Op::flush);
  EXPECT_EQ(write(0, 1), Code::ok);
  EXPECT_EQ(flush(), Code::io_error);
  EXPECT_EQ(flush(), Code::ok);
}

TEST_F(Faults, everything_fails_until_it_heals) {
  open();
  device_->fail_all(Code::io_error);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(write(0, 1), Code::io_error);
  device_->heal();
  EXPECT_EQ(write(0, 1), Code::ok);
}

TEST_F(Faults, a_delayed_answer_comes_no_sooner) {
  open();
  device_->inject(0, {.kind = Fault::Kind::delay, .delay = 20ms});
  const auto start = Clock::now();
  EXPECT_TRUE(submit(block(Op::write, 0, 1)));
  EXPECT_TRUE(submit(block(Op::write, 1, 2)));
  EXPECT_EQ(next().tag, 2U);
  EXPECT_EQ(next().tag, 1U);
  EXPECT_GE(Clock::now() - start, 20ms);
}

TEST_F(Faults, a_lost_transfer_is_answered_when_the_test_says_so) {
  open();
  device_->inject(0, {.kind = Fault::Kind::lose});
  EXPECT_TRUE(submit(block(Op::write, 0, 7)));
  EXPECT_EQ(device_->lost(), 1U);
  queue_->wait(1ms);
  Completion done;
  EXPECT_EQ(queue_->poll({&done, 1}), 0U);
  std::thread other([&] { device_->answer_lost(Code::timed_out); });
  done = next();
  other.join();
  EXPECT_EQ(done.tag, 7U);
  EXPECT_EQ(done.code, Code::timed_out);
  EXPECT_EQ(device_->lost(), 0U);
}

TEST_F(Faults, the_end_of_a_queue_waits_for_the_lost_but_not_for_ever) {
  open({.timeout = 30ms});
  device_->inject(0, {.kind = Fault::Kind::lose});
  EXPECT_TRUE(submit(block(Op::read, 0)));
  const auto start = Clock::now();
  queue_.reset();
  EXPECT_GE(Clock::now() - start, 30ms);
  EXPECT_LT(Clock::now() - start, 30s);
  EXPECT_EQ(device_->lost(), 0U);
}

TEST_F(Faults, a_torn_write_leaves_a_prefix_of_whole_sectors) {
  open();
  device_->inject(0, {.kind = Fault::Kind::tear, .code = Code::ok, .bytes = 1500});
  EXPECT_EQ(write(0, 1), Code::ok);
  EXPECT_EQ(inside(0, 1), 1024U);
}

TEST_F(Faults, completions_come_out_in_another_order) {
  open();
  device_->reorder(3);
  std::set<std::vector<std::uint64_t>> orders;
  for (int round = 0; round < 20; ++round) {
    std::vector<Transfer> batch;
    for (std::uint64_t i = 0; i < 8; ++i)
      batch.push_back(block(Op::read, i, i));
    ASSERT_EQ(queue_->submit(batch), 8U);
    std::array<Completion, 16> done{};
    ASSERT_EQ(queue_->poll(done), 8U);
    std::vector<std::uint64_t> order;
    for (std::size_t i = 0; i < 8; ++i)
      order.push_back(done[i].tag);
    orders.insert(order);
    std::ranges::sort(order);
    EXPECT_EQ(order, (std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  }
  EXPECT_GT(orders.size(), 10U);
}

TEST_F(Faults, cached_writes_are_read_back_and_reach_the_disk_with_a_flush) {
  open({.write_cache = true});
  EXPECT_TRUE(device_->info().persistent);
  EXPECT_EQ(write(0, 1), Code::ok);
  EXPECT_EQ(write(0, 2), Code::ok);
  EXPECT_EQ(inside(0, 2), 0U);
  EXPECT_EQ(device_->unflushed(), 2U);
  std::ranges::fill(memory_, std::byte{9});
  EXPECT_EQ(run(block(Op::read, 0)), Code::ok);
  EXPECT_EQ(std::ranges::count(memory_, std::byte{2}), std::ptrdiff_t{kBlock});
  EXPECT_EQ(flush(), Code::ok);
  EXPECT_EQ(device_->unflushed(), 0U);
  EXPECT_EQ(inside(0, 2), kBlock);
}

TEST_F(Faults, a_flush_owes_nothing_to_writes_that_were_not_answered_before_it) {
  open({.write_cache = true});
  ASSERT_TRUE(submit(block(Op::write, 0, 1)));
  ASSERT_TRUE(submit({Op::flush, 0, {}, 2}));
  next();
  next();
  EXPECT_EQ(device_->unflushed(), 1U);
  EXPECT_EQ(flush(), Code::ok);
  EXPECT_EQ(device_->unflushed(), 0U);
}

TEST_F(Faults, a_power_cut_spares_what_was_flushed_and_drops_keeps_or_tears_the_rest) {
  int dropped = 0, kept = 0, torn = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    open({.write_cache = true, .sector = kSector});
    ASSERT_EQ(write(0, 1), Code::ok);
    ASSERT_EQ(flush(), Code::ok);
    ASSERT_EQ(write(1, 2), Code::ok);
    device_->power_cut(seed);
    EXPECT_EQ(write(2, 3), Code::io_error);
    EXPECT_EQ(run(block(Op::read, 0)), Code::io_error);
    EXPECT_EQ(inside(0, 1), kBlock);
    EXPECT_EQ(inside(2, 3), 0U);
    const std::uint64_t survived = inside(1, 2);
    EXPECT_EQ(survived % kSector, 0U);
    ++(survived == 0 ? dropped : survived == kBlock ? kept : torn);
  }
  EXPECT_GT(dropped, 5);
  EXPECT_GT(kept, 5);
  EXPECT_GT(torn, 5);
}

TEST_F(Faults, the_same_seed_cuts_the_same_way) {
  std::vector<std::byte> first;
  for (int round = 0; round < 2; ++round) {
    open({.write_cache = true});
    for (std::uint64_t i = 0; i < 20; ++i)
      ASSERT_EQ(write(i, static_cast<int>(i + 1)), Code::ok);
    device_->power_cut(5);
    const auto memory = inner_->memory();
    if (round == 0) first.assign(memory.begin(), memory.end());
    EXPECT_TRUE(std::ranges::equal(memory, first));
  }
}

}  // namespace
}  // namespace speckv::test
