// Bytes as a script of operations on a store, each answer held against the model.
#include "require.hpp"
#include "support/invariants.hpp"
#include "support/stress_worker.hpp"

using namespace speckv;
using namespace speckv::test;

namespace {

using Kind = HeapDevice::Kind;

constexpr std::uint64_t kBlocks = 40;

StoreOptions options_of(std::uint8_t shape) {
  StoreOptions options;
  options.layouts = BlockPool::layouts();
  const auto add = [&](std::uint64_t bytes, Kind kind) {
    options.tiers.push_back(tier_on("t" + std::to_string(options.tiers.size()),
                                    std::make_shared<HeapDevice>(bytes, kind)));
  };
  if ((shape & 1) != 0) add(60 << 10, Kind::memory);
  if ((shape & 2) != 0) add(60 << 10, Kind::volatile_disk);
  if ((shape & 4) != 0) add(120 << 10, Kind::persistent_memory);
  if ((shape & 8) != 0 || options.tiers.empty()) add(120 << 10, Kind::disk);
  return options;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3 || size > 4096) return 0;
  static const BlockPool pool(kBlocks);
  StoreOptions store_options = options_of(data[0]);
  StressWorker::Options options;
  options.script = {data + 1, size - 1};
  options.own = kBlocks;
  options.tenant = TenantId{1};
  options.tiers = store_options.tiers.size();
  for (const Tier& tier : store_options.tiers)
    options.persistent |= tier.device->info().persistent;
  options.set_codecs = options.lossy = (data[0] & 16) != 0;
  auto store = BlockStore::open(std::move(store_options));
  require(store.ok(), "the store did not open");
  {
    StressWorker worker(**store, pool, options);
    while (!worker.at_end() && worker.step()) {}
    worker.let_go();
    require(worker.ok(), "an answer was wrong");
  }
  const std::string faults = check_invariants(**store);
  require(faults.empty(), faults.c_str());
  (void)(*store)->erase(pool.keys());
  require(check_invariants(**store).empty() && used_bytes(**store) == 0,
          "bytes are left over");
  return 0;
}
