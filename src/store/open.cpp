// Opening a store: checking the options, planning the mapping, recovering the pools.
#include <algorithm>
#include <atomic>
#include <bit>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cxlspeckv/guarded.hpp"
#include "cxlspeckv/index_spans.hpp"

#include "base/endian.hpp"
#include "codec/profile.hpp"
#include "store/impl.hpp"

namespace speckv {
namespace {

constexpr RegionId kOpening{0xFFFFFF01};
constexpr std::uint64_t kMaxUnits = 1ULL << 31;
constexpr std::uint64_t kMaxRecords = 1ULL << 30;
// The best ratio that the index must be able to count in a full tier.
constexpr std::uint64_t kBestRatio = 8, kBestPoolRatio = 4;

Status check(const StoreOptions& options) {
  if (options.layouts.empty()) return {Code::invalid_argument, "a store needs a layout"};
  if (options.layouts.size() > 0xFFFF)
    return {Code::invalid_argument, "too many layouts"};
  for (const BlockLayout& layout : options.layouts) {
    if (Status valid = layout.validate(); !valid.ok()) return valid;
  }
  if (!options.profile.empty()) {
    if (Status fits = check_profile(options.profile, options.layouts); !fits.ok())
      return fits;
  }
  if (options.tiers.empty() || options.tiers.size() > kMaxTiers) {
    return {Code::invalid_argument, "a store has 1 to 6 tiers"};
  }
  std::unordered_set<std::string> names;
  for (const Tier& tier : options.tiers) {
    if (tier.device == nullptr) return {Code::invalid_argument, "a tier needs a device"};
    if (tier.name.empty() || !names.insert(tier.name).second) {
      return {Code::invalid_argument, "tiers need names, each its own"};
    }
    if (tier.capacity > tier.device->info().capacity) {
      return {Code::invalid_argument,
              "tier " + tier.name + ": capacity is more than its device has"};
    }
    const auto can = [&](const Codec& codec) {
      return check_profile_for(codec, options.profile, options.layouts);
    };
    if (tier.codec != nullptr) {
      if (Status ready = can(*tier.codec); !ready.ok()) return ready;
    }
    for (const CodecChoice& choice : tier.per_layer) {
      if (choice.codec == nullptr) {
        return {Code::invalid_argument,
                "tier " + tier.name + ": a layer choice has no codec"};
      }
      if (Status ready = can(*choice.codec); !ready.ok()) return ready;
      if (!any_has(options.layouts, choice.layers)) return no_such_layers();
    }
    if (!options.index.bytes.empty() && !tier.device->info().shared) {
      return {Code::invalid_argument,
              "tier " + tier.name + ": a shared store needs devices that can be shared"};
    }
  }
  return {};
}

std::uint64_t smallest_frame(const StoreOptions& options, std::uint64_t ratio) {
  std::uint64_t smallest = ~0ULL;
  for (const BlockLayout& layout : options.layouts) {
    smallest =
        std::min(smallest, frame_header_bytes(layout.layers) + layout.bytes() / ratio);
  }
  return smallest;
}

// REQUIRES: check() passed.
TierGeometry plan_tier(const StoreOptions& options, const Tier& tier) {
  const DeviceInfo& info = tier.device->info();
  const std::uint64_t align = std::max<std::uint64_t>(info.alignment, kFrameAlign);
  const std::uint64_t bytes = tier.capacity != 0 ? tier.capacity : info.capacity;
  std::uint64_t unit = align;
  while (bytes / unit >= kMaxUnits)
    unit *= 2;
  if (info.persistent) {
    return plan_pool(bytes, unit, smallest_frame(options, kBestPoolRatio));
  }
  TierGeometry g;
  g.unit = unit;
  g.units = static_cast<std::uint32_t>(bytes / unit);
  const std::uint64_t slots =
      bytes / std::max(unit, smallest_frame(options, kBestRatio)) + 1;
  g.nodes = static_cast<std::uint32_t>(std::min(2 * slots + 2, kMaxRecords));
  return g;
}

std::uint64_t fingerprint_of(const std::vector<std::uint64_t>& numbers) {
  std::vector<std::byte> bytes(numbers.size() * 8);
  for (std::size_t i = 0; i < numbers.size(); ++i)
    store_le(bytes.data() + i * 8, numbers[i]);
  return key_from(bytes, "cxlspeckv fingerprint").high;
}

std::vector<std::uint64_t> numbers_of(const std::vector<BlockLayout>& layouts) {
  std::vector<std::uint64_t> numbers;
  for (const BlockLayout& l : layouts) {
    numbers.insert(numbers.end(), {l.layers, l.kv_heads, l.head_dim, l.tokens,
                                   static_cast<std::uint64_t>(l.dtype),
                                   static_cast<std::uint64_t>(l.kind)});
  }
  return numbers;
}

// Of a sound profile; 0 if there is none.
std::uint32_t profile_mark(Bytes file) {
  ModelProfile profile;
  return profile.open(file) ? std::max(profile.checksum(), 1U) : 0;
}

MappingPlan plan_mapping(const StoreOptions& options,
                         const std::vector<TierGeometry>& geometry) {
  MappingPlan plan;
  plan.tiers = static_cast<std::uint32_t>(options.tiers.size());
  plan.columns = options.index.bytes.empty() ? 1 : kMaxProcesses;
  std::uint64_t blocks = 0;
  const Policy* policy = nullptr;
  const std::unique_ptr<Policy> lru = make_policy("lru");
  std::vector<std::uint64_t> numbers = numbers_of(options.layouts);
  for (std::uint32_t t = 0; t < plan.tiers; ++t) {
    policy =
        options.tiers[t].policy != nullptr ? options.tiers[t].policy.get() : lru.get();
    plan.nodes[t] = geometry[t].nodes;
    plan.policy_bytes[t] = align_up(policy->state_bytes(plan.nodes[t]), 64);
    blocks += plan.nodes[t] / 2 + 1;
    numbers.insert(numbers.end(), {geometry[t].unit, geometry[t].units, geometry[t].nodes,
                                   plan.policy_bytes[t]});
  }
  if (options.max_blocks != 0) blocks = std::min(blocks, options.max_blocks);
  blocks = std::min(blocks, kMaxRecords);
  // Keys are uniform, so shards fill alike; an eighth more takes up the spread.
  plan.shard_entries = static_cast<std::uint32_t>(blocks / kShards * 9 / 8 + 64);
  plan.entries = plan.shard_entries * kShards;
  // Chains stay short: few tiers come near the ratio that the entries are counted for.
  plan.buckets = std::bit_ceil(plan.shard_entries / 4);
  plan.fingerprint = fingerprint_of(numbers);
  if (!options.profile.empty())
    plan.profile = key_from(options.profile, "cxlspeckv profile").high | 1;
  plan.lay_out();
  return plan;
}

// Of an index that processes share.
Result<MappingPlan> plan_shared(const StoreOptions& options) {
  if (Status valid = check(options); !valid.ok()) return valid;
  std::vector<TierGeometry> geometry;
  for (const Tier& tier : options.tiers)
    geometry.push_back(plan_tier(options, tier));
  MappingPlan plan = plan_mapping(options, geometry);
  plan.columns = kMaxProcesses;
  plan.lay_out();
  return plan;
}

}  // namespace

Result<std::uint64_t> index_bytes(const StoreOptions& options) {
  return guarded([&]() -> Result<std::uint64_t> {
    auto plan = plan_shared(options);
    if (!plan) return plan.error();
    return plan->bytes;
  });
}

Result<std::vector<IndexSpan>> index_spans(const StoreOptions& options,
                                           std::uint32_t process) {
  return guarded([&]() -> Result<std::vector<IndexSpan>> {
    auto plan = plan_shared(options);
    if (!plan) return plan.error();
    std::vector<IndexSpan> spans;
    std::uint64_t begin = 0;
    const auto own_column = [&](std::uint64_t table, std::uint64_t rows) {
      const std::uint64_t bytes = rows * sizeof(std::atomic<std::uint32_t>);
      spans.push_back({begin, table - begin});
      spans.push_back({table + process % kMaxProcesses * bytes, bytes});
      begin = table + kMaxProcesses * bytes;
    };
    own_column(plan->refs, plan->entries);
    for (std::uint32_t t = 0; t < plan->tiers; ++t)
      own_column(plan->pins[t], plan->nodes[t]);
    spans.push_back({begin, plan->bytes - begin});
    return spans;
  });
}

Result<std::unique_ptr<BlockStore>> BlockStore::open(StoreOptions options) {
  return guarded([&]() -> Result<std::unique_ptr<BlockStore>> {
    auto impl = Impl::open(std::move(options));
    if (!impl) return impl.error();
    return std::unique_ptr<BlockStore>(new BlockStore(*std::move(impl)));
  });
}

Result<std::unique_ptr<BlockStore::Impl>> BlockStore::Impl::open(StoreOptions options) {
  auto impl = std::unique_ptr<Impl>(new Impl);
  if (Status ready = impl->set_up(std::move(options)); !ready.ok()) return ready;
  return impl;
}

Status BlockStore::Impl::set_up(StoreOptions options) {
  if (Status valid = check(options); !valid.ok()) return valid;
  services.layouts = options.layouts;
  services.profile = options.profile;
  services.clock = options.clock != nullptr ? options.clock : &steady_clock();
  services.events = options.events;
  services.log = options.log;

  std::vector<TierGeometry> geometry;
  for (const Tier& tier : options.tiers)
    geometry.push_back(plan_tier(options, tier));
  const MappingPlan plan = plan_mapping(options, geometry);
  for (std::uint32_t t = 0; t < plan.tiers; ++t) {
    Tier& tier = options.tiers[t];
    if (tier.policy == nullptr) tier.policy = make_policy("lru");
    tiers.push_back(
        std::make_unique<TierState>(t, std::move(tier), geometry[t], services.layouts));
    for (std::size_t l = 0; l < services.layouts.size(); ++l) {
      const auto choice = tiers[t]->codecs();
      const LayerCodecs codecs = choice->codecs(static_cast<std::uint16_t>(l));
      if (tiers[t]->units_for(max_frame_bytes(services.layouts[l], codecs)) == 0) {
        return {Code::invalid_argument,
                "tier " + tiers[t]->name + ": capacity is less than one block"};
      }
    }
  }
  auto attached = Mapping::attach(plan, std::move(options.index));
  if (!attached) return attached.error();
  mapping = *std::move(attached);
  for (auto& tier : tiers)
    tier->bind(*mapping);
  table = std::make_unique<BlockTable>(*mapping, tiers, *this);
  if (Status opened = open_pools(mapping->fresh()); !opened.ok()) return opened;
  for (std::uint32_t t = 0; t < plan.tiers; ++t) {
    auto mover = Mover::open(*table, services, *this, t, pools[t].get());
    if (!mover) return mover.error();
    movers.push_back(*std::move(mover));
  }
  join();
  for (auto& mover : movers)
    mover->start();
  return {};
}

// Enters the list of processes, one at a time, so that the only one there can check what
// the others left without anybody looking on.
void BlockStore::Impl::join() {
  const auto adopt = [this] { table->adopt_orphans(); };
  if (mapping->fresh()) {
    mapping->enter(adopt);
    mapping->publish();
    return;
  }
  const RobustGuard joining(mapping->header().joining, mapping->self());
  if (mapping->alone()) table->distrust(services.layouts.size());
  mapping->enter(adopt);
  mapping->bury_dead(adopt);
}

Status BlockStore::Impl::open_pools(bool recover) {
  const PoolPurpose purpose{fingerprint_of(numbers_of(services.layouts)),
                            profile_mark(services.profile)};
  std::uint64_t largest = 1 << 20;
  for (const BlockLayout& layout : services.layouts) {
    for (const Codec* codec : builtin_codecs()) {
      largest = std::max(largest, max_frame_bytes(layout, LayerCodecs(*codec)));
    }
  }
  for (auto& tier : tiers) {
    pools.push_back(nullptr);
    if (!tier->persistent) continue;
    auto io = SyncIo::open(
        *tier->device, kOpening,
        align_up(largest, std::max<std::uint64_t>(tier->geometry.unit, 4096)),
        tier->counters());
    if (!io) return io.error();
    const auto seed =
        static_cast<std::uint64_t>(services.clock->now().time_since_epoch().count());
    auto pool = Pool::open(*tier, purpose, seed, **io);
    if (!pool) return pool.error();
    if (recover) {
      Status recovered = (*pool)->recover(*table, services.layouts, **io);
      if (!recovered.ok()) return recovered;
      tier->header().pool = (*pool)->id();
      services.say(LogLevel::info, [&] {
        return "tier " + tier->name + ": " + std::to_string((*pool)->recovered()) +
               " blocks found again, " + std::to_string((*pool)->damaged()) + " damaged";
      });
    } else if (tier->header().pool != (*pool)->id()) {
      return {Code::corrupted, "tier " + tier->name +
                                   ": the pool is not the one that the "
                                   "shared index describes"};
    }
    pools.back() = *std::move(pool);
  }
  return {};
}

BlockStore::Impl::~Impl() {
  for (auto& mover : movers)
    mover->stop();
  // One after another: a mover may still hand the last of its work to the others.
  for (auto& mover : movers)
    mover->join();
  movers.clear();
}

}  // namespace speckv
