// sim/host_memory.hpp -- the guest's memory, as far as the guest lets the card reach it.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "cxlspeckv/block.hpp"

#include "sim/file.hpp"

namespace speckv::sim {

// What DMA_MAP and DMA_UNMAP have said. One thread. Errors are errno values, 0 is none.
class HostMemory {
 public:
  HostMemory() = default;
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  struct Range {
    std::uint64_t address = 0, length = 0;
    bool readable = false, writable = false;
  };
  // [address, address + length) is `file` from `offset` on. Without a file nothing is
  // there for a card: memory that only the other side can reach.
  int map(const Range& range, const File& file, std::uint64_t offset);
  // Forgets what lies in the range; EINVAL if it cuts something in two. `removed`: bytes.
  int unmap(std::uint64_t address, std::uint64_t length, std::uint64_t* removed);
  void unmap_all() { ranges_.clear(); }

  // As engine::HostPort::view().
  MutableBytes view(std::uint64_t address, std::uint64_t length,
                    bool writing) const noexcept;

 private:
  struct Mapped {
    Range range{};
    std::byte* bytes = nullptr;
  };
  // A whole file: a guest with an IOMMU maps it page by page.
  MutableBytes whole(const File& file, int* error);

  std::map<std::uint64_t, Mapped> ranges_;  // by address
  std::map<std::pair<std::uint64_t, std::uint64_t>, MutableBytes> files_;
};

}  // namespace speckv::sim
