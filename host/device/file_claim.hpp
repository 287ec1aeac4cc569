// device/file_claim.hpp -- an open file or node, the lock that keeps others off it, and
// what it was before.
//
// A private opener locks all of the file; openers of a store that has a name lock its
// byte 0, and one byte that follows from the store's index, together. By another lock, of
// the last byte, they tell that they live: the kernel may hold the first for a while
// after its owner died. Readers and writers of the bytes themselves are not affected.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

#include "device/os.hpp"
#include "device/uri.hpp"

namespace speckv {

// One thread, until only its descriptor is used.
class FileClaim {
 public:
  enum class Kind : std::uint8_t {
    look,   // next to whoever has it: no lock
    own,    // nobody else
    share,  // nobody but openers of the same store (share_as())
  };

  explicit FileClaim(const DeviceUri& uri) : uri_(uri) {}
  // Gives the locks back even where a child of fork() still has the descriptor; in that
  // child, leaves its parent's alone.
  ~FileClaim();
  FileClaim(const FileClaim&) = delete;
  FileClaim& operator=(const FileClaim&) = delete;

  // `created`: the caller has just made the file. Once, and first of all.
  void take(Fd fd, bool created) noexcept {
    fd_ = std::move(fd);
    created_ = created;
  }
  const Fd& fd() const noexcept { return fd_; }
  const std::string& note() const noexcept { return note_; }

  // busy: somebody else has it. Shared memory is shared, whatever the kind says. Until
  // let_in(), an opener that found nobody there keeps all others off, so that it may size
  // the file: alone().
  Status lock(Kind kind);
  bool alone() const noexcept { return alone_; }
  void let_in() noexcept;

  // From now on this is a file of the store with that index (index_identity()). busy: it
  // is another's.
  Status share_as(std::uint64_t index);

  // Whether this opener is now that one of the sharers, or somebody else is, perhaps only
  // by what the kernel still does for it after its death.
  bool use_as(std::uint32_t slot) noexcept;
  void end_use_as(std::uint32_t slot) noexcept;
  bool is_used_by(std::uint32_t slot) const noexcept;

  bool is_same_file(const FileClaim& other) const noexcept;
  bool is_removed() const noexcept;
  // Whether nothing was ever written to where a pool has its superblocks.
  bool is_blank() const noexcept;

  // Notes how a file that is not new was found. REQUIRES: before it is sized.
  void remember(std::uint64_t size) noexcept;
  // Puts the file back as lock() found it, unless somebody else has it or a store has
  // been made in it: removes it if this opener made it, or if `leftover` says that it is
  // of no use to anybody; makes it as long as it was, and blank, if it was blank.
  void undo(bool leftover) noexcept;

 private:
  void show_life() noexcept;
  bool set(short type, off_t first, off_t count) noexcept;
  bool is_held(off_t first, off_t count) const noexcept;
  Status busy(const char* by) const;

  const DeviceUri uri_;
  Fd fd_{}, alive_{};
  bool created_ = false, alone_ = false, was_blank_ = false;
  Kind kind_ = Kind::look;
  std::uint64_t size_ = 0;  // before
  pid_t locker_ = 0;        // the process that holds the locks
  std::string note_{};
};

using FileClaims = std::vector<std::shared_ptr<FileClaim>>;

}  // namespace speckv
