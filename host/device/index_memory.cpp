// The index memory of a named store: a file in shared memory, and claims on owner ids.
//
//   bytes 0..4095     IndexHeader; OFD locks on byte 0 (setting up) and 64 + slot
//   (claims) bytes 4096..      IndexMemory::bytes, whose first word is 0 until somebody
//   formatted it
//
// An OFD lock belongs to the open file, and the kernel drops it with the last descriptor
// of it, however the process ends. An owner id is slot + 64 * generation: a slot that is
// claimed again gets another id, so that the dead are never mistaken for the living.
#include "device/index_memory.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/guarded.hpp"

#include "device/ofd_lock.hpp"
#include "device/os.hpp"
#include "device/uri.hpp"

namespace speckv {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kMagic = 0x314D454D58444E49;  // "INDXMEM1"
constexpr std::uint64_t kHeaderBytes = 4096;
constexpr std::uint32_t kSlots = 64;  // processes at once
constexpr off_t kSetupByte = 0, kFirstClaim = 64;
constexpr std::uint64_t kMostBytes = 1ULL << 40;
constexpr auto kSetupTimeout = 5s;  // others hold that lock for a few system calls only

struct IndexHeader {
  std::uint64_t magic;
  std::uint64_t bytes;
  std::array<std::atomic<std::uint32_t>, kSlots> generations;
  std::array<char, 512>
      identity;  // whose index this is: names are hashed, and may collide
};
static_assert(sizeof(IndexHeader) <= kHeaderBytes);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

struct Name {
  std::string identity;  // the same for all ways to spell it
  std::string file;      // for shm_open()
};

std::uint64_t fnv1a(std::string_view text) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  }
  return hash;
}

// Device and inode name a file, however its path is spelled; the time of birth tells it
// from an older file that had the same inode.
std::string identity_of(const struct statx& st) {
  std::string identity = "file:" + std::to_string(st.stx_dev_major) + ":" +
                         std::to_string(st.stx_dev_minor) + ":" +
                         std::to_string(st.stx_ino) + ":";
  if ((st.stx_mask & STATX_BTIME) != 0) {
    identity +=
        std::to_string(st.stx_btime.tv_sec) + "." + std::to_string(st.stx_btime.tv_nsec);
  }
  return identity;
}

Result<Name> resolve(std::string_view name) {
  constexpr std::string_view kScheme = "shm:";
  Name out;
  if (name.substr(0, kScheme.size()) == kScheme) {
    if (!valid_shm_name(name.substr(kScheme.size()))) {
      return Status(Code::invalid_argument,
                    "index memory: a name is \"shm:/\" and up to 254 "
                    "characters, none of them \"/\"");
    }
    out.identity = name;
  } else {
    if (name.empty() || name.find('\0') != std::string_view::npos) {
      return Status(Code::invalid_argument, "index memory: not a path");
    }
    struct statx st {};
    if (::statx(AT_FDCWD, std::string(name).c_str(), 0, STATX_INO | STATX_BTIME, &st) !=
        0) {
      return os_error("index memory of \"" + std::string(name) + "\"", errno);
    }
    out.identity = identity_of(st);
  }
  constexpr std::string_view kDigits = "0123456789abcdef";
  out.file = "/cxlspeckv-index-";
  const std::uint64_t hash = fnv1a(out.identity);
  for (int shift = 60; shift >= 0; shift -= 4)
    out.file += kDigits[(hash >> shift) & 15];
  return out;
}

// ---- The setup lock -----------------------------------------------------------------

// Held while an opener looks at the file, sizes it and claims a slot.
class SetupLock {
 public:
  explicit SetupLock(int fd) noexcept : fd_(fd) {
    const auto deadline = deadline_after(kSetupTimeout);
    while (!(held_ = set_lock(fd_, F_WRLCK, kSetupByte, 1)) &&
           (errno == EAGAIN || errno == EACCES) &&
           std::chrono::steady_clock::now() < deadline) {
      const timespec pause{0, 1'000'000};  // F_OFD_SETLKW could not be given a limit
      ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
    }
  }
  ~SetupLock() {
    if (held_) set_lock(fd_, F_UNLCK, kSetupByte, 1);
  }
  SetupLock(const SetupLock&) = delete;
  SetupLock& operator=(const SetupLock&) = delete;
  bool held() const noexcept { return held_; }

