// cxlspeckv/operation.hpp -- transfers in flight, and how they report.
//
// Memory is lent to an Operation, whose destructor waits (at most until its deadline, or
// the device's timeout: after that the tier is fenced), so nothing is touched after the
// Operation is gone, nor once it is done.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>

#include "cxlspeckv/status.hpp"

namespace speckv {

struct OperationState;  // internal

// One per save or load. One thread at a time.
class [[nodiscard]] Operation {
 public:
  Operation() noexcept;  // done, of no blocks
  Operation(Operation&&) noexcept;
  Operation& operator=(Operation&&) noexcept;  // waits for the old one first
  ~Operation();                                // waits

  bool done() const noexcept;
  // There was no memory to begin it: it is done, every block ended as no_space, and no
  // completion queue hears of it.
  bool refused() const noexcept { return refused_ != 0; }
  Status wait();  // the first failure, if any block failed
  // The same; timed_out while still running, which changes nothing about the operation.
  Status wait_for(std::chrono::nanoseconds at_most);
  // Best effort: blocks not yet begun end as `cancelled`.
  void cancel() noexcept;

  std::size_t size() const noexcept;  // blocks
  // How one block ended. REQUIRES: done(), index < size().
  Code code(std::size_t index) const noexcept;
  // How many layers of a load's range are in the caller's memory, from the first on, each
  // checked; any time. It only grows: of a large block they land in up to eight groups.
  std::uint32_t layers_ready(std::size_t index) const noexcept;

  explicit Operation(std::shared_ptr<OperationState> state) noexcept;  // internal
  static Operation refused(std::size_t blocks) noexcept;               // internal

 private:
  std::shared_ptr<OperationState> state_;
  std::size_t refused_ = 0;  // blocks
};

// What must have happened before the store touches lent memory: an event on a GPU stream,
// say. The store asks until it says yes or the deadline passes. `ready` must not block.
struct ReadyFence {
  bool (*ready)(void* context) = nullptr;
  void* context = nullptr;
};

// Operations report here when they are done: one place to wait for many. Any thread.
// host/ has one that raises an eventfd.
class CompletionQueue {
 public:
  struct Entry {
    std::uint64_t tag = 0;
    Code code = Code::ok;  // of the first block that failed
  };

  // `notify` is called after each entry, with no lock held; it must not call the store.
  explicit CompletionQueue(void (*notify)(void*) = nullptr,
                           void* context = nullptr) noexcept;

  // Takes what is there, without blocking.
  std::size_t poll(std::span<Entry> out);
  // Blocks until there is something, at most that long; returns whether there is.
  bool wait(std::chrono::nanoseconds at_most);

  // The store's side. The second takes the list's entry, and needs no memory.
  void push(const Entry& entry);
  void push(std::list<Entry>& one) noexcept;

 private:
  std::mutex mutex_;
  std::condition_variable filled_;
  std::list<Entry> entries_;
  void (*notify_)(void*);
  void* context_;
};

}  // namespace speckv
