// What every device promises (cxlspeckv/device.hpp), whatever is behind it.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"

#include "support/fault_device.hpp"
#include "support/pages.hpp"

namespace speckv {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Op = Transfer::Op;
using test::Memory, test::same;

constexpr std::uint64_t kCapacity = 16U << 20;
constexpr std::size_t kRegionBytes = test::Memory::kUsual;
constexpr RegionId kRegion{7};

struct Case {
  const char* name;
  const char* uri;  // "%" stands for a path in a folder of the test's own
  std::shared_ptr<Device> (*wrap)(std::shared_ptr<Device>) = nullptr;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

constexpr Case kCases[] = {
    {"dram", "dram:16M"},
    {"numa", "numa:0?size=16M"},
    {"dax", "dax:%?size=16M"},
    {"file", "file:%?size=16M"},
    {"file_uring", "file:%?size=16M&engine=uring"},
    {"file_pread", "file:%?size=16M&engine=pread"},
    {"file_buffered", "file:%?size=16M&direct=0"},
    {"shm", "shm:/%?size=16M"},
    {"soft", "soft:?size=16M"},
    {"throttled_dram", "dram:?size=16M&throttle=cxl"},
    {"throttled_file", "file:%?size=16M&throttle=nvme"},
    {"fault", "dram:16M",
     [](std::shared_ptr<Device> inner) -> std::shared_ptr<Device> {
       return std::make_shared<test::FaultDevice>(std::move(inner));
     }},
    {"fault_with_cache", "file:%?size=16M",
     [](std::shared_ptr<Device> inner) -> std::shared_ptr<Device> {
       return std::make_shared<test::FaultDevice>(
           std::move(inner), test::FaultOptions{.write_cache = true});
     }},
};

// And, where the environment names a card (SPECKV_TEST_CARD=/dev/speckv0, as in the
// guest), its memory.
std::vector<Case> cases() {
#ifdef SPECKV_RTL_DEVICE
  return {{"sim", "sim:?size=16M"}};
#endif
  std::vector<Case> all(std::begin(kCases), std::end(kCases));
  if (std::getenv("SPECKV_TEST_CARD") != nullptr)
    all.push_back({"cxl", "cxl:%?size=16M"});
  return all;
}

class DeviceConformance : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const std::string unique = std::string("speckv_conformance_") + GetParam().name +
                               "_" + std::to_string(::getpid());
    uri_ = GetParam().uri;
    const bool shm = uri_.starts_with("shm:");
    file_ = (shm ? "/dev/shm/" : testing::TempDir()) + unique;
    const auto at = uri_.find('%');
    const char* card = std::getenv("SPECKV_TEST_CARD");
    const bool cxl = uri_.starts_with("cxl:");
    if (at != std::string::npos) {
      uri_.replace(at, 1, cxl ? card : shm ? unique : file_);
    }
    std::filesystem::remove(file_);
    open();
  }

  void TearDown() override {
    queue_.reset();
    device_.reset();
    std::filesystem::remove(file_);
  }

  void open() {
    auto device = open_device(uri_);
    if (!device.ok() && skippable(device.error()))
      GTEST_SKIP() << device.error().message();
    ASSERT_TRUE(device.ok()) << device.error().message();
    device_ = std::move(*device);
    if (GetParam().wrap != nullptr) device_ = GetParam().wrap(std::move(device_));
    ASSERT_TRUE(device_->attach(kRegion, memory_.bytes()).ok());
    open_queue(32);
  }

  // What a machine may lack; anything else that does not open is a failure.
  static bool skippable(const Status& status) {
    const std::string_view name = GetParam().name;
    const bool absent = name == "numa" && status.code() == Code::not_found;
    const bool optional = name == "numa" || name == "file_uring";
    return absent || (optional && status.code() == Code::unsupported);
  }

  void open_queue(std::uint32_t depth) {
    queue_.reset();
    auto queue = device_->open_queue(depth);
    ASSERT_TRUE(queue.ok()) << queue.error().message();
    queue_ = std::move(*queue);
  }

  std::uint64_t unit() const { return device_->info().alignment; }

