// device/os.hpp -- what every door needs from the operating system.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <unistd.h>

#include "cxlspeckv/status.hpp"

namespace speckv {

// Owns a file descriptor. One thread.
class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// The code that an errno stands for, and a Status that says "WHAT: reason".
Code code_of(int error) noexcept;
Status os_error(std::string_view what, int error);

// Sleeps that another thread can end. wait() is for one thread, wake() for any.
class Waker {
 public:
  static Result<Waker> create();
  Waker(Waker&& other) noexcept
      : event_(std::move(other.event_)), timer_(std::move(other.timer_)) {}

  void wake() noexcept;
  // Forgets a wake() that happened before; says whether there was one.
  bool consume() noexcept;
  // Sleeps until wake() (which it consumes), `other` is readable, or `at_most` has
  // passed. Says whether there was a wake().
  bool wait(std::chrono::nanoseconds at_most, int other = -1) noexcept;

 private:
  Waker(Fd event, Fd timer) noexcept
      : event_(std::move(event)), timer_(std::move(timer)) {}

  Fd event_, timer_;
  std::atomic<bool> woken_{false};
};

// now + at_most, without overflow.
std::chrono::steady_clock::time_point deadline_after(
    std::chrono::nanoseconds at_most) noexcept;

}  // namespace speckv
