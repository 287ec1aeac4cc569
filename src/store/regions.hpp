// store/regions.hpp -- the caller's registered memory, named by id. Any thread.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "cxlspeckv/device.hpp"

#include "base/mutex.hpp"

namespace speckv {

class StoreRegions {
 public:
  Result<RegionId> attach(MutableBytes memory);
  Status detach(RegionId region);

  // Turns segments into bytes, appended to `pieces`, and takes a hold on each region
  // used, appended to `holds`, for release(). invalid_argument: no such region, or out of
  // bounds; nothing is held then.
  Code resolve(std::span<const Segment> segments, std::vector<MutableBytes>& pieces,
               std::vector<RegionId>& holds);
  void release(std::span<const RegionId> holds) noexcept;

 private:
  struct Row {
    MutableBytes memory{};
    std::uint64_t holds = 0;
  };
  Mutex mutex_;
  std::unordered_map<std::uint32_t, Row> rows_ SPECKV_GUARDED_BY(mutex_);
  std::uint32_t next_ SPECKV_GUARDED_BY(mutex_) = 1;
};

}  // namespace speckv
