// support/invariants.hpp -- what must hold of a store's index and tiers when nobody is
// using it: every byte, block, pin and tenant accounted for, every list whole.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "store/impl.hpp"

namespace speckv::test {

// Collects what does not hold, as sentences.
class Invariants {
 public:
  explicit Invariants(BlockStore& store) : impl_(store.impl()) {}

  std::vector<std::string> check() {
    for (std::uint32_t t = 0; t < impl_.tiers.size(); ++t)
      check_tier(t);
    for (std::uint32_t s = 0; s < kShards; ++s)
      check_shard(s);
    for (std::uint32_t id = 0; id < kTenants; ++id) {
      const auto tenant = static_cast<std::uint16_t>(id);
      const std::uint64_t charged = impl_.mapping->tenant(tenant).used.load();
      if (charged != tenants_[tenant])
        say("tenant ", id, " is charged ", charged, " for ", tenants_[tenant]);
    }
    return std::move(faults_);
  }

 private:
  template <class... T>
  void say(const char* what, T... rest) {
    std::string text = what;
    (append(text, rest), ...);
    faults_.push_back(std::move(text));
  }
  static void append(std::string& text, const char* more) { text += more; }
  static void append(std::string& text, std::uint64_t more) {
    text += std::to_string(more);
  }

  static bool used(const Node& node) {
    return node.state != NodeState::free && node.state != NodeState::unused;
  }

  void check_tier(std::uint32_t t) {
    TierState& tier = *impl_.tiers[t];
    const TierLock lock(tier);
    const ExtentHeader& header = tier.header().extents;
    std::vector<std::uint32_t> by_place;
    std::uint64_t units = 0, blocks = 0, plain = 0, free_nodes = 0;
    for (std::uint32_t n = 0; n < header.bump; ++n) {
      const Node& node = tier.node(n);
      if (impl_.mapping->pinned(t, n)) say("tier ", t, " node ", n, " is pinned");
      if (node.state == NodeState::unused) continue;
      by_place.push_back(n);
      if (!used(node)) {
        ++free_nodes;
        continue;
      }
      units += node.units;
      tenants_[node.tenant] += node.units * tier.geometry.unit;
      if (node.state != NodeState::resident) {
        say("tier ", t, " node ", n, " is left in state ",
            static_cast<std::uint64_t>(node.state.load()));
        continue;
      }
      ++blocks;
      const Entry& entry = impl_.mapping->entry(node.entry);
      plain += tier.plain_bytes(entry.layout);
      if (entry.used == 0 || entry.slots[t] != n + 1)
        say("tier ", t, " node ", n, " holds a block that its entry does not know");
    }
    check_places(t, by_place);
    check_free_lists(t, free_nodes);
    const TierCounters& c = tier.counters();
    if (units != header.used_units)
      say("tier ", t, " counts ", header.used_units, " units for ", units);
    if (blocks != c.blocks) say("tier ", t, " counts ", c.blocks.load(), " blocks");
    if (plain != c.plain_bytes) say("tier ", t, " counts plain bytes wrongly");
    if (tier.policy().size() != blocks)
      say("tier ", t, " policy knows ", tier.policy().size(), " of ", blocks, " blocks");
  }

  // Extents follow each other without gap or overlap, and no two free ones touch.
  void check_places(std::uint32_t t, std::vector<std::uint32_t>& nodes) {
    TierState& tier = *impl_.tiers[t];
    std::sort(nodes.begin(), nodes.end(), [&](std::uint32_t a, std::uint32_t b) {
      return tier.node(a).offset < tier.node(b).offset;
    });
    std::uint32_t end = 0, last = kNone;
    for (const std::uint32_t n : nodes) {
      const Node& node = tier.node(n);
      if (node.offset != end) say("tier ", t, " has a gap or overlap at node ", n);
      if (node.before != last) say("tier ", t, " node ", n, " has a wrong neighbour");
      if (last != kNone && tier.node(last).after != n)
        say("tier ", t, " node ", last, " has a wrong neighbour");
      if (last != kNone && !used(node) && !used(tier.node(last)))
        say("tier ", t, " nodes ", last, " and ", n, " are free and not merged");
      end = node.offset + node.units;
      last = n;
    }
    if (end != tier.geometry.units) say("tier ", t, " loses the units after ", end);
  }

  void check_free_lists(std::uint32_t t, std::uint64_t expected) {
    TierState& tier = *impl_.tiers[t];
    const ExtentHeader& header = tier.header().extents;
    std::uint64_t listed = 0;
    for (std::uint32_t c = 0; c < kSizeClasses; ++c) {
      const bool marked = (header.nonempty[c / 64] >> (c % 64) & 1) != 0;
      if (marked != (header.heads[c] != kNone)) say("tier ", t, " size class ", c);
      for (std::uint32_t n = header.heads[c]; n != kNone && listed <= expected;
           n = tier.node(n).next) {
        ++listed;
        if (tier.node(n).state != NodeState::free) say("tier ", t, " lists node ", n);
      }
    }
    if (listed != expected) say("tier ", t, " lists ", listed, " free of ", expected);
  }

  void check_shard(std::uint32_t s) {
    std::vector<std::uint32_t> entries;
    Index::Shard shard(impl_.table->index(), s);
    shard.list(entries);
    for (const std::uint32_t e : entries) {
      const Entry& entry = impl_.mapping->entry(e);
      if (shard.find(entry.key) != e) say("entry ", e, " is not found by its key");
      if (impl_.mapping->referenced(e)) say("entry ", e, " is referenced");
      bool somewhere = false;
      for (std::uint32_t t = 0; t < kMaxTiers; ++t) {
        const std::uint32_t slot = entry.slots[t];
        if (slot == 0) continue;
        somewhere = true;
        const Node& node = impl_.tiers[t]->node(slot - 1);
        if (node.state != NodeState::resident || node.entry != e)
          say("entry ", e, " names a slot of tier ", t, " that does not hold it");
      }
      if (!somewhere) say("entry ", e, " is in no tier");
    }
    std::uint64_t free = 0;
    const ShardHeader& header = impl_.mapping->shard(s);
    for (std::uint32_t e = header.free; e != kNone; e = impl_.mapping->entry(e).next)
      ++free;
    if (free + entries.size() != header.bump) say("shard ", s, " loses entries");
  }

  BlockStore::Impl& impl_;
  std::vector<std::uint64_t> tenants_ = std::vector<std::uint64_t>(kTenants);
  std::vector<std::string> faults_;
};

// Waits until the movers have come to rest, then "" or what does not hold. A move is over
// for the index a moment before its counter and its event are out, so what compares those
// belongs in `also`, which says what does not hold yet: a miscount never goes away again.
inline std::string check_invariants(
    BlockStore& store, const std::function<std::string()>& also = [] { return ""; }) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::vector<std::string> faults;
  bool is_flushed = false;
  do {
    faults = Invariants(store).check();
    if (std::string more = also(); !more.empty()) faults.push_back(std::move(more));
    if (faults.empty()) return {};
    // Once: where not all blocks fit below, each flush evicts some, for the next to bring
    // back.
    if (!std::exchange(is_flushed, true)) (void)store.flush();
    store.impl().services.changes.nap(steady_clock());
  } while (std::chrono::steady_clock::now() < give_up);
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(faults.size(), 10); ++i)
    text += faults[i] + "\n";
  return text;
}

// The bytes taken, in all tiers.
inline std::uint64_t used_bytes(BlockStore& store) {
  std::uint64_t used = 0;
  for (std::size_t t = 0; t < store.tier_count(); ++t)
    used += store.stats(t).used;
  return used;
}

}  // namespace speckv::test
