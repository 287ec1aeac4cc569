#include "team.hpp"

#include <algorithm>

namespace speckv::demo {
namespace {

// About ten microseconds: longer than the serial stretches of a forward pass, far shorter
// than a scheduler's slice, so that an idle team leaves the processor to others.
constexpr int kSpins = 400;

void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns once `word` differs from `seen`.
void await_change(const std::atomic<std::uint32_t>& word, std::uint32_t seen) noexcept {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (word.load(std::memory_order_acquire) != seen) return;
    relax();
  }
  word.wait(seen, std::memory_order_acquire);
}

}  // namespace

Team::Team(unsigned threads) {
  for (unsigned thread = 1; thread < std::max(threads, 1U); ++thread) {
    workers_.emplace_back([this, thread] { work(thread); });
  }
}

Team::~Team() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
}

void Team::run(std::size_t count, void* context, Call call) {
  if (workers_.empty() || count < 2) {
    for (std::size_t index = 0; index < count; ++index)
      call(context, index, 0);
    return;
  }
  call_ = call;
  context_ = context;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);  // publishes the lines above
  epoch_.notify_all();
  take_indices(0);
  const auto all = static_cast<std::uint32_t>(workers_.size());
  for (std::uint32_t done = finished_.load(std::memory_order_acquire); done != all;
       done = finished_.load(std::memory_order_acquire)) {
    await_change(finished_, done);
  }
}

void Team::take_indices(unsigned thread) {
  for (;;) {
    const std::size_t index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= count_) return;
    call_(context_, index, thread);
  }
}

void Team::work(unsigned thread) {
  for (std::uint32_t seen = 0;;) {
    await_change(epoch_, seen);
    // One loop at a time, and each waits for every worker: none can be missed.
    ++seen;
    if (stop_.load(std::memory_order_relaxed)) return;
    take_indices(thread);
    finished_.fetch_add(1, std::memory_order_release);
    finished_.notify_all();
  }
}

}  // namespace speckv::demo
