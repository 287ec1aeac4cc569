// Which block a full tier gives up, and which has to move down first.
#include <utility>

#include "store/block_table.hpp"
#include "store/victim_looks.hpp"

namespace speckv {

// A look at a tier's victims, under its lock.
class BlockTable::Look : public PinnedSlots {
 public:
  Look(const BlockTable& table, std::uint32_t tier, bool keeps)
      : table_(table), tier_(tier), over_(table.kept_[tier].get(), keeps) {}
  std::span<const Slot> passed() const noexcept { return over_.slots(); }
  std::uint32_t kept() const noexcept { return over_.kept(); }

 protected:
  ~Look() = default;

  bool pinned(Slot slot) const noexcept {
    return table_.mapping_.pinned(tier_, node(slot));
  }
  const PassedOver& over() const noexcept { return over_; }
  void pass(Slot slot) const noexcept { over_.pass(slot); }
  bool keep(Slot slot) const noexcept {
    if (!over_.keeps()) return false;
    const std::uint32_t entry = table_.tier(tier_).node(node(slot)).entry;
    return over_.keep(slot, table_.mapping_.entry(entry).key);
  }
  static std::uint32_t node(Slot slot) noexcept {
    return static_cast<std::uint32_t>(slot);
  }

  const BlockTable& table_;
  const std::uint32_t tier_;

 private:
  mutable PassedOver over_;
};

// What a full tier may give up: not what is pinned, nor the only copy of what must stay.
class BlockTable::Evictable final : public Look {
 public:
  using Look::Look;

  bool contains(Slot slot) const noexcept override {
    if (looked_at_ == kVictimsLookedAt) return false;  // enough: see gave_up()
    ++looked_at_;
    const bool held = pinned(slot);
    if (!held && keep(slot)) return true;
    const std::uint32_t entry = table_.tier(tier_).node(node(slot)).entry;
    if (!held && table_.may_drop(entry, tier_)) return false;
    if (table_.must_demote(entry, tier_)) {
      pressure_ = true;
    } else {
      pass(slot);
    }
    return true;
  }
  bool gave_up() const noexcept { return looked_at_ == kVictimsLookedAt; }
  bool pressure() const noexcept { return pressure_; }

 private:
  mutable std::uint32_t looked_at_ = 0;
  mutable bool pressure_ = false;
};

// What a tier may give up once it has been copied down.
class BlockTable::Movable final : public Look {
 public:
  using Look::Look;
  bool contains(Slot slot) const noexcept override { return pinned(slot) || keep(slot); }
  using Look::over;
};

bool BlockTable::retain(std::uint32_t t, std::shared_ptr<KeptBlocks> kept) {
  const TierLock lock(tier(t));
  if (kept_[t] != nullptr) return kept_[t] == kept;
  kept_[t] = std::move(kept);
  return true;
}

void BlockTable::release(std::uint32_t t, const KeptBlocks& kept) {
  std::shared_ptr<KeptBlocks> last;  // ends with no lock held
  const TierLock lock(tier(t));
  if (kept_[t].get() == &kept) last = std::exchange(kept_[t], nullptr);
}

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
  // chosen. Looks in which something was kept are few, and the others as if nothing were.
  std::uint32_t keeping = 0, plain = 0;
  for (std::uint32_t attempt = 0; attempt < kVictimsLookedAt; ++attempt) {
    Copy victim;
    bool found = true, pressure = false;
    {
      const TierLock lock(its);
      const Evictable rule(*this, t, keeping < kLooksThatKeep);
      const std::optional<Slot> slot = its.policy().victim(rule);
      for (const Slot passed : rule.passed())
        its.policy().touched(passed);
      found = slot.has_value() && !rule.gave_up();
      pressure = rule.pressure();
      if (rule.kept() > 0) {
        ++keeping;
        if (!found) continue;
      } else if (!found && rule.gave_up() && !pressure &&
                 plain++ * kVictimsLookedAt < its.policy().size()) {
        continue;  // all that was looked at is stuck, and now behind the others
      }
      if (found) victim = victim_at(t, *slot);
    }
    if (pressure) listener_.on_pressure(t);
    if (!found) return false;
    if (drop(victim, Event::Kind::evict)) return true;
  }
  return false;
}

BlockTable::Demotion BlockTable::demote_one(std::uint32_t t, Copy& copy) {
  TierState& its = tier(t);
  Copy victim;
  for (std::uint32_t look = 0;; ++look) {
    const TierLock lock(its);
    const Movable rule(*this, t, look < kLooksThatKeep);
    const std::optional<Slot> slot = its.policy().victim(rule);
    for (const Slot passed : rule.passed())
      its.policy().touched(passed);
    if (look_again(rule.over(), slot.has_value())) continue;
    if (!slot) return Demotion::nothing;
    victim = victim_at(t, *slot);
    if (!may_drop(victim.entry, t) && !must_demote(victim.entry, t)) {
      its.policy().touched(*slot);
      return Demotion::nothing;
    }
    break;
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
