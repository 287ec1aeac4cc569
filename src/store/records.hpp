// store/records.hpp -- what lies in the mapping: locks, entries, nodes, headers,
// counters.
//
// Rules for everything here are at the head of mapping.hpp: no pointers, an owner in
// every lock and transitional state, one store a change. The bytes are shared by
// processes of one build only (the fingerprint sees to that), so they are not a format.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "cxlspeckv/store.hpp"

#include "base/mutex.hpp"

namespace speckv {

// An owner id modulo this is the process's column.
inline constexpr std::uint32_t kMaxProcesses = 64;
inline constexpr std::uint32_t kNone = 0xFFFFFFFF;  // no entry, no node
inline constexpr std::uint32_t kShards = 64;
inline constexpr std::uint32_t kTenants = 1U << 16;

// Who this process is in the mapping, and who else is alive.
struct Owner {
  std::uint32_t id = 1;
  bool (*is_alive)(void*, std::uint32_t) = nullptr;
  void* context = nullptr;

  std::uint32_t column() const noexcept { return id % kMaxProcesses; }
  bool alive(std::uint32_t other) const noexcept {
    return other == id || (is_alive != nullptr && is_alive(context, other));
  }
};

// A lock word in shared memory: the owner's id, or 0. Threads of one process share its
// id.
class SPECKV_CAPABILITY("robust lock") RobustLock {
 public:
  // True if the lock was taken from a dead owner: what it protects must be rebuilt first.
  bool lock(const Owner& self) noexcept SPECKV_ACQUIRE();
  bool try_lock(const Owner& self, bool& stolen) noexcept SPECKV_TRY_ACQUIRE(true);
  void unlock() noexcept SPECKV_RELEASE() { word_.store(0, std::memory_order_release); }
  // Whoever holds it is gone, or never was. REQUIRES: nobody else looks.
  void forget() noexcept { word_.store(0, std::memory_order_release); }

 private:
  std::atomic<std::uint32_t> word_;
};

// Holds a lock whose holder's death needs no repair of its own.
class SPECKV_SCOPED RobustGuard {
 public:
  RobustGuard(RobustLock& lock, const Owner& self) noexcept SPECKV_ACQUIRE(lock)
      : lock_(lock) {
    (void)lock_.lock(self);
  }
  ~RobustGuard() SPECKV_RELEASE() { lock_.unlock(); }
  RobustGuard(const RobustGuard&) = delete;
  RobustGuard& operator=(const RobustGuard&) = delete;

 private:
  RobustLock& lock_;
};

// One block. Changed under its shard's lock; the atomics may be peeked at without it.
struct alignas(64) Entry {  // one cache line, so that match() pays one miss
  BlockKey key;
  std::uint32_t next;  // derived: chain of its bucket, or free list
  std::atomic<std::uint32_t>
      slots[kMaxTiers];  // node index + 1 in each tier; 0: not there
  std::uint32_t first_position;
  std::uint16_t layout;
  std::uint16_t tenant;
  std::atomic<std::uint8_t> used;     // 0: free. Set last, cleared first.
  std::atomic<std::uint8_t> touched;  // loaded since it was saved
};

enum class NodeState : std::uint8_t {
  unused,     // describes nothing
  free,       // a free extent (derived)
  filling,    // being written, by `owner`
  resident,   // holds the frame of `entry`
  doomed,     // erased, but pinned: released with the last pin
  releasing,  // on its way to free, by `owner`
};

// One extent of a tier: a slot when it holds a block. Extents lie in `units` of the tier.
// Changed under the tier's lock; filling -> resident -> releasing also needs the shard's.
struct Node {
  std::uint32_t offset, units;
  std::uint32_t frame_bytes;
  std::uint32_t entry;
  std::uint32_t before, after;  // derived: neighbours by address
  std::uint32_t prev, next;     // derived: free list
  std::atomic<std::uint32_t> owner;
  std::uint32_t generation;  // of the commit that made it durable; 0: not yet
  std::uint16_t tenant;      // charged for it
  std::atomic<NodeState> state;
};

struct ShardHeader {
  RobustLock lock;
  std::uint32_t free;               // entries given back
  std::atomic<std::uint32_t> bump;  // entries ever used
};

// Two-level free lists: 32 powers of two, 8 steps each.
inline constexpr std::uint32_t kSizeClasses = 32 * 8;

struct ExtentHeader {
  std::uint32_t units;              // of the whole tier
  std::atomic<std::uint32_t> bump;  // nodes ever used
  std::uint32_t unused;             // nodes given back
  std::uint32_t used_units;
  std::uint64_t nonempty[kSizeClasses / 64];
  std::uint32_t heads[kSizeClasses];
};

struct TierCounters {
  std::atomic<std::uint64_t> blocks, plain_bytes, bytes_written, bytes_read, hits,
      evictions, demotions_in, promotions_in, saves_dropped, corrupted, io_errors;
};

struct TierHeader {
  char name[32];       // as much of it as fits, for who looks from outside
  std::uint64_t unit;  // bytes
  RobustLock lock;
  RobustLock commit;  // a token: held across the I/O of one group commit
  std::uint32_t generation;
  std::uint64_t pool;  // the id of the pool on the device, if it keeps one
  ExtentHeader extents;
  TierCounters counters;
};

struct TenantRow {
  std::atomic<std::uint64_t> used, quota;
};

// "SPKVIDX3"; another one for whatever changes the records.
inline constexpr std::uint64_t kIndexMagic = 0x33584449564B5053;

struct MappingHeader {
  std::atomic<std::uint64_t> magic;  // published last
  std::uint64_t fingerprint;         // of everything that decides the layout below
  std::uint64_t profile;             // of the model's profile; 0: there is none
  std::uint64_t bytes;
  std::uint32_t tiers;
  RobustLock joining;                                // one process attaches at a time
  RobustLock burying;                                // one buries the dead, likewise
  std::atomic<std::uint32_t> owners[kMaxProcesses];  // attached ids; 0: none
};

static_assert(sizeof(Entry) == 64 && sizeof(Node) == 44 && alignof(Node) == 4);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace speckv