  // Does all of them; returns the codes in their order. Tags are overwritten.
  static std::vector<Code> run(Queue& queue, std::vector<Transfer> batch) {
    std::vector<Code> codes(batch.size());
    std::vector<int> answers(batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i)
      batch[i].tag = i;
    std::size_t submitted = 0, answered = 0;
    const auto deadline = Clock::now() + 60s;
    while (answered < batch.size() && Clock::now() < deadline) {
      submitted += queue.submit(std::span(batch).subspan(submitted));
      queue.wait(1s);
      std::array<Completion, 5> done{};
      const std::size_t count = queue.poll(done);
      for (std::size_t i = 0; i < count; ++i) {
        const auto tag = static_cast<std::size_t>(done[i].tag);
        codes.at(tag) = done[i].code;  // throws at an answer to nothing
        ++answers[tag];
      }
      answered += count;
    }
    EXPECT_TRUE(std::ranges::all_of(answers, [](int n) { return n == 1; }))
        << "every transfer is answered once";
    std::array<Completion, 1> more{};
    EXPECT_EQ(queue.poll(more), 0U);
    return codes;
  }

  Code run_one(const Transfer& transfer) {
    const auto codes = run(*queue_, {transfer});
    return codes.empty() ? Code::internal : codes.front();
  }
  bool all_ok(const std::vector<Transfer>& batch) {
    const auto codes = run(*queue_, batch);
    return std::ranges::count(codes, Code::ok) == std::ssize(batch);
  }

  Transfer transfer(Op op, std::uint64_t offset, std::uint64_t at,
                    std::uint64_t length) const {
    return {op, offset, {kRegion, at, length}, 0};
  }

  std::string uri_, file_;
  Memory memory_;
  std::shared_ptr<Device> device_;
  std::unique_ptr<Queue> queue_;
};

TEST_P(DeviceConformance, says_what_it_is) {
  const DeviceInfo& info = device_->info();
  EXPECT_EQ(info.name, uri_);
  EXPECT_EQ(info.capacity, kCapacity);
  ASSERT_GE(info.alignment, 1U);
  EXPECT_EQ(info.alignment & (info.alignment - 1), 0U);
  EXPECT_EQ(info.capacity % info.alignment, 0U);
  EXPECT_EQ(device_->memory().size(), info.memory ? info.capacity : 0);
  EXPECT_GT(info.timeout, 0s);
}

TEST_P(DeviceConformance, reads_back_what_was_written) {
  std::mt19937_64 random(11);
  std::vector<std::byte> model(kCapacity);
  const auto below = [&](std::uint64_t n) { return random() % n; };
  // Start from a known state.
  std::ranges::fill(memory_.bytes(), std::byte{0});
  for (std::uint64_t at = 0; at < kCapacity; at += kRegionBytes) {
    ASSERT_EQ(run_one(transfer(Op::write, at, 0, kRegionBytes)), Code::ok);
  }

  for (int round = 0; round < 30; ++round) {
    // One transfer in each of 16 stretches of the device and the memory: no overlaps.
    memory_.fill(random());
    const Memory written(memory_.bytes());
    std::vector<Transfer> writes, reads;
    for (std::uint64_t i = 0; i < 16; ++i) {
      const std::uint64_t most = kRegionBytes / 16;
      const std::uint64_t length = unit() * (1 + below(most / unit()));
      const std::uint64_t at = i * most + unit() * below((most - length) / unit() + 1);
      const std::uint64_t stretch = kCapacity / 16;
      const std::uint64_t offset =
          i * stretch + unit() * below((stretch - length) / unit() + 1);
      writes.push_back(transfer(Op::write, offset, at, length));
      std::memcpy(model.data() + offset, written.bytes().data() + at, length);
      reads.push_back(transfer(Op::read, offset, at, length));
    }
    ASSERT_TRUE(all_ok(writes));
    ASSERT_TRUE(same(memory_.bytes(), written.bytes())) << "a write changed its source";
    memory_.fill(random());
    const Memory before(memory_.bytes());
    for (const Transfer& t : reads) {
      std::memcpy(before.bytes().data() + t.memory.offset, model.data() + t.offset,
                  t.memory.length);
    }
    ASSERT_TRUE(all_ok(reads));
    ASSERT_TRUE(same(memory_.bytes(), before.bytes())) << "round " << round;
  }
  // Nothing else was written, either.
  for (std::uint64_t at = 0; at < kCapacity; at += kRegionBytes) {
    ASSERT_EQ(run_one(transfer(Op::read, at, 0, kRegionBytes)), Code::ok);
    ASSERT_TRUE(same(memory_.bytes(), Bytes(model).subspan(at, kRegionBytes))) << at;
    if (device_->info().memory) {
      ASSERT_TRUE(same(device_->memory().subspan(at, kRegionBytes), memory_.bytes()));
    }
  }
}

