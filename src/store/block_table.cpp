#include "store/block_table.hpp"

#include <algorithm>
#include <iterator>
#include <vector>

namespace speckv {
Copy BlockTable::copy_of(BlockKey key, std::uint32_t t, std::uint32_t e) const noexcept {
  const Entry& entry = mapping_.entry(e);
  const std::uint32_t n = entry.slots[t].load(std::memory_order_relaxed) - 1;
  return {key,
          t,
          n,
          e,
          tier(t).node(n).frame_bytes,
          entry.first_position,
          entry.layout,
          entry.tenant,
          0};
}

// ---- finding

BlockTable::Found BlockTable::acquire(BlockKey key, Copy& copy, std::uint32_t from) {
  const Index::Shard shard(index_, key);
  const std::uint32_t e = shard.find(key);
  if (e == kNone) return Found::absent;
  Found found = Found::absent;
  for (std::uint32_t t = from; t < tier_count(); ++t) {
    if (mapping_.entry(e).slots[t].load(std::memory_order_relaxed) == 0) continue;
    if (tier(t).fenced()) continue;
    const Copy here = copy_of(key, t, e);
    if (state_of(tier(t).node(here.node)) == NodeState::resident) {
      copy = here;
      mapping_.my_pins(t, here.node).fetch_add(1);
      return Found::resident;
    }
    if (found == Found::absent) copy = here;
    found = Found::pending;
  }
  return found;
}

BlockTable::Found BlockTable::find(BlockKey key, std::uint32_t& where) const {
  const Index::Shard shard(index_, key);
  const std::uint32_t e = shard.find(key);
  if (e == kNone) return Found::absent;
  Found found = Found::absent;
  for (std::uint32_t t = 0; t < tier_count(); ++t) {
    const std::uint32_t slot = mapping_.entry(e).slots[t].load(std::memory_order_relaxed);
    if (slot == 0 || tier(t).fenced()) continue;
    if (found == Found::absent) where = t;
    found = Found::pending;
    if (state_of(tier(t).node(slot - 1)) != NodeState::resident) continue;
    where = t;
    return Found::resident;
  }
  return found;
}

BlockTable::Found BlockTable::find_in(BlockKey key, std::uint32_t t, bool* committed,
                                      std::uint32_t* node) {
  const Index::Shard shard(index_, key);
  const std::uint32_t e = shard.find(key);
  if (e == kNone) return Found::absent;
  const std::uint32_t slot = mapping_.entry(e).slots[t].load(std::memory_order_relaxed);
  if (slot == 0) return Found::absent;
  TierState& its = tier(t);
  if (state_of(its.node(slot - 1)) != NodeState::resident) return Found::pending;
  if (node != nullptr) *node = slot - 1;
  if (committed != nullptr) {
    // A commit stamps a record when it writes it, and raises the tier's own number when
    // it has been flushed.
    const TierLock lock(its);
    const std::uint32_t generation = its.node(slot - 1).generation;
    *committed = generation != 0 && generation < its.header().generation;
  }
  return Found::resident;
}

void BlockTable::unpin(const Copy& copy) {
  mapping_.my_pins(copy.tier, copy.node).fetch_sub(1);
  if (state_of(tier(copy.tier).node(copy.node)) == NodeState::doomed) {
    free_doomed(copy.tier, copy.node);
  }
}

void BlockTable::touch(const Copy& copy) {
  TierState& its = tier(copy.tier);
  its.counters().hits.fetch_add(1, std::memory_order_relaxed);
  mapping_.entry(copy.entry).touched.store(1, std::memory_order_relaxed);
  const TierLock lock(its);
  if (state_of(its.node(copy.node)) == NodeState::resident) {
    its.policy().touched(Slot{copy.node});
  }
}

// ---- filling

Code BlockTable::reserve(std::uint32_t t, std::uint64_t bytes, std::uint16_t tenant,
                         std::uint32_t& node) {
  TierState& its = tier(t);
  const std::uint32_t units = its.units_for(bytes);
  if (units == 0) return Code::no_space;
  for (;;) {
    {
      const TierLock lock(its);
      const std::uint32_t n = its.extents().allocate(units, mapping_.self().id);
      if (n != kNone) {
        its.node(n).tenant = tenant;
        charge(tenant, std::uint64_t{its.node(n).units} * its.geometry.unit);
        node = n;
        return Code::ok;
      }
    }
    if (quarantined_units(t) >= units) return Code::busy;
    if (!evict_one(t)) return quarantined_units(t) > 0 ? Code::busy : Code::no_space;
  }
}

Code BlockTable::link(Copy& copy, LinkRule rule) {
  Code code = Code::ok;
  {
    Index::Shard shard(index_, copy.key);
    std::uint32_t e = shard.find(copy.key);
    if (e == kNone) {
      if (rule.must_exist) {
        code = Code::not_found;
      } else {
        e = shard.insert(copy.key, copy.layout, copy.tenant, copy.first_position);
        if (e == kNone) code = Code::no_space;
      }
    } else if (mapping_.entry(e).slots[copy.tier].load(std::memory_order_relaxed) != 0 ||
               (rule.only_if_absent && is_reachable(mapping_.entry(e)))) {
      code = Code::busy;
    }
    if (code == Code::ok) {
      copy.entry = e;
      tier(copy.tier).node(copy.node).entry = e;
      mapping_.entry(e).slots[copy.tier].store(copy.node + 1, std::memory_order_release);
      return code;
    }
  }
  if (!rule.keep_node) free_node(copy.tier, copy.node);
  return code;
}

Code BlockTable::publish(Copy& copy, std::uint64_t frame_bytes, bool pin) {
  const Code code = make_resident(copy, frame_bytes, pin);
  if (code == Code::ok && tier(copy.tier).persistent) {
    listener_.on_published(copy.tier, copy.node, frame_bytes);
  }
  return code;
}

Code BlockTable::make_resident(Copy& copy, std::uint64_t frame_bytes, bool pin) {
  TierState& its = tier(copy.tier);
  Node& node = its.node(copy.node);
  const Index::Shard shard(index_, copy.key);
  Entry& entry = mapping_.entry(copy.entry);
  const bool wanted =
      entry.used.load(std::memory_order_relaxed) != 0 && entry.key == copy.key &&
      entry.slots[copy.tier].load(std::memory_order_relaxed) == copy.node + 1;
  const TierLock lock(its);
  if (!wanted) {
    credit(node.tenant, std::uint64_t{node.units} * its.geometry.unit);
    its.extents().release(copy.node);
    return Code::not_found;
  }
  const std::uint32_t before = node.units;
  its.extents().trim(copy.node, its.units_for(frame_bytes));
  credit(node.tenant, std::uint64_t{before - node.units} * its.geometry.unit);
  node.frame_bytes = copy.frame_bytes = static_cast<std::uint32_t>(frame_bytes);
  if (pin) mapping_.my_pins(copy.tier, copy.node).fetch_add(1);
  // The owner is left as it is: only the states on the way in and out need one.
  node.state.store(NodeState::resident, std::memory_order_seq_cst);
  its.policy().filled(Slot{copy.node}, copy.key.high);
  its.counters().blocks.fetch_add(1, std::memory_order_relaxed);
  its.counters().plain_bytes.fetch_add(its.plain_bytes(entry.layout));
  copy.order = next_order();
  return Code::ok;
}

void BlockTable::abandon(const Copy& copy) {
  if (copy.entry != kNone) {
    Index::Shard shard(index_, copy.key);
    Entry& entry = mapping_.entry(copy.entry);
    if (entry.used.load(std::memory_order_relaxed) != 0 && entry.key == copy.key &&
        entry.slots[copy.tier].load(std::memory_order_relaxed) == copy.node + 1) {
      entry.slots[copy.tier].store(0, std::memory_order_relaxed);
      if (!is_anywhere(entry)) shard.remove(copy.entry);
    }
  }
  free_node(copy.tier, copy.node);
}

// ---- giving up

bool BlockTable::is_anywhere(const Entry& entry) noexcept {
  return std::any_of(std::begin(entry.slots), std::end(entry.slots),
                     [](const auto& slot) { return slot.load() != 0; });
}

// In, or on its way into, a tier that answers.
bool BlockTable::is_reachable(const Entry& entry) const noexcept {
  for (std::uint32_t t = 0; t < tier_count(); ++t) {
    if (entry.slots[t].load(std::memory_order_relaxed) != 0 && !tier(t).fenced())
      return true;
  }
  return false;
}

void BlockTable::detach(std::uint32_t t, std::uint32_t e) noexcept {
  TierState& its = tier(t);
  Entry& entry = mapping_.entry(e);
  const std::uint32_t n = entry.slots[t].load(std::memory_order_relaxed) - 1;
  Node& node = its.node(n);
  const TierLock lock(its);
  // The owner first: a process that dies past this point leaves a slot that names it.
  node.owner.store(mapping_.self().id, std::memory_order_relaxed);
  node.state.store(NodeState::releasing, std::memory_order_seq_cst);
  entry.slots[t].store(0, std::memory_order_relaxed);
  its.policy().emptied(Slot{n});
  if (kept_[t] != nullptr) kept_[t]->left(entry.key);
  its.counters().blocks.fetch_sub(1, std::memory_order_relaxed);
  its.counters().plain_bytes.fetch_sub(its.plain_bytes(entry.layout));
  if (its.persistent) {
    quarantined_[t].fetch_add(node.units, std::memory_order_relaxed);
    return;
  }
  credit(node.tenant, std::uint64_t{node.units} * its.geometry.unit);
  its.extents().release(n);
}

// Under the shard's lock: a resident copy loses its name. True if it lives on, because it
// is pinned, as `doomed`.
bool BlockTable::forget(std::uint32_t t, std::uint32_t e) noexcept {
  TierState& its = tier(t);
  Entry& entry = mapping_.entry(e);
  const std::uint32_t n = entry.slots[t].load(std::memory_order_relaxed) - 1;
  if (!mapping_.pinned(t, n)) {
    detach(t, e);
    return false;
  }
  Node& node = its.node(n);
  const TierLock lock(its);
  node.owner.store(mapping_.self().id, std::memory_order_relaxed);
  node.state.store(NodeState::doomed, std::memory_order_seq_cst);
  entry.slots[t].store(0, std::memory_order_relaxed);
  its.policy().emptied(Slot{n});
  if (kept_[t] != nullptr) kept_[t]->left(entry.key);
  its.counters().blocks.fetch_sub(1, std::memory_order_relaxed);
  its.counters().plain_bytes.fetch_sub(its.plain_bytes(entry.layout));
  return true;
}

// With no lock held, after forget(): on with what it took out.
void BlockTable::let_go(std::uint32_t t, std::uint32_t n, bool doomed) noexcept {
  if (doomed) {
    free_doomed(t, n);  // the last pin may have gone before it could see
  } else if (tier(t).persistent) {
    listener_.on_quarantine(t, n);
  }
}

bool BlockTable::drop(const Copy& copy, Event::Kind why) {
  TierState& its = tier(copy.tier);
  const bool corrupted = why == Event::Kind::corrupted;
  bool doomed = false;
  std::uint64_t order = 0;
  {
    Index::Shard shard(index_, copy.key);
    Entry& entry = mapping_.entry(copy.entry);
    if (entry.used.load(std::memory_order_relaxed) == 0 || entry.key != copy.key ||
        entry.slots[copy.tier].load(std::memory_order_relaxed) != copy.node + 1 ||
        state_of(its.node(copy.node)) != NodeState::resident) {
      return false;
    }
    if (!corrupted &&
        (mapping_.pinned(copy.tier, copy.node) || !may_drop(copy.entry, copy.tier))) {
      return false;
    }
    doomed = forget(copy.tier, copy.entry);
    if (!is_anywhere(entry)) shard.remove(copy.entry);
    order = next_order();
  }
  if (why == Event::Kind::evict) {
    its.counters().evictions.fetch_add(1, std::memory_order_relaxed);
  } else if (corrupted) {
    its.counters().corrupted.fetch_add(1, std::memory_order_relaxed);
  }
  let_go(copy.tier, copy.node, doomed);
  listener_.on_event(why, copy.key, copy.tier, copy.frame_bytes, order);
  return true;
}

bool BlockTable::erase(BlockKey key) {
  std::uint32_t taken[kMaxTiers];
  bool doomed[kMaxTiers] = {};
  std::uint64_t order = 0;
  std::fill(std::begin(taken), std::end(taken), kNone);
  {
    Index::Shard shard(index_, key);
    const std::uint32_t e = shard.find(key);
    if (e == kNone || mapping_.referenced(e)) return false;
    Entry& entry = mapping_.entry(e);
    for (std::uint32_t t = 0; t < tier_count(); ++t) {
      const std::uint32_t slot = entry.slots[t].load(std::memory_order_relaxed);
      if (slot == 0) continue;
      if (state_of(tier(t).node(slot - 1)) == NodeState::resident) {
        doomed[t] = forget(t, e);
        taken[t] = slot - 1;
      } else {  // whoever fills it will find it unwanted
        entry.slots[t].store(0, std::memory_order_relaxed);
      }
    }
    shard.remove(e);
    order = next_order();
  }
  for (std::uint32_t t = 0; t < tier_count(); ++t) {
    if (taken[t] != kNone) let_go(t, taken[t], doomed[t]);
  }
  listener_.on_event(Event::Kind::erase, key, 0, 0, order);
  return true;
}

void BlockTable::free_node(std::uint32_t t, std::uint32_t n) noexcept {
  TierState& its = tier(t);
  const TierLock lock(its);
  credit(its.node(n).tenant, std::uint64_t{its.node(n).units} * its.geometry.unit);
  its.extents().release(n);
}

void BlockTable::free_doomed(std::uint32_t t, std::uint32_t n) noexcept {
  TierState& its = tier(t);
  {
    const TierLock lock(its);
    Node& node = its.node(n);
    if (state_of(node) != NodeState::doomed || mapping_.pinned(t, n)) return;
    node.owner.store(mapping_.self().id, std::memory_order_relaxed);
    node.state.store(NodeState::releasing, std::memory_order_seq_cst);
    if (its.persistent) {
      quarantined_[t].fetch_add(node.units, std::memory_order_relaxed);
    } else {
      credit(node.tenant, std::uint64_t{node.units} * its.geometry.unit);
      its.extents().release(n);
      return;
    }
  }
  listener_.on_quarantine(t, n);
}

void BlockTable::release_quarantined(std::uint32_t t, std::uint32_t n) {
  quarantined_[t].fetch_sub(tier(t).node(n).units, std::memory_order_relaxed);
  free_node(t, n);
}

// ---- references and quotas

bool BlockTable::reference(BlockKey key, std::uint32_t& entry) {
  const Index::Shard shard(index_, key);
  entry = shard.find(key);
  if (entry == kNone) return false;
  mapping_.my_refs(entry).fetch_add(1);
  return true;
}

void BlockTable::unreference(std::uint32_t entry) noexcept {
  mapping_.my_refs(entry).fetch_sub(1);
}

void BlockTable::charge(std::uint16_t tenant, std::uint64_t bytes) noexcept {
  mapping_.tenant(tenant).used.fetch_add(bytes, std::memory_order_relaxed);
}
void BlockTable::credit(std::uint16_t tenant, std::uint64_t bytes) noexcept {
  mapping_.tenant(tenant).used.fetch_sub(bytes, std::memory_order_relaxed);
}

void BlockTable::list_keys(std::uint32_t number, std::vector<BlockKey>& keys) {
  std::vector<std::uint32_t> entries;
  const Index::Shard shard(index_, number);
  shard.list(entries);
  for (const std::uint32_t e : entries)
    keys.push_back(mapping_.entry(e).key);
}

bool BlockTable::next_key_of(std::uint16_t tenant, std::uint32_t number,
                             std::uint32_t& next, BlockKey& key) {
  const Index::Shard shard(index_, number);
  const std::uint32_t first = number * mapping_.plan().shard_entries;
  while (next < mapping_.shard(number).bump.load(std::memory_order_relaxed)) {
    const Entry& entry = mapping_.entry(first + next++);
    if (entry.used.load(std::memory_order_relaxed) == 0 || entry.tenant != tenant)
      continue;
    key = entry.key;
    return true;
  }
  return false;
}

}  // namespace speckv
