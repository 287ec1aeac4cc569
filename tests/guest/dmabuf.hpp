// Memory of other devices, as tests get it: dma-bufs of a memfd's pages and of the
// system's heap.
#pragma once

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>

#include "card.hpp"

namespace guest {

constexpr const char* kUdmabuf = "/dev/udmabuf";
constexpr const char* kHeap = "/dev/dma_heap/system";

// Pages that are a file, a dma-buf and mapped.
struct Buffer {
  Fd file = Fd(), fd = Fd();
  Mapping seen;
};

// Whole pages; they start as a pattern.
inline Buffer make_buffer(std::size_t bytes, std::uint8_t seed) {
  Buffer buffer;
  buffer.file = Fd(::memfd_create("buffer", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(buffer.file.get(), static_cast<off_t>(bytes)), 0);
  EXPECT_EQ(::fcntl(buffer.file.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
  buffer.seen = Mapping(buffer.file.get(), 0, bytes);
  for (std::size_t i = 0; i < bytes; ++i)
    buffer.seen.bytes()[i] = static_cast<std::uint8_t>(i * 11 + i / 256 + seed);
  const Fd maker(::open(kUdmabuf, O_RDWR | O_CLOEXEC));
  udmabuf_create args{};
  args.memfd = static_cast<std::uint32_t>(buffer.file.get());
  args.flags = UDMABUF_FLAGS_CLOEXEC;
  args.size = bytes;
  buffer.fd = Fd(::ioctl(maker.get(), UDMABUF_CREATE, &args));
  EXPECT_GE(buffer.fd.get(), 0) << std::strerror(errno);
  return buffer;
}

// Of the system's heap; `access` is O_RDWR or less.
inline Fd make_heap_buffer(std::size_t bytes, std::uint32_t access) {
  const Fd heap(::open(kHeap, O_RDONLY | O_CLOEXEC));
  dma_heap_allocation_data args{};
  args.len = bytes;
  args.fd_flags = access | O_CLOEXEC;
  EXPECT_EQ(::ioctl(heap.get(), DMA_HEAP_IOCTL_ALLOC, &args), 0) << std::strerror(errno);
  return Fd(static_cast<int>(args.fd));
}

inline speckv_region_import importing(int fd, std::uint64_t offset, std::uint64_t length,
                                      std::uint32_t flags = 0) {
  speckv_region_import args{};
  args.fd = fd;
  args.offset = offset;
  args.length = length;
  args.flags = flags;
  return args;
}

// 0 or the errno; the region's number is in *id.
inline int import_error(const Fd& card, speckv_region_import args,
                        std::uint32_t* id = nullptr) {
  const int error = call(card, SPECKV_IOC_REGION_IMPORT, args);
  if (error != 0) {
    EXPECT_EQ(args.out_id, 0U) << "written although it failed";
  }
  if (id != nullptr) *id = args.out_id;
  return error;
}

}  // namespace guest
