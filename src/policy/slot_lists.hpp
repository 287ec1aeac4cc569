// policy/slot_lists.hpp -- lists of slots through one array of links, for policies whose
// state lies in shared memory: numbers instead of pointers, and zeroed memory is empty.
#pragma once

#include <cstdint>
#include <optional>

#include "cxlspeckv/tier.hpp"

namespace speckv {

// Ends of a list, each as slot + 1, and its length.
struct SlotList {
  std::uint32_t oldest, newest, size;
};
struct SlotLink {
  std::uint32_t older, newer;  // slot + 1; 0: an end
};

// A slot is in one list at most; who removes it must know in which. Not thread-safe.
class SlotLinks {
 public:
  SlotLinks() = default;
  explicit SlotLinks(SlotLink* links) : links_(links) {}

  static std::optional<Slot> oldest(const SlotList& list) noexcept {
    return slot_of(list.oldest);
  }
  std::optional<Slot> newer(Slot slot) const noexcept { return slot_of(at(slot).newer); }

  void push_newest(SlotList& list, Slot slot) noexcept {
    at(slot) = {list.newest, 0};
    (list.newest != 0 ? links_[list.newest - 1].newer : list.oldest) = number(slot);
    list.newest = number(slot);
    ++list.size;
  }
  void remove(SlotList& list, Slot slot) noexcept {
    const SlotLink link = at(slot);
    (link.older != 0 ? links_[link.older - 1].newer : list.oldest) = link.newer;
    (link.newer != 0 ? links_[link.newer - 1].older : list.newest) = link.older;
    --list.size;
  }
  // All of `from`, in its order, becomes the newest part of `to`.
  void append(SlotList& to, SlotList& from) noexcept {
    if (from.size == 0) return;
    (to.newest != 0 ? links_[to.newest - 1].newer : to.oldest) = from.oldest;
    links_[from.oldest - 1].older = to.newest;
    to.newest = from.newest;
    to.size += from.size;
    from = {};
  }

 private:
  static std::uint32_t number(Slot slot) noexcept {
    return static_cast<std::uint32_t>(slot) + 1;
  }
  static std::optional<Slot> slot_of(std::uint32_t number) noexcept {
    if (number == 0) return std::nullopt;
    return Slot{number - 1};
  }
  SlotLink& at(Slot slot) noexcept { return links_[static_cast<std::uint32_t>(slot)]; }
  const SlotLink& at(Slot slot) const noexcept {
    return links_[static_cast<std::uint32_t>(slot)];
  }

  SlotLink* links_ = nullptr;
};

// The oldest slot of a list that is not pinned.
inline std::optional<Slot> oldest_free(const SlotLinks& links, const SlotList& list,
                                       const PinnedSlots& pinned) noexcept {
  auto slot = SlotLinks::oldest(list);
  while (slot && pinned.contains(*slot))
    slot = links.newer(*slot);
  return slot;
}

}  // namespace speckv
