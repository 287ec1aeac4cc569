// support/stress_worker.hpp -- one thread's random operations on a store, each answer
// held against the model, each byte against what the block's number says it must be.
#pragma once

#include <array>
#include <cstdlib>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "support/blocks.hpp"
#include "support/model_store.hpp"
#include "support/store_fixture.hpp"

namespace speckv::test {

// The blocks of a run: number n has layout n % 4 == 0 ? 1 : 0, and bytes of its own.
class BlockPool {
 public:
  explicit BlockPool(std::uint64_t count) {
    for (std::uint64_t n = 0; n < count; ++n) {
      keys_.push_back(key_of(n));
      bytes_.push_back(bytes_of_block(layout(n), n));
    }
    for (std::uint32_t bits = 0; bits < values_.size(); ++bits)
      values_[bits] = static_cast<float>(value_of(DType::f16, bits));
  }
  static std::vector<BlockLayout> layouts() {
    BlockLayout large = small_layout();
    large.layers = 3;
    large.head_dim = 32;
    return {small_layout(), large};
  }
  static std::uint16_t layout_id(std::uint64_t n) { return n % 4 == 0 ? 1 : 0; }
  static BlockLayout layout(std::uint64_t n) { return layouts()[layout_id(n)]; }

  std::uint64_t count() const { return keys_.size(); }
  BlockKey key(std::uint64_t n) const { return keys_[n]; }
  const std::vector<BlockKey>& keys() const { return keys_; }
  Bytes bytes(std::uint64_t n) const { return bytes_[n]; }

  // Whether `got` is what block n holds from byte `at` on; `lossy`: nearly.
  bool right(std::uint64_t n, std::uint64_t at, Bytes got, bool lossy) const {
    const Bytes wanted = Bytes(bytes_[n]).subspan(at, got.size());
    if (std::equal(got.begin(), got.end(), wanted.begin())) return true;
    if (!lossy) return false;
    for (std::uint64_t i = 0; i < got.size() / 2; ++i) {
      // Values are below 1 and int8 has 127 steps.
      if (!(std::abs(values_[bits_at(got, i)] - values_[bits_at(wanted, i)]) < 0.01F))
        return false;
    }
    return true;
  }

 private:
  std::vector<BlockKey> keys_;
  std::vector<std::vector<std::byte>> bytes_;
  std::array<float, 65536> values_{};
};

// Waits, but not for ever: a hang is a failure with a core to look at.
void wait_or_die(Operation& op);

// Where decisions come from: a seed, or a script of two bytes each.
class Dice {
 public:
  Dice(std::uint64_t seed, std::span<const std::uint8_t> script)
      : random_(seed), script_(script), scripted_(!script.empty()) {}
  std::uint64_t operator()() {
    if (!scripted_) return random_();
    const std::size_t taken = std::min<std::size_t>(script_.size(), 2);
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < taken; ++i)
      value = value << 8 | script_[i];
    script_ = script_.subspan(taken);
    return value;
  }
  bool at_end() const { return scripted_ && script_.empty(); }

 private:
  std::mt19937_64 random_;
  std::span<const std::uint8_t> script_;
  bool scripted_;
};

class StressWorker {
 public:
  struct Options {
    std::uint64_t seed = 0;
    std::span<const std::uint8_t> script{};  // instead of the seed
    std::uint64_t first_own = 0, own = 0;    // blocks that only this worker touches
    std::uint64_t shared = 0;                // blocks 0..shared are everybody's
    TenantId tenant{};
    bool lossy = false, persistent = false, faults = false, set_codecs = false;
    std::size_t tiers = 1;
  };

  StressWorker(BlockStore& store, const BlockPool& pool, const Options& options)
      : store_(store),
        pool_(pool),
        options_(options),
        random_(options.seed, options.script),
        memory_(kSlots * BlockPool::layout(0).bytes()) {
    region_ = *store_.attach(memory_);
  }
  ~StressWorker() { let_go(); }
  StressWorker(const StressWorker&) = delete;
  StressWorker& operator=(const StressWorker&) = delete;

  // False once something was wrong.
  bool step();

  // Pins and references away; what was referenced must still be there.
  void let_go();
  bool ok() const { return ok_; }
  bool at_end() const { return random_.at_end(); }

 private:
  static constexpr std::uint64_t kSlots = 4;
  struct Held {
    std::uint64_t block;
    Pin pin;
  };

  bool is_own(std::uint64_t n) const { return n >= options_.first_own; }
  std::uint64_t any_block();
  void expect(bool right, const char* what, std::uint64_t block, Code code);
  // What faulty devices may answer besides.
  bool excused(std::uint64_t n, Code code);

  // Up to kSlots different blocks.
  std::vector<std::uint64_t> choose();
  std::uint64_t place(std::size_t slot) const {
    return slot * BlockPool::layout(0).bytes();
  }
  // Where a block's `bytes` lie in slot `i`, in one to three segments.
  std::vector<Segment> cut(std::size_t slot, std::uint64_t bytes);

  void save();
  void load();
  void check(std::uint64_t n, std::size_t slot, LayerRange layers);
  void look();
  void promote();
  void erase();
  void pin();
  void retain();
  void release(std::size_t which);
  void purge();
  void change_codec();

  BlockStore& store_;
  const BlockPool& pool_;
  const Options options_;
  Dice random_;
  std::vector<std::byte> memory_;
  RegionId region_{};
  ModelStore model_;
  std::vector<Held> pins_, retained_;
  bool ok_ = true;
};

// How long random tests run: SPECKV_TEST_SCALE is 0.01 in the quick run, 10 at night.
std::uint64_t scaled(double operations);

}  // namespace speckv::test
