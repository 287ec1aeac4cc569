// store/pool.hpp -- what a persistent tier keeps on its device besides the blocks.
//
//   superblock (twice) | record table: 64 bytes a slot | data
//
// A record says which block a slot holds; docs/block-format.md has its bytes. Records are
// written by group commits, after the data they describe and before the flush that covers
// both; a slot given up is reused only after the commit that clears its record. Hence,
// after a crash, only the records of the last commit can be wrong, and those are checked
// in full.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "store/block_table.hpp"

namespace speckv {

inline constexpr std::uint64_t kPoolPage = 4096;
inline constexpr std::uint64_t kRecordBytes = 64;
inline constexpr std::uint32_t kRecordsPerPage = kPoolPage / kRecordBytes;

// Where superblock, table and data lie on a persistent device of this size; units == 0 if
// not even one block fits.
TierGeometry plan_pool(std::uint64_t capacity, std::uint64_t unit,
                       std::uint64_t min_frame);

// Blocking transfers on one queue, for opening. One thread.
class SyncIo {
 public:
  static Result<std::unique_ptr<SyncIo>> open(Device& device, RegionId region,
                                              std::size_t bytes, TierCounters& counters);
  ~SyncIo();
  // The buffer that read() fills and write() sends; aligned for the device.
  MutableBytes buffer() noexcept { return buffer_; }
  Code read(std::uint64_t offset, std::size_t bytes);
  Code write(std::uint64_t offset, std::size_t bytes);
  Code flush();

 private:
  SyncIo(Device& device, RegionId region, TierCounters& counters)
      : device_(device), region_(region), counters_(counters) {}
  Code run(const Transfer& transfer);

  Device& device_;
  RegionId region_;
  TierCounters& counters_;
  std::unique_ptr<Queue> queue_;
  std::vector<std::byte> storage_;
  MutableBytes buffer_{};
};

// Memory for DMA inside `storage`, aligned to `alignment`.
MutableBytes aligned_buffer(std::vector<std::byte>& storage, std::size_t bytes,
                            std::size_t alignment);

// What a pool's blocks were made for.
struct PoolPurpose {
  std::uint64_t layouts = 0;  // their fingerprint
  std::uint32_t profile = 0;  // its checksum; 0: there is none
};

class Pool {
 public:
  // corrupted: not a pool, of another version or layout, or truncated; invalid_argument:
  // of another profile; nothing is written then. A blank device is formatted; a pool
  // without a profile takes on the store's.
  static Result<std::unique_ptr<Pool>> open(TierState& tier, const PoolPurpose& purpose,
                                            std::uint64_t seed, SyncIo& io);

  // Fills the tier, which must be empty, with what the records say, oldest first.
  Status recover(BlockTable& table, const std::vector<BlockLayout>& layouts, SyncIo& io);

  // The image of one page of records, as of now. Under the tier's lock.
  void encode_page(const BlockTable& table, std::uint32_t page, MutableBytes out) const;

  std::uint64_t id() const noexcept { return id_; }
  std::uint32_t recovered() const noexcept { return recovered_; }
  std::uint32_t damaged() const noexcept { return damaged_; }

 private:
  explicit Pool(TierState& tier) noexcept : tier_(tier) {}
  void reject(std::uint32_t node);
  Status clear_rejected(const BlockTable& table, SyncIo& io);
  Status format(const PoolPurpose& purpose, std::uint64_t seed, SyncIo& io);
  Status write_superblock(const PoolPurpose& purpose, SyncIo& io);

  TierState& tier_;
  std::uint64_t id_ = 0;
  std::uint32_t recovered_ = 0, damaged_ = 0;
  std::set<std::uint32_t> rejected_;  // pages with records that were not believed
};

}  // namespace speckv
