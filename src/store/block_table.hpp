// store/block_table.hpp -- every change of state a block can make, and nothing else.
//
//   absent -> filling -> resident -> (doomed ->) releasing -> absent      in each tier
//
// The table moves no bytes: callers reserve a slot, fill it, publish it. Any thread.
// Locks: shard, then tier, both short; the two steps of an eviction (choose under the
// tier's lock, take under the shard's) check again what they saw.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "store/index.hpp"
#include "store/kept_blocks.hpp"
#include "store/tier_state.hpp"

namespace speckv {

// A block's copy in one tier, pinned there or being filled by whoever holds this.
struct Copy {
  BlockKey key{};
  std::uint32_t tier = 0, node = kNone, entry = kNone;
  std::uint32_t frame_bytes = 0;
  std::uint32_t first_position = kNoPosition;
  std::uint16_t layout = 0, tenant = 0;
  std::uint64_t order = 0;  // of its publication, among all changes: Event::order
};

class BlockTable {
 public:
  // Told of what happens, with no lock held.
  struct Listener {
    virtual void on_event(Event::Kind kind, BlockKey key, std::uint32_t tier,
                          std::uint64_t bytes, std::uint64_t order) noexcept = 0;
    // A persistent tier's slot was filled: its record is to be written.
    virtual void on_published(std::uint32_t tier, std::uint32_t node,
                              std::uint64_t bytes) noexcept = 0;
    // A persistent tier's slot was given up: it may be reused once its record is cleared.
    virtual void on_quarantine(std::uint32_t tier, std::uint32_t node) noexcept = 0;
    // A tier is full of blocks that must move down first.
    virtual void on_pressure(std::uint32_t tier) noexcept = 0;

   protected:
    ~Listener() = default;
  };

  BlockTable(Mapping& mapping, std::vector<std::unique_ptr<TierState>>& tiers,
             Listener& listener) noexcept
      : mapping_(mapping), index_(mapping), tiers_(tiers), listener_(listener) {}

  // ---- finding

  enum class Found : std::uint8_t { absent, pending, resident };
  // The fastest tier from `from` on whose copy can be used now; pins it.
  Found acquire(BlockKey key, Copy& copy, std::uint32_t from = 0);
  // The same without pinning. `tier`: of the copy that is resident or pending.
  Found find(BlockKey key, std::uint32_t& tier) const;
  // The state of the block in one tier. `committed`, if given: whether a flush has
  // covered the record of a resident copy; `node`: where that is.
  Found find_in(BlockKey key, std::uint32_t tier, bool* committed = nullptr,
                std::uint32_t* node = nullptr);
  void unpin(const Copy& copy);
  // After a hit: tells the policy, and that the block was used again.
  void touch(const Copy& copy);

  // ---- filling

  // A slot of at least `bytes`, evicting what may be. no_space: nothing more may be given
  // up. busy: slots were given up, and will be free after the tier's next commit.
  Code reserve(std::uint32_t tier, std::uint64_t bytes, std::uint16_t tenant,
               std::uint32_t& node);
  // Makes the reserved `copy.node` the future home of `copy.key`. ok; busy: the block is
  // in that tier (or, if `only_if_absent`, in any that answers) or on its way; no_space:
  // the index is full, or the tenant's quota; not_found: `must_exist` and it does not.
  // The node is given back on failure.
  struct LinkRule {
    bool only_if_absent = false, must_exist = false;
    bool keep_node = false;  // on failure: it holds something that must not be lost
  };
  Code link(Copy& copy, LinkRule rule);
  // The slot now holds a whole frame. not_found: the block was erased meanwhile, and the
  // slot is gone. With `pin`, the copy is pinned as by acquire().
  Code publish(Copy& copy, std::uint64_t frame_bytes, bool pin = false);
  // Gives the slot back unfilled.
  void abandon(const Copy& copy);

  // ---- giving up