 private:
  int fd_;
  bool held_ = false;
};

// ---- The mapping and the claim ------------------------------------------------------

// What IndexMemory::keep holds. Immutable once set up.
struct Attachment {
  Attachment() = default;
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;
  ~Attachment() {
    if (base != MAP_FAILED) ::munmap(base, mapped);
  }
  IndexHeader& header() const noexcept { return *static_cast<IndexHeader*>(base); }
  std::byte* bytes() const noexcept {
    return static_cast<std::byte*>(base) + kHeaderBytes;
  }

  Fd fd{};
  std::string file{};  // its name, for shm_open()
  FileClaims files{};  // of the tiers
  void* base = MAP_FAILED;
  std::size_t mapped = 0;
  std::uint32_t id = 0;
};

bool is_alive(void* context, std::uint32_t process) {
  const auto& self = *static_cast<const Attachment*>(context);
  if (process == self.id) return true;  // in doubt, too: the living must not be buried
  const std::uint32_t slot = process % kSlots;
  if (self.header().generations[slot].load() != process / kSlots) return false;
  return held_by_others(self.fd.get(), kFirstClaim + static_cast<off_t>(slot), 1) ||
         std::any_of(self.files.begin(), self.files.end(),
                     [&](const auto& file) { return file->is_used_by(slot); });
}

Status about(const Name& name, Code code, const std::string& sentence) {
  return {code, "index memory " + name.identity + ": " + sentence};
}

// Opens or creates it. Anybody may create files in shared memory, hence the distrust.
Status open_file_of(const Name& name, Attachment& out) {
  out.file = name.file;
  out.fd =
      Fd(::shm_open(name.file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!out.fd) return os_error("index memory " + name.identity, errno);
  struct stat st {};
  if (::fstat(out.fd.get(), &st) != 0) return os_error("index memory", errno);
  if (st.st_uid != ::geteuid() || !S_ISREG(st.st_mode)) {
    return about(name, Code::invalid_argument, "it belongs to another user");
  }
  return {};
}

Status map_file(const Name& name, Attachment& out, std::size_t size) {
  out.base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, out.fd.get(), 0);
  if (out.base == MAP_FAILED) return os_error("index memory " + name.identity, errno);
  out.mapped = size;
  return {};
}

// Whether what is there was set up for this name and size and may be joined. Nothing that
// stands in the header is believed before that.
Status check_header(const Name& name, const IndexHeader& header, std::uint64_t bytes) {
  if (header.magic != kMagic) {
    return about(name, Code::corrupted, "its header is not ours; remove it");
  }
  const std::string_view identity(
      header.identity.data(), ::strnlen(header.identity.data(), header.identity.size()));
  if (identity != name.identity) {
    return about(name, Code::invalid_argument, "its file is taken by another name");
  }
  if (header.bytes != bytes) {
    return about(name, Code::invalid_argument,
                 "it exists with " + std::to_string(header.bytes) + " bytes instead of " +
                     std::to_string(bytes) + ": the options of the store differ");
  }
  return {};
}

// Empties the file and gives it its size, keeping the generations if there are any. The
// file is sparse, because most of an index (a column of counters for each process that
// might attach) is never touched; whether there is room for all of it is asked now.
Status make_fresh(const Name& name, Attachment& at, std::uint64_t old,
                  std::uint64_t size) {
  const int fd = at.fd.get();
  struct statvfs fs {};
  if (old > kHeaderBytes && ::ftruncate(fd, kHeaderBytes) != 0) {
    return os_error("index memory " + name.identity, errno);
  }
  if (::fstatvfs(fd, &fs) == 0 && fs.f_blocks != 0 && size / fs.f_frsize >= fs.f_bavail) {
    return about(name, Code::no_space, "shared memory has no room for it");
  }
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) {
    return os_error("index memory " + name.identity, errno);
  }
  if (Status status = map_file(name, at, size); !status.ok()) return status;
  IndexHeader& header = at.header();
  header.bytes = size - kHeaderBytes;
  header.identity = {};
  std::copy(name.identity.begin(), name.identity.end(), header.identity.begin());
  header.magic = kMagic;
  return {};
}

