// trace/store_model.hpp -- a live store as far as a prefetcher sees it, in virtual time:
// in each tier a policy of the library, the first one passing over what is expected back
// by the rule of the store; what is promoted is copied, and the slower copy stays.
//
// As in a store, a tier above another makes room after a block has come, not before.
// Where it is simpler: that is done before the next block comes (a store does it in the
// background), the only copy of a block moves down when it has to go, and what is in use
// is what a request of the trace is reading.
#pragma once

#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "prefetch/tiers.hpp"
#include "trace/policy_cache.hpp"
#include "trace/replay.hpp"
#include "trace/residency.hpp"

namespace speckv::trace {

class StoreModel final : public Residency, public prefetch::Tiers {
 public:
  // `blocks`: that each tier of the node has room for. REQUIRES: there is such a policy.
  StoreModel(const Trace& trace, const Node& node, std::string_view policy,
             const std::vector<std::uint32_t>& blocks, std::uint64_t block_bytes);

  Found use(const Request& request, std::uint32_t shared, double now) override;
  void done(const Request& request, double now) override;

  // What is under way is there as far as time has come.
  void advance(double now);
  // When the next of it is done; infinity.
  double next() const noexcept;
  bool moving() const noexcept { return !moving_.empty(); }

  std::size_t count() const noexcept override { return tiers_.size(); }
  std::uint64_t capacity(std::uint32_t tier) const noexcept override {
    return node_.tiers[tier].bytes;
  }
  void lookup(std::span<const BlockKey> keys,
              std::span<std::int8_t> tiers) const noexcept override;
  std::unique_ptr<prefetch::Moves> promote(std::span<const BlockKey> keys,
                                           std::uint32_t tier) noexcept override;
  bool retain(std::shared_ptr<KeptBlocks> kept) override;
  void release(const KeptBlocks& kept) noexcept override;
  PlainBytes plain_bytes(std::uint32_t tier) override;

 private:
  class Moving;
  static constexpr double kNever = std::numeric_limits<double>::infinity();

  std::int8_t tier_of(BlockId block) const noexcept;
  bool is_in(BlockId block, std::uint32_t tier) const noexcept {
    return (in_[block] >> tier & 1) != 0;
  }
  void leave(BlockId block, std::uint32_t tier);
  Code land(BlockId block, std::uint32_t tier);  // of a move
  // The tier that has it now, or had it and gave it up at once: this one, or a slower one
  // where there was room; none: count().
  std::uint32_t insert(BlockId block, std::uint32_t tier);
  bool make_room(std::uint32_t tier);  // for one block
  bool give_up(std::uint32_t tier);    // one block
  void pin(BlockId block);

  const Trace& trace_;
  const Node& node_;
  const std::uint64_t block_bytes_;
  std::vector<std::uint32_t> pins_;
  std::vector<std::uint8_t> in_;  // of each block: a bit a tier
  std::vector<std::unique_ptr<PolicyCache>> tiers_;
  std::vector<std::uint64_t> at_rest_;  // blocks that each tier has then, at most
  std::shared_ptr<KeptBlocks> kept_{};  // of the first tier
  std::vector<Moving*> moving_;
  double now_ = 0;
};

}  // namespace speckv::trace
