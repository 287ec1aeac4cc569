// Least frequently used: a list for each count of uses. Every so many uses all counts are
// halved, which is putting lists behind one another, so that what was in use long ago can
// leave.
#include <algorithm>
#include <cstring>

#include "policy/policies.hpp"
#include "policy/slot_lists.hpp"

namespace speckv {
namespace {

constexpr std::uint32_t kCounts = 32;  // from 0; the last one means at least that
constexpr std::uint32_t kUsesBeforeHalving = 8;  // of each slot, on average

struct State {
  SlotList lists[kCounts];
  std::uint32_t size, uses, halvings;
  std::uint32_t pad[13];
};
static_assert(sizeof(State) % 64 == 0);

struct Count {
  std::uint32_t value, halvings;  // as it was after so many halvings
};

class Lfu final : public Policy {
 public:
  std::string_view name() const noexcept override { return "lfu"; }
  std::size_t state_bytes(std::uint32_t slots) const noexcept override {
    return sizeof(State) + std::size_t{slots} * (sizeof(SlotLink) + sizeof(Count));
  }

  void bind(MutableBytes state, std::uint32_t slots, bool reset) noexcept override {
    state_ = reinterpret_cast<State*>(state.data());
    auto* const links = reinterpret_cast<SlotLink*>(state.data() + sizeof(State));
    links_ = SlotLinks(links);
    counts_ = reinterpret_cast<Count*>(links + slots);
    if (reset) std::memset(state.data(), 0, state_bytes(slots));
  }

  void filled(Slot slot, std::uint64_t /*block*/) noexcept override {
    put(slot, 1);
    ++state_->size;
  }
  void touched(Slot slot) noexcept override {
    const std::uint32_t count = take(slot);
    put(slot, std::min(count + 1, kCounts - 1));
    if (++state_->uses >= std::uint64_t{kUsesBeforeHalving} * state_->size) halve();
  }
  void emptied(Slot slot) noexcept override {
    take(slot);
    --state_->size;
  }
  std::optional<Slot> victim(const PinnedSlots& pinned) noexcept override {
    for (const SlotList& list : state_->lists) {
      if (const auto slot = oldest_free(links_, list, pinned)) return slot;
    }
    return std::nullopt;
  }
  std::uint32_t size() const noexcept override { return state_->size; }

 private:
  void put(Slot slot, std::uint32_t count) noexcept {
    counts_[static_cast<std::uint32_t>(slot)] = {count, state_->halvings};
    links_.push_newest(state_->lists[count], slot);
  }
  std::uint32_t take(Slot slot) noexcept {
    const Count then = counts_[static_cast<std::uint32_t>(slot)];
    const std::uint32_t count =
        then.value >> std::min(state_->halvings - then.halvings, 31U);
    links_.remove(state_->lists[count], slot);
    return count;
  }
  void halve() noexcept {
    state_->uses = 0;
    ++state_->halvings;
    links_.append(state_->lists[0], state_->lists[1]);
    for (std::uint32_t count = 1; count < kCounts / 2; ++count) {
      links_.append(state_->lists[count], state_->lists[2 * count]);
      links_.append(state_->lists[count], state_->lists[2 * count + 1]);
    }
  }

  State* state_ = nullptr;
  SlotLinks links_;
  Count* counts_ = nullptr;
};

}  // namespace

std::unique_ptr<Policy> make_lfu() {
  return std::make_unique<Lfu>();
}

}  // namespace speckv
