// Batched match over a million stored 4 KiB blocks, and what the store takes in memory
// beyond its tiers.

#include <fstream>
#include <memory>
#include <random>

#include "cxlspeckv/cxlspeckv.hpp"
#include "cxlspeckv/devices.hpp"

#include "bench/report.hpp"

namespace {

using namespace speckv;

constexpr std::size_t kBlocks = 1'000'000, kBlock = 4096, kBatch = 1024;

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * 4096;
}

}  // namespace

int main(int argc, char** argv) {
  bench::Report report(argc, argv);
  StoreOptions options;
  options.layouts = {
      {.layers = 1, .kv_heads = 1, .head_dim = 64, .tokens = 16, .dtype = DType::f16}};
  Tier tier;
  tier.name = "dram";
  const std::uint64_t capacity = kBlocks * (kBlock + 64);
  tier.device = *open_device("dram:" + std::to_string(capacity));
  options.tiers.push_back(std::move(tier));

  std::vector<BlockKey> keys;
  keys.reserve(kBlocks);
  std::mt19937_64 random(1);
  for (std::size_t i = 0; i < kBlocks; ++i)
    keys.push_back({random(), random()});
  std::vector<std::byte> memory(kBlock);
  const std::uint64_t before = resident_bytes();
  auto store = *BlockStore::open(std::move(options));
  const RegionId region = *store->attach(memory);
  const Segment where{region, 0, kBlock};
  for (const BlockKey key : keys) {
    const BlockTransfer block{key, {&where, 1}, 0, {}};
    if (!store->save({&block, 1}).wait().ok()) {
      std::fprintf(stderr, "a save failed\n");
      return 1;
    }
  }
  const std::uint64_t used = resident_bytes() - before;
  const double allowed = 0.02 * static_cast<double>(capacity) + (64 << 20);
  report.add(
      "memory_beyond_tiers",
      (static_cast<double>(used) - static_cast<double>(store->stats(0).used)) / allowed,
      "ratio", "2 % of the tiers' capacity + 64 MiB");

  // Sequences share prefixes, so real batches are runs of keys in the order of saving;
  // here they are in random order, which no cache can help.
  std::shuffle(keys.begin(), keys.end(), random);
  std::vector<double> per_key;
  for (int round = 0; round < 5; ++round) {
    std::size_t matched = 0;
    const double took = bench::seconds_of([&] {
      for (std::size_t i = 0; i + kBatch <= kBlocks; i += kBatch) {
        matched += store->match(std::span(keys).subspan(i, kBatch));
      }
    });
    if (matched != kBlocks / kBatch * kBatch) {
      std::fprintf(stderr, "matched %zu\n", matched);
      return 1;
    }
    per_key.push_back(took * 1e9 / static_cast<double>(matched));
  }
  report.add("match_ns_per_key", bench::median(per_key), "ns",
             "1e6 blocks of 4 KiB, batches of 1,024 keys in random order");
  return report.finish();
}