// The first word of an index is its magic, and is stored last.
bool is_formatted(const Attachment& at) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, at.bytes(), sizeof word);
  return word != 0;
}

// REQUIRES: the setup lock.
Status set_up(const Name& name, Attachment& at, std::uint64_t bytes, bool& fresh) {
  struct stat st {};
  if (::fstat(at.fd.get(), &st) != 0) return os_error("index memory", errno);
  const auto old = static_cast<std::uint64_t>(st.st_size);
  const std::uint64_t size = kHeaderBytes + bytes;
  const bool in_use = held_by_others(at.fd.get(), kFirstClaim, kSlots);
  fresh = false;
  if (old > kHeaderBytes + sizeof(std::uint64_t)) {
    if (Status status = map_file(name, at, old); !status.ok()) return status;
    if (in_use || is_formatted(at)) {
      Status status = check_header(name, at.header(), bytes);
      if (!status.ok() || old == size) return status;
      return about(name, Code::corrupted, "its file has the wrong length; remove it");
    }
    ::munmap(std::exchange(at.base, MAP_FAILED), at.mapped);
  }
  // New, or whoever was to format it died: nobody holds anything in it.
  if (in_use) return about(name, Code::corrupted, "its file was cut off while in use");
  fresh = true;
  return make_fresh(name, at, old, size);
}

// In the index and in every file, or in none.
bool take_slot(const Attachment& at, std::uint32_t slot) {
  const off_t byte = kFirstClaim + static_cast<off_t>(slot);
  if (!set_lock(at.fd.get(), F_WRLCK, byte, 1)) return false;
  if (std::all_of(at.files.begin(), at.files.end(),
                  [&](const auto& file) { return file->use_as(slot); }))
    return true;
  for (const auto& file : at.files)
    file->end_use_as(slot);
  set_lock(at.fd.get(), F_UNLCK, byte, 1);
  return false;
}

// REQUIRES: the setup lock.
Status claim(const Name& name, Attachment& at) {
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    if (!take_slot(at, slot)) continue;
    constexpr std::uint32_t kGenerations = 1U << 26;  // what is left of 32 bits
    auto& generation = at.header().generations[slot];
    const std::uint32_t next = generation.load() % (kGenerations - 1) + 1;
    generation.store(next);
    at.id = slot + kSlots * next;
    return {};
  }
  return about(name, Code::busy,
               std::to_string(kSlots) + " processes are attached already");
}

Result<IndexMemory> open_memory(std::string_view name, std::uint64_t bytes,
                                const FileClaims& files) {
  Result<Name> resolved = resolve(name);
  if (!resolved.ok()) return resolved.error();
  if (bytes < sizeof(std::uint64_t) || bytes > kMostBytes) {
    return about(*resolved, Code::invalid_argument,
                 std::to_string(bytes) + " bytes is not a size for it");
  }
  constexpr int kRemovals =
      100;  // somebody who keeps removing it does not keep us for ever
  for (int i = 0; i < kRemovals; ++i) {
    auto at = std::make_shared<Attachment>();
    at->files = files;
    if (Status s = open_file_of(*resolved, *at); !s.ok()) return s;
    const SetupLock lock(at->fd.get());
    if (!lock.held())
      return about(*resolved, Code::busy, "another process is setting it up");
    struct stat st {};
    if (::fstat(at->fd.get(), &st) != 0 || st.st_nlink == 0)
      continue;  // removed meanwhile
    IndexMemory memory;
    if (Status s = set_up(*resolved, *at, bytes, memory.fresh); !s.ok()) return s;
    if (Status s = claim(*resolved, *at); !s.ok()) return s;
    memory.bytes = {at->bytes(), bytes};
    memory.process = at->id;
    memory.alive = is_alive;
    memory.context = at.get();
    memory.keep = std::move(at);
    return memory;
  }
  return about(*resolved, Code::busy, "it is being removed again and again");
}

