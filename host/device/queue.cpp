#include "device/queue.hpp"

#include <algorithm>
#include <cstdint>
#include <string>

#include "cxlspeckv/guarded.hpp"

namespace speckv {

Status check_depth(std::uint32_t depth) {
  if (depth >= 1 && depth <= kMaxDepth) return {};
  return {Code::invalid_argument,
          "queue depth " + std::to_string(depth) + " is not between 1 and 4096"};
}

Status RegionTable::attach(RegionId id, MutableBytes memory) {
  if (id == RegionId{}) return {Code::invalid_argument, "region id 0 is never valid"};
  if (memory.empty()) return {Code::invalid_argument, "a region cannot be empty"};
  return guarded([&]() -> Status {
    const std::unique_lock lock(mutex_);
    const auto [where, added] = regions_.try_emplace(id, Region{memory, version_ + 1});
    if (!added) {
      return {
          Code::invalid_argument,
          "region id " + std::to_string(static_cast<std::uint32_t>(id)) + " is taken"};
    }
    ++version_;
    return {};
  });
}

Status RegionTable::detach(RegionId id) {
  return guarded([&]() -> Status {
    const std::unique_lock lock(mutex_);
    if (regions_.erase(id) == 0) {
      return {Code::not_found,
              "no region has the id " + std::to_string(static_cast<std::uint32_t>(id))};
    }
    ++version_;
    return {};
  });
}

const RegionTable::Region* RegionTable::Reader::find(RegionId id) const noexcept {
  const auto where = table_.regions_.find(id);
  return where == table_.regions_.end() ? nullptr : &where->second;
}

bool RegionTable::Reader::holds(std::uint64_t serial) const noexcept {
  return std::any_of(table_.regions_.begin(), table_.regions_.end(),
                     [&](const auto& entry) { return entry.second.serial == serial; });
}

Code check(const DeviceInfo& info, const RegionTable::Reader& regions,
           const Transfer& transfer, Lent& lent) noexcept {
  switch (transfer.op) {
    case Transfer::Op::flush:
      return Code::ok;
    case Transfer::Op::read:
    case Transfer::Op::write:
      break;
    default:
      return Code::invalid_argument;  // the enum may come from anywhere
  }
  const auto& [region, offset, length] = transfer.memory;
  const RegionTable::Region* found = regions.find(region);
  if (found == nullptr || length == 0) return Code::invalid_argument;
  const std::uint64_t size = found->memory.size();
  if (length > size || offset > size - length) return Code::invalid_argument;
  if (length > info.capacity || transfer.offset > info.capacity - length) {
    return Code::invalid_argument;
  }
  lent = {found->memory.subspan(offset, length), found->serial};
  const auto address = reinterpret_cast<std::uintptr_t>(lent.memory.data());
  if ((address | transfer.offset | length) % info.alignment != 0) {
    return Code::invalid_argument;
  }
  return Code::ok;
}

std::size_t CompletionRing::pop(std::span<Completion> out) noexcept {
  const std::size_t taken = std::min(out.size(), count_);
  for (std::size_t i = 0; i < taken; ++i)
    out[i] = ring_[(first_ + i) % ring_.size()];
  first_ = (first_ + taken) % ring_.size();
  count_ -= taken;
  return taken;
}

}  // namespace speckv
