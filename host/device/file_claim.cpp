#include "device/file_claim.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <limits>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "device/ofd_lock.hpp"

namespace speckv {
namespace {

using namespace std::chrono_literals;

// Bytes: of all sharers; of the first store; of the first sharer; of everybody who has it
// and lives.
constexpr off_t kGate = 0, kStores = 1, kAlive = std::numeric_limits<off_t>::max() - 1,
                kUsers = kAlive - 4096;

off_t byte_of_user(std::uint32_t slot) noexcept {
  return kUsers + slot;
}
constexpr std::size_t kHead = 8192;  // where a pool has its superblocks
// Others size a file before they let anybody else in. The dead are waited for longer: the
// kernel lets go of what they had in io_uring once the device has answered it, and a
// write of theirs that is still on its way could destroy what the next one writes.
constexpr auto kPatience = 2s, kPatienceWithTheDead = 60s;

off_t byte_of(std::uint64_t index) noexcept {
  return kStores + static_cast<off_t>(index >> 2);
}

// Whether `attempt` succeeds before it is too late. F_OFD_SETLKW has no time limit.
template <class Attempt, class Lives>
bool within_patience(Attempt attempt, Lives somebody_lives) {
  const auto begun = std::chrono::steady_clock::now();
  while (!attempt()) {
    const auto patience = somebody_lives() ? kPatience : kPatienceWithTheDead;
    if (std::chrono::steady_clock::now() - begun >= patience) return false;
    const timespec pause{0, 5'000'000};
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
  }
  return true;
}

}  // namespace

FileClaim::~FileClaim() {
  if (locker_ != ::getpid()) return;
  set_lock(alive_.get(), F_UNLCK, kAlive, 1);
  set(F_UNLCK, 0, kAlive);
}

bool FileClaim::set(short type, off_t first, off_t count) noexcept {
  return set_lock(fd_.get(), type, first, count);
}

bool FileClaim::is_held(off_t first, off_t count) const noexcept {
  return held_by_others(fd_.get(), first, count);
}

Status FileClaim::busy(const char* by) const {
  return {Code::busy, "device \"" + uri_.text + "\": it is open already, " + by};
}

Status FileClaim::lock(Kind kind) {
  kind_ = uri_.scheme == Scheme::shm && kind == Kind::own ? Kind::share : kind;
  if (kind_ == Kind::look) return {};
  locker_ = ::getpid();
  bool lockable = true;
  const auto lives = [&] { return is_held(kAlive, 1); };
  const bool got = within_patience(
      [&] {
        alone_ = set(F_WRLCK, 0, kAlive);
        if (alone_) return true;
        lockable = errno == EAGAIN || errno == EACCES;
        return !lockable || (kind_ == Kind::share && set(F_RDLCK, kGate, 1));
      },
      lives);
  if (got && lockable) show_life();
  if (!lockable) {
    alone_ = true;
    note_ = "its file system has no locks: nothing keeps a second store out of it";
  }
  return got ? Status{} : busy("in another process, store or tier");
}

// By another open file than the one that I/O goes through, which the kernel may keep for
// a while after this process has died.
void FileClaim::show_life() noexcept {
  const std::string same = "/proc/self/fd/" + std::to_string(fd_.get());
  alive_ = Fd(::open(same.c_str(), O_RDONLY | O_CLOEXEC));
  if (alive_) set_lock(alive_.get(), F_RDLCK, kAlive, 1);
}

void FileClaim::let_in() noexcept {
  if (kind_ != Kind::share || !alone_) return;
  alone_ = false;
  // Before whoever comes through the gate looks there.
  set(F_UNLCK, kStores, kAlive - kStores);
  set(F_RDLCK, kGate, 1);
}

// Both of two stores that come at once may see each other, and neither open. That both do
// cannot happen: each takes its byte before it looks at the others'.
Status FileClaim::share_as(std::uint64_t index) {
  if (kind_ != Kind::share || !note_.empty()) return {};
  const off_t mine = byte_of(index);
  const bool got = within_patience(
      [&] {
        return set(F_RDLCK, mine, 1) &&
               (mine == kStores || !is_held(kStores, mine - kStores)) &&
               !is_held(mine + 1, kUsers - mine - 1);
      },
      [] { return true; });
  return got ? Status{} : busy("in another store");
}

bool FileClaim::use_as(std::uint32_t slot) noexcept {
  return !note_.empty() || set(F_WRLCK, byte_of_user(slot), 1);
}
void FileClaim::end_use_as(std::uint32_t slot) noexcept {
  set(F_UNLCK, byte_of_user(slot), 1);
}
bool FileClaim::is_used_by(std::uint32_t slot) const noexcept {
  return note_.empty() && is_held(byte_of_user(slot), 1);
}

bool FileClaim::is_same_file(const FileClaim& other) const noexcept {
  struct stat mine {
  }, its{};
  return ::fstat(fd_.get(), &mine) == 0 && ::fstat(other.fd_.get(), &its) == 0 &&
         mine.st_dev == its.st_dev && mine.st_ino == its.st_ino;
}

bool FileClaim::is_removed() const noexcept {
  struct stat st {};
  return ::fstat(fd_.get(), &st) != 0 || st.st_nlink == 0;
}

bool FileClaim::is_blank() const noexcept {
  alignas(4096) std::array<std::byte, kHead> head{};  // the descriptor may be O_DIRECT
  return ::pread(fd_.get(), head.data(), head.size(), 0) >= 0 &&
         std::all_of(head.begin(), head.end(),
                     [](std::byte b) { return b == std::byte{0}; });
}

void FileClaim::remember(std::uint64_t size) noexcept {
  size_ = size;
  was_blank_ = is_blank();
}

void FileClaim::undo(bool leftover) noexcept {
  const bool all_mine = kind_ == Kind::own && alone_;
  if (!all_mine) {
    if (kind_ == Kind::look || !set(F_WRLCK, 0, kAlive) || is_removed()) return;
    // Others had it meanwhile, perhaps, and may have left something there.
    if (uri_.scheme != Scheme::shm && !is_blank()) return;
  }
  if (created_ || leftover) {
    if (uri_.scheme == Scheme::shm) {
      ::shm_unlink(uri_.path.c_str());
    } else {
      ::unlink(uri_.path.c_str());
    }
    return;
  }
  if (!was_blank_) return;
  [[maybe_unused]] const int shortened =
      ::ftruncate(fd_.get(), static_cast<off_t>(size_));
  if (uri_.scheme == Scheme::shm || is_blank()) return;
  // This opener has made a pool in it, as far as it got.
  [[maybe_unused]] const int blanked =
      ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                  static_cast<off_t>(kHead));
}

}  // namespace speckv
