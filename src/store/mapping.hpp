// store/mapping.hpp -- the one relocatable mapping that holds index, pins and statistics.
//
// It may be private memory or shared by several processes, each of which can die at any
// instruction. Hence:
//   1. No pointers: everything is an index or an offset.
//   2. Every lock and every transitional slot carries the id of the process that owns it.
//   3. The records (Entry, Node) are the truth, and a record changes state by one store.
//      Chains, free lists and policy state are derived, and rebuilt by whoever takes a
//      lock away from the dead.
//   4. Pins and references are counted in a column per process; a dead one's column is
//      zeroed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "cxlspeckv/store.hpp"

#include "store/records.hpp"

namespace speckv {

// Where everything lies; computed from the options alone, so that all processes agree.
struct MappingPlan {
  std::uint32_t tiers = 0, columns = 1;
  std::uint32_t entries = 0, shard_entries = 0, buckets = 0;  // buckets: per shard, 2^n
  std::uint32_t nodes[kMaxTiers] = {};
  std::uint64_t policy_bytes[kMaxTiers] = {};
  std::uint64_t header = 0, shards = 0, bucket_heads = 0, entry_records = 0, refs = 0,
                tenants = 0;
  std::uint64_t tier_headers = 0, node_records[kMaxTiers] = {}, pins[kMaxTiers] = {},
                policy[kMaxTiers] = {};
  std::uint64_t bytes = 0;
  std::uint64_t fingerprint = 0, profile = 0;

  void lay_out() noexcept;  // fills the offsets from the counts
};

// The mapping as seen by this process: pointers made from the plan. Immutable once
// attached.
class Mapping {
 public:
  // Formats fresh memory, or checks that what is there was made for an equal plan.
  // corrupted, invalid_argument, timed_out (the formatting process never finished).
  static Result<std::unique_ptr<Mapping>> attach(const MappingPlan& plan,
                                                 IndexMemory memory);
  ~Mapping();  // which leaves the process on the list, for others to bury

  const MappingPlan& plan() const noexcept { return plan_; }
  const Owner& self() const noexcept { return self_; }
  bool fresh() const noexcept { return fresh_; }  // this process formatted it
  // Takes over what processes that no longer live had half done (adopt_orphans()).
  using Adopt = std::function<void()>;
  // Enters this process into the list of owners, in the place of a dead one if need be.
  void enter(const Adopt& adopt);
  // Lets the others in, once what a fresh mapping needs (tiers, recovered pools) is
  // there.
  void publish() noexcept;
  bool is_shared() const noexcept { return plan_.columns > 1; }

  MappingHeader& header() const noexcept { return at<MappingHeader>(plan_.header); }
  ShardHeader& shard(std::uint32_t i) const noexcept {
    return (&at<ShardHeader>(plan_.shards))[i];
  }
  std::uint32_t* buckets(std::uint32_t shard) const noexcept {
    return &at<std::uint32_t>(plan_.bucket_heads) + std::size_t{shard} * plan_.buckets;
  }
  Entry& entry(std::uint32_t i) const noexcept {
    return (&at<Entry>(plan_.entry_records))[i];
  }
  TierHeader& tier(std::uint32_t t) const noexcept {
    return (&at<TierHeader>(plan_.tier_headers))[t];
  }
  Node* nodes(std::uint32_t t) const noexcept { return &at<Node>(plan_.node_records[t]); }
  MutableBytes policy_state(std::uint32_t t) const noexcept {
    return {base_ + plan_.policy[t], plan_.policy_bytes[t]};
  }
  TenantRow& tenant(std::uint16_t id) const noexcept {
    return (&at<TenantRow>(plan_.tenants))[id];
  }

  // This process's own count of pins of a node, of references to an entry.
  std::atomic<std::uint32_t>& my_pins(std::uint32_t t,
                                      std::uint32_t node) const noexcept {
    return pins(t, column_, node);
  }
  std::atomic<std::uint32_t>& my_refs(std::uint32_t entry) const noexcept {
    return refs(column_, entry);
  }
  // Whether any attached process has one.
  bool pinned(std::uint32_t t, std::uint32_t node) const noexcept;
  bool referenced(std::uint32_t entry) const noexcept;

  // Whether no other living process is attached.
  bool alone() const noexcept;
  // For every attached process that no longer lives: zeroes its columns, adopts, takes it
  // off the list. Any thread; one caller at a time, and another if that one dies of it.
  // REQUIRES: enter() came before.
  void bury_dead(const Adopt& adopt);

 private:
  Mapping(const MappingPlan& plan, IndexMemory memory);
  void format() noexcept;
  Status join();
  void clear_column(std::uint32_t column) noexcept;
  void bury(std::uint32_t column, const Adopt& adopt);

  template <class T>
  T& at(std::uint64_t offset) const noexcept {
    return *reinterpret_cast<T*>(base_ + offset);
  }
  std::atomic<std::uint32_t>& pins(std::uint32_t t, std::uint32_t column,
                                   std::uint32_t node) const noexcept {
    return (&at<std::atomic<std::uint32_t>>(
        plan_.pins[t]))[std::size_t{column} * plan_.nodes[t] + node];
  }
  std::atomic<std::uint32_t>& refs(std::uint32_t column,
                                   std::uint32_t entry) const noexcept {
    return (&at<std::atomic<std::uint32_t>>(
        plan_.refs))[std::size_t{column} * plan_.entries + entry];
  }

  MappingPlan plan_;
  IndexMemory memory_;
  std::byte* base_ = nullptr;
  Owner self_;
  std::uint32_t column_ = 0;
  bool fresh_ = false;
};

}  // namespace speckv
