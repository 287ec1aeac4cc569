#include <cerrno>
#include <new>

#include <sys/eventfd.h>
#include <unistd.h>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/guarded.hpp"

#include "device/os.hpp"

namespace speckv {
namespace {

void raise(int fd) noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(fd, &one, sizeof one);
}

}  // namespace

Result<std::unique_ptr<EventfdCompletionQueue>> EventfdCompletionQueue::create() {
  return guarded([]() -> Result<std::unique_ptr<EventfdCompletionQueue>> {
    const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return os_error("eventfd", errno);
    auto* const made = new (std::nothrow) EventfdCompletionQueue(fd);
    if (made != nullptr) return std::unique_ptr<EventfdCompletionQueue>(made);
    ::close(fd);
    return Status(Code::no_space, "out of memory");
  });
}

EventfdCompletionQueue::EventfdCompletionQueue(int fd) noexcept
    : fd_(fd),
      queue_([](void* self) { raise(static_cast<EventfdCompletionQueue*>(self)->fd_); },
             this) {}

EventfdCompletionQueue::~EventfdCompletionQueue() {
  ::close(fd_);
}

std::size_t EventfdCompletionQueue::drain(std::span<CompletionQueue::Entry> out) {
  std::size_t count = queue_.poll(out);
  if (count == out.size()) return count;  // there may be more: it stays readable
  std::uint64_t raised = 0;
  [[maybe_unused]] const auto cleared = ::read(fd_, &raised, sizeof raised);
  // What came in before it was cleared has lost its signal.
  count += queue_.poll(out.subspan(count));
  if (count == out.size()) raise(fd_);
  return count;
}

}  // namespace speckv
