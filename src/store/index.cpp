#include "store/index.hpp"

#include <atomic>

namespace speckv {
namespace {

// Chain heads are written under the lock but peeked at without it by prefetch_entry().
void set_head(std::uint32_t& head, std::uint32_t entry) noexcept {
  std::atomic_ref<std::uint32_t>(head).store(entry, std::memory_order_relaxed);
}

}  // namespace

Index::Shard::Shard(Index& index, BlockKey key) noexcept : Shard(index, shard_of(key)) {}

Index::Shard::Shard(Index& index, std::uint32_t number) noexcept
    : mapping_(index.mapping_), number_(number), lock_(mapping_.shard(number_).lock) {
  if (lock_.lock(mapping_.self())) index.rebuild(number_);
}

std::uint32_t Index::Shard::find(BlockKey key) const noexcept {
  const std::uint32_t bucket =
      static_cast<std::uint32_t>(key.low & (mapping_.plan().buckets - 1));
  std::uint32_t e = mapping_.buckets(number_)[bucket];
  while (e != kNone && mapping_.entry(e).key != key)
    e = mapping_.entry(e).next;
  return e;
}

std::uint32_t Index::Shard::insert(BlockKey key, std::uint16_t layout,
                                   std::uint16_t tenant,
                                   std::uint32_t first_position) noexcept {
  ShardHeader& shard = mapping_.shard(number_);
  std::uint32_t e = shard.free;
  if (e != kNone) {
    shard.free = mapping_.entry(e).next;
  } else if (shard.bump.load(std::memory_order_relaxed) < mapping_.plan().shard_entries) {
    e = number_ * mapping_.plan().shard_entries +
        shard.bump.fetch_add(1, std::memory_order_relaxed);
  } else {
    return kNone;
  }
  Entry& entry = mapping_.entry(e);
  entry.key = key;
  for (auto& slot : entry.slots)
    slot.store(0, std::memory_order_relaxed);
  entry.first_position = first_position;
  entry.layout = layout;
  entry.tenant = tenant;
  entry.touched.store(0, std::memory_order_relaxed);
  entry.used.store(1, std::memory_order_release);
  std::uint32_t& head =
      mapping_.buckets(number_)[key.low & (mapping_.plan().buckets - 1)];
  entry.next = head;
  set_head(head, e);
  return e;
}

void Index::Shard::remove(std::uint32_t e) noexcept {
  Entry& entry = mapping_.entry(e);
  entry.used.store(0, std::memory_order_release);
  std::uint32_t* link =
      &mapping_.buckets(number_)[entry.key.low & (mapping_.plan().buckets - 1)];
  while (*link != e)
    link = &mapping_.entry(*link).next;
  set_head(*link, entry.next);
  ShardHeader& shard = mapping_.shard(number_);
  entry.next = shard.free;
  shard.free = e;
}

void Index::Shard::list(std::vector<std::uint32_t>& entries) const {
  for (std::uint32_t i = 0; i < mapping_.shard(number_).bump.load(); ++i) {
    const std::uint32_t e = number_ * mapping_.plan().shard_entries + i;
    if (mapping_.entry(e).used.load(std::memory_order_relaxed) != 0) entries.push_back(e);
  }
}

// Chains and the free list again from the records, after their holder died.
void Index::rebuild(std::uint32_t number) noexcept {
  ShardHeader& shard = mapping_.shard(number);
  std::uint32_t* const heads = mapping_.buckets(number);
  for (std::uint32_t b = 0; b < mapping_.plan().buckets; ++b)
    set_head(heads[b], kNone);
  shard.free = kNone;
  for (std::uint32_t i = 0; i < shard.bump; ++i) {
    const std::uint32_t e = number * mapping_.plan().shard_entries + i;
    Entry& entry = mapping_.entry(e);
    const bool used = entry.used.load(std::memory_order_relaxed) != 0;
    std::uint32_t& head =
        used ? heads[entry.key.low & (mapping_.plan().buckets - 1)] : shard.free;
    entry.next = head;
    set_head(head, e);
  }
}

void Index::prefetch_bucket(BlockKey key) const noexcept {
  __builtin_prefetch(&head_of(key));
}

// Reads a chain head without the lock: a stale one only costs the prefetch.
void Index::prefetch_entry(BlockKey key) const noexcept {
  const std::uint32_t e =
      std::atomic_ref<std::uint32_t>(head_of(key)).load(std::memory_order_relaxed);
  if (e < mapping_.plan().entries) __builtin_prefetch(&mapping_.entry(e));
}

}  // namespace speckv
