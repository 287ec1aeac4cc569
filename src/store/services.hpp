// store/services.hpp -- what every part of a store at work shares. Any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <string_view>
#include <utility>
#include <vector>

#include "cxlspeckv/guarded.hpp"
#include "cxlspeckv/store.hpp"

#include "base/mutex.hpp"
#include "store/block_table.hpp"

namespace speckv {

// Wakes whoever waits for the state of some block or tier to change. Waiting is bounded
// and repeated, because another process may be the one that makes the change.
class Changes {
 public:
  void announce() {
    if (waiters_.load(std::memory_order_acquire) == 0) return;
    const MutexLock lock(mutex_);
    changed_.notify_all();
  }
  // Waits for one change, or a moment.
  void nap(Clock& clock) {
    bool first = true;
    wait_until(clock, clock.now() + std::chrono::milliseconds(5),
               [&first] { return !std::exchange(first, false); });
  }
  // Waits until `ready()` or `until`; false if it never was ready.
  template <class Ready>
  bool wait_until(Clock& clock, Clock::time_point until, Ready&& ready) {
    const Waiter counted(waiters_);
    bool is_ready = ready();
    while (!is_ready && clock.now() < until) {
      mutex_.lock();
      changed_.wait_for(mutex_, std::chrono::milliseconds(5));
      mutex_.unlock();
      is_ready = ready();
    }
    return is_ready;
  }

 private:
  struct Waiter {
    explicit Waiter(std::atomic<int>& all) noexcept : count(all) { count.fetch_add(1); }
    ~Waiter() { count.fetch_sub(1); }
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;
    std::atomic<int>& count;
  };
  std::atomic<int> waiters_{0};
  Mutex mutex_;
  Condition changed_;
};

struct Services {
  std::vector<BlockLayout> layouts;
  std::vector<std::byte> profile;
  Clock* clock = nullptr;
  EventSink* events = nullptr;
  LogSink log{};
  Changes changes;

  const BlockLayout& layout(std::uint16_t id) const noexcept { return layouts[id]; }
  void emit(Event::Kind kind, BlockKey key, std::uint32_t tier, std::uint64_t bytes,
            std::uint64_t order = 0) const {
    if (events != nullptr) events->event({kind, key, tier, bytes, order, clock->now()});
  }
  // `text()` makes the words; without memory they are not told.
  template <class F>
  void say(LogLevel level, F&& text) const {
    if (log.write == nullptr) return;
    (void)guarded([&] {
      log.write(log.context, level, text());
      return Code::ok;
    });
  }
};

}  // namespace speckv
