#include "device/file.hpp"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "device/open.hpp"

namespace speckv {
namespace {

constexpr std::uint32_t kUsualBlock = 4096;  // of file systems; of disks that do not tell

class FileDevice final : public Device {
 public:
  FileDevice(DeviceInfo info, std::shared_ptr<const Fd> fd, bool uring) : uring_(uring) {
    context_.info = std::move(info);
    context_.fd = std::move(fd);
  }

  const DeviceInfo& info() const noexcept override { return context_.info; }
  Status attach(RegionId region, MutableBytes memory) override {
    return context_.regions.attach(region, memory);
  }
  Status detach(RegionId region) override { return context_.regions.detach(region); }
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) override {
    if (Status status = check_depth(depth); !status.ok()) return status;
    return uring_ ? open_uring_queue(context_, depth) : open_pread_queue(context_, depth);
  }

 private:
  FileContext context_;
  const bool uring_;
};

bool is_power_of_two(std::uint32_t n) noexcept {
  return n != 0 && (n & (n - 1)) == 0;
}

// What the kernel insists on for offsets, lengths and addresses under O_DIRECT.
std::uint32_t least_alignment(const Backing& backing) {
#ifdef STATX_DIOALIGN
  struct statx st {};
  if (::statx(backing.fd(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 &&
      (st.stx_mask & STATX_DIOALIGN) != 0) {
    const std::uint32_t most = std::max(st.stx_dio_mem_align, st.stx_dio_offset_align);
    if (is_power_of_two(most)) return most;
  }
#endif
  int sector = 0;
  if (backing.kind == Backing::Kind::block &&
      ::ioctl(backing.fd(), BLKSSZGET, &sector) == 0 &&
      is_power_of_two(static_cast<std::uint32_t>(sector))) {
    return static_cast<std::uint32_t>(sector);
  }
  return kUsualBlock;
}

// A file system zeroes the rest of a block that is written in part for the first time,
// one writer at a time: a new pool would take a third longer to fill in sectors than in
// blocks.
std::uint32_t direct_alignment(const Backing& backing) {
  const std::uint32_t least = least_alignment(backing);
  return backing.kind == Backing::Kind::regular ? std::max(least, kUsualBlock) : least;
}

void add_note(DeviceInfo& info, std::string_view note) {
  if (!info.note.empty()) info.note += "; ";
  info.note += note;
}

Status set_up_direct(const DeviceUri& uri, const Backing& backing, DeviceInfo& info) {
  if (!uri.direct.value_or(true)) {
    add_note(info, "through the page cache, as asked");
    return {};
  }
  if (::fcntl(backing.fd(), F_SETFL, O_DIRECT) == 0) {
    info.alignment = direct_alignment(backing);
    return {};
  }
  if (uri.direct.has_value()) {
    return {Code::unsupported,
            "device \"" + uri.text + "\": its file system has no O_DIRECT (direct=1)"};
  }
  add_note(info, "its file system has no O_DIRECT: goes through the page cache");
  return {};
}

// Whether io_uring drives it; says so where it does not.
Result<bool> choose_engine(const DeviceUri& uri, DeviceInfo& info) {
  if (uri.engine == FileEngine::pread) {
    add_note(info, "pread and pwrite instead of io_uring, as asked");
    return false;
  }
  const Status probe = probe_uring();
  if (probe.ok()) return true;
  if (uri.engine == FileEngine::uring) {
    return Status(Code::unsupported, "device \"" + uri.text + "\": " + probe.message());
  }
  add_note(info, probe.message() + ": uses pread and pwrite, which are slower");
  return false;
}

}  // namespace

std::uint32_t FileJob::piece() const noexcept {
  constexpr std::uint64_t kMost = 1U << 30;
  return static_cast<std::uint32_t>(std::min(left, kMost));
}

bool FileJob::advance(std::int64_t answer, std::uint32_t alignment, Code& code) noexcept {
  constexpr std::uint32_t kMaxAttempts = 100;
  code = Code::ok;
  if (answer == -EINTR || answer == -EAGAIN) {
    code = Code::io_error;
    return ++attempts == kMaxAttempts;
  }
  if (answer < 0) {
    code = code_of(static_cast<int>(-answer));
    // Our own checks have passed by now, so the caller is not to blame.
    if (code != Code::no_space && code != Code::cancelled) code = Code::io_error;
    return true;
  }
  if (op == Transfer::Op::flush) return true;
  const auto done = static_cast<std::uint64_t>(answer);
  if (done >= left) return true;
  // Nothing, or less than a sector: the file was cut off under us.
  if (done == 0 || done % alignment != 0) {
    code = Code::io_error;
    return true;
  }
  attempts = 0;
  at += done;
  offset += done;
  left -= done;
  return false;
}

OpenedDevice open_file(const DeviceUri& uri, Opening& opening) {
  Result<Backing> opened = open_backing(uri, opening);
  if (!opened.ok()) return opened.error();
  Backing& backing = *opened;
  DeviceInfo info = info_from(uri);
  info.persistent = true;
  info.shared = true;
  info.note = backing.file->note();
  if (Status status = set_up_direct(uri, backing, info); !status.ok()) return status;
  const std::uint64_t excess = backing.size % info.alignment;
  if (excess != 0 && uri.size != 0) {
    return Status(Code::invalid_argument, "device \"" + uri.text +
                                              "\": its size must be a " + "multiple of " +
                                              std::to_string(info.alignment));
  }
  info.capacity = backing.size - excess;
  if (info.capacity == 0) {
    return Status(Code::invalid_argument, "device \"" + uri.text + "\": it is too small");
  }
  const Result<bool> uring = choose_engine(uri, info);
  if (!uring.ok()) return uring.error();
  // The lock lasts as long as anybody, a thread that is stuck in the kernel included, may
  // use the descriptor.
  std::shared_ptr<const Fd> fd(backing.file, &backing.file->fd());
  return std::shared_ptr<Device>(
      std::make_shared<FileDevice>(std::move(info), std::move(fd), *uring));
}

}  // namespace speckv
