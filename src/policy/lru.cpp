// Least recently used: one list through an array indexed by slot.
#include "policy/lru.hpp"

#include <cstring>

namespace speckv {
namespace {

constexpr std::uint32_t kEnd = 0;  // links hold slot + 1, so that zeroed memory is empty

struct Links {
  std::uint32_t newer, older;
};
// Slot 0 of the array is the list's head: its `older` is the newest, its `newer` the
// oldest.
struct State {
  std::uint32_t size;
  std::uint32_t pad[15];
};

class Lru final : public Policy {
 public:
  std::string_view name() const noexcept override { return "lru"; }
  std::size_t state_bytes(std::uint32_t slots) const noexcept override {
    return sizeof(State) + (std::size_t{slots} + 1) * sizeof(Links);
  }

  void bind(MutableBytes state, std::uint32_t slots, bool reset) noexcept override {
    state_ = reinterpret_cast<State*>(state.data());
    links_ = reinterpret_cast<Links*>(state.data() + sizeof(State));
    if (reset) std::memset(state.data(), 0, state_bytes(slots));
  }

  void filled(Slot slot) noexcept override {
    push_newest(index_of(slot));
    ++state_->size;
  }
  void touched(Slot slot) noexcept override {
    const std::uint32_t i = index_of(slot);
    if (links_[kEnd].older == i) return;
    unlink(i);
    push_newest(i);
  }
  void emptied(Slot slot) noexcept override {
    unlink(index_of(slot));
    --state_->size;
  }
  std::optional<Slot> victim(const PinnedSlots& pinned) noexcept override {
    for (std::uint32_t i = links_[kEnd].newer; i != kEnd; i = links_[i].newer) {
      if (!pinned.contains(Slot{i - 1})) return Slot{i - 1};
    }
    return std::nullopt;
  }
  std::uint32_t size() const noexcept override { return state_->size; }

 private:
  static std::uint32_t index_of(Slot slot) noexcept {
    return static_cast<std::uint32_t>(slot) + 1;
  }
  void push_newest(std::uint32_t i) noexcept {
    const std::uint32_t newest = links_[kEnd].older;
    links_[i] = {kEnd, newest};
    links_[newest].newer = i;  // of the head, if the list was empty
    links_[kEnd].older = i;
  }
  void unlink(std::uint32_t i) noexcept {
    links_[links_[i].newer].older = links_[i].older;
    links_[links_[i].older].newer = links_[i].newer;
  }

  State* state_ = nullptr;
  Links* links_ = nullptr;
};

}  // namespace

std::unique_ptr<Policy> make_lru() {
  return std::make_unique<Lru>();
}

}  // namespace speckv
