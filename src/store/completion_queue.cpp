#include "cxlspeckv/operation.hpp"

namespace speckv {

CompletionQueue::CompletionQueue(void (*notify)(void*), void* context) noexcept
    : notify_(notify), context_(context) {}

std::size_t CompletionQueue::poll(std::span<Entry> out) {
  const std::lock_guard lock(mutex_);
  std::size_t taken = 0;
  while (taken < out.size() && !entries_.empty()) {
    out[taken++] = entries_.front();
    entries_.pop_front();
  }
  return taken;
}

bool CompletionQueue::wait(std::chrono::nanoseconds at_most) {
  std::unique_lock lock(mutex_);
  return filled_.wait_for(lock, at_most, [this] { return !entries_.empty(); });
}

void CompletionQueue::push(const Entry& entry) {
  std::list<Entry> one{entry};
  push(one);
}

void CompletionQueue::push(std::list<Entry>& one) noexcept {
  {
    const std::lock_guard lock(mutex_);
    entries_.splice(entries_.end(), one);
  }
  filled_.notify_one();
  if (notify_ != nullptr) notify_(context_);
}

}  // namespace speckv
