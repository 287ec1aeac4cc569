// trace/policy_cache.hpp -- a policy of the library over blocks of a trace: the slots of
// a tier that has so many.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "cxlspeckv/tier.hpp"

#include "store/victim_looks.hpp"
#include "trace/trace.hpp"

namespace speckv::trace {

// Blocks by keys, as a store has them, and back.
inline BlockKey key_of(BlockId block) noexcept {
  return {mix(1, block), (mix(2, block) & ~std::uint64_t{0xFFFFFFFF}) | block};
}
inline BlockId block_of(BlockKey key) noexcept {
  return static_cast<BlockId>(key.low & 0xFFFFFFFF);
}

// REQUIRES: capacity > 0, a policy. Not thread-safe.
class PolicyCache {
 public:
  PolicyCache(std::unique_ptr<Policy> policy, std::uint32_t capacity,
              std::uint32_t distinct_blocks, const std::vector<std::uint32_t>* pins)
      : policy_(std::move(policy)),
        pins_(pins),
        slot_of_(distinct_blocks, kNone),
        block_in_(capacity),
        state_(policy_->state_bytes(capacity) / sizeof(Line) + 1),
        pinned_(*this) {
    policy_->bind(std::as_writable_bytes(std::span(state_)), capacity, true);
    for (std::uint32_t slot = capacity; slot > 0; --slot)
      unused_.push_back(slot - 1);
  }
  PolicyCache(const PolicyCache&) = delete;
  PolicyCache& operator=(const PolicyCache&) = delete;
  ~PolicyCache() = default;

  bool has(BlockId block) const noexcept { return slot_of_[block] != kNone; }
  bool full() const noexcept { return unused_.empty(); }
  std::size_t size() const noexcept { return block_in_.size() - unused_.size(); }
  void touch(BlockId block) noexcept { policy_->touched(Slot{slot_of_[block]}); }
  // REQUIRES: !full(), !has(block).
  void fill(BlockId block) noexcept {
    const std::uint32_t slot = unused_.back();
    unused_.pop_back();
    slot_of_[block] = slot;
    block_in_[slot] = block;
    policy_->filled(Slot{slot}, mix(0, block));
    if (in_use(block)) ++in_use_;
  }
  void remove(BlockId block) noexcept {
    const std::uint32_t slot = std::exchange(slot_of_[block], kNone);
    policy_->emptied(Slot{slot});
    if (in_use(block)) --in_use_;
    unused_.push_back(slot);
  }
  // The pins of a block that it has went from none to one, or back.
  void pinned() noexcept { ++in_use_; }
  void unpinned() noexcept { --in_use_; }
  // What the policy gives up, and it is gone; none: everything is pinned.
  std::optional<BlockId> give_up() noexcept {
    if (in_use_ == size()) return std::nullopt;
    const auto slot = policy_->victim(pinned_);
    // What is in use is used: the next look does not begin with it again.
    for (const Slot passed : pinned_.take_passed())
      policy_->touched(passed);
    if (!slot) return std::nullopt;
    return take(*slot);
  }
  // As a store's tier does it, which passes over what is expected back.
  std::optional<BlockId> give_up(KeptBlocks* kept) noexcept {
    for (std::uint32_t look = 0;; ++look) {
      const Movable rule(*this, kept, look < kLooksThatKeep);
      const auto slot = policy_->victim(rule);
      for (const Slot passed : rule.over().slots())
        policy_->touched(passed);
      if (look_again(rule.over(), slot.has_value())) continue;
      if (!slot) return std::nullopt;
      return take(*slot);
    }
  }

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  class Pinned final : public PinnedSlots {
   public:
    explicit Pinned(const PolicyCache& cache) : cache_(cache) {}
    bool contains(Slot slot) const noexcept override {
      const bool found =
          cache_.in_use(cache_.block_in_[static_cast<std::uint32_t>(slot)]);
      if (found) passed_.push_back(slot);
      return found;
    }
    // Those that were asked for and found since the last call.
    std::vector<Slot> take_passed() noexcept { return std::exchange(passed_, {}); }

   private:
    const PolicyCache& cache_;
    mutable std::vector<Slot> passed_;
  };

  class Movable final : public PinnedSlots {
   public:
    Movable(const PolicyCache& cache, KeptBlocks* kept, bool keeps)
        : cache_(cache), over_(kept, keeps) {}
    bool contains(Slot slot) const noexcept override {
      const BlockId block = cache_.block_in_[static_cast<std::uint32_t>(slot)];
      return cache_.in_use(block) || over_.keep(slot, key_of(block));
    }
    const PassedOver& over() const noexcept { return over_; }

   private:
    const PolicyCache& cache_;
    mutable PassedOver over_;
  };

  BlockId take(Slot slot) noexcept {
    const BlockId block = block_in_[static_cast<std::uint32_t>(slot)];
    remove(block);
    return block;
  }
  bool in_use(BlockId block) const noexcept {
    return pins_ != nullptr && (*pins_)[block] != 0;
  }

  std::unique_ptr<Policy> policy_;
  const std::vector<std::uint32_t>* pins_;
  std::size_t in_use_ = 0;  // blocks here that are pinned
  std::vector<std::uint32_t> slot_of_;
  std::vector<BlockId> block_in_;
  std::vector<std::uint32_t> unused_;
  std::vector<Line> state_;
  Pinned pinned_;
};

}  // namespace speckv::trace
