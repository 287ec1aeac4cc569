// prefetch/tiers.hpp -- what a prefetcher needs of the tiers that it works for: those of
// a live store, or those that a replay models. So both run the same prefetcher.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "cxlspeckv/operation.hpp"
#include "cxlspeckv/store.hpp"

#include "store/kept_blocks.hpp"

namespace speckv::prefetch {

// Blocks on their way to a faster tier; destroyed, it waits for what cannot be stopped.
class Moves {
 public:
  virtual ~Moves() = default;
  virtual bool done() const noexcept = 0;
  // How one block ended, as promote() tells it. REQUIRES: done().
  virtual Code code(std::size_t index) const noexcept = 0;
  virtual void cancel() noexcept = 0;  // what is not begun ends as cancelled
};

// Tiers are numbered, the fastest first. Any thread, where what is behind it says so.
class Tiers {
 public:
  virtual ~Tiers() = default;
  virtual std::size_t count() const noexcept = 0;
  virtual std::uint64_t capacity(std::uint32_t tier) const noexcept = 0;  // bytes
  // The fastest tier that has each block; BlockStore::kAbsent.
  virtual void lookup(std::span<const BlockKey> keys,
                      std::span<std::int8_t> tiers) const noexcept = 0;
  // Copies them to `tier`. nullptr: there is no memory to begin it, and nothing moves.
  virtual std::unique_ptr<Moves> promote(std::span<const BlockKey> keys,
                                         std::uint32_t tier) noexcept = 0;
  // retain() and release() of kept_blocks.hpp, for the first tier.
  virtual bool retain(std::shared_ptr<KeptBlocks> kept) = 0;
  virtual void release(const KeptBlocks& kept) noexcept = 0;
  virtual PlainBytes plain_bytes(std::uint32_t tier) = 0;
};

// Those of a live store, which outlives them. `completions`: told of each promotion, with
// the tag.
std::unique_ptr<Tiers> tiers_of(BlockStore& store, CompletionQueue* completions,
                                std::uint64_t tag);

}  // namespace speckv::prefetch
