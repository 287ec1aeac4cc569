// What a copy of the front of an index tells. It is untrusted: whoever wrote it may have
// died, or be another program.
#include "cxlspeckv/inspect.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "cxlspeckv/guarded.hpp"

#include "store/mapping.hpp"
#include "store/tier_state.hpp"

namespace speckv {
namespace {

constexpr std::uint64_t kMostBytes = 1ULL << 62;  // of a tier

// Copied out, because nobody says how the snapshot is aligned.
template <class Record>
std::unique_ptr<Record> record_at(Bytes front, std::uint64_t offset) {
  auto record = std::make_unique<Record>();
  std::memcpy(static_cast<void*>(record.get()), front.data() + offset, sizeof(Record));
  return record;
}

Result<StoreInfo> inspect(Bytes front) {
  const Status wrong{Code::corrupted, "not a block index of this version"};
  if (front.size() < index_front_bytes()) return wrong;
  const auto header = record_at<MappingHeader>(front, 0);
  if (header->magic.load() != kIndexMagic || header->tiers == 0 ||
      header->tiers > kMaxTiers) {
    return wrong;
  }
  MappingPlan plan;
  plan.tiers = header->tiers;
  plan.lay_out();
  StoreInfo info;
  for (std::uint32_t t = 0; t < plan.tiers; ++t) {
    const auto tier =
        record_at<TierHeader>(front, plan.tier_headers + t * sizeof(TierHeader));
    const ExtentHeader& extents = tier->extents;
    if (tier->unit == 0 || extents.used_units > extents.units ||
        extents.units > kMostBytes / tier->unit) {
      return wrong;
    }
    StoreInfo::TierInfo& told = info.tiers.emplace_back();
    told.name.assign(tier->name,
                     std::find(std::begin(tier->name), std::end(tier->name), '\0'));
    told.stats = read_counters(tier->counters);
    told.stats.capacity = extents.units * tier->unit;
    told.stats.used = extents.used_units * tier->unit;
  }
  return info;
}

}  // namespace

std::size_t index_front_bytes() noexcept {
  MappingPlan plan;
  plan.tiers = kMaxTiers;
  plan.lay_out();
  return plan.tenants;  // which lie behind the tiers
}

Result<StoreInfo> inspect_index(Bytes front) {
  return guarded([&] { return inspect(front); });
}

}  // namespace speckv