TEST_P(DeviceConformance, answers_every_transfer_once_though_more_are_offered_than_fit) {
  std::mt19937_64 random(12);
  std::vector<Transfer> batch;
  for (std::uint64_t i = 0; i < kRegionBytes / 4096; ++i) {
    Transfer t = transfer(Op::read, random() % 64 * 4096, i * 4096, 4096);
    if (i % 9 == 0) t.op = Op::flush;
    if (i % 31 == 0) t.memory.region = RegionId{99};  // refused, between the others
    batch.push_back(t);
  }
  open_queue(8);
  const auto codes = run(*queue_, batch);
  ASSERT_EQ(codes.size(), batch.size());
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const bool refused = batch[i].memory.region != kRegion && batch[i].op != Op::flush;
    EXPECT_EQ(codes[i], refused ? Code::invalid_argument : Code::ok) << i;
  }
}

TEST_P(DeviceConformance, refuses_bad_transfers_and_touches_nothing) {
  memory_.fill(21);
  ASSERT_EQ(run_one(transfer(Op::write, 0, 0, kRegionBytes)), Code::ok);
  ASSERT_EQ(run_one(transfer(Op::write, kCapacity - kRegionBytes, 0, kRegionBytes)),
            Code::ok);
  memory_.fill(22);
  const std::uint64_t u = unit(), huge = std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t huge_unit = huge - u + 1;
  std::map<std::string, Transfer> bad{
      {"empty", transfer(Op::read, 0, 0, 0)},
      {"at the end", transfer(Op::read, kCapacity, 0, u)},
      {"across the end", transfer(Op::read, kCapacity - u, 0, 2 * u)},
      {"far outside", transfer(Op::read, huge_unit, 0, u)},
      {"offset and length overflow", transfer(Op::read, huge_unit, 0, 2 * u)},
      {"across the end of the region", transfer(Op::read, 0, kRegionBytes - u, 2 * u)},
      {"outside the region", transfer(Op::read, 0, huge_unit, u)},
      {"longer than anything", transfer(Op::read, 0, 0, huge_unit)},
      {"no region", {Op::read, 0, {RegionId{0}, 0, u}, 0}},
      {"unknown region", {Op::read, 0, {RegionId{8}, 0, u}, 0}},
      {"unknown operation", transfer(static_cast<Op>(77), 0, 0, u)},
  };
  if (u > 1) {
    bad["misaligned offset"] = transfer(Op::read, u / 2, 0, u);
    bad["misaligned length"] = transfer(Op::read, 0, 0, u + u / 2);
    bad["misaligned memory"] = transfer(Op::read, 0, u / 2, u);
  }
  const Memory before(memory_.bytes());
  for (const auto& [what, as_read] : bad) {
    for (const Op op : {Op::read, Op::write}) {
      Transfer t = as_read;
      if (t.op == Op::read) t.op = op;
      EXPECT_EQ(run_one(t), Code::invalid_argument) << what;
    }
    ASSERT_TRUE(same(memory_.bytes(), before.bytes())) << what;
  }
  before.fill(21);
  for (const std::uint64_t at : {std::uint64_t{0}, kCapacity - kRegionBytes}) {
    ASSERT_EQ(run_one(transfer(Op::read, at, 0, kRegionBytes)), Code::ok);
    EXPECT_TRUE(same(memory_.bytes(), before.bytes()));
  }
}

TEST_P(DeviceConformance, a_full_queue_takes_no_more_until_polled) {
  open_queue(4);
  std::vector<Transfer> batch;
  for (std::uint64_t i = 0; i < 6; ++i) {
    batch.push_back(transfer(Op::read, i * 4096, i * 4096, 4096));
    batch.back().tag = i;
  }
  EXPECT_EQ(queue_->submit(batch), 4U);
  EXPECT_EQ(queue_->submit(std::span(batch).subspan(4)), 0U);
  std::array<Completion, 1> done{};
  while (queue_->poll(done) == 0)
    queue_->wait(1s);
  EXPECT_LT(done[0].tag, 4U);
  EXPECT_EQ(queue_->submit(std::span(batch).subspan(4)), 1U);
  std::size_t answered = 0;
  while (answered < 4) {
    queue_->wait(1s);
    answered += queue_->poll(done);
  }
  EXPECT_EQ(queue_->poll(done), 0U);
}

