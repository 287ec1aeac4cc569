// cxlspeckv/index_spans.hpp -- which parts of a shared index one of its processes uses.
#pragma once

#include <cstdint>
#include <vector>

#include "cxlspeckv/store.hpp"

namespace speckv {

// Bytes of the memory that index_bytes() counts.
struct IndexSpan {
  std::uint64_t offset = 0, bytes = 0;
};

// What a process may touch that is attached as this owner (IndexMemory::process): all but
// the counters of others. Ascending. Whoever maps memory that may turn out not to be
// there reserves these before it lets a store in. Errors as of index_bytes(). Any thread.
Result<std::vector<IndexSpan>> index_spans(const StoreOptions& options,
                                           std::uint32_t process);

}  // namespace speckv
