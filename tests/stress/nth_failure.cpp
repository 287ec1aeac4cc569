// Every n-th transfer of a run fails, is torn, is late, or is never answered: the store
// goes on, nothing wrong is ever read, and once the device answers, so does the tier.
#include <thread>

#include "support/fault_device.hpp"
#include "support/invariants.hpp"
#include "support/stress_worker.hpp"

namespace speckv::test {
namespace {

using Kind = HeapDevice::Kind;
using namespace std::chrono_literals;

constexpr std::uint64_t kBlocks = 80;

struct Setup {
  const char* name;
  bool memory_above, persistent;
  Fault::Kind fault;
  std::uint64_t run = 1;  // faults one after another
  friend void PrintTo(const Setup& setup, std::ostream* out) { *out << setup.name; }
};

class NthFailure : public testing::TestWithParam<Setup> {
 protected:
  void open_device() {
    heap_ = std::make_shared<HeapDevice>(
        300 << 10, GetParam().persistent ? Kind::disk : Kind::volatile_disk);
    FaultOptions options;
    options.timeout = 30ms;
    device_ = std::make_shared<FaultDevice>(heap_, options);
  }
  Result<std::unique_ptr<BlockStore>> open_store() {
    StoreOptions options;
    options.layouts = BlockPool::layouts();
    if (GetParam().memory_above)
      options.tiers.push_back(
          tier_on("fast", std::make_shared<HeapDevice>(60 << 10, Kind::memory)));
    options.tiers.push_back(tier_on("device", device_));
    return BlockStore::open(std::move(options));
  }
  StressWorker::Options script(std::uint64_t seed, bool faults) const {
    StressWorker::Options options;
    options.seed = seed;
    options.own = kBlocks;
    options.tenant = TenantId{1};
    options.persistent = GetParam().persistent;
    options.faults = faults;
    options.tiers = GetParam().memory_above ? 2 : 1;
    return options;
  }
  // Runs the script; afterwards the device is whole, and so must the store be.
  void run(BlockStore& store, std::uint64_t seed) {
    const BlockPool& pool = blocks();
    {
      StressWorker worker(store, pool, script(seed, true));
      for (int i = 0; i < 120 && worker.step(); ++i) {}
      ASSERT_TRUE(worker.ok());
    }
    device_->heal();
    device_->answer_lost();
    const std::size_t tier = store.tier_count() - 1;
    const auto give_up = std::chrono::steady_clock::now() + 20s;
    while (store.stats(tier).fenced) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up) << "the tier never came back";
      store.impl().services.changes.nap(steady_clock());
    }
    EXPECT_EQ(check_invariants(store), "");
    (void)store.erase(pool.keys());
    StressWorker again(store, pool, script(seed + 1, true));
    for (int i = 0; i < 30 && again.step(); ++i) {}
    again.let_go();
    ASSERT_TRUE(again.ok());
    (void)store.erase(pool.keys());
    EXPECT_EQ(check_invariants(store), "");
    EXPECT_EQ(used_bytes(store), 0U);
  }
  static const BlockPool& blocks() {
    static const BlockPool pool(kBlocks);
    return pool;
  }

  std::shared_ptr<HeapDevice> heap_;
  std::shared_ptr<FaultDevice> device_;
};

TEST_P(NthFailure, leaves_a_store_that_answers_and_accounts_for_every_byte) {
  open_device();
  std::uint64_t transfers = 0;
  {
    auto store = open_store();
    ASSERT_TRUE(store.ok()) << store.error().message();
    run(**store, 1);
    transfers = device_->transfers();
  }
  const std::uint64_t step = std::max<std::uint64_t>(transfers / scaled(40), 1);
  if (scaled(1) >= 10) {
    ASSERT_EQ(step, 1U) << "the nightly run leaves none out";
  }
  std::uint64_t hit = 0;
  for (std::uint64_t n = 0; n < transfers; n += step) {
    SCOPED_TRACE("transfer " + std::to_string(n));
    open_device();
    Fault fault;
    fault.kind = GetParam().fault;
    fault.delay = 5ms;
    fault.bytes = 1024;
    for (std::uint64_t i = 0; i < GetParam().run; ++i)
      device_->inject(n + i, fault);
    auto store = open_store();
    if (!store.ok()) {  // it failed while opening, and does not when asked again
      ++hit;
      device_->heal();
      device_->answer_lost();
      store = open_store();
      ASSERT_TRUE(store.ok()) << store.error().message();
    }
    run(**store, 1);
    hit += (*store)->stats((*store)->tier_count() - 1).io_errors > 0 ? 1U : 0U;
    if (HasFailure()) return;
  }
  if (GetParam().fault != Fault::Kind::delay) {
    EXPECT_GT(hit, 0U);
  }
}

