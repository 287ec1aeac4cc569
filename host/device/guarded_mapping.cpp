#include "device/guarded_mapping.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <utility>

#include <sys/mman.h>

#include "device/os.hpp"

namespace speckv {
namespace {

// What the handler knows of a mapping. `bytes` is 0 while the row is free; it is stored
// last, and cleared first. Atomics that have no lock may be used in a handler.
struct Row {
  std::atomic<std::uintptr_t> first{0};
  std::atomic<std::size_t> bytes{0};
  std::atomic<bool> lost{false};
};
static_assert(std::atomic<std::uintptr_t>::is_always_lock_free);

std::array<Row, 1024> rows;
std::mutex mutex;  // guards the rows' owners, and what follows
bool installed = false;
struct sigaction former {};

Row* row_of(std::uintptr_t address) noexcept {
  for (Row& row : rows) {
    const std::size_t bytes = row.bytes.load();
    if (bytes != 0 && address - row.first.load() < bytes) return &row;
  }
  return nullptr;
}

// To whom the signal would have gone without us.
void pass_on(int number, siginfo_t* info, void* context) noexcept {
  if ((former.sa_flags & SA_SIGINFO) != 0) {
    former.sa_sigaction(number, info, context);
  } else if (former.sa_handler == SIG_DFL || former.sa_handler == SIG_IGN) {
    ::sigaction(number, &former, nullptr);  // the access is made again, and ends it
  } else {
    former.sa_handler(number);
  }
}

void on_bus_error(int number, siginfo_t* info, void* context) noexcept {
  const int error = errno;
  Row* row = row_of(reinterpret_cast<std::uintptr_t>(info->si_addr));
  if (row == nullptr) {
    pass_on(number, info, context);
    errno = error;
    return;
  }
  row->lost.store(true);  // before there is anything to be read in its place
  const void* zeros =
      ::mmap(reinterpret_cast<void*>(row->first.load()), row->bytes.load(),
             PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (zeros == MAP_FAILED) pass_on(number, info, context);
  errno = error;
}

// With `mutex`.
Status install() {
  if (installed) return {};
  struct sigaction ours {};
  ours.sa_sigaction = on_bus_error;
  ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&ours.sa_mask);
  if (::sigaction(SIGBUS, &ours, &former) != 0) return os_error("sigaction", errno);
  installed = true;
  return {};
}

}  // namespace

Result<GuardedMapping> GuardedMapping::map(int fd, std::uint64_t offset,
                                           std::size_t bytes) {
  const std::lock_guard lock(mutex);
  if (Status ready = install(); !ready.ok()) return ready;
  GuardedMapping made;
  while (made.slot_ < rows.size() && rows[made.slot_].bytes.load() != 0)
    ++made.slot_;
  if (made.slot_ == rows.size()) {
    return Status(Code::no_space, "too many queues of cards are open in this process");
  }
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                    static_cast<off_t>(offset));
  if (at == MAP_FAILED) return os_error("mapping a queue of a card", errno);
  made.data_ = static_cast<std::byte*>(at);
  made.bytes_ = bytes;
  Row& row = rows[made.slot_];
  row.lost.store(false);
  row.first.store(reinterpret_cast<std::uintptr_t>(at));
  row.bytes.store(bytes);
  return made;
}

GuardedMapping& GuardedMapping::operator=(GuardedMapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(slot_, other.slot_);
  return *this;
}

GuardedMapping::~GuardedMapping() {
  if (data_ == nullptr) return;
  const std::lock_guard lock(mutex);
  rows[slot_].bytes.store(0);
  ::munmap(data_, bytes_);
}

bool GuardedMapping::lost() const noexcept {
  return data_ == nullptr || rows[slot_].lost.load();
}

}  // namespace speckv