TEST_P(DeviceConformance, refuses_impossible_depths) {
  for (const std::uint32_t depth : {0U, 4097U, 0xFFFFFFFFU}) {
    const auto queue = device_->open_queue(depth);
    ASSERT_FALSE(queue.ok()) << depth;
    EXPECT_EQ(queue.error().code(), Code::invalid_argument);
  }
  open_queue(4096);
  EXPECT_EQ(run_one(transfer(Op::read, 0, 0, 4096)), Code::ok);
}

TEST_P(DeviceConformance, wake_ends_a_wait_in_progress_or_the_next) {
  const auto start = Clock::now();
  queue_->wake();
  queue_->wait(60s);
  std::atomic<bool> waiting{false};
  std::thread sleeper([&] {
    waiting.store(true);
    waiting.notify_one();
    queue_->wait(60s);
  });
  waiting.wait(false);
  queue_->wake();  // before the wait, or in the middle of it
  sleeper.join();
  EXPECT_LT(Clock::now() - start, 30s);
}

TEST_P(DeviceConformance, wait_is_bounded_and_wakes_do_not_add_up) {
  queue_->wake();
  queue_->wake();
  queue_->wait(0s);
  for (const std::chrono::nanoseconds at_most :
       {std::chrono::nanoseconds(300us), {20ms}}) {
    const auto start = Clock::now();
    queue_->wait(at_most);
    EXPECT_GE(Clock::now() - start, at_most);
    EXPECT_LT(Clock::now() - start, 30s);
  }
  queue_->wait(-1s);
}

TEST_P(DeviceConformance, wait_returns_when_an_answer_is_there) {
  const auto start = Clock::now();
  const Transfer t = transfer(Op::read, 0, 0, kRegionBytes);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(queue_->submit({&t, 1}), 1U);
    queue_->wait(60s);
    std::array<Completion, 2> done{};
    ASSERT_EQ(queue_->poll(done), 1U);
    ASSERT_EQ(done[0].code, Code::ok);
  }
  EXPECT_LT(Clock::now() - start, 30s);
}

TEST_P(DeviceConformance, the_end_of_a_queue_waits_for_what_it_accepted) {
  memory_.fill(31);
  ASSERT_EQ(run_one(transfer(Op::write, 0, 0, kRegionBytes)), Code::ok);
  const Memory expected(memory_.bytes());
  for (int round = 0; round < 10; ++round) {
    memory_.fill(32);
    std::vector<Transfer> batch;
    for (std::uint64_t at = 0; at < kRegionBytes; at += kRegionBytes / 16) {
      batch.push_back(transfer(Op::read, at, at, kRegionBytes / 16));
    }
    ASSERT_EQ(queue_->submit(batch), batch.size());
    queue_.reset();
    ASSERT_TRUE(same(memory_.bytes(), expected.bytes())) << "not all had landed";
    open_queue(32);
  }
}

TEST_P(DeviceConformance, regions_are_attached_once_and_detached_once) {
  const Memory other;
  EXPECT_EQ(device_->attach(RegionId{0}, other.bytes()).code(), Code::invalid_argument);
  EXPECT_EQ(device_->attach(kRegion, other.bytes()).code(), Code::invalid_argument);
  EXPECT_EQ(device_->attach(RegionId{9}, {}).code(), Code::invalid_argument);
  EXPECT_EQ(device_->detach(RegionId{9}).code(), Code::not_found);
  EXPECT_EQ(device_->detach(RegionId{0}).code(), Code::not_found);

  memory_.fill(41);
  ASSERT_EQ(run_one(transfer(Op::write, 0, 0, kRegionBytes)), Code::ok);
  ASSERT_TRUE(device_->detach(kRegion).ok());
  EXPECT_EQ(run_one(transfer(Op::read, 0, 0, 4096)), Code::invalid_argument);
  // The same id now means other memory, and the old memory is left alone.
  ASSERT_TRUE(device_->attach(kRegion, other.bytes()).ok());
  memory_.fill(42);
  const Memory untouched;
  untouched.fill(42);
  ASSERT_EQ(run_one(transfer(Op::read, 0, 0, kRegionBytes)), Code::ok);
  EXPECT_TRUE(same(memory_.bytes(), untouched.bytes()));
  untouched.fill(41);
  EXPECT_TRUE(same(other.bytes(), untouched.bytes()));
}

