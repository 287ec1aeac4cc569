// store/impl.hpp -- a BlockStore at work: its parts, and the ways between them.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "store/mover.hpp"

namespace speckv {

struct BlockStore::Impl final : BlockTable::Listener, Mover::Router {
  static Result<std::unique_ptr<Impl>> open(StoreOptions options);
  ~Impl();

  // ---- the calling thread's side of the operations (store.cpp)
  Operation transfer(std::span<const BlockTransfer> blocks,
                     const TransferOptions& options, bool saving);
  std::shared_ptr<OperationState> begin(std::span<const BlockTransfer> blocks,
                                        const TransferOptions& options, bool saving);
  Code refusal(const OperationState& op, std::size_t index) const;
  void save_block(const std::shared_ptr<OperationState>& op, std::size_t index);
  bool is_saved(const std::shared_ptr<OperationState>& op, std::size_t index);
  void load_block(const std::shared_ptr<OperationState>& op, std::size_t index);
  // Moves a block up to tier 0; finishes the operation's block when it is there.
  void promote_block(const std::shared_ptr<OperationState>& op, std::size_t index);
  // busy: only the tier's mover can do it. cancelled: somebody else saves it.
  Code save_here(OperationState& op, std::size_t index, std::uint32_t tier);
  bool within_quota(TenantId tenant, std::uint64_t bytes) const noexcept;
  void emit(Event::Kind kind, const Copy& copy) const {
    services.emit(kind, copy.key, copy.tier, copy.frame_bytes, copy.order);
  }
  // Waits for room in the inbox: busy after the device's timeout, timed_out after the
  // operation's deadline.
  void post_or_fail(std::uint32_t tier, Job& job);
  bool hint(BlockKey key, std::uint32_t from);
  // A slot in tier 0 for a block that is still growing; waits for demotions if it must.
  Code reserve_tail(std::uint64_t bytes, TenantId tenant, std::uint32_t& node);
  // Pins every key's plain copy in tier 0, bringing up what is elsewhere (sequence.cpp).
  Code hold_in_fastest(std::span<const BlockKey> keys, std::vector<Copy>& pins,
                       std::uint16_t layout_id);
  Status flush();
  std::uint32_t persistent_tier() const noexcept;  // tier count if none answers
  Status no_persistent_tier() const;               // why there is none

  Services services;
  StoreRegions regions;
  std::unique_ptr<Mapping> mapping;
  std::vector<std::unique_ptr<TierState>> tiers;
  std::unique_ptr<BlockTable> table;
  std::vector<std::unique_ptr<Pool>> pools;  // by tier; null unless persistent
  std::vector<std::unique_ptr<Mover>> movers;
  // Bytes of tier 0 in which this process's sequences have blocks that still grow.
  std::atomic<std::uint64_t> growing{0};

  // ---- what the parts tell each other
  void on_event(Event::Kind kind, BlockKey key, std::uint32_t tier, std::uint64_t bytes,
                std::uint64_t order) noexcept override;
  void on_published(std::uint32_t tier, std::uint32_t node,
                    std::uint64_t bytes) noexcept override;
  void on_quarantine(std::uint32_t tier, std::uint32_t node) noexcept override;
  void on_pressure(std::uint32_t tier) noexcept override;
  bool post(std::uint32_t tier, Job& job) override;
  void hurry(std::uint32_t tier) override;
  void tick() override;

 private:
  Impl() = default;
  Status set_up(StoreOptions options);
  Status open_pools(bool recover);
  void join();

  std::atomic<std::int64_t> next_burial_{0};
};

// One thread's memory for coding on behalf of callers.
CodingScratch& thread_scratch();

}  // namespace speckv
