// store/operation_state.hpp -- what an Operation points to.
//
// Made by the thread that starts the operation, finished block by block by whichever
// thread moves the bytes. Atomics order a block's result before the count that announces
// it.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "cxlspeckv/metrics.hpp"
#include "cxlspeckv/operation.hpp"
#include "cxlspeckv/store.hpp"

#include "base/mutex.hpp"
#include "store/regions.hpp"

namespace speckv {

inline constexpr const char* kOtherLayout = "it is stored in another layout";

struct OperationState {
  struct Block {
    BlockKey key{};
    LayoutId layout{};
    std::uint32_t first_position = kNoPosition;
    std::uint32_t first_piece = 0, piece_count = 0;  // of `pieces`
    std::atomic<Code> code{Code::ok};
    std::atomic<std::uint32_t> layers_ready{0};
    const char* why = nullptr;  // of invalid_argument, a literal; set before finish()
  };

  explicit OperationState(std::size_t count)
      : blocks(count), remaining_(count), done_(count == 0) {}
  // Who is told, and by when.
  OperationState(std::size_t count, const TransferOptions& options, Clock& clock);
  ~OperationState() { let_go(); }
  OperationState(const OperationState&) = delete;
  OperationState& operator=(const OperationState&) = delete;

  std::span<const MutableBytes> memory(std::size_t index) const noexcept {
    return {pieces.data() + blocks[index].first_piece, blocks[index].piece_count};
  }
  // Ends one block. Exactly once a block, any thread; the last one wakes the waiters.
  void finish(std::size_t index, Code code) noexcept;
  void finish_all(Code code) noexcept;
  bool done() const noexcept { return done_.load(std::memory_order_acquire); }
  bool overdue(Clock& clock) const noexcept {
    return deadline != Clock::time_point::max() && clock.now() >= deadline;
  }
  bool may_touch_memory() const noexcept {
    return fence.ready == nullptr || fence.ready(fence.context);
  }
  Code first_failure() const noexcept;
  bool wait_for(std::chrono::nanoseconds at_most);

  std::vector<Block> blocks;
  std::vector<MutableBytes> pieces;  // of all blocks, one after another
  std::vector<RegionId> holds;
  StoreRegions* regions = nullptr;
  LayerRange layers{};
  Clock::time_point deadline = Clock::time_point::max();
  TenantId tenant{};
  bool durable = false;
  std::atomic<std::uint64_t>* dropped = nullptr;  // of saves: counts what is not stored
  ReadyFence fence{};
  CompletionQueue* completions = nullptr;
  std::list<CompletionQueue::Entry> announcement;  // one, if `completions` is to have it
  std::uint64_t tag = 0;
  std::atomic<bool> cancelled{false};

 private:
  void let_go() noexcept;

  std::atomic<std::size_t> remaining_;
  std::atomic<bool> done_;
  Mutex mutex_;
  Condition waiters_;
  bool announced_ SPECKV_GUARDED_BY(mutex_) = false;
};

}  // namespace speckv