TEST_P(DeviceConformance, more_regions_than_can_be_registered_all_work) {
  std::vector<std::unique_ptr<Memory>> regions;
  for (std::uint32_t i = 0; i < 40; ++i) {
    regions.push_back(std::make_unique<Memory>(8192));
    regions.back()->fill(i);
    ASSERT_TRUE(device_->attach(RegionId{100 + i}, regions.back()->bytes()).ok());
    ASSERT_EQ(run_one({Op::write, i * 8192, {RegionId{100 + i}, 0, 8192}, 0}), Code::ok);
  }
  const Memory expected(8192);
  for (std::uint32_t i = 0; i < 40; ++i) {
    const std::uint32_t other = (i * 7 + 3) % 40;
    ASSERT_EQ(run_one({Op::read, i * 8192, {RegionId{100 + other}, 0, 8192}, 0}),
              Code::ok);
    expected.fill(i);
    EXPECT_TRUE(same(regions[other]->bytes(), expected.bytes())) << i;
    ASSERT_TRUE(device_->detach(RegionId{100 + other}).ok());
    ASSERT_TRUE(device_->attach(RegionId{100 + other}, regions[other]->bytes()).ok());
  }
}

TEST_P(DeviceConformance, flush_is_answered_and_names_no_bytes) {
  ASSERT_EQ(run_one(transfer(Op::write, 0, 0, kRegionBytes)), Code::ok);
  EXPECT_EQ(run_one({Op::flush, 0, {}, 0}), Code::ok);
  EXPECT_EQ(run_one({Op::flush, kCapacity + 1, {RegionId{99}, 1, 2}, 0}), Code::ok);
}

TEST_P(DeviceConformance, queues_of_two_threads_do_not_disturb_each_other) {
  std::atomic<bool> stop{false};
  std::thread registrar([&] {
    const Memory other(4096);
    for (std::uint32_t id = 1000; !stop.load(); ++id) {
      EXPECT_TRUE(device_->attach(RegionId{id}, other.bytes()).ok());
      EXPECT_TRUE(device_->detach(RegionId{id}).ok());
    }
  });
  const auto work = [&](std::uint32_t who) {
    const Memory memory(16384);
    const RegionId region{10 + who};
    ASSERT_TRUE(device_->attach(region, memory.bytes()).ok());
    auto opened = device_->open_queue(4);
    ASSERT_TRUE(opened.ok());
    const std::unique_ptr<Queue> queue = std::move(*opened);
    const Memory expected(16384);
    for (std::uint64_t i = 0; i < 30; ++i) {
      const std::uint64_t offset = who * (kCapacity / 2) + i * 16384;
      memory.fill(who * 1000 + i);
      ASSERT_EQ(run(*queue, {{Op::write, offset, {region, 0, 16384}, 0}})[0], Code::ok);
      memory.fill(5);
      ASSERT_EQ(run(*queue, {{Op::read, offset, {region, 0, 16384}, 0}})[0], Code::ok);
      expected.fill(who * 1000 + i);
      ASSERT_TRUE(same(memory.bytes(), expected.bytes()));
    }
    ASSERT_TRUE(device_->detach(region).ok());  // nothing is in flight
  };
  std::thread first(work, 0U), second(work, 1U);
  first.join();
  second.join();
  stop.store(true);
  registrar.join();
}

TEST_P(DeviceConformance, only_what_says_so_has_its_bytes_when_it_is_opened_again) {
  const bool kept = device_->info().persistent || device_->info().shared;
  memory_.fill(51);
  ASSERT_EQ(run_one(transfer(Op::write, kRegionBytes, 0, kRegionBytes)), Code::ok);
  ASSERT_EQ(run_one({Op::flush, 0, {}, 0}), Code::ok);
  queue_.reset();
  device_.reset();
  const Memory written(memory_.bytes());
  memory_.fill(52);
  open();
  ASSERT_EQ(run_one(transfer(Op::read, kRegionBytes, 0, kRegionBytes)), Code::ok);
  EXPECT_EQ(same(memory_.bytes(), written.bytes()), kept);
}

INSTANTIATE_TEST_SUITE_P(Every, DeviceConformance, testing::ValuesIn(cases()),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace speckv
