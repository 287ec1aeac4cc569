// S3-FIFO, after Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for
// cache eviction" (SOSP 2023): a small queue for what is new, a main queue for what was
// used again, and the names of what left the small one, which enter the main queue when
// they come back.
#include <algorithm>

#include "policy/ghosts.hpp"
#include "policy/policies.hpp"

namespace speckv {
namespace {

constexpr std::uint32_t kSmallShare = 10;  // the small queue holds one in so many
constexpr std::uint8_t kMostUses = 3;

struct State {
  SlotList small, main;
  std::uint32_t pad[10];
};

struct Slotted {
  std::uint64_t block;
  std::uint8_t in_main, uses, offered;
};

class S3Fifo final : public Policy {
 public:
  std::string_view name() const noexcept override { return "s3fifo"; }
  std::size_t state_bytes(std::uint32_t slots) const noexcept override {
    return Memory::bytes(slots);
  }
  void bind(MutableBytes state, std::uint32_t slots, bool reset) noexcept override {
    memory_.bind(state, slots, reset);
  }

  void filled(Slot slot, std::uint64_t block) noexcept override {
    const bool came_back = memory_.ghosts.take(block).has_value();
    at(slot) = {block, static_cast<std::uint8_t>(came_back), 0, 0};
    memory_.links.push_newest(list_of(slot), slot);
  }
  void touched(Slot slot) noexcept override {
    Slotted& it = at(slot);
    it.uses = std::min<std::uint8_t>(it.uses + 1, kMostUses);
    it.offered = 0;
  }
  // What was offered and left the small queue is remembered; what was erased is not.
  void emptied(Slot slot) noexcept override {
    const Slotted& it = at(slot);
    if (it.offered != 0 && it.in_main == 0) {
      const std::uint32_t most =
          size() - size() / kSmallShare;  // as the main queue holds
      while (memory_.ghosts.size(0) > 0 && memory_.ghosts.size(0) >= most)
        memory_.ghosts.forget_oldest(0);
      (void)memory_.ghosts.take(it.block);  // it may have been here twice
      memory_.ghosts.add(0, it.block);
    }
    memory_.links.remove(list_of(slot), slot);
  }

  std::optional<Slot> victim(const PinnedSlots& pinned) noexcept override {
    const bool small_first = memory_.state->small.size * kSmallShare >= size();
    auto slot = small_first ? from_small(pinned) : from_main(pinned);
    if (!slot) slot = small_first ? from_main(pinned) : from_small(pinned);
    if (slot) at(*slot).offered = 1;
    return slot;
  }
  std::uint32_t size() const noexcept override {
    return memory_.state->small.size + memory_.state->main.size;
  }

 private:
  using Memory = GhostedMemory<State, Slotted>;

  Slotted& at(Slot slot) noexcept { return memory_.at(slot); }
  SlotList& list_of(Slot slot) noexcept {
    return at(slot).in_main != 0 ? memory_.state->main : memory_.state->small;
  }

  // The oldest of the small queue that was used once at most; the others go to the main
  // queue.
  std::optional<Slot> from_small(const PinnedSlots& pinned) noexcept {
    for (auto slot = SlotLinks::oldest(memory_.state->small); slot;) {
      const auto next = memory_.links.newer(*slot);
      if (!pinned.contains(*slot)) {
        if (at(*slot).uses <= 1) return slot;
        memory_.links.remove(memory_.state->small, *slot);
        at(*slot) = {at(*slot).block, 1, 0, 0};
        memory_.links.push_newest(memory_.state->main, *slot);
      }
      slot = next;
    }
    return std::nullopt;
  }
  // The oldest of the main queue that was not used since it was last looked at.
  std::optional<Slot> from_main(const PinnedSlots& pinned) noexcept {
    for (std::uint32_t round = 0; round <= kMostUses; ++round) {
      auto slot = SlotLinks::oldest(memory_.state->main);
      for (std::uint32_t left = memory_.state->main.size; left > 0; --left) {
        const auto next = memory_.links.newer(*slot);
        if (!pinned.contains(*slot)) {
          if (at(*slot).uses == 0) return slot;
          --at(*slot).uses;
          memory_.links.remove(memory_.state->main, *slot);
          memory_.links.push_newest(memory_.state->main, *slot);
        }
        slot = next;
      }
    }
    return std::nullopt;
  }

  Memory memory_;
};

}  // namespace

std::unique_ptr<Policy> make_s3fifo() {
  return std::make_unique<S3Fifo>();
}

}  // namespace speckv
