// Least recently used: one list.
#include <cstring>

#include "policy/policies.hpp"
#include "policy/slot_lists.hpp"

namespace speckv {
namespace {

struct State {
  SlotList all;
  std::uint32_t pad[13];
};

class Lru final : public Policy {
 public:
  std::string_view name() const noexcept override { return "lru"; }
  std::size_t state_bytes(std::uint32_t slots) const noexcept override {
    return sizeof(State) + std::size_t{slots} * sizeof(SlotLink);
  }

  void bind(MutableBytes state, std::uint32_t slots, bool reset) noexcept override {
    state_ = reinterpret_cast<State*>(state.data());
    links_ = SlotLinks(reinterpret_cast<SlotLink*>(state.data() + sizeof(State)));
    if (reset) std::memset(state.data(), 0, state_bytes(slots));
  }

  void filled(Slot slot, std::uint64_t /*block*/) noexcept override {
    links_.push_newest(state_->all, slot);
  }
  void touched(Slot slot) noexcept override {
    if (!links_.newer(slot)) return;
    links_.remove(state_->all, slot);
    links_.push_newest(state_->all, slot);
  }
  void emptied(Slot slot) noexcept override { links_.remove(state_->all, slot); }
  std::optional<Slot> victim(const PinnedSlots& pinned) noexcept override {
    return oldest_free(links_, state_->all, pinned);
  }
  std::uint32_t size() const noexcept override { return state_->all.size; }

 private:
  State* state_ = nullptr;
  SlotLinks links_;
};

}  // namespace

std::unique_ptr<Policy> make_lru() {
  return std::make_unique<Lru>();
}

}  // namespace speckv
