// ARC, after Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache"
// (FAST 2003): T1 holds what was used once, T2 what was used again, B1 and B2 the names
// of what left them. A miss that B1 remembers makes the share of T1 larger, one that B2
// remembers smaller.
//
// A victim is asked for before it is known what comes, so that the share is adapted after
// the eviction instead of before it. The capacity is what the tier held when it was last
// full.
#include <algorithm>

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

struct Slotted {
  std::uint64_t block;
  std::uint8_t list, offered;
};

class Arc final : public Policy {
 public:
  std::string_view name() const noexcept override { return "arc"; }
  std::size_t state_bytes(std::uint32_t slots) const noexcept override {
    return Memory::bytes(slots);
  }
  void bind(MutableBytes state, std::uint32_t slots, bool reset) noexcept override {
    memory_.bind(state, slots, reset);
  }

  void filled(Slot slot, std::uint64_t block) noexcept override {
    const std::uint32_t b1 = std::max(memory_.ghosts.size(0), 1U);
    const std::uint32_t b2 = std::max(memory_.ghosts.size(1), 1U);
    const auto ghost = memory_.ghosts.take(block);
    std::uint32_t& target = memory_.state->target;
    if (ghost == 0U) {
      target = std::min(target + std::max(b2 / b1, 1U), memory_.state->capacity);
    } else if (ghost == 1U) {
      target -= std::min(target, std::max(b1 / b2, 1U));
    }
    put(slot, block, ghost ? 1 : 0);
  }
  void touched(Slot slot) noexcept override {
    const Slotted it = at(slot);
    memory_.links.remove(memory_.state->t[it.list], slot);
    put(slot, it.block, 1);
  }
  // What was offered is remembered; what was erased is not.
  void emptied(Slot slot) noexcept override {
    const Slotted& it = at(slot);
    memory_.links.remove(memory_.state->t[it.list], slot);
    if (it.offered == 0) return;
    (void)memory_.ghosts.take(it.block);  // it may have been here twice
    memory_.ghosts.add(it.list, it.block);
    const std::uint32_t capacity = memory_.state->capacity;
    while (memory_.ghosts.size(0) > 0 &&
           memory_.state->t[0].size + memory_.ghosts.size(0) > capacity)
      memory_.ghosts.forget_oldest(0);
    while (memory_.ghosts.size(1) > 0 &&
           size() + memory_.ghosts.size(0) + memory_.ghosts.size(1) > 2 * capacity)
      memory_.ghosts.forget_oldest(1);
  }

  std::optional<Slot> victim(const PinnedSlots& pinned) noexcept override {
    memory_.state->capacity = size();
    const std::uint32_t first = memory_.state->t[0].size > memory_.state->target ? 0 : 1;
    auto slot = oldest_free(memory_.links, memory_.state->t[first], pinned);
    if (!slot) slot = oldest_free(memory_.links, memory_.state->t[1 - first], pinned);
    if (slot) at(*slot).offered = 1;
    return slot;
  }
  std::uint32_t size() const noexcept override {
    return memory_.state->t[0].size + memory_.state->t[1].size;
  }

 private:
  using Memory = GhostedMemory<State, Slotted>;

  Slotted& at(Slot slot) noexcept { return memory_.at(slot); }
  void put(Slot slot, std::uint64_t block, std::uint8_t list) noexcept {
    at(slot) = {block, list, 0};
    memory_.links.push_newest(memory_.state->t[list], slot);
  }

  Memory memory_;
};

}  // namespace

std::unique_ptr<Policy> make_arc() {
  return std::make_unique<Arc>();
}

}  // namespace speckv
