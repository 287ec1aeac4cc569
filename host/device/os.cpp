#include "device/os.hpp"

#include <algorithm>
#include <cerrno>

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

namespace speckv {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

// The kernel lets poll() oversleep by the thread's timer slack (50 us by default), which
// is most of an NVMe read. A timerfd has none, so short sleeps go through one.
constexpr nanoseconds kPrecise = std::chrono::milliseconds(1);

timespec to_timespec(nanoseconds t) noexcept {
  timespec out{};
  out.tv_sec = static_cast<time_t>(t.count() / 1'000'000'000);
  out.tv_nsec = static_cast<long>(t.count() % 1'000'000'000);
  return out;
}

// Whether the counter was above zero, which it no longer is.
bool take(int event) noexcept {
  std::uint64_t count = 0;
  return ::read(event, &count, sizeof count) == sizeof count;
}

}  // namespace

Code code_of(int error) noexcept {
  switch (error) {
    case 0:
      return Code::ok;
    case EINVAL:
    case EFAULT:
    case EISDIR:
    case ENOTDIR:
    case ENAMETOOLONG:
      return Code::invalid_argument;
    case ENOENT:
      return Code::not_found;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
      return Code::no_space;
    case EBUSY:
    case EAGAIN:
      return Code::busy;
    case ECANCELED:
      return Code::cancelled;
    case EOPNOTSUPP:
    case ENOTTY:
    case ENOSYS:
      return Code::unsupported;
    default:
      return Code::io_error;
  }
}

Status os_error(std::string_view what, int error) {
  const char* reason = strerrordesc_np(error);
  return {code_of(error),
          std::string(what) + ": " + (reason != nullptr ? reason : "unknown error")};
}

steady_clock::time_point deadline_after(nanoseconds at_most) noexcept {
  constexpr nanoseconds kForever = std::chrono::hours(24 * 365);
  return steady_clock::now() + std::clamp(at_most, nanoseconds(0), kForever);
}

Result<Waker> Waker::create() {
  Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return os_error("eventfd", errno);
  Fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer) return os_error("timerfd", errno);
  return Waker(std::move(event), std::move(timer));
}

void Waker::wake() noexcept {
  if (woken_.exchange(true)) return;  // whoever set it also raises the eventfd
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof one);
}

bool Waker::consume() noexcept {
  // The eventfd may be raised a moment after the flag was taken; wait() copes with that.
  if (!woken_.exchange(false)) return false;
  take(event_.get());
  return true;
}

bool Waker::wait(nanoseconds at_most, int other) noexcept {
  const auto deadline = deadline_after(at_most);
  while (!consume()) {
    const nanoseconds left = deadline - steady_clock::now();
    if (left <= nanoseconds(0)) return false;
    const bool precise = left < kPrecise;
    if (precise) {
      itimerspec once{};
      once.it_value = to_timespec(left);
      ::timerfd_settime(timer_.get(), 0, &once, nullptr);  // also clears an old expiry
    }
    // Negative descriptors are skipped by poll().
    pollfd fds[] = {{event_.get(), POLLIN, 0},
                    {other, POLLIN, 0},
                    {precise ? timer_.get() : -1, POLLIN, 0}};
    const timespec timeout = to_timespec(left);
    if (::ppoll(fds, 3, &timeout, nullptr) <= 0) continue;
    if (fds[1].revents != 0) return consume();
    // Raised late by a wake() that was consumed already: the flag decides, not this.
    if (fds[0].revents != 0 && !woken_.load()) take(event_.get());
  }
  return true;
}

}  // namespace speckv
