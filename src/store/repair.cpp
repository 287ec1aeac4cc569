// What a block table does after a death, and before it believes a mapping it did not
// make.
#include <algorithm>
#include <vector>

#include "store/block_table.hpp"

namespace speckv {
namespace {

bool holds_block(NodeState state) noexcept {
  return state == NodeState::filling || state == NodeState::resident;
}

}  // namespace

// Half done, and nobody is there to go on. The owner may not be the one that is buried:
// whoever buried another may have died of it.
bool BlockTable::is_orphan(const Node& node) const noexcept {
  return node.state.load() != NodeState::resident &&
         !mapping_.self().alive(node.owner.load(std::memory_order_relaxed));
}

void BlockTable::adopt_orphans() {
  // An entry in no tier exists only inside its shard's lock, so one seen here was left.
  for (std::uint32_t s = 0; s < kShards; ++s) {
    Index::Shard shard(index_, s);
    std::vector<std::uint32_t> entries;
    shard.list(entries);
    for (const std::uint32_t e : entries) {
      bool somewhere = false;
      for (std::uint32_t t = 0; t < tier_count(); ++t) {
        auto& slot = mapping_.entry(e).slots[t];
        const std::uint32_t n = slot.load(std::memory_order_relaxed);
        if (n == 0) continue;
        const bool orphan = is_orphan(tier(t).node(n - 1));
        if (orphan) slot.store(0, std::memory_order_relaxed);
        somewhere |= !orphan;
      }
      if (!somewhere) shard.remove(e);
    }
  }
  for (std::uint32_t t = 0; t < tier_count(); ++t) {
    std::vector<std::uint32_t> cleared;
    {
      const TierLock lock(tier(t));
      // Before anything changes: what is set to releasing has to be told of.
      if (tier(t).persistent) cleared.reserve(tier(t).header().extents.bump.load());
      for (std::uint32_t n = 0; n < tier(t).header().extents.bump.load(); ++n) {
        Node& node = tier(t).node(n);
        const NodeState state = node.state.load();
        const bool left =
            (state == NodeState::filling || state == NodeState::releasing) &&
            is_orphan(node);
        const bool unpinned = state == NodeState::doomed && !mapping_.pinned(t, n);
        if (!left && !unpinned) continue;
        if (tier(t).persistent) {
          node.owner.store(mapping_.self().id, std::memory_order_relaxed);
          node.state.store(NodeState::releasing, std::memory_order_seq_cst);
          quarantined_[t].fetch_add(node.units, std::memory_order_relaxed);
          cleared.push_back(n);
        } else {
          node.state.store(NodeState::unused, std::memory_order_seq_cst);
        }
      }
      tier(t).rebuild();
    }
    for (const std::uint32_t n : cleared)
      listener_.on_quarantine(t, n);
  }
  recount_tenants();
}

// What a process had just charged, or not yet, when it died cannot be told; what is there
// can be counted. Charges change under a tier's lock, so all of them are held, in order.
void BlockTable::recount_tenants() SPECKV_UNCHECKED {
  std::vector<std::unique_ptr<TierLock>> locks;
  std::vector<std::uint64_t> used(kTenants);
  for (std::uint32_t t = 0; t < tier_count(); ++t) {
    locks.push_back(std::make_unique<TierLock>(tier(t)));
    for (std::uint32_t n = 0; n < tier(t).header().extents.bump.load(); ++n) {
      const Node& node = tier(t).node(n);
      const NodeState state = node.state.load();
      if (state == NodeState::unused || state == NodeState::free) continue;
      used[node.tenant] += node.units * tier(t).geometry.unit;
    }
  }
  for (std::uint32_t id = 0; id < kTenants; ++id) {
    auto& counted = mapping_.tenant(static_cast<std::uint16_t>(id)).used;
    if (counted.load() != used[id])
      counted.store(used[id]);  // a page not dirtied is free
  }
}

// Whether what an entry says of tier `t` agrees with the node it names.
bool BlockTable::slot_is_sound(std::uint32_t e, std::uint32_t t) const noexcept {
  const std::uint32_t slot = mapping_.entry(e).slots[t].load(std::memory_order_relaxed);
  if (slot == 0) return true;
  if (slot > tier(t).geometry.nodes) return false;
  const Node& node = tier(t).node(slot - 1);
  return node.entry == e && holds_block(node.state.load(std::memory_order_relaxed));
}

// Whether a shard's chains can lead there. REQUIRES: no shard's bump is out of range.
bool BlockTable::entry_is_listed(std::uint32_t e) const noexcept {
  const std::uint32_t each = mapping_.plan().shard_entries;
  return e < mapping_.plan().entries &&
         e % each < mapping_.shard(e / each).bump.load(std::memory_order_relaxed) &&
         mapping_.entry(e).used.load(std::memory_order_relaxed) != 0;
}

// Nobody else is attached, so the locks are ours to clear: their words may be damaged
// too.
void BlockTable::distrust(std::size_t layouts) {
  const MappingPlan& plan = mapping_.plan();
  for (std::uint32_t s = 0; s < kShards; ++s) {
    mapping_.shard(s).lock.forget();
    if (mapping_.shard(s).bump.load() > plan.shard_entries) {
      mapping_.shard(s).bump.store(plan.shard_entries);
    }
    for (std::uint32_t i = 0; i < mapping_.shard(s).bump.load(); ++i) {
      const std::uint32_t e = s * plan.shard_entries + i;
      Entry& entry = mapping_.entry(e);
      if (entry.used.load() == 0) continue;
      bool somewhere = false;
      for (std::uint32_t t = 0; t < kMaxTiers; ++t) {
        const bool sound = t < tier_count() && slot_is_sound(e, t);
        if (!sound) entry.slots[t].store(0);
        somewhere |= entry.slots[t].load() != 0;
      }
      if (!somewhere || entry.layout >= layouts || index_.misplaced(entry.key, s)) {
        entry.used.store(0);
      }
    }
    index_.rebuild(s);
  }
  for (std::uint32_t t = 0; t < tier_count(); ++t) {
    TierState& its = tier(t);
    its.header().lock.forget();
    its.header().commit.forget();
    const std::uint32_t nodes =
        std::min(its.header().extents.bump.load(), its.geometry.nodes);
    its.header().extents.bump.store(nodes);
    if (its.header().generation == 0) its.header().generation = 1;  // 0: not committed
    std::vector<std::uint32_t> given_up;
    for (std::uint32_t n = 0; n < nodes; ++n) {
      Node& node = its.node(n);
      const NodeState state = node.state.load();
      if (state == NodeState::unused || state == NodeState::free) continue;
      const bool sound = state == NodeState::resident && entry_is_listed(node.entry) &&
                         mapping_.entry(node.entry).slots[t].load() == n + 1 &&
                         node.units <= its.geometry.units &&
                         node.frame_bytes <= node.units * its.geometry.unit;
      if (sound) continue;
      // A pool's record may still name it, so it must be cleared before the bytes are
      // used.
      node.state.store(its.persistent ? NodeState::releasing : NodeState::unused);
      node.owner.store(mapping_.self().id);
      if (its.persistent) given_up.push_back(n);
    }
    its.rebuild();  // which also drops extents that overlap or leave the tier
    for (const std::uint32_t n : given_up) {
      if (its.node(n).state.load() != NodeState::releasing) continue;
      quarantined_[t].fetch_add(its.node(n).units, std::memory_order_relaxed);
      listener_.on_quarantine(t, n);
    }
  }
  for (std::uint32_t s = 0; s < kShards; ++s) {
    Index::Shard shard(index_, s);
    std::vector<std::uint32_t> entries;
    shard.list(entries);
    for (const std::uint32_t e : entries) {
      bool somewhere = false;
      for (std::uint32_t t = 0; t < tier_count(); ++t) {
        if (!slot_is_sound(e, t)) mapping_.entry(e).slots[t].store(0);
        somewhere |= mapping_.entry(e).slots[t].load() != 0;
      }
      if (!somewhere) shard.remove(e);
    }
  }
  recount_tenants();
}

}  // namespace speckv
