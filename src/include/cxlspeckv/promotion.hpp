// cxlspeckv/promotion.hpp -- blocks brought to a faster tier, by an operation that tells
// what came of each.
#pragma once

#include <cstddef>
#include <span>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/operation.hpp"
#include "cxlspeckv/store.hpp"

namespace speckv {

// Copies each block to `tier`; the slower copy stays until its own tier needs the room,
// so that cancelling costs nothing. Never waits for room in a queue. A block ends as ok:
// it is in `tier` or a faster one; not_found: it is stored nowhere; busy: the queue of
// its tier is full; no_space: nothing in `tier` may go; io_error, corrupted, cancelled,
// timed_out. Of `options`, deadline, completions and tag count. Any thread.
// REQUIRES: tier < store.tier_count().
Operation promote(BlockStore& store, std::span<const BlockKey> keys, std::size_t tier,
                  const TransferOptions& options = {});

}  // namespace speckv
