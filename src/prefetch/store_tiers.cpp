// The tiers of a live store, as a prefetcher sees them.
#include <new>
#include <utility>

#include "cxlspeckv/promotion.hpp"

#include "prefetch/tiers.hpp"

namespace speckv::prefetch {
namespace {

class StoreMoves final : public Moves {
 public:
  explicit StoreMoves(Operation operation) noexcept : operation_(std::move(operation)) {}
  bool done() const noexcept override { return operation_.done(); }
  Code code(std::size_t index) const noexcept override { return operation_.code(index); }
  void cancel() noexcept override { operation_.cancel(); }

 private:
  Operation operation_;
};

class StoreTiers final : public Tiers {
 public:
  StoreTiers(BlockStore& store, CompletionQueue* completions, std::uint64_t tag)
      : store_(store), completions_(completions), tag_(tag) {}

  std::size_t count() const noexcept override { return store_.tier_count(); }
  std::uint64_t capacity(std::uint32_t tier) const noexcept override {
    return store_.stats(tier).capacity;
  }
  void lookup(std::span<const BlockKey> keys,
              std::span<std::int8_t> tiers) const noexcept override {
    store_.lookup(keys, tiers);
  }
  std::unique_ptr<Moves> promote(std::span<const BlockKey> keys,
                                 std::uint32_t tier) noexcept override {
    return std::unique_ptr<Moves>(new (std::nothrow) StoreMoves(
        speckv::promote(store_, keys, tier, {.completions = completions_, .tag = tag_})));
  }
  bool retain(std::shared_ptr<KeptBlocks> kept) override {
    return speckv::retain(store_, 0, std::move(kept));
  }
  void release(const KeptBlocks& kept) noexcept override {
    speckv::release(store_, 0, kept);
  }
  PlainBytes plain_bytes(std::uint32_t tier) override {
    return speckv::plain_bytes(store_, tier);
  }

 private:
  BlockStore& store_;
  CompletionQueue* const completions_;
  const std::uint64_t tag_;
};

}  // namespace

std::unique_ptr<Tiers> tiers_of(BlockStore& store, CompletionQueue* completions,
                                std::uint64_t tag) {
  return std::make_unique<StoreTiers>(store, completions, tag);
}

}  // namespace speckv::prefetch
