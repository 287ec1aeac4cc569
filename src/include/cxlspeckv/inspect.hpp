// cxlspeckv/inspect.hpp -- looking at what a store left or is at work on, from outside.
//
// Nothing here writes, and nothing read is believed before it is checked. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cxlspeckv/device.hpp"
#include "cxlspeckv/store.hpp"

namespace speckv {

// What a persistent device says of itself, whoever wrote it.
struct PoolInfo {
  std::uint64_t id = 0;       // the pool's own number
  std::uint64_t layouts = 0;  // a fingerprint of the layouts that it was made for
  std::uint32_t profile = 0;  // of the model's profile; 0: there is none
  std::uint64_t capacity = 0, used = 0,
                frame_bytes = 0;          // bytes: for frames, taken, filled
  std::uint64_t blocks = 0, damaged = 0;  // records
  std::uint32_t commits = 0;              // the number of the last one
};
// Reads the superblock and the records, and writes nothing. corrupted: not a pool, of
// another version, or truncated.
Result<PoolInfo> inspect_pool(Device& device);

// A shared store, as its index says. `pinned` and `fenced` are not to be seen from there.
struct StoreInfo {
  struct TierInfo {
    std::string name{};
    TierStats stats{};
  };
  std::vector<TierInfo> tiers{};
  std::uint32_t processes = 0;  // that are attached now
};
// From a copy of the first index_front_bytes() of an IndexMemory; leaves `processes` 0.
// corrupted: not an index of this version.
Result<StoreInfo> inspect_index(Bytes front);
std::size_t index_front_bytes() noexcept;

}  // namespace speckv
