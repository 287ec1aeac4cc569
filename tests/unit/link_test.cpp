#include <array>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"

namespace speckv {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Op = Transfer::Op;

constexpr RegionId kRegion{1}, kOther{2};
constexpr std::uint64_t kBytes = 1U << 20;

class Throttled : public testing::Test {
 protected:
  void open(LinkModel link) {
    auto inner = open_device("dram:4M");
    ASSERT_TRUE(inner.ok());
    inner_ = *inner;
    device_ = throttled(inner_, link);
    ASSERT_TRUE(device_->attach(kRegion, memory_).ok());
    queue_ = queue();
  }

  std::unique_ptr<Queue> queue() const {
    auto queue = device_->open_queue(16);
    EXPECT_TRUE(queue.ok());
    return std::move(*queue);
  }

  static Transfer read(std::uint64_t length) {
    return {Op::read, 0, {kRegion, 0, length}, 0};
  }

  // The codes of `count` such transfers, waited for one by one.
  static std::vector<Code> run(Queue& queue, const Transfer& transfer,
                               std::size_t count) {
    const std::vector<Transfer> batch(count, transfer);
    EXPECT_EQ(queue.submit(batch), count);
    std::vector<Code> codes;
    while (codes.size() < count) {
      Completion done;
      queue.wait(60s);
      if (queue.poll({&done, 1}) == 1) codes.push_back(done.code);
    }
    return codes;
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(kBytes, std::byte{5});
  std::shared_ptr<Device> inner_, device_;
  std::unique_ptr<Queue> queue_;
};

TEST(LinkModel, presets_are_those_of_the_document) {
  const struct {
    const char* name;
    std::chrono::nanoseconds latency;
    double bytes_per_second;
  } presets[] = {{"dram", 100ns, 0},
                 {"cxl", 250ns, 28e9},
                 {"cxl-far", 640ns, 17e9},
                 {"nvme", 80us, 7e9},
                 {"gbe", 200us, 118e6}};
  for (const auto& preset : presets) {
    const auto link = find_link_model(preset.name);
    ASSERT_TRUE(link.ok()) << preset.name;
    EXPECT_EQ(link->latency, preset.latency);
    EXPECT_EQ(link->bytes_per_second, preset.bytes_per_second);
  }
  for (const char* name : {"", "CXL", "cxl ", "ssd"}) {
    ASSERT_FALSE(find_link_model(name).ok()) << name;
    EXPECT_EQ(find_link_model(name).error().code(), Code::invalid_argument);
  }
}

TEST_F(Throttled, is_a_simulated_queue_device) {
  open({});
  EXPECT_FALSE(device_->info().memory);
  EXPECT_TRUE(device_->memory().empty());
  EXPECT_TRUE(device_->info().simulated);
  EXPECT_EQ(device_->info().capacity, inner_->info().capacity);
}

TEST_F(Throttled, a_transfer_takes_at_least_the_latency) {
  open({.latency = 5ms});
  for (const Op op : {Op::read, Op::write, Op::flush}) {
    Transfer t = read(64);
    t.op = op;
    const auto start = Clock::now();
    EXPECT_EQ(run(*queue_, t, 1)[0], Code::ok);
    EXPECT_GE(Clock::now() - start, 5ms);
  }
}

TEST_F(Throttled, latencies_of_transfers_in_flight_together_overlap) {
  open({.latency = 200ms});
  const auto start = Clock::now();
  run(*queue_, read(64), 16);
  EXPECT_GE(Clock::now() - start, 200ms);
  EXPECT_LT(Clock::now() - start, 16 * 200ms);
}

TEST_F(Throttled, poll_tells_nothing_before_its_time) {
  open({.latency = 20ms});
  const Transfer t = read(64);
  const auto start = Clock::now();
  ASSERT_EQ(queue_->submit({&t, 1}), 1U);
  Completion done;
  while (queue_->poll({&done, 1}) == 0)
    std::this_thread::yield();
  EXPECT_GE(Clock::now() - start, 20ms);
}

TEST_F(Throttled, bytes_flow_no_faster_than_the_bandwidth_all_queues_together) {
  open({.bytes_per_second = 100e6});  // 1 MiB: 10.5 ms
  std::vector<std::byte> memory(kBytes);
  ASSERT_TRUE(device_->attach(kOther, memory).ok());
  const auto start = Clock::now();
  std::thread other([&] {
    const auto own = queue();
    const Transfer t{Op::read, 0, {kOther, 0, kBytes}, 0};
    for (const Code code : run(*own, t, 4))
      EXPECT_EQ(code, Code::ok);
  });
  for (const Code code : run(*queue_, read(kBytes), 4))
    EXPECT_EQ(code, Code::ok);
  other.join();
  EXPECT_GE(Clock::now() - start, std::chrono::nanoseconds(8 * kBytes * 10));
}

TEST_F(Throttled, an_idle_link_saves_nothing_up) {
  open({.bytes_per_second = 100e6});
  run(*queue_, read(64), 1);
  queue_->wait(30ms);
  const auto start = Clock::now();
  run(*queue_, read(kBytes), 1);
  EXPECT_GE(Clock::now() - start, std::chrono::nanoseconds(kBytes * 10));
}

TEST_F(Throttled, refused_transfers_do_not_occupy_the_link) {
  open({.bytes_per_second = 1e6});
  const auto start = Clock::now();
  for (const Code code : run(*queue_, read(1ULL << 62), 16)) {
    EXPECT_EQ(code, Code::invalid_argument);
  }
  EXPECT_EQ(run(*queue_, read(1000), 1)[0], Code::ok);
  EXPECT_LT(Clock::now() - start, 30s);
}

TEST_F(Throttled, wake_ends_a_wait_for_something_that_is_not_due) {
  open({.latency = 3600s});
  const Transfer t = read(64);
  ASSERT_EQ(queue_->submit({&t, 1}), 1U);
  const auto start = Clock::now();
  std::thread sleeper([&] { queue_->wait(60s); });
  queue_->wake();
  sleeper.join();
  EXPECT_LT(Clock::now() - start, 30s);
  Completion done;
  EXPECT_EQ(queue_->poll({&done, 1}), 0U);
}

TEST_F(Throttled, its_preset_can_stand_in_the_name) {
  const auto device = open_device("dram:4M?throttle=nvme");
  ASSERT_TRUE(device.ok());
  EXPECT_EQ((*device)->info().name, "dram:4M?throttle=nvme");
  EXPECT_TRUE((*device)->info().simulated);
  ASSERT_TRUE((*device)->attach(kRegion, memory_).ok());
  auto queue = (*device)->open_queue(1);
  ASSERT_TRUE(queue.ok());
  const auto start = Clock::now();
  run(**queue, read(kBytes), 1);
  EXPECT_GE(Clock::now() - start, 80us + std::chrono::nanoseconds(kBytes / 7));
}

}  // namespace
}  // namespace speckv
