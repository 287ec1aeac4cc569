// Which block a full tier gives up, and which has to move down first.
#include <vector>

#include "store/block_table.hpp"

namespace speckv {
namespace {

constexpr std::uint32_t kVictimsLookedAt = 128;

}  // namespace

// What a full tier may give up: not what is pinned, nor the only copy of what must stay.
class BlockTable::Evictable final : public PinnedSlots {
 public:
  Evictable(const BlockTable& table, std::uint32_t tier) : table_(table), tier_(tier) {}

  bool contains(Slot slot) const noexcept override {
    if (looked_at_ == kVictimsLookedAt) return false;  // enough: see gave_up()
    ++looked_at_;
    const auto n = static_cast<std::uint32_t>(slot);
    const std::uint32_t entry = table_.tier(tier_).node(n).entry;
    if (!table_.mapping_.pinned(tier_, n) && table_.may_drop(entry, tier_)) return false;
    if (table_.must_demote(entry, tier_)) {
      pressure_ = true;
    } else {
      stuck_[stuck_count_++] = slot;
    }
    return true;
  }
  bool gave_up() const noexcept { return looked_at_ == kVictimsLookedAt; }
  bool pressure() const noexcept { return pressure_; }
  // Those that can go nowhere, which the next look should not begin with again.
  std::span<const Slot> stuck() const noexcept { return {stuck_, stuck_count_}; }

 private:
  const BlockTable& table_;
  std::uint32_t tier_;
  mutable std::uint32_t looked_at_ = 0, stuck_count_ = 0;
  mutable bool pressure_ = false;
  mutable Slot stuck_[kVictimsLookedAt];
};

bool BlockTable::in_other_tier(const Entry& entry, std::uint32_t t) const noexcept {
  for (std::uint32_t other = 0; other < tier_count(); ++other) {
    const std::uint32_t slot = entry.slots[other].load(std::memory_order_relaxed);
    if (other == t || slot == 0 || tier(other).fenced()) continue;
    if (state_of(tier(other).node(slot - 1)) == NodeState::resident) return true;
  }
  return false;
}

std::uint32_t BlockTable::demotion_target(std::uint32_t t) const noexcept {
  do {
    ++t;
  } while (t < tier_count() && tier(t).fenced());
  return t;
}

// The only copy, and it may not be, or need not be, forgotten while there is a tier
// below.
bool BlockTable::must_demote(std::uint32_t e, std::uint32_t t) const noexcept {
  const Entry& entry = mapping_.entry(e);
  const std::uint32_t target = demotion_target(t);
  if (target >= tier_count() || in_other_tier(entry, t)) return false;
  return tier(target).admission == Admission::always || mapping_.referenced(e) ||
         entry.touched.load(std::memory_order_relaxed) != 0;
}

bool BlockTable::may_drop(std::uint32_t e, std::uint32_t t) const noexcept {
  if (in_other_tier(mapping_.entry(e), t)) return true;
  return !must_demote(e, t) && !mapping_.referenced(e);
}

// Under the tier's lock: what a policy's choice holds.
Copy BlockTable::victim_at(std::uint32_t t, Slot slot) const noexcept {
  const auto n = static_cast<std::uint32_t>(slot);
  const Node& node = tier(t).node(n);
  Copy copy;
  copy.key = mapping_.entry(node.entry).key;
  copy.tier = t;
  copy.node = n;
  copy.entry = node.entry;
  copy.frame_bytes = node.frame_bytes;
  return copy;
}

bool BlockTable::evict_one(std::uint32_t t) {
  TierState& its = tier(t);
  // A victim can be gone or pinned by the time its shard is locked; then another is
  // chosen.
  for (std::uint32_t attempt = 0; attempt < kVictimsLookedAt; ++attempt) {
    Copy victim;
    Evictable rule(*this, t);
    bool found = true;
    {
      const TierLock lock(its);
      const std::optional<Slot> slot = its.policy().victim(rule);
      for (const Slot stuck : rule.stuck())
        its.policy().touched(stuck);
      found = slot.has_value() && !rule.gave_up();
      if (!found && rule.gave_up() && !rule.pressure() &&
          attempt * kVictimsLookedAt < its.policy().size()) {
        continue;  // all that was looked at is stuck, and now behind the others
      }
      if (found) victim = victim_at(t, *slot);
    }
    if (rule.pressure()) listener_.on_pressure(t);
    if (!found) return false;
    if (drop(victim, Event::Kind::evict)) return true;
  }
  return false;
}

BlockTable::Demotion BlockTable::demote_one(std::uint32_t t, Copy& copy) {
  TierState& its = tier(t);
  class Pinned final : public PinnedSlots {
   public:
    Pinned(const Mapping& mapping, std::uint32_t number)
        : mapping_(mapping), tier_(number) {}
    bool contains(Slot slot) const noexcept override {
      return mapping_.pinned(tier_, static_cast<std::uint32_t>(slot));
    }

   private:
    const Mapping& mapping_;
    std::uint32_t tier_;
  };
  Copy victim;
  {
    const TierLock lock(its);
    const std::optional<Slot> slot = its.policy().victim(Pinned(mapping_, t));
    if (!slot) return Demotion::nothing;
    victim = victim_at(t, *slot);
    if (!may_drop(victim.entry, t) && !must_demote(victim.entry, t)) {
      its.policy().touched(*slot);
      return Demotion::nothing;
    }
  }
  if (may_drop(victim.entry, t) && drop(victim, Event::Kind::evict))
    return Demotion::freed;
  Index::Shard shard(index_, victim.key);
  if (shard.find(victim.key) != victim.entry ||
      mapping_.entry(victim.entry).slots[t].load(std::memory_order_relaxed) !=
          victim.node + 1 ||
      state_of(its.node(victim.node)) != NodeState::resident) {
    return Demotion::nothing;
  }
  copy = copy_of(victim.key, t, victim.entry);
  mapping_.my_pins(t, victim.node).fetch_add(1);
  return Demotion::chosen;
}

}  // namespace speckv
