// capi/address_space.hpp -- addresses for memory that is only now and then resident.
//
// Address space is plentiful and memory is not: a range is reserved for as long as its
// handle lives, and pages of it take memory only while they are used. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "cxlspeckv/store.hpp"

namespace speckv::capi {

class AddressSpace {
 public:
  struct Range {
    std::byte* base = nullptr;
    std::size_t bytes = 0;  // a power of two, at least an OS page
    RegionId region{};      // of the store, and where in it
    std::uint64_t offset = 0;
    bool bound = false;  // to a NUMA node
  };

  // Registers what it maps with `store`, which must outlive it.
  explicit AddressSpace(BlockStore& store) noexcept : store_(store) {}
  ~AddressSpace();
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  // Zeros, at least `bytes` long. node: where its memory should be, -1: anywhere; ignored
  // where there is no such node. no_space: the kernel refuses.
  Result<Range> take(std::size_t bytes, int node);
  void give_back(const Range& range) noexcept;

  // Gives the memory of a part back to the kernel; it reads as zeros from then on.
  static void forget(std::byte* first, std::size_t bytes) noexcept;

 private:
  struct Chunk {
    std::byte* base = nullptr;
    std::size_t bytes = 0;
    RegionId region{};
  };

  struct Size {
    std::vector<Range> spare{};  // has room for all that were made
    std::size_t made = 0;
  };

  Status map_chunk(std::size_t bytes);

  BlockStore& store_;
  std::vector<Chunk> chunks_;
  std::size_t used_ = 0;              // of the last chunk
  std::map<std::size_t, Size> free_;  // by size
};

}  // namespace speckv::capi