  // Takes the copy out of its tier; false if it is gone, or pinned, or must stay. What is
  // corrupted always goes: pinned, it lives on without a name.
  // REQUIRES: why is evict, vacate or corrupted.
  bool drop(const Copy& copy, Event::Kind why);
  // Forgets the block in all tiers; pinned copies live on, nameless, until unpinned.
  bool erase(BlockKey key);
  // Gives up the coldest block that may be; false if there is none.
  bool evict_one(std::uint32_t tier);
  // Looks at the coldest block of a tier that shall have room. freed: it could be
  // dropped. chosen: it has to move down first, and `copy` pins it. nothing: it can do
  // neither.
  enum class Demotion : std::uint8_t { nothing, freed, chosen };
  Demotion demote_one(std::uint32_t tier, Copy& copy);
  // What a full tier passes over as long as there is something else (kept_blocks.hpp).
  // False: it has another set already.
  bool retain(std::uint32_t tier, std::shared_ptr<KeptBlocks> kept);
  void release(std::uint32_t tier, const KeptBlocks& kept);
  // After its record is cleared: the slot is free.
  void release_quarantined(std::uint32_t tier, std::uint32_t node);
  // Slots in quarantine, in units of the tier.
  std::uint32_t quarantined_units(std::uint32_t tier) const noexcept {
    return quarantined_[tier].load(std::memory_order_relaxed);
  }

  // ---- references: a referenced block may move, but is not forgotten

  bool reference(BlockKey key, std::uint32_t& entry);
  void unreference(std::uint32_t entry) noexcept;

  // The first tier below that blocks of `tier` move to; tier count if there is none.
  std::uint32_t demotion_target(std::uint32_t tier) const noexcept;

  // Takes over what processes that no longer live left half done.
  void adopt_orphans();
  // Checks every record of a mapping that somebody else left, drops what does not agree,
  // and derives the rest anew. REQUIRES: no other process is attached.
  void distrust(std::size_t layouts);
  // The keys of every block of one shard, appended.
  void list_keys(std::uint32_t shard, std::vector<BlockKey>& keys);
  // The first key of the tenant's from place `next` of the shard on, and `next` beyond
  // it; false if there is none.
  bool next_key_of(std::uint16_t tenant, std::uint32_t shard, std::uint32_t& next,
                   BlockKey& key);

  Mapping& mapping() const noexcept { return mapping_; }
  const Index& index() const noexcept { return index_; }
  Index& index() noexcept { return index_; }
  TierState& tier(std::uint32_t t) const noexcept { return *tiers_[t]; }
  std::uint32_t tier_count() const noexcept {
    return static_cast<std::uint32_t>(tiers_.size());
  }

 private:
  class Look;
  class Evictable;
  class Movable;

  static NodeState state_of(const Node& node) noexcept {
    // seq_cst, like the pins: an erase stores `doomed` and then looks for pins, an unpin
    // drops its pin and then looks for `doomed`; one of the two must see the other.
    return node.state.load(std::memory_order_seq_cst);
  }

  // Under the shard's lock: the place of what happens there among all changes.
  std::uint64_t next_order() noexcept {
    return changes_.fetch_add(1, std::memory_order_relaxed) + 1;
  }
  Copy copy_of(BlockKey key, std::uint32_t tier, std::uint32_t entry) const noexcept;
  Copy victim_at(std::uint32_t tier, Slot slot) const noexcept;
  bool in_other_tier(const Entry& entry, std::uint32_t tier) const noexcept;
  bool entry_is_listed(std::uint32_t entry) const noexcept;
  bool is_orphan(const Node& node) const noexcept;
  bool slot_is_sound(std::uint32_t entry, std::uint32_t tier) const noexcept;
  bool must_demote(std::uint32_t entry, std::uint32_t tier) const noexcept;
  bool may_drop(std::uint32_t entry, std::uint32_t tier) const noexcept;
  static bool is_anywhere(const Entry& entry) noexcept;
  bool is_reachable(const Entry& entry) const noexcept;
  Code make_resident(Copy& copy, std::uint64_t frame_bytes, bool pin);
  bool forget(std::uint32_t tier, std::uint32_t entry) noexcept;
  void let_go(std::uint32_t tier, std::uint32_t node, bool doomed) noexcept;
  // Under the shard's lock: out of the entry and the policy, on to quarantine or free.
  void detach(std::uint32_t tier, std::uint32_t entry) noexcept;
  void free_node(std::uint32_t tier, std::uint32_t node) noexcept;
  void free_doomed(std::uint32_t tier, std::uint32_t node) noexcept;
  void recount_tenants();
  void charge(std::uint16_t tenant, std::uint64_t bytes) noexcept;
  void credit(std::uint16_t tenant, std::uint64_t bytes) noexcept;

  Mapping& mapping_;
  mutable Index index_;  // looking a key up locks its shard
  std::vector<std::unique_ptr<TierState>>& tiers_;
  Listener& listener_;
  std::atomic<std::uint32_t> quarantined_[kMaxTiers] = {};
  std::shared_ptr<KeptBlocks> kept_[kMaxTiers];  // each under its tier's lock
  std::atomic<std::uint64_t> changes_{0};
};

}  // namespace speckv
