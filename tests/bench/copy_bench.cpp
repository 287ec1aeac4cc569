// Save and load of raw blocks against memcpy of the same bytes, in one run.
//
// The caller's memory, the tier and memcpy's own target are each 1 GiB, so nothing stays
// in a cache. Ratios are medians of interleaved pairs; a figure is the worst of the block
// sizes.
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cxlspeckv/cxlspeckv.hpp"
#include "cxlspeckv/devices.hpp"

#include "bench/report.hpp"

namespace speckv::bench {
namespace {

constexpr std::size_t kSide = 1ULL << 30;
constexpr int kPairs = 5;

// One layer of one head: `bytes` of K and V.
BlockLayout layout_of(std::size_t bytes) {
  return {.layers = 1,
          .kv_heads = 1,
          .head_dim = 128,
          .tokens = static_cast<std::uint32_t>(bytes / 512),
          .dtype = DType::f16};
}

struct Side {
  explicit Side(std::size_t bytes) : memory(bytes) {
    for (std::size_t i = 0; i < bytes; i += 8) {
      const std::uint64_t value = i * 0x9E3779B97F4A7C15ULL;
      std::memcpy(memory.data() + i, &value, 8);
    }
  }
  std::vector<std::byte> memory;
};

class Bench {
 public:
  Bench(std::size_t block, std::size_t side, MutableBytes from, MutableBytes to)
      : block_(block), from_(from.first(side)), to_(to.first(side)) {
    StoreOptions options;
    options.layouts = {layout_of(block)};
    Tier tier;
    tier.name = "dram";
    tier.device = *open_device("dram:" + std::to_string(side + side / 8));
    options.tiers.push_back(std::move(tier));
    store_ = *BlockStore::open(std::move(options));
    from_region_ = *store_->attach(from_);
    to_region_ = *store_->attach(to_);
    for (std::size_t i = 0; i < side / block; ++i) {
      const std::string name = std::to_string(i);
      keys_.push_back(key_from(std::as_bytes(std::span(name)), "bench"));
    }
    (void)run(true, 1);  // touches the tier's pages
  }
  double copy(unsigned threads) {
    return parallel(threads, [this](std::size_t i) {
      std::memcpy(to_.data() + i * block_, from_.data() + i * block_, block_);
    });
  }
  double save(unsigned threads) {
    store_->erase(keys_);
    return run(true, threads);
  }
  double load(unsigned threads) { return run(false, threads); }

 private:
  double run(bool saving, unsigned threads) {
    return parallel(threads, [this, saving](std::size_t i) {
      const Segment where{saving ? from_region_ : to_region_, i * block_, block_};
      const BlockTransfer block{keys_[i], {&where, 1}, 0, {}};
      Operation op = saving ? store_->save({&block, 1}) : store_->load({&block, 1});
      if (!op.wait().ok()) {
        std::fprintf(stderr, "block %zu: %s\n", i, op.wait().message().c_str());
        std::exit(1);
      }
    });
  }
  template <class Work>
  double parallel(unsigned threads, Work&& work) {
    const std::size_t count = keys_.size();
    return seconds_of([&] {
      std::vector<std::jthread> team;
      for (unsigned t = 1; t < threads; ++t) {
        team.emplace_back([&, t] {
          for (std::size_t i = count * t / threads; i < count * (t + 1) / threads; ++i)
            work(i);
        });
      }
      for (std::size_t i = 0; i < count / threads; ++i)
        work(i);
    });
  }

  std::size_t block_;
  MutableBytes from_, to_;
  std::unique_ptr<BlockStore> store_;
  RegionId from_region_{}, to_region_{};
  std::vector<BlockKey> keys_;
};

struct Ratios {
  double save = 1e9, load = 1e9;
};

Ratios measure(Bench& bench, unsigned threads, std::size_t block) {
  std::vector<double> save, load;
  for (int pair = 0; pair < kPairs; ++pair) {
    const double before = bench.copy(threads);
    const double saved = bench.save(threads);
    const double between = bench.copy(threads);
    const double loaded = bench.load(threads);
    const double after = bench.copy(threads);
    save.push_back((before + between) / 2 / saved);
    load.push_back((between + after) / 2 / loaded);
  }
  std::printf("%7zu KiB, %u threads: save %.3f, load %.3f of memcpy\n", block >> 10,
              threads, median(save), median(load));
  return {median(save), median(load)};
}

}  // namespace
}  // namespace speckv::bench

int main(int argc, char** argv) {
  using namespace speckv::bench;
  Report report(argc, argv);
  Side from(kSide), to(kSide);
  Ratios one, two;
  for (const std::size_t block : {256U << 10, 512U << 10, 1U << 20, 2U << 20}) {
    Bench bench(block, kSide, from.memory, to.memory);
    for (const unsigned threads : {1U, 2U}) {
      const Ratios r = measure(bench, threads, block);
      Ratios& worst = threads == 1 ? one : two;
      worst = {std::min(worst.save, r.save), std::min(worst.load, r.load)};
    }
  }
  const std::string base =
      "memcpy of the same bytes, 1 GiB a side; worst of 4 block sizes";
  report.add("raw_save_dram_1_thread", one.save, "ratio", base);
  report.add("raw_load_dram_1_thread", one.load, "ratio", base);
  report.add("raw_save_dram_2_threads", two.save, "ratio", base);
  report.add("raw_load_dram_2_threads", two.load, "ratio", base);
  Bench cached(256 << 10, 2 << 20, from.memory, to.memory);
  std::vector<double> save, load;
  for (int i = 0; i < 50; ++i) {
    const Ratios r{cached.copy(1) / cached.save(1), cached.copy(1) / cached.load(1)};
    save.push_back(r.save);
    load.push_back(r.load);
  }
  report.add("raw_save_cached", median(save), "ratio", "memcpy, 2 MiB a side: in cache");
  report.add("raw_load_cached", median(load), "ratio", "memcpy, 2 MiB a side: in cache");
  return report.finish();
}
