// policy/ghosts.hpp -- names of blocks that were evicted, by age, in two lists of which a
// policy may use one. Relocatable; zeroed memory is empty.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

#include "policy/slot_lists.hpp"

namespace speckv {

// Not thread-safe. A name is the first 64 bits of a block's key: two blocks of one name
// cost a wrong guess, not a wrong byte.
class Ghosts {
 public:
  static constexpr std::uint32_t kLists = 2;

  static std::size_t bytes(std::uint32_t capacity) noexcept {
    return sizeof(Head) + capacity * (sizeof(Node) + sizeof(SlotLink)) +
           buckets(capacity) * sizeof(std::uint32_t);
  }

  // `state` is 8-byte aligned.
  void bind(std::byte* state, std::uint32_t capacity) noexcept {
    capacity_ = capacity;
    head_ = reinterpret_cast<Head*>(state);
    nodes_ = reinterpret_cast<Node*>(state + sizeof(Head));
    auto* const links = reinterpret_cast<SlotLink*>(nodes_ + capacity);
    links_ = SlotLinks(links);
    table_ = reinterpret_cast<std::uint32_t*>(links + capacity);
  }

  std::uint32_t size(std::uint32_t list) const noexcept {
    return head_->lists[list].size;
  }

  // Forgets `block`, and says in which list it was.
  std::optional<std::uint32_t> take(std::uint64_t block) noexcept {
    std::uint32_t* link = &bucket(block);
    while (*link != 0 && nodes_[*link - 1].block != block)
      link = &nodes_[*link - 1].next;
    if (*link == 0) return std::nullopt;
    const std::uint32_t n = *link - 1, list = nodes_[n].list;
    *link = nodes_[n].next;
    links_.remove(head_->lists[list], Slot{n});
    nodes_[n].next = head_->unused;
    head_->unused = n + 1;
    return list;
  }

  // `block`, which is in no list, becomes the newest of `list`. Without room the oldest
  // of the longer list goes.
  void add(std::uint32_t list, std::uint64_t block) noexcept {
    if (capacity_ == 0) return;
    if (size(0) + size(1) == capacity_) forget_oldest(size(1) > size(0) ? 1 : 0);
    std::uint32_t n = head_->used;
    if (head_->unused != 0) {
      n = head_->unused - 1;
      head_->unused = nodes_[n].next;
    } else {
      ++head_->used;
    }
    nodes_[n] = {block, std::exchange(bucket(block), n + 1), list};
    links_.push_newest(head_->lists[list], Slot{n});
  }

  void forget_oldest(std::uint32_t list) noexcept {
    if (const auto oldest = SlotLinks::oldest(head_->lists[list]))
      take(nodes_[static_cast<std::uint32_t>(*oldest)].block);
  }

 private:
  struct Head {
    SlotList lists[kLists];
    std::uint32_t used, unused;  // nodes ever used; the first of those given back, + 1
  };
  struct Node {
    std::uint64_t block;
    std::uint32_t next, list;  // next of its bucket, or of the unused, + 1
  };
  static_assert(sizeof(Head) % 8 == 0);

  static std::size_t buckets(std::uint32_t capacity) noexcept {
    return std::bit_ceil(std::max<std::size_t>(capacity, 1));
  }
  std::uint32_t& bucket(std::uint64_t block) noexcept {
    return table_[block & (buckets(capacity_) - 1)];
  }

  std::uint32_t capacity_ = 0;
  Head* head_ = nullptr;
  Node* nodes_ = nullptr;
  SlotLinks links_;
  std::uint32_t* table_ = nullptr;
};

// The memory of a policy that has ghosts: its state, an entry and a link a slot, the
// ghosts.
template <class State, class Slotted>
class GhostedMemory {
 public:
  static std::size_t bytes(std::uint32_t slots) noexcept {
    return sizeof(State) + slots * (sizeof(Slotted) + sizeof(SlotLink)) +
           Ghosts::bytes(slots);
  }
  void bind(MutableBytes memory, std::uint32_t slots, bool reset) noexcept {
    if (reset) std::memset(memory.data(), 0, bytes(slots));
    state = reinterpret_cast<State*>(memory.data());
    slots_ = reinterpret_cast<Slotted*>(memory.data() + sizeof(State));
    auto* const first = reinterpret_cast<SlotLink*>(slots_ + slots);
    links = SlotLinks(first);
    ghosts.bind(reinterpret_cast<std::byte*>(first + slots), slots);
  }
  Slotted& at(Slot slot) noexcept { return slots_[static_cast<std::uint32_t>(slot)]; }

  State* state = nullptr;
  SlotLinks links;
  Ghosts ghosts;

 private:
  static_assert(sizeof(State) == 64 && sizeof(Slotted) % 8 == 0);
  Slotted* slots_ = nullptr;
};

}  // namespace speckv
