// store/extents.hpp -- which bytes of a tier are taken: a two-level segregated-fit
// allocator (Masmano et al., "TLSF", ECRTS 2004) whose records lie apart from the memory
// they describe.
//
// Used and free extents are Nodes, linked by address, so that a freed one merges with its
// neighbours. All of it lies in the mapping; the used nodes are the truth and rebuild()
// derives the rest. Guarded by the tier's lock.
#pragma once

#include <cstdint>
#include <span>

#include "store/mapping.hpp"

namespace speckv {

class Extents {
 public:
  Extents(ExtentHeader& header, Node* nodes, std::uint32_t node_count) noexcept
      : header_(header), nodes_(nodes), node_count_(node_count) {}

  // One free extent of `units`, nothing else.
  void format(std::uint32_t units) noexcept;

  // A node of exactly `units` in state `filling` that `owner` is filling; kNone if no
  // free extent is large enough. Finds one whenever there is one.
  std::uint32_t allocate(std::uint32_t units, std::uint32_t owner) noexcept;

  // Gives back the tail of a node beyond `units`.
  void trim(std::uint32_t node, std::uint32_t units) noexcept;

  // Back to free, merged with its neighbours.
  void release(std::uint32_t node) noexcept;

  // Derives neighbours, free extents and free lists from the nodes that are neither
  // unused nor free. Overlapping or overlong ones, which only damage can make, are set
  // unused and counted.
  std::uint32_t rebuild(std::uint32_t units) noexcept;

  std::uint32_t used_units() const noexcept { return header_.used_units; }

  // Takes over node `index` as used, for recovery; rebuild() must follow.
  Node& claim(std::uint32_t index) noexcept;

 private:
  std::uint32_t take_record() noexcept;
  void drop_record(std::uint32_t node) noexcept;
  void list_insert(std::uint32_t node) noexcept;
  void list_remove(std::uint32_t node) noexcept;
  std::uint32_t find_fit(std::uint32_t units) const noexcept;
  void split(std::uint32_t node, std::uint32_t units) noexcept;
  void absorb_next(std::uint32_t node) noexcept;
  std::uint32_t merge(std::uint32_t a, std::uint32_t b) noexcept;
  std::uint32_t used_by_place(std::uint32_t records) noexcept;

  ExtentHeader& header_;
  Node* nodes_;
  std::uint32_t node_count_;
};

}  // namespace speckv
