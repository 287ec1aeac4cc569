// device/queue.hpp -- what the queues of all devices have in common.
#pragma once

#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "cxlspeckv/device.hpp"

namespace speckv {

inline constexpr std::uint32_t kMaxDepth = 4096;
Status check_depth(std::uint32_t depth);

// The memory that transfers may name. Any thread; readers hold it for one batch.
class RegionTable {
 public:
  struct Region {
    MutableBytes memory{};
    std::uint64_t serial = 0;  // never reused, unlike the id
  };

  Status attach(RegionId id, MutableBytes memory);
  Status detach(RegionId id);

  // A look at the table that keeps it from changing.
  class Reader {
   public:
    explicit Reader(const RegionTable& table) : lock_(table.mutex_), table_(table) {}
    const Region* find(RegionId id) const noexcept;
    std::uint64_t version() const noexcept { return table_.version_; }  // changes with it
    bool holds(std::uint64_t serial) const noexcept;

   private:
    std::shared_lock<std::shared_mutex> lock_;
    const RegionTable& table_;
  };

 private:
  mutable std::shared_mutex mutex_;
  std::unordered_map<RegionId, Region> regions_;
  std::uint64_t version_ = 0;
};

// The memory a transfer lends, and the region it lies in.
struct Lent {
  MutableBytes memory{};
  std::uint64_t serial = 0;
};

// ok, or invalid_argument: empty, misaligned, outside the device or its region. A flush
// names no bytes.
Code check(const DeviceInfo& info, const RegionTable::Reader& regions,
           const Transfer& transfer, Lent& lent) noexcept;

// Completions waiting for poll(): a ring with room for every transfer of a queue.
class CompletionRing {
 public:
  explicit CompletionRing(std::uint32_t depth) : ring_(depth) {}
  bool empty() const noexcept { return count_ == 0; }
  // REQUIRES: fewer than `depth` are waiting
  void push(const Completion& completion) noexcept {
    ring_[(first_ + count_++) % ring_.size()] = completion;
  }
  std::size_t pop(std::span<Completion> out) noexcept;

 private:
  std::vector<Completion> ring_;
  std::size_t first_ = 0, count_ = 0;
};

}  // namespace speckv
