// prefetch/chains.hpp -- the chains of the sessions that a prefetcher knows: where the
// store had each block when it was last looked at, whose it is, and what of it was staged
// and not read since.
//
// A block that several chains share belongs to the session that was finished last, so
// that no byte counts twice. Sessions are small dense numbers. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "cxlspeckv/store.hpp"

#include "prefetch/journal.hpp"
#include "prefetch/tiers.hpp"

namespace speckv::prefetch {

using Numbers = std::array<std::uint64_t, kMostTiers>;  // bytes, a tier each

// What came of one block of a chunk.
enum class Fate : std::uint8_t {
  stayed,  // it was not moved
  unread,  // it came, and waits for its session
  useful,  // it came before its session did
  late,    // it came after its session did
  wasted,  // it came for nobody
};

class Chains {
 public:
  Chains(const Tiers& tiers, RecordedScheduler& scheduler, std::uint64_t block_bytes,
         std::uint32_t sessions);
  // Tells the set from now on whose each block is. Before any chain is set.
  void tell(KeptBlocks* kept) noexcept { kept_ = kept; }

  // A finished request's chain takes the place of the session's last one. How many blocks
  // at its front were known before.
  std::uint32_t set(std::uint32_t session, std::span<const BlockKey> chain, double now);
  // Asks the store where the session's blocks are, and tells the scheduler.
  void look(std::uint32_t session, double now);
  // The session's request came: what was staged for it is read, or was wasted. Bytes of
  // its chain in each tier.
  Numbers read(std::uint32_t session, double now);
  // Somebody says anew that the session returns: what was staged for nothing may be
  // staged once more. So bytes that are staged are bounded by what is asked for, whatever
  // the store's policy gives up in between.
  void wanted(std::uint32_t session, double now);
  // Nobody comes for what was staged for the session.
  void waste(std::uint32_t session, double now);
  // The session is forgotten.
  void clear(std::uint32_t session, double now);

  // The first blocks of the session in a tier, at most so many, which are then moving.
  std::vector<BlockKey> take(std::uint32_t session, std::uint32_t tier, std::size_t most);
  // What came of them.
  void landed(const Chunk& chunk, std::span<const BlockKey> keys,
              std::span<const Fate> fates, double now);
  // Whether each block is in the tier or a faster one now.
  std::vector<bool> are_in(std::span<const BlockKey> keys, std::uint32_t tier);

  // Blocks from the front on of which the tier has so many bytes; all, if it has fewer.
  std::uint32_t front(std::uint32_t session, std::uint32_t tier,
                      std::uint64_t bytes) const;

  std::size_t blocks() const noexcept { return blocks_; }
  std::size_t length(std::uint32_t session) const noexcept {
    return rows_[session].keys.size();
  }
  // Bytes of all chains in a tier, as they were when they were last looked at.
  std::uint64_t held(std::uint32_t tier) const noexcept {
    return static_cast<std::uint64_t>(held_[tier]);
  }
  std::uint64_t unread_of(std::uint32_t session) const noexcept {
    return rows_[session].unread;
  }
  std::uint64_t unread(Source source) const noexcept {
    return unread_[static_cast<std::size_t>(source)];
  }
  std::uint64_t staged(Source source) const noexcept {
    return staged_[static_cast<std::size_t>(source)];
  }

 private:
  struct Place {
    std::uint32_t owner = 0;
    std::int8_t tier = BlockStore::kAbsent;
    std::uint8_t staged_to = 0;  // + 1; 0: not staged, or read since
    bool moving = false;
    bool lost = false;  // staged for nothing: not again before it is wanted() anew
    Source source{};
  };
  struct Row {
    std::vector<BlockKey> keys{};
    std::uint64_t unread = 0;  // bytes
  };
  using Changes = std::array<std::int64_t, kMostTiers>;
  using Outcome = Scheduler::Outcome;

  std::span<const std::int8_t> find(std::span<const BlockKey> keys);
  void put(Place& place, std::int8_t tier, Changes& changes) const;
  void tell_held(std::uint32_t session, const Changes& changes);
  void settle(Place& place, Outcome outcome, double now);
  void tell_outcome(Source source, std::uint64_t bytes, Outcome outcome, double now);
  void leave(std::uint32_t session, BlockKey key, Changes& changes, double now);
  bool own(std::uint32_t session, Place& place, double now);

  const Tiers& tiers_;
  RecordedScheduler& scheduler_;
  const std::uint64_t block_bytes_;
  KeptBlocks* kept_ = nullptr;
  std::vector<Row> rows_;
  std::unordered_map<BlockKey, Place> places_;
  std::size_t blocks_ = 0;  // of all chains together
  Changes held_{};
  std::array<std::uint64_t, kSources> unread_{}, staged_{};
  std::vector<std::int8_t> found_;
};

}  // namespace speckv::prefetch
