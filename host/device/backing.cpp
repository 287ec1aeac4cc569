#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "device/open.hpp"

namespace speckv {
namespace {

constexpr mode_t kOwnerOnly = 0600;  // KV is derived from what users wrote

int open_once(const DeviceUri& uri, int flags) {
  flags |= O_RDWR | O_CLOEXEC;
  if (uri.scheme == Scheme::shm) return ::shm_open(uri.path.c_str(), flags, kOwnerOnly);
  return ::open(uri.path.c_str(), flags | O_NOCTTY, kOwnerOnly);
}

// Whether the file system has no room for it, which is better asked than tried: trying
// would take all that others need, too, before it failed.
bool is_too_large(int fd, std::uint64_t size) {
  struct stat st {};
  struct statvfs fs {};
  if (::fstat(fd, &st) != 0 || ::fstatvfs(fd, &fs) != 0 || fs.f_blocks == 0) return false;
  const auto have = static_cast<std::uint64_t>(st.st_blocks) * 512;
  return size > have && (size - have) / fs.f_frsize > fs.f_bavail;
}

// Allocates [0, size) of a file that is `old` long. Returns an errno.
int reserve(int fd, std::uint64_t old, std::uint64_t size) {
  int error = 0;
  if (is_too_large(fd, size)) return ENOSPC;
  do {
    error = ::fallocate(fd, 0, 0, static_cast<off_t>(size)) == 0 ? 0 : errno;
  } while (error == EINTR);
  // No fallocate here: the C library writes to every block of the new part instead.
  if (error == EOPNOTSUPP && old < size) {
    error =
        ::posix_fallocate(fd, static_cast<off_t>(old), static_cast<off_t>(size - old));
  }
  return error == EOPNOTSUPP ? 0 : error;
}

Status wrong_size(const DeviceUri& uri, std::uint64_t actual, const char* rule) {
  return {Code::invalid_argument, "device \"" + uri.text + "\": it is " +
                                      std::to_string(actual) + " bytes long; " + rule};
}

// Nobody else is there and it is blank. Shared memory never is: whoever sized it may come
// back to it.
bool may_grow(const DeviceUri& uri, const Backing& backing) {
  if (!backing.file->alone()) return false;
  return backing.size == 0 || (uri.scheme != Scheme::shm && backing.file->is_blank());
}

// Refuses what sizing it would hide or spoil.
Status check_size(const DeviceUri& uri, const Backing& backing) {
  if (uri.size == 0) {
    if (backing.size != 0) return {};
    return wrong_size(uri, 0, "give its size with ?size=");
  }
  if (backing.size > uri.size) {
    return wrong_size(uri, backing.size, "give at least that size, or none");
  }
  if (backing.size < uri.size && !may_grow(uri, backing)) {
    return wrong_size(uri, backing.size,
                      "it holds something and is not enlarged: give the size that it was "
                      "made with, unless it was cut off");
  }
  return {};
}

Status size_regular(const DeviceUri& uri, Backing& backing) {
  if (Status fits = check_size(uri, backing); !fits.ok()) return fits;
  if (!backing.file->alone()) return {};
  const std::uint64_t size = uri.size != 0 ? uri.size : backing.size;
  const int error = reserve(backing.fd(), backing.size, size);
  if (error != 0) {
    [[maybe_unused]] const int undone =
        ::ftruncate(backing.fd(), static_cast<off_t>(backing.size));
    return os_error("device \"" + uri.text + "\": reserving its bytes", error);
  }
  backing.size = size;
  return {};
}

// The kernel states a devdax device's size in sysfs only.
std::uint64_t devdax_size(const struct stat& st) {
  std::ifstream file("/sys/dev/char/" + std::to_string(major(st.st_rdev)) + ":" +
                     std::to_string(minor(st.st_rdev)) + "/size");
  std::uint64_t size = 0;
  return file >> size ? size : 0;
}

Status size_device(const DeviceUri& uri, Backing& backing) {
  if (backing.size == 0) return wrong_size(uri, 0, "it is not a device that keeps bytes");
  if (uri.size > backing.size) return wrong_size(uri, backing.size, "it cannot grow");
  if (uri.size != 0) backing.size = uri.size;
  return {};
}

Status find_size(const DeviceUri& uri, Backing& backing) {
  struct stat st {};
  const int fd = backing.fd();
  if (::fstat(fd, &st) != 0) return os_error("device \"" + uri.text + "\"", errno);
  if (S_ISREG(st.st_mode)) {
    backing.size = static_cast<std::uint64_t>(st.st_size);
    backing.file->remember(backing.size);
    return size_regular(uri, backing);
  }
  if (S_ISBLK(st.st_mode)) {
    backing.kind = Backing::Kind::block;
    if (::ioctl(fd, BLKGETSIZE64, &backing.size) != 0) backing.size = 0;
    return size_device(uri, backing);
  }
  if (S_ISCHR(st.st_mode) && uri.scheme == Scheme::dax) {
    backing.kind = Backing::Kind::character;
    backing.size = devdax_size(st);
    return size_device(uri, backing);
  }
  return {Code::invalid_argument,
          "device \"" + uri.text + "\": neither a file nor a device that keeps bytes"};
}

Status lock(const DeviceUri& uri, const Opening& opening, FileClaim& file) {
  const auto& claims = opening.claims;
  if (std::any_of(claims.begin(), claims.end(),
                  [&file](const auto& other) { return other->is_same_file(file); })) {
    return {Code::invalid_argument,
            "device \"" + uri.text + "\": it is another tier's, too"};
  }
  return file.lock(opening.kind);
}

}  // namespace

DeviceInfo info_from(const DeviceUri& uri) {
  DeviceInfo info;
  info.name = uri.text;
  info.timeout = uri.timeout;
  return info;
}

Result<Backing> open_backing(const DeviceUri& uri, Opening& opening) {
  const bool may_create = uri.size != 0 && opening.kind != FileClaim::Kind::look;
  constexpr int kRemovals = 100;  // whoever keeps removing it does not keep us for ever
  for (int i = 0; i < kRemovals; ++i) {
    // Whatever takes memory comes before there is something to put back.
    Backing backing;
    backing.file = std::make_shared<FileClaim>(uri);
    opening.claims.reserve(opening.claims.size() + 1);
    // O_EXCL first: only what this call created may be removed when it is refused.
    Fd fd(may_create ? open_once(uri, O_CREAT | O_EXCL) : -1);
    const bool created = static_cast<bool>(fd);
    if (!created && (!may_create || errno == EEXIST)) fd = Fd(open_once(uri, 0));
    if (!fd) return os_error("device \"" + uri.text + "\"", errno);
    backing.file->take(std::move(fd), created);
    if (Status locked = lock(uri, opening, *backing.file); !locked.ok()) return locked;
    if (backing.file->is_removed()) continue;  // an open that was refused, meanwhile
    opening.claims.push_back(backing.file);
    Status status = find_size(uri, backing);
    if (!status.ok()) {
      backing.file->undo(false);
      return status;
    }
    backing.file->let_in();
    return backing;
  }
  return Status(Code::busy, "device \"" + uri.text + "\": it is removed again and again");
}

}  // namespace speckv
