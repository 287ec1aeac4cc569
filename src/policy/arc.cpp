// ARC, after Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache"
// (FAST 2003): T1 holds what was used once, T2 what was used again, B1 and B2 the names
// of what left them. A miss that B1 remembers makes the share of T1 larger, one that B2
// remembers smaller.
//
// A victim is asked for before it is known what comes, so that the share is adapted after
// the eviction instead of before it. The capacity is what the tier held when it was last
// full.
#include <algorithm>
#include <cstring>

#include "policy/ghosts.hpp"
#include "policy/policies.hpp"

namespace speckv {
namespace {

struct State {
  SlotList t[2];
  std::uint32_t capacity;
  std::uint32_t target;  // of T1
  std::uint32_t pad[8];
};
static_assert(sizeof(State) == 64);

struct Slotted {
  std::uint64_t block;
  std::uint8_t list, offered;
};

class Arc final : public Policy {
 public:
  std::string_view name() const noexcept override { return "arc"; }
  std::size_t state_bytes(std::uint32_t slots) const noexcept override {
    return sizeof(State) + slots * (sizeof(Slotted) + sizeof(SlotLink)) +
           Ghosts::bytes(slots);
  }

  void bind(MutableBytes state, std::uint32_t slots, bool reset) noexcept override {
    if (reset) std::memset(state.data(), 0, state_bytes(slots));
    state_ = reinterpret_cast<State*>(state.data());
    slots_ = reinterpret_cast<Slotted*>(state.data() + sizeof(State));
    auto* const links = reinterpret_cast<SlotLink*>(slots_ + slots);
    links_ = SlotLinks(links);
    ghosts_.bind(reinterpret_cast<std::byte*>(links + slots), slots);
  }

  void filled(Slot slot, std::uint64_t block) noexcept override {
    const std::uint32_t b1 = std::max(ghosts_.size(0), 1U);
    const std::uint32_t b2 = std::max(ghosts_.size(1), 1U);
    const auto ghost = ghosts_.take(block);
    std::uint32_t& target = state_->target;
    if (ghost == 0U) {
      target = std::min(target + std::max(b2 / b1, 1U), state_->capacity);
    } else if (ghost == 1U) {
      target -= std::min(target, std::max(b1 / b2, 1U));
    }
    put(slot, block, ghost ? 1 : 0);
  }
  void touched(Slot slot) noexcept override {
    const Slotted it = at(slot);
    links_.remove(state_->t[it.list], slot);
    put(slot, it.block, 1);
  }
  // What was offered is remembered; what was erased is not.
  void emptied(Slot slot) noexcept override {
    const Slotted& it = at(slot);
    links_.remove(state_->t[it.list], slot);
    if (it.offered == 0) return;
    (void)ghosts_.take(it.block);  // it may have been here twice
    ghosts_.add(it.list, it.block);
    const std::uint32_t capacity = state_->capacity;
    while (ghosts_.size(0) > 0 && state_->t[0].size + ghosts_.size(0) > capacity)
      ghosts_.forget_oldest(0);
    while (ghosts_.size(1) > 0 &&
           size() + ghosts_.size(0) + ghosts_.size(1) > 2 * capacity)
      ghosts_.forget_oldest(1);
  }

  std::optional<Slot> victim(const PinnedSlots& pinned) noexcept override {
    state_->capacity = size();
    const std::uint32_t first = state_->t[0].size > state_->target ? 0 : 1;
    auto slot = oldest_free(links_, state_->t[first], pinned);
    if (!slot) slot = oldest_free(links_, state_->t[1 - first], pinned);
    if (slot) at(*slot).offered = 1;
    return slot;
  }
  std::uint32_t size() const noexcept override {
    return state_->t[0].size + state_->t[1].size;
  }

 private:
  Slotted& at(Slot slot) noexcept { return slots_[static_cast<std::uint32_t>(slot)]; }
  void put(Slot slot, std::uint64_t block, std::uint8_t list) noexcept {
    at(slot) = {block, list, 0};
    links_.push_newest(state_->t[list], slot);
  }

  State* state_ = nullptr;
  Slotted* slots_ = nullptr;
  SlotLinks links_;
  Ghosts ghosts_;
};

}  // namespace

std::unique_ptr<Policy> make_arc() {
  return std::make_unique<Arc>();
}

}  // namespace speckv
