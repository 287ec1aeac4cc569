// The score over an array indexed by slot. Choosing a victim looks at a window of slots
// from a hand on, as a clock does, so that its cost does not grow with the tier.
#include "policy/semantic.hpp"

#include <cstring>

namespace speckv {
namespace {

using engine::Use;
using engine::Weights;

constexpr std::uint32_t kWindow = 128;    // slots that compete; a small tier's are all
constexpr std::uint32_t kUsesAStep = 64;  // uses that count as one step if nobody says

struct State {
  std::uint32_t size;
  std::uint32_t hand;  // slot at which the next window begins
  std::uint32_t step;
  std::uint32_t uses;  // since the step
  std::uint32_t told_steps;
  Weights weights;
  std::uint8_t has_weights;
  std::uint8_t pad[36];
};
static_assert(sizeof(State) == 64);

struct Slotted {
  Use use;
  std::uint8_t filled;
};

class Semantic final : public SemanticPolicy {
 public:
  std::string_view name() const noexcept override { return "semantic"; }
  std::size_t state_bytes(std::uint32_t slots) const noexcept override {
    return sizeof(State) + std::size_t{slots} * sizeof(Slotted);
  }

  void bind(MutableBytes state, std::uint32_t slots, bool reset) noexcept override {
    state_ = reinterpret_cast<State*>(state.data());
    slots_ = reinterpret_cast<Slotted*>(state.data() + sizeof(State));
    count_ = slots;
    if (reset) std::memset(state.data(), 0, state_bytes(slots));
  }

  void filled(Slot slot, std::uint64_t /*block*/) noexcept override {
    Slotted& it = at(slot);
    it = Slotted{};
    it.filled = 1;
    it.use.last = now();
    ++state_->size;
    use(it);
  }
  void touched(Slot slot) noexcept override { use(at(slot)); }
  void emptied(Slot slot) noexcept override {
    at(slot) = Slotted{};
    --state_->size;
    // The next window begins after what went.
    state_->hand = (static_cast<std::uint32_t>(slot) + 1) % count_;
  }

  std::optional<Slot> victim(const PinnedSlots& pinned) noexcept override {
    std::optional<Slot> worst;
    std::uint32_t least = 0, seen = 0;
    for (std::uint32_t i = 0; i < count_ && seen < kWindow; ++i) {
      const Slot slot{(hand() + i) % count_};
      const Slotted& it = at(slot);
      if (it.filled == 0 || it.use.refs != 0 || pinned.contains(slot)) continue;
      const std::uint32_t p = it.use.score(weights(), now());
      if (!worst || p < least) {
        worst = slot;
        least = p;
      }
      ++seen;
    }
    return worst;
  }
  std::uint32_t size() const noexcept override { return state_->size; }

  void step(std::uint32_t step) noexcept override {
    state_->told_steps = 1;
    if (!engine::later(step, state_->step)) return;
    state_->step = step;
    state_->uses = 0;
  }
  void hot(Slot slot) noexcept override {
    use(at(slot));
    at(slot).use.freq = 255;
  }
  void evictable(Slot slot) noexcept override { at(slot).use.evictable = 1; }
  void expected(Slot slot, std::uint32_t step) noexcept override {
    at(slot).use.expect(step);
  }
  void share(Slot slot) noexcept override {
    std::uint8_t& refs = at(slot).use.refs;
    if (refs < engine::kScoreSaturated) ++refs;
  }
  void unshare(Slot slot) noexcept override {
    std::uint8_t& refs = at(slot).use.refs;
    if (refs != 0 && refs < engine::kScoreSaturated) --refs;
  }
  bool set_weights(const Weights& weights) noexcept override {
    if (!weights.valid()) return false;
    state_->weights = weights;
    state_->has_weights = 1;
    return true;
  }

 private:
  // The state may be shared memory that somebody else wrote: nothing in it leads outside.
  Slotted& at(Slot slot) noexcept { return slots_[static_cast<std::uint32_t>(slot)]; }
  std::uint32_t hand() const noexcept { return state_->hand % count_; }
  std::uint32_t now() const noexcept { return state_->step; }
  Weights weights() const noexcept {
    const Weights mine = state_->weights;
    return state_->has_weights != 0 && mine.valid() ? mine : engine::kDefaultWeights;
  }

  void use(Slotted& it) noexcept {
    it.use.touch(now());
    if (state_->told_steps != 0 || ++state_->uses < kUsesAStep) return;
    state_->uses = 0;
    ++state_->step;
  }

  State* state_ = nullptr;
  Slotted* slots_ = nullptr;
  std::uint32_t count_ = 0;
};

}  // namespace

std::unique_ptr<SemanticPolicy> make_semantic() {
  return std::make_unique<Semantic>();
}

}  // namespace speckv