const Setup kSetups[] = {
    {"disk_fails", false, true, Fault::Kind::fail},
    {"disk_tears", false, true, Fault::Kind::tear},
    {"disk_delays", true, true, Fault::Kind::delay},
    {"disk_loses", false, true, Fault::Kind::lose},
    {"disk_below_memory_fails", true, true, Fault::Kind::fail},
    {"disk_below_memory_fails_four_times", true, true, Fault::Kind::fail, 4},
    {"disk_below_memory_loses", true, true, Fault::Kind::lose},
    {"volatile_disk_below_memory_loses", true, false, Fault::Kind::lose},
    {"volatile_disk_fails_four_times", false, false, Fault::Kind::fail, 4},
};
INSTANTIATE_TEST_SUITE_P(Setups, NthFailure, testing::ValuesIn(kSetups),
                         [](const auto& setup) { return setup.param.name; });

TEST(LostTransfer, does_not_keep_operations_or_the_store_from_ending) {
  for (const auto only : {Transfer::Op::write, Transfer::Op::read, Transfer::Op::flush}) {
    const auto heap = std::make_shared<HeapDevice>(300 << 10, Kind::disk);
    FaultOptions options;
    options.timeout = 50ms;
    const auto device = std::make_shared<FaultDevice>(heap, options);
    const auto begun = std::chrono::steady_clock::now();
    {
      StoreOptions store_options;
      store_options.layouts = {small_layout()};
      store_options.tiers.push_back(tier_on("device", device));
      StoreUnderTest store(std::move(store_options));
      ASSERT_TRUE(store) << store.error().message();
      ASSERT_EQ(store.save(1), Code::ok);
      for (std::uint64_t i = 0; i < 400; ++i)
        device->inject(i, {Fault::Kind::lose}, only);
      const Code saved = store.save(2);
      EXPECT_EQ(saved == Code::ok, only == Transfer::Op::read) << to_string(saved);
      (void)store.load(1);
      EXPECT_NE(store.load(1), Code::internal);
      EXPECT_TRUE(store->stats(0).fenced || only == Transfer::Op::read);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 10s);
    device->answer_lost();
  }
}

TEST(Fence, a_tier_that_fails_is_left_alone_and_comes_back_with_its_blocks) {
  const auto heap = std::make_shared<HeapDevice>(300 << 10, Kind::disk);
  const auto device = std::make_shared<FaultDevice>(heap);
  StoreOptions options;
  options.layouts = {small_layout()};
  options.tiers.push_back(tier_on("device", device));
  StoreUnderTest store(std::move(options));
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(store.save(1), Code::ok);
  device->fail_all();
  for (int i = 0; i < 5; ++i)
    EXPECT_NE(store.load(1), Code::ok);
  EXPECT_TRUE(store->stats(0).fenced);
  const std::uint64_t before = device->transfers();
  EXPECT_EQ(store.load(1), Code::not_found);   // a miss, without asking the device
  EXPECT_LE(device->transfers(), before + 1);  // but for a probe
  device->heal();
  const auto give_up = std::chrono::steady_clock::now() + 10s;
  while (store->stats(0).fenced && std::chrono::steady_clock::now() < give_up)
    store->impl().services.changes.nap(steady_clock());
  EXPECT_EQ(store.load(1), Code::ok);
}

}  // namespace
}  // namespace speckv::test
