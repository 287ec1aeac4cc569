// prefetch/account.hpp -- what one source of speculation earned and lost, in bytes, and
// whether it is heard.
//
// A source begins with credit for `learning` bytes. What it brought in time earns as
// much; what it brought for nothing, and what had to make room for it and was missed, is
// lost. Once the credit is used up the source is silent for a while, and is then tried
// with half as much, after a pause that is twice as long each time. So all that is lost
// is at most what was earned, twice the learning budget, and a chunk a pause. A source
// that earns is trusted step by step again; each step costs it `learning` bytes of what
// it earned, which is more than the step lets it lose.
//
// Not thread-safe; reads no clock.
#pragma once

#include <algorithm>
#include <cstdint>

namespace speckv::prefetch {

class Account {
 public:
  // `chunk`: bytes of the smallest trial. `pause`: s, the first one.
  Account(std::uint64_t learning, std::uint64_t chunk, double pause) noexcept
      : learning_(static_cast<double>(learning)),
        least_(std::min(static_cast<double>(chunk), learning_)),
        first_pause_(pause),
        credit_(learning_),
        trial_(learning_),
        pause_(pause) {}

  void earned(std::uint64_t bytes) noexcept {
    credit_ = std::min(credit_ + static_cast<double>(bytes), 2 * learning_);
    if (credit_ < 2 * learning_ || trial_ >= learning_) return;
    trial_ = std::min(2 * trial_, learning_);
    pause_ = std::max(pause_ / 2, first_pause_);
    credit_ = learning_;
  }
  // Whether it falls silent by that. What a silent source still loses was begun before,
  // and has silenced it already.
  bool lost(std::uint64_t bytes, double now) noexcept {
    if (silent(now)) return false;
    credit_ -= static_cast<double>(bytes);
    if (credit_ > 0) return false;
    silent_until_ = now + pause_;
    pause_ *= 2;
    trial_ = std::max(trial_ / 2, least_);
    credit_ = trial_;
    return true;
  }
  bool silent(double now) const noexcept { return now < silent_until_; }

 private:
  double learning_, least_, first_pause_;  // bytes, bytes, s
  double credit_, trial_, pause_;          // bytes, bytes, s
  double silent_until_ = -1;
};

}  // namespace speckv::prefetch
