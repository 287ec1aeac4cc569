// Any damage to the index memory that a store's last process left behind: the next one
// opens it without touching anything outside, loads right bytes or none, and goes on.
//
// The input is a list of edits, 5 bytes each: a region of the mapping, a place in it (2
// bytes, big-endian), a value, and how it is applied.
#include <cstring>

#include "require.hpp"
#include "store/impl.hpp"

using namespace speckv;
using namespace speckv::test;

namespace {

constexpr std::uint64_t kBlocks = 12;

// Memory that outlives the stores on it, as a shared mapping does.
struct Left {
  std::vector<std::byte> storage;
  MutableBytes index;
  std::shared_ptr<HeapDevice> device;
  MappingPlan plan;
  std::uint64_t held = 0;  // blocks: there is no room for all
};

StoreOptions options_on(const Left& left, bool fresh) {
  StoreOptions options;
  options.layouts = {small_layout()};
  options.tiers.push_back(tier_on("memory", left.device));
  options.index.bytes = left.index;
  options.index.fresh = fresh;
  options.index.process = fresh ? 1 : 65;  // another generation of the same column
  options.index.alive = [](void*, std::uint32_t) { return false; };
  return options;
}

Left make_left() {
  Left left;
  left.device = std::make_shared<HeapDevice>(32 << 10, HeapDevice::Kind::memory);
  left.device->mutable_info().shared = true;
  left.storage.resize(1 << 12);
  left.index = left.storage;  // any, for the size to be asked
  StoreOptions asked = options_on(left, true);
  left.storage.assign(*index_bytes(asked) + 64, std::byte{0});
  const auto at = reinterpret_cast<std::uintptr_t>(left.storage.data());
  left.index = MutableBytes(left.storage).subspan((at + 63) / 64 * 64 - at);
  left.index = left.index.first(left.storage.size() - 64);
  StoreUnderTest store(options_on(left, true));
  require(static_cast<bool>(store), "the first store does not open");
  for (std::uint64_t n = 0; n < kBlocks; ++n)
    require(store.save(n) == Code::ok, "a save failed");
  left.plan = store->impl().mapping->plan();
  left.held = store->stats(0).blocks;
  require(left.held > kBlocks / 2, "it holds next to nothing");
  return left;
}

// The parts of the mapping that steer anything, and how far to reach into each.
struct Part {
  std::uint64_t at, bytes;
};
Part part(const MappingPlan& plan, std::uint8_t which) {
  switch (which % 6) {
    case 0:
      return {plan.header + 8, sizeof(MappingHeader) - 8};  // the magic is checked apart
    case 1:
      return {plan.shards, kShards * sizeof(ShardHeader)};
    case 2:
      return {plan.tier_headers, sizeof(TierHeader)};
    case 3:
      return {plan.entry_records, std::uint64_t{plan.entries} * sizeof(Entry)};
    case 4:
      return {plan.node_records[0], std::uint64_t{plan.nodes[0]} * sizeof(Node)};
    default:
      return {plan.policy[0], plan.policy_bytes[0]};
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Left left = make_left();
  static const std::vector<std::byte> index(left.index.begin(), left.index.end());
  static const std::vector<std::byte> bytes(left.device->raw().begin(),
                                            left.device->raw().end());
  static const bool once = [] {
    StoreUnderTest sound(options_on(left, false));
    require_sound(sound, kBlocks, left.held);
    return true;
  }();
  (void)once;
  std::copy(index.begin(), index.end(), left.index.begin());
  std::copy(bytes.begin(), bytes.end(), left.device->raw().begin());
  for (std::span<const std::uint8_t> rest(data, size); rest.size() >= 5;
       rest = rest.subspan(5)) {
    const Part where = part(left.plan, rest[0]);
    const std::uint64_t at =
        where.at + (std::uint64_t{rest[1]} << 8U | rest[2]) * 4 % where.bytes;
    const auto value = static_cast<std::byte>(rest[3]);
    left.index[at] = rest[4] % 2 == 0 ? value : left.index[at] ^ value;
    if (rest[4] % 8 == 2) std::memset(left.index.data() + at, rest[3], 4);
  }
  StoreUnderTest store(options_on(left, false));
  if (!opens(store)) return 0;
  require_right_or_refused(store, kBlocks);
  const Code saved = store.save(100);
  require(saved == Code::ok || saved == Code::no_space, "it cannot go on");
  require(saved != Code::ok || store.load(100) == Code::ok, "it lost what it saved");
  return 0;
}
