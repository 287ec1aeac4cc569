// cxlspeckv/dmabuf.hpp -- memory of other devices, which comes as a dma-buf, as a region
// of a card: what transfers move between it and the card passes no memory of this
// process.
#pragma once

#include <cstdint>

#include "cxlspeckv/device.hpp"

namespace speckv {

struct DmaBuf {
  int fd = -1;               // may be closed once it is attached
  std::uint64_t offset = 0;  // in bytes, a multiple of 4096
  std::uint64_t length = 0;  // in bytes, a multiple of 4096, not 0
  bool read_only = false;    // Transfer::Op::read into it is invalid_argument
};

// Makes that part of a dma-buf nameable in transfers of the device's queues, from
// Region::offset 0 on, as Device::attach() does it with host memory; Device::detach()
// lets go of it. Until then all of the dma-buf counts in RLIMIT_MEMLOCK. Who uses its
// bytes when is agreed between those who have it: the card adds no fences to it, and a
// CPU looks at them between DMA_BUF_IOCTL_SYNC. A BlockStore, which looks at all bytes
// itself, takes host memory only. Any thread.
//
// invalid_argument: the id is taken or 0; no dma-buf, or not open for reading (and,
// unless read_only, for writing); the part is empty, not of whole pages or not in the
// dma-buf. unsupported: the device is not a card behind its driver (cxl: without
// throttle=), or the card cannot reach that memory. no_space: RLIMIT_MEMLOCK, or the
// card's quotas. Source: driver/uapi/speckv_ioctl.h, SPECKV_IOC_REGION_IMPORT.
Status attach_dmabuf(Device& device, RegionId region, const DmaBuf& memory);

}  // namespace speckv
