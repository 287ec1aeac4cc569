// Commands of vfio-user, each with its own checks. The messages themselves: session.cpp.
#include "sim/vfio_user.hpp"

#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

#include <linux/vfio.h>

#include "base/endian.hpp"
#include "driver/regs.h"

namespace speckv::sim {
namespace {

namespace command {
enum : std::uint16_t {
  version = 1,
  dma_map,
  dma_unmap,
  device_get_info,
  device_get_region_info,
  device_get_region_io_fds,
  device_get_irq_info,
  device_set_irqs,
  region_read,
  region_write,
  dma_read,
  dma_write,
  device_reset,
};
}

constexpr std::uint32_t kRegisterBar = 0;
// Of reads and writes of regions, before the bytes.
constexpr std::size_t kAccessHead = 16;
constexpr std::uint32_t kMaxTransfer = 1U << 20;
constexpr std::string_view kCapabilities =
    R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"pgsizes":4096,)"
    R"("max_dma_maps":65535}})";

// A body's fields. REQUIRES: the body is long enough.
template <class T>
T field(const Request& request, std::size_t offset) noexcept {
  return load_le<T>(request.body.data() + offset);
}

class Body {
 public:
  template <class T>
  Body& add(T value) {
    bytes_.resize(bytes_.size() + sizeof value);
    store_le(bytes_.data() + bytes_.size() - sizeof value, value);
    return *this;
  }
  Body& add(Bytes more) {
    bytes_.insert(bytes_.end(), more.begin(), more.end());
    return *this;
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

Reply refused(int error) {
  return {.error = error, .body = {}};
}

}  // namespace

Reply VfioUser::handle(Request& request) {
  struct Row {
    std::uint16_t command;
    std::size_t least;  // bytes of the body
    Reply (VfioUser::*run)(const Request&);
  };
  static constexpr Row kRows[] = {
      {command::version, 4, &VfioUser::version},
      {command::dma_map, 32, &VfioUser::map},
      {command::dma_unmap, 24, &VfioUser::unmap},
      {command::device_get_info, 16, &VfioUser::device_info},
      {command::device_get_region_info, 32, &VfioUser::region_info},
      {command::device_get_irq_info, 16, &VfioUser::irq_info},
      {command::region_read, kAccessHead, &VfioUser::region_read},
      {command::region_write, kAccessHead, &VfioUser::region_write},
      {command::device_reset, 0, &VfioUser::reset},
  };
  if (request.command == command::device_set_irqs) {
    return request.body.size() < 20 ? refused(EINVAL) : set_irqs(request);
  }
  for (const Row& row : kRows) {
    if (row.command != request.command) continue;
    return request.body.size() < row.least ? refused(EINVAL) : (this->*row.run)(request);
  }
  return refused(ENOTSUP);
}

// Version 0.0 of the protocol; minor versions only add.
Reply VfioUser::version(const Request& request) {
  if (field<std::uint16_t>(request, 0) != 0) return refused(EPROTONOSUPPORT);
  return {.error = 0,
          .body = Body()
                      .add(std::uint32_t{0})
                      .add(std::as_bytes(std::span(kCapabilities)))
                      .add(std::uint8_t{0})
                      .take()};
}

// ---- DMA ---------------------------------------------------------------------------

Reply VfioUser::map(const Request& request) {
  constexpr std::uint32_t kKnown = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
  const auto flags = field<std::uint32_t>(request, 4);
  if ((flags & ~kKnown) != 0 || request.files.size() > 1) return refused(EINVAL);
  const HostMemory::Range range{.address = field<std::uint64_t>(request, 16),
                                .length = field<std::uint64_t>(request, 24),
                                .readable = (flags & VFIO_DMA_MAP_FLAG_READ) != 0,
                                .writable = (flags & VFIO_DMA_MAP_FLAG_WRITE) != 0};
  static const File kNone;
  const int error = function_.host_memory().map(
      range, request.files.empty() ? kNone : request.files.front(),
      field<std::uint64_t>(request, 8));
  if (error != 0) return refused(error);
  return {.error = 0, .body = request.body};
}

// When it is answered, nothing of the range is read or written any more: the card only
// works between two requests.
Reply VfioUser::unmap(const Request& request) {
  const auto flags = field<std::uint32_t>(request, 4);
  if ((flags & ~std::uint32_t{VFIO_DMA_UNMAP_FLAG_ALL}) != 0) return refused(EINVAL);
  std::uint64_t removed = 0;
  if (flags != 0) {
    function_.host_memory().unmap_all();
  } else {
    const int error = function_.host_memory().unmap(
        field<std::uint64_t>(request, 8), field<std::uint64_t>(request, 16), &removed);
    if (error != 0) return refused(error);
  }
  return {.error = 0, .body = request.body};
}

// ---- What there is -------------------------------------------------------------------

Reply VfioUser::device_info(const Request&) {
  return {.error = 0,
          .body = Body()
                      .add(std::uint32_t{16})
                      .add(std::uint32_t{VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET})
                      .add(std::uint32_t{VFIO_PCI_NUM_REGIONS})
                      .add(std::uint32_t{VFIO_PCI_NUM_IRQS})
                      .take()};
}

std::uint64_t VfioUser::region_bytes(std::uint32_t region) const noexcept {
  switch (region) {
    case kRegisterBar:
      return engine::kBar0Bytes;
    case SPECKV_PCI_MEMORY_BAR:
      return function_.memory().size();
    case VFIO_PCI_CONFIG_REGION_INDEX:
      return ConfigSpace::kBytes;
    default:
      return 0;
  }
}

Reply VfioUser::region_info(const Request& request) {
  const auto region = field<std::uint32_t>(request, 8);
  if (region >= VFIO_PCI_NUM_REGIONS) return refused(EINVAL);
  const std::uint64_t bytes = region_bytes(region);
  const bool shared = region == SPECKV_PCI_MEMORY_BAR && function_.memory_is_shared();
  std::uint32_t flags = 0;
  if (bytes != 0) flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
  if (shared) flags |= VFIO_REGION_INFO_FLAG_MMAP;
  return {.error = 0,
          .body = Body()
                      .add(std::uint32_t{32})
                      .add(flags)
                      .add(region)
                      .add(std::uint32_t{0})
                      .add(bytes)
                      .add(std::uint64_t{0})
                      .take(),
          .file = shared ? function_.memory_file().get() : -1};
}

Reply VfioUser::irq_info(const Request& request) {
  const auto index = field<std::uint32_t>(request, 8);
  if (index >= VFIO_PCI_NUM_IRQS) return refused(EINVAL);
  const bool msix = index == VFIO_PCI_MSIX_IRQ_INDEX;
  return {.error = 0,
          .body = Body()
                      .add(std::uint32_t{16})
                      .add(std::uint32_t{VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE})
                      .add(index)
                      .add(msix ? engine::kVectors : 0U)
                      .take()};
}

// ---- Interrupts
// ------------------------------------------------------------------------

// Without files the vectors go nowhere; no vectors at all means all of them.
Reply VfioUser::set_irqs(Request& request) {
  const auto flags = field<std::uint32_t>(request, 4);
  const auto index = field<std::uint32_t>(request, 8);
  auto start = field<std::uint32_t>(request, 12);
  auto count = field<std::uint32_t>(request, 16);
  const std::uint32_t data = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
  if (index >= VFIO_PCI_NUM_IRQS || flags != (data | VFIO_IRQ_SET_ACTION_TRIGGER)) {
    return refused(EINVAL);
  }
  if (index != VFIO_PCI_MSIX_IRQ_INDEX) {
    return count == 0 ? Reply{.error = 0, .body = request.body} : refused(EINVAL);
  }
  if (start > engine::kVectors || count > engine::kVectors - start)
    return refused(EINVAL);
  if (!request.files.empty() && request.files.size() != count) return refused(EINVAL);
  if (count == 0) {
    start = 0;
    count = engine::kVectors;
  } else if (data != VFIO_IRQ_SET_DATA_EVENTFD) {
    return refused(EINVAL);
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    function_.route(start + i,
                    request.files.empty() ? File() : std::move(request.files[i]));
  }
  return {.error = 0, .body = request.body};
}

// ---- Reads and writes
// --------------------------------------------------------------------

namespace {

struct Access {
  std::uint64_t offset = 0;
  std::uint32_t region = 0, count = 0;
};

std::optional<Access> access_of(const Request& request, std::uint64_t bytes) noexcept {
  const Access access{field<std::uint64_t>(request, 0), field<std::uint32_t>(request, 8),
                      field<std::uint32_t>(request, 12)};
  if (access.count == 0 || access.count > kMaxTransfer || access.count > bytes ||
      access.offset > bytes - access.count) {
    return std::nullopt;
  }
  return access;
}

}  // namespace

Reply VfioUser::region_read(const Request& request) {
  const auto region = field<std::uint32_t>(request, 8);
  const auto access = access_of(request, region_bytes(region));
  if (!access || request.body.size() != kAccessHead) return refused(EINVAL);
  std::vector<std::byte> body(kAccessHead + access->count);
  std::memcpy(body.data(), request.body.data(), kAccessHead);
  const MutableBytes to = MutableBytes(body).subspan(kAccessHead);
  if (region == kRegisterBar) {
    function_.read_registers(access->offset, to);
  } else if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
    function_.read_config(access->offset, to);
  } else {
    std::memcpy(to.data(), function_.memory().data() + access->offset, to.size());
  }
  return {.error = 0, .body = std::move(body)};
}

Reply VfioUser::region_write(const Request& request) {
  const auto region = field<std::uint32_t>(request, 8);
  const auto access = access_of(request, region_bytes(region));
  if (!access || request.body.size() != kAccessHead + access->count) {
    return refused(EINVAL);
  }
  const Bytes from = Bytes(request.body).subspan(kAccessHead);
  if (region == kRegisterBar) {
    function_.write_registers(access->offset, from);
  } else if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
    function_.write_config(access->offset, from);
  } else {
    function_.write_memory(access->offset, from);
  }
  return {.error = 0, .body = {request.body.begin(), request.body.begin() + kAccessHead}};
}

Reply VfioUser::reset(const Request&) {
  function_.reset();
  return {};
}

}  // namespace speckv::sim
