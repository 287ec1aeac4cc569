// store/kept_blocks.hpp -- blocks that a full tier passes over, as it passes over what is
// pinned, because somebody expects them back: what is passed over counts as just used.
//
// Somebody (prefetch/) numbers owners of blocks, says which block is whose and how deep
// in its owner's chain it lies, and how much of each owner's chain is to be kept. The
// tier asks under its lock, so asking takes no lock, allocates nothing and looks at one
// line of cache. Rows are lost where too many share a line, and a row knows its block by
// 32 bits of the key: a wrong answer costs a worse victim and nothing else.
//
// Only so many blocks are passed over as allow() said last: a set that nobody renews
// holds each of its blocks back once, as one more use would, and not for ever.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "cxlspeckv/store.hpp"

namespace speckv {

class KeptBlocks {
 public:
  static constexpr std::uint32_t kAll = (1U << 30) - 1;  // a whole chain
  static constexpr std::uint32_t kCauses = 3;            // why: numbers of the caller's

  // Rows for at least so many blocks; owners are below `owners`.
  // REQUIRES: both at least 1, owners at most 2^16.
  KeptBlocks(std::uint32_t blocks, std::uint32_t owners);

  // ---- by one thread at a time
  void own(BlockKey block, std::uint32_t owner, std::uint32_t depth) noexcept;
  void disown(BlockKey block, std::uint32_t owner) noexcept;
  // Of the owner's chain, the blocks of a depth below `depth`; 0: none.
  void keep(std::uint32_t owner, std::uint32_t depth, std::uint32_t cause) noexcept;
  // So many more may be passed over from now on, in place of what was left.
  void allow(std::uint64_t blocks) noexcept;

  // ---- by any thread
  // Whether a full tier passes the block over; counted.
  bool pass(BlockKey block) noexcept;
  // The tier has the block no more.
  void left(BlockKey block) noexcept;
  // Whether it was told so of any of the owner's, since this was asked last.
  bool lost(std::uint32_t owner) noexcept {
    return lost_[owner].load(std::memory_order_relaxed) != 0 &&
           lost_[owner].exchange(0, std::memory_order_relaxed) != 0;
  }
  // How often it passed a block over, by the cause of keep().
  std::uint64_t passed(std::uint32_t cause) const noexcept {
    return passed_[cause].load(std::memory_order_relaxed);
  }

 private:
  // A row: 32 bits of the key, 16 of the owner, 16 of the depth and one more; 0 is free.
  static constexpr std::size_t kRows = 8;  // a line of cache
  struct alignas(64) Line {
    std::array<std::atomic<std::uint64_t>, kRows> rows{};
  };
  Line& line_of(BlockKey block) const noexcept;
  std::uint64_t find(BlockKey block) const noexcept;  // a row of an owner; or 0

  const std::size_t lines_;  // a power of two
  std::unique_ptr<Line[]> line_;
  std::vector<std::atomic<std::uint32_t>> kept_;  // depth, and the cause above it
  std::vector<std::atomic<std::uint8_t>> lost_;   // by owner
  std::atomic<std::int64_t> allowed_{0};
  std::array<std::atomic<std::uint64_t>, kCauses> passed_{};
};

// The tier passes over what is in `kept` from now on, until release(). False, and nothing
// changes: it does so for another set. Any thread. REQUIRES: there is such a tier.
bool retain(BlockStore& store, std::size_t tier, std::shared_ptr<KeptBlocks> kept);
// Nobody asks the set any more when this returns.
void release(BlockStore& store, std::size_t tier, const KeptBlocks& kept);
// In bytes of plain blocks: what the tier has, and has room for at the ratio of that
// beside the blocks of this process's sequences that still grow.
struct PlainBytes {
  std::uint64_t held = 0, capacity = 0;
};
PlainBytes plain_bytes(BlockStore& store, std::size_t tier);

}  // namespace speckv
