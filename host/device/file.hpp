// device/file.hpp -- a file or block device, and the two engines that can drive it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "cxlspeckv/device.hpp"

#include "device/os.hpp"
#include "device/queue.hpp"
#include "device/uri.hpp"

namespace speckv {

// What a queue of either engine works with. The descriptor is shared, because a thread
// that is stuck in the kernel may outlive its queue.
struct FileContext {
  DeviceInfo info{};
  std::shared_ptr<const Fd> fd{};
  RegionTable regions{};
};

// `context` outlives the queue.
Result<std::unique_ptr<Queue>> open_uring_queue(const FileContext& context,
                                                std::uint32_t depth);
Result<std::unique_ptr<Queue>> open_pread_queue(const FileContext& context,
                                                std::uint32_t depth);

// ok if this process may use io_uring.
Status probe_uring();

// One transfer of a file, which the kernel may do a piece at a time.
struct FileJob {
  std::uint64_t tag = 0;
  Transfer::Op op{};
  std::byte* at = nullptr;
  std::uint64_t left = 0;
  std::uint64_t offset = 0;
  int buffer = -1;             // of the ring, where the memory is pinned there
  std::uint32_t attempts = 0;  // since the last progress

  // The length to ask the kernel for next; it takes less than 2 GiB at once.
  std::uint32_t piece() const noexcept;
  // Takes the kernel's answer (bytes, or a negative errno). True: finished, with `code`.
  bool advance(std::int64_t answer, std::uint32_t alignment, Code& code) noexcept;
};

}  // namespace speckv
