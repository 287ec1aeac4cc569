// The C++ side of python_bench.py: for each line of stdin, loads 64 blocks of 1 MiB from
// DRAM eight times over, and prints the seconds.
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <sys/mman.h>

#include "cxlspeckv/cxlspeckv.hpp"
#include "cxlspeckv/devices.hpp"

#include "bench/report.hpp"

namespace speckv::bench {
namespace {

constexpr std::size_t kBlocks = 64;
constexpr int kTimes = 8;
constexpr BlockLayout kLayout{.layers = 1,
                              .kv_heads = 1,
                              .head_dim = 128,
                              .tokens = 2048,
                              .dtype = DType::f16,
                              .kind = BlockLayout::Kind::kv};
static_assert(kLayout.bytes() == 1U << 20);

int serve() {
  StoreOptions options;
  options.layouts = {kLayout};
  Tier tier;
  tier.name = "dram";
  tier.device = *open_device("dram:96M");
  options.tiers.push_back(std::move(tier));
  const auto store = *BlockStore::open(std::move(options));

  // As NumPy allocates large arrays: from malloc, with huge pages where the kernel gives
  // them.
  constexpr std::size_t kBytes = kBlocks * kLayout.bytes(), kPage = 4096;
  const std::unique_ptr<void, decltype(&std::free)> memory(std::malloc(kBytes),
                                                           &std::free);
  const std::size_t skip = kPage - reinterpret_cast<std::uintptr_t>(memory.get()) % kPage;
  (void)::madvise(static_cast<std::byte*>(memory.get()) + skip, kBytes - skip,
                  MADV_HUGEPAGE);
  std::memset(memory.get(), 7, kBytes);
  const RegionId region = *store->attach({static_cast<std::byte*>(memory.get()), kBytes});
  std::vector<Segment> places;
  std::vector<BlockTransfer> blocks;
  for (std::size_t b = 0; b < kBlocks; ++b)
    places.push_back({region, b * kLayout.bytes(), kLayout.bytes()});
  for (std::size_t b = 0; b < kBlocks; ++b) {
    const std::string name = std::to_string(b);
    blocks.push_back({.key = key_from(std::as_bytes(std::span(name)), "bench"),
                      .memory = {&places[b], 1}});
  }
  if (!store->save(blocks).wait().ok()) return 1;
  for (std::string line; std::getline(std::cin, line);) {
    bool good = true;
    const double seconds = seconds_of([&] {
      for (int i = 0; i < kTimes; ++i)
        good = store->load(blocks).wait().ok() && good;
    });
    if (!good) return 1;
    std::cout << seconds << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace speckv::bench

int main() {
  return speckv::bench::serve();
}