// Reads with system calls: a mapping could be cut off while it is looked at.
Result<IndexSnapshot> peek(std::string_view name, std::size_t bytes) {
  const Result<Name> resolved = resolve(name);
  if (!resolved.ok()) return resolved.error();
  const Fd fd(::shm_open(resolved->file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0));
  if (!fd) return os_error("index memory " + resolved->identity, errno);
  std::vector<std::byte> page(kHeaderBytes);
  IndexSnapshot out;
  out.bytes.resize(bytes);
  const auto read = [&fd](std::vector<std::byte>& to, off_t from) {
    return ::pread(fd.get(), to.data(), to.size(), from) ==
           static_cast<ssize_t>(to.size());
  };
  if (!read(page, 0) || !read(out.bytes, static_cast<off_t>(kHeaderBytes)))
    return about(*resolved, Code::corrupted, "its file is too short");
  IndexHeader header;
  std::memcpy(static_cast<void*>(&header), page.data(), sizeof header);
  if (Status s = check_header(*resolved, header, header.bytes); !s.ok()) return s;
  for (std::uint32_t slot = 0; slot < kSlots; ++slot)
    out.processes += held_by_others(fd.get(), kFirstClaim + static_cast<off_t>(slot), 1);
  return out;
}

Status remove_memory(std::string_view name) {
  const Result<Name> resolved = resolve(name);
  if (!resolved.ok()) return resolved.error();
  if (::shm_unlink(resolved->file.c_str()) == 0) return {};
  return os_error("index memory " + resolved->identity, errno);
}

}  // namespace

Result<IndexMemory> open_index_memory(std::string_view name, std::uint64_t bytes) {
  return attach_index_memory(name, bytes, {});
}
Result<IndexMemory> attach_index_memory(std::string_view name, std::uint64_t bytes,
                                        const FileClaims& files) {
  return guarded([&] { return open_memory(name, bytes, files); });
}
Result<IndexSnapshot> peek_index_memory(std::string_view name, std::size_t bytes) {
  return guarded([&] { return peek(name, bytes); });
}
Result<std::string> index_file(std::string_view name) {
  auto resolved = resolve(name);
  if (!resolved) return resolved.error();
  return resolved->file;
}

Status reserve_index_memory(const IndexMemory& memory,
                            const std::vector<IndexSpan>& spans) {
  const auto& at = *static_cast<const Attachment*>(memory.context);
  for (const IndexSpan& span : spans) {
    if (span.bytes == 0) continue;
    int error = 0;
    do {
      error = ::fallocate(at.fd.get(), FALLOC_FL_KEEP_SIZE,
                          static_cast<off_t>(kHeaderBytes + span.offset),
                          static_cast<off_t>(span.bytes)) == 0
                  ? 0
                  : errno;
    } while (error == EINTR);
    if (error != 0 && error != EOPNOTSUPP)
      return os_error("index memory: reserving its bytes in shared memory", error);
  }
  return {};
}

std::uint64_t index_identity(const IndexMemory& memory) {
  const auto& at = *static_cast<const Attachment*>(memory.context);
  struct statx st {};
  if (::statx(at.fd.get(), "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) != 0)
    return 0;
  return fnv1a(identity_of(st));
}

bool abandon_index_memory(const IndexMemory& memory) noexcept {
  const auto& at = *static_cast<const Attachment*>(memory.context);
  const SetupLock lock(at.fd.get());
  if (!lock.held() || is_formatted(at)) return false;
  struct stat st {};
  const bool is_named = ::fstat(at.fd.get(), &st) == 0 && st.st_nlink != 0;
  if (is_named && !held_by_others(at.fd.get(), kFirstClaim, kSlots))
    ::shm_unlink(at.file.c_str());
  return true;
}

Status remove_index_memory(std::string_view name) {
  return guarded([&] { return remove_memory(name); });
}

}  // namespace speckv
