#include <algorithm>
#include <string>
#include <utility>

#include "base/told.hpp"
#include "store/operation_state.hpp"

namespace speckv {

OperationState::OperationState(std::size_t count, const TransferOptions& options,
                               Clock& clock)
    : OperationState(count) {
  completions = options.completions;
  tag = options.tag;
  if (completions != nullptr) announcement.push_back({tag, Code::ok});
  if (options.deadline.count() > 0) {
    const Clock::time_point now = clock.now();
    deadline = now + std::min(options.deadline, Clock::time_point::max() - now);
  }
}

void OperationState::finish(std::size_t index, Code code) noexcept {
  if (dropped != nullptr && code != Code::ok && code != Code::invalid_argument &&
      code != Code::cancelled)
    dropped->fetch_add(1, std::memory_order_relaxed);
  blocks[index].code.store(code, std::memory_order_relaxed);
  // acq_rel: publishes this block's result, and takes in the others' for the last one.
  if (remaining_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  let_go();
  done_.store(true, std::memory_order_release);
  if (completions != nullptr) {
    announcement.front() = {tag, first_failure()};
    completions->push(announcement);
  }
  // Last, so that whoever waits may free the completion queue.
  const MutexLock lock(mutex_);
  announced_ = true;
  waiters_.notify_all();
}

void OperationState::finish_all(Code code) noexcept {
  for (std::size_t i = 0; i < blocks.size(); ++i)
    finish(i, code);
}

void OperationState::let_go() noexcept {
  if (regions != nullptr && !holds.empty()) regions->release(holds);
  holds.clear();
}

Code OperationState::first_failure() const noexcept {
  for (const Block& block : blocks) {
    const Code code = block.code.load(std::memory_order_relaxed);
    if (code != Code::ok) return code;
  }
  return Code::ok;
}

bool OperationState::wait_for(std::chrono::nanoseconds at_most) {
  if (blocks.empty()) return true;
  mutex_.lock();
  const auto is_announced = [this]() SPECKV_REQUIRES(mutex_) { return announced_; };
  bool finished = true;
  if (at_most == std::chrono::nanoseconds::max()) {
    waiters_.wait(mutex_, is_announced);
  } else {
    finished = waiters_.wait_for(mutex_, at_most, is_announced);
  }
  mutex_.unlock();
  return finished;
}

Operation::Operation() noexcept = default;
Operation::Operation(std::shared_ptr<OperationState> state) noexcept
    : state_(std::move(state)) {}
Operation::Operation(Operation&& other) noexcept
    : state_(std::move(other.state_)), refused_(std::exchange(other.refused_, 0)) {}

Operation Operation::refused(std::size_t blocks) noexcept {
  Operation operation;
  operation.refused_ = blocks;
  return operation;
}

Operation& Operation::operator=(Operation&& other) noexcept {
  if (this != &other) {
    if (state_ != nullptr) state_->wait_for(std::chrono::nanoseconds::max());
    state_ = std::move(other.state_);
    refused_ = std::exchange(other.refused_, 0);
  }
  return *this;
}

// Bounded although it waits "for ever": every mover answers within its device's timeout.
Operation::~Operation() {
  if (state_ != nullptr) state_->wait_for(std::chrono::nanoseconds::max());
}

bool Operation::done() const noexcept {
  return state_ == nullptr || state_->done();
}

Status Operation::wait() {
  return wait_for(std::chrono::nanoseconds::max());
}

Status Operation::wait_for(std::chrono::nanoseconds at_most) {
  if (refused()) return {Code::no_space, "out of memory"};
  if (state_ == nullptr) return {};
  if (!state_->wait_for(at_most)) {
    return told(Code::timed_out, [] { return "the operation still runs"; });
  }
  for (std::size_t i = 0; i < state_->blocks.size(); ++i) {
    const Code failed = code(i);
    if (failed == Code::ok) continue;
    return told(failed, [&] {
      const char* const why = state_->blocks[i].why;
      return "block " + std::to_string(i) + " of " +
             std::to_string(state_->blocks.size()) + ": " +
             std::string(to_string(failed)) + (why == nullptr ? "" : ": ") +
             (why == nullptr ? "" : why);
    });
  }
  return {};
}

void Operation::cancel() noexcept {
  if (state_ != nullptr) state_->cancelled.store(true, std::memory_order_relaxed);
}

std::size_t Operation::size() const noexcept {
  return state_ == nullptr ? refused_ : state_->blocks.size();
}
Code Operation::code(std::size_t index) const noexcept {
  if (state_ == nullptr) return Code::no_space;
  return state_->blocks[index].code.load(std::memory_order_relaxed);
}
std::uint32_t Operation::layers_ready(std::size_t index) const noexcept {
  if (state_ == nullptr) return 0;
  // acquire: pairs with the mover's release after the layer's bytes.
  return state_->blocks[index].layers_ready.load(std::memory_order_acquire);
}

}  // namespace speckv
