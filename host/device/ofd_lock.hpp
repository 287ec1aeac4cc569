// device/ofd_lock.hpp -- byte-range locks of open file descriptions.
//
// They belong to the open file, not to the process: two descriptors of one process
// exclude each other, a child of fork() has its parent's, and the kernel drops them with
// the last descriptor, however the process ends.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

namespace speckv {

inline struct flock lock_range(short type, off_t first, off_t count) noexcept {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = first;
  lock.l_len = count;  // 0: to the end, wherever that is
  return lock;         // l_pid must be 0
}

// type: F_RDLCK, F_WRLCK or F_UNLCK. Replaces what this open file has there. False with
// errno EAGAIN or EACCES: others are in the way.
inline bool set_lock(int fd, short type, off_t first, off_t count) noexcept {
  struct flock lock = lock_range(type, first, count);
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

// Whether somebody else holds one of these. "Yes" in doubt.
inline bool held_by_others(int fd, off_t first, off_t count) noexcept {
  struct flock lock = lock_range(F_WRLCK, first, count);
  return ::fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

}  // namespace speckv
