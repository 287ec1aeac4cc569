#include "store/regions.hpp"

#include <algorithm>
#include <cstdint>

namespace speckv {

Result<RegionId> StoreRegions::attach(MutableBytes memory) {
  if (memory.empty()) return Status(Code::invalid_argument, "a region cannot be empty");
  if (memory.data() == nullptr) {
    return Status(Code::invalid_argument, "a region cannot begin at a null pointer");
  }
  if (memory.size() - 1 > UINTPTR_MAX - reinterpret_cast<std::uintptr_t>(memory.data())) {
    return Status(Code::invalid_argument,
                  "a region cannot reach past the end of the address space");
  }
  const MutexLock lock(mutex_);
  // Ids are never reused, so a stale one cannot name somebody else's memory.
  if (next_ == 0) return Status(Code::no_space, "every region id has been used");
  const std::uint32_t id = next_++;
  rows_[id] = Row{memory, 0};
  return RegionId{id};
}

Status StoreRegions::detach(RegionId region) {
  const MutexLock lock(mutex_);
  const auto row = rows_.find(static_cast<std::uint32_t>(region));
  if (row == rows_.end()) return {Code::not_found, "no such region"};
  if (row->second.holds != 0) return {Code::busy, "an operation still uses the region"};
  rows_.erase(row);
  return {};
}

Code StoreRegions::resolve(std::span<const Segment> segments,
                           std::vector<MutableBytes>& pieces,
                           std::vector<RegionId>& holds) {
  const MutexLock lock(mutex_);
  const std::size_t pieces_before = pieces.size();
  for (const Segment& s : segments) {
    const auto row = rows_.find(static_cast<std::uint32_t>(s.region));
    if (row == rows_.end() || s.offset > row->second.memory.size() ||
        s.length > row->second.memory.size() - s.offset) {
      pieces.resize(pieces_before);
      return Code::invalid_argument;
    }
    pieces.push_back(row->second.memory.subspan(s.offset, s.length));
  }
  for (const Segment& s : segments) {
    if (!holds.empty() && holds.back() == s.region) continue;  // one hold a run is enough
    if (std::find(holds.begin(), holds.end(), s.region) != holds.end()) continue;
    holds.push_back(s.region);  // first: what is held has to be known to be let go
    ++rows_[static_cast<std::uint32_t>(s.region)].holds;
  }
  return Code::ok;
}

void StoreRegions::release(std::span<const RegionId> holds) noexcept {
  const MutexLock lock(mutex_);
  for (const RegionId region : holds) {
    const auto row = rows_.find(static_cast<std::uint32_t>(region));
    if (row != rows_.end()) --row->second.holds;
  }
}

}  // namespace speckv
