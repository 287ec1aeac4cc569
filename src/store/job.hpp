// store/job.hpp -- what a mover is asked to do. Held by one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "store/block_table.hpp"
#include "store/operation_state.hpp"

namespace speckv {

// What a mover is bringing down, and the units that will then be free where it is now.
struct Leaving {
  std::atomic<std::size_t> blocks{0};
  std::atomic<std::uint64_t> units{0};
};

// One block's way. Which mover carries it is decided by route() in store.cpp.
struct Job {
  enum class Kind : std::uint8_t {
    save,    // from the operation's memory into this mover's tier
    load,    // from wherever the block is into the operation's memory
    move,    // from `source` (pinned), or wherever it is, into tier `target`
    commit,  // nothing but what is written already: done when a commit has covered it
  };
  Kind kind = Kind::load;
  BlockKey key{};
  std::uint32_t target = 0;  // of save and move
  Copy source{};             // node == kNone: to be found
  // Set: drop the source afterwards. Of the mover that began it; counts this job.
  Leaving* demotion = nullptr;
  std::uint64_t leaving_units = 0;
  // Somebody saves it: done when it is there and, if that is to last, a commit has
  // covered it.
  bool saving = false;
  std::vector<std::byte> carried{};  // the source's frame, read by another mover
  // None: a hint, or what goes on for nobody after its operation's deadline.
  std::shared_ptr<OperationState> op{};
  std::size_t index = 0;
  bool moved = false;           // it was this job that brought the block to `target`
  Code failed = Code::ok;       // of a copy tried before
  Clock::time_point give_up{};  // a wait for somebody else's filling ends here

  void finish(Code code) {
    if (op != nullptr) op->finish(index, code);
  }
  // Answers the operation, and goes on without it.
  void let_go(Code code) {
    finish(code);
    op = nullptr;
  }
  // A block erased while it was on its way was saved before that, as far as its saver can
  // tell.
  Code outcome(Code code) const {
    return (kind == Kind::save || saving) && code == Code::not_found ? Code::ok : code;
  }
  // Whether the block's bytes are at hand, in the operation's memory.
  bool has_bytes() const { return op != nullptr && !op->memory(index).empty(); }
  bool given_up(Clock& clock) const {
    return op != nullptr &&
           (op->cancelled.load(std::memory_order_relaxed) || op->overdue(clock));
  }
};

}  // namespace speckv
