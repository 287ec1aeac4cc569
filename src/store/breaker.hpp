// store/breaker.hpp -- when a device that fails is left alone, and when it is tried
// again. One thread: the tier's mover.
#pragma once

#include <algorithm>
#include <chrono>

#include "cxlspeckv/metrics.hpp"

namespace speckv {

class Breaker {
 public:
  void succeeded() noexcept { failures_ = 0; }
  // True if the tier should be fenced now.
  bool failed(bool lost) noexcept { return lost || ++failures_ >= kFailures; }

  // A device that answers the probe and then fails again (one that can be read, not
  // written) is left alone for longer each time; only a long good time is forgiven all.
  void open(Clock::time_point now) noexcept {
    if (!is_open_ && now - closed_ > kLongestPause) pause_ = kFirstPause;
    is_open_ = true;
    next_probe_ = now + pause_;
    pause_ = std::min(pause_ * 2, kLongestPause);
  }
  void close(Clock::time_point now) noexcept {
    is_open_ = probing_ = false;
    failures_ = 0;
    closed_ = now;
  }
  bool is_open() const noexcept { return is_open_; }
  // True once when it is time to probe; close() or probe_failed() says how that went.
  bool should_probe(Clock::time_point now, std::chrono::nanoseconds patience) noexcept {
    if (!is_open_ || probing_ || now < next_probe_) return false;
    give_up_ = now + patience;
    return probing_ = true;
  }
  // A probe that is never answered has failed, too.
  bool probe_is_overdue(Clock::time_point now) const noexcept {
    return probing_ && now > give_up_;
  }
  void probe_failed(Clock::time_point now) noexcept {
    probing_ = false;
    open(now);
  }

 private:
  static constexpr int kFailures = 3;  // in a row
  static constexpr std::chrono::nanoseconds kFirstPause = std::chrono::milliseconds(100);
  static constexpr std::chrono::nanoseconds kLongestPause = std::chrono::seconds(30);

  bool is_open_ = false, probing_ = false;
  int failures_ = 0;
  std::chrono::nanoseconds pause_ = kFirstPause;
  Clock::time_point next_probe_{}, give_up_{}, closed_{};
};

}  // namespace speckv
