// store/index.hpp -- from a key to its entry: a hash table in 64 shards, each with its
// lock.
//
// Any thread. Locks: one shard at a time, taken before any tier's lock, never across I/O.
#pragma once

#include <cstdint>
#include <vector>

#include "store/mapping.hpp"

namespace speckv {

class Index {
 public:
  explicit Index(Mapping& mapping) noexcept : mapping_(mapping) {}

  // Holds the shard of a key. Everything below about that key goes through it.
  class SPECKV_SCOPED Shard {
   public:
    Shard(Index& index, BlockKey key) noexcept SPECKV_ACQUIRE(lock_);
    Shard(Index& index, std::uint32_t number) noexcept SPECKV_ACQUIRE(lock_);
    ~Shard() SPECKV_RELEASE() { lock_.unlock(); }
    Shard(const Shard&) = delete;
    Shard& operator=(const Shard&) = delete;

    // The entry of `key`, or kNone. `key` belongs to this shard.
    std::uint32_t find(BlockKey key) const noexcept;
    // A new entry, in no tier; kNone if the shard is full. REQUIRES: find(key) == kNone.
    std::uint32_t insert(BlockKey key, std::uint16_t layout, std::uint16_t tenant,
                         std::uint32_t first_position) noexcept;
    // Takes the entry out. REQUIRES: it is in no tier.
    void remove(std::uint32_t entry) noexcept;

    // Every entry of the shard, appended.
    void list(std::vector<std::uint32_t>& entries) const;

   private:
    Mapping& mapping_;
    std::uint32_t number_;
    RobustLock& lock_;
  };

  // Starts fetching what find() will read, for batches.
  void prefetch_bucket(BlockKey key) const noexcept;
  void prefetch_entry(BlockKey key) const noexcept;

  // Whether `key` does not belong to `shard`.
  bool misplaced(BlockKey key, std::uint32_t shard) const noexcept {
    return shard_of(key) != shard;
  }
  // Chains and free list of a shard again from its entries. Under its lock, or alone.
  void rebuild(std::uint32_t shard) noexcept;

 private:
  friend class Shard;
  static std::uint32_t shard_of(BlockKey key) noexcept {
    return static_cast<std::uint32_t>(key.high % kShards);
  }
  std::uint32_t& head_of(BlockKey key) const noexcept {
    return mapping_.buckets(shard_of(key))[key.low & (mapping_.plan().buckets - 1)];
  }

  Mapping& mapping_;
};

}  // namespace speckv
