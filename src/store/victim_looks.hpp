// store/victim_looks.hpp -- how a full tier looks for what it gives up beside what is
// expected back: the same in a store and in a replay's model of one.
//
// A look asks the tier's policy for a victim, slot by slot. What it passes over although
// nobody pins it, because somebody expects it back or because it can go nowhere, belongs
// behind the others: whoever looks tells the policy that it was touched, so that the next
// look does not begin with it again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "cxlspeckv/tier.hpp"

#include "store/kept_blocks.hpp"

namespace speckv {

inline constexpr std::uint32_t kVictimsLookedAt = 128;  // in one look
// In which what is expected back is passed over; what is found then goes all the same.
inline constexpr std::uint32_t kLooksThatKeep = 4;

// What one look passes over.
class PassedOver {
 public:
  // `kept`: of the tier; or none. `keeps`: whether the look regards it.
  PassedOver(KeptBlocks* kept, bool keeps) noexcept : set_(keeps ? kept : nullptr) {}

  bool keeps() const noexcept { return set_ != nullptr && !full(); }
  bool full() const noexcept { return count_ == kVictimsLookedAt; }
  void pass(Slot slot) noexcept { slots_[count_++] = slot; }  // REQUIRES: !full()
  // Passes over the block in the slot if it is expected back.
  bool keep(Slot slot, BlockKey block) noexcept {
    if (!keeps() || !set_->pass(block)) return false;
    ++kept_;
    pass(slot);
    return true;
  }
  std::span<const Slot> slots() const noexcept { return {slots_, count_}; }
  std::uint32_t kept() const noexcept { return kept_; }  // of those: that are expected

 private:
  KeptBlocks* const set_;
  std::uint32_t count_ = 0, kept_ = 0;
  Slot slots_[kVictimsLookedAt];
};

// What a tier above another has free when nothing is under way: a part of 32, but at
// least room for one block, and not at the price of most that it holds. Made after a
// block came, not before.
constexpr std::uint64_t room_at_rest(std::uint64_t total,
                                     std::uint64_t largest) noexcept {
  return std::min(std::max(total / 32, largest), total / 4);
}

// After a look for what is to move down: whether there is another, of those behind.
inline bool look_again(const PassedOver& over, bool found) noexcept {
  return over.full() || (!found && over.kept() > 0);
}

}  // namespace speckv
