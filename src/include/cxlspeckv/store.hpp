// cxlspeckv/store.hpp -- blocks in, blocks out.
//
// A BlockStore keeps sealed blocks, named by content, in tiers. Failure contract: a save
// may be dropped, a match may answer less than is stored, a load may fail; nobody is ever
// handed wrong bytes, and nothing leaks or hangs.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/metrics.hpp"
#include "cxlspeckv/operation.hpp"
#include "cxlspeckv/tier.hpp"

namespace speckv {

enum class TenantId : std::uint16_t {};
enum class LayoutId : std::uint16_t {};  // index into StoreOptions::layouts

inline constexpr std::size_t kMaxTiers = 6;

// One block and where it lies in the caller's memory: as many segments as it takes, which
// together are the plain block (or the layers asked for), in the order of BlockLayout.
struct BlockTransfer {
  BlockKey key{};
  std::span<const Segment> memory{};
  std::uint32_t first_position = kNoPosition;  // of save: the position of the first token
  LayoutId layout{};
};

struct TransferOptions {
  LayerRange layers{};  // of load; a save is always whole
  // From now, for all of it: blocks that are not done by then end as timed_out, and their
  // memory is no longer lent. 0: the devices' own timeouts.
  std::chrono::nanoseconds deadline{0};
  const ReadyFence* fence = nullptr;       // bytes must not be touched before it is ready
  CompletionQueue* completions = nullptr;  // told when the operation is done
  std::uint64_t tag = 0;                   // repeated there
  TenantId tenant{};                       // charged for what is saved
  bool durable = false;  // save: into a persistent tier, done after its flush
};

// Memory that several processes may share, for the index, pins and statistics. host/
// makes it; without one the store is private and takes memory of its own.
struct IndexMemory {
  MutableBytes bytes{};
  bool fresh = true;          // all zero: nobody has formatted it
  std::uint32_t process = 1;  // this process's owner id, never reused while any runs
  bool (*alive)(void* context, std::uint32_t process) = nullptr;
  void* context = nullptr;
  std::shared_ptr<void> keep{};  // holds the mapping and the claim on `process`
};

struct StoreOptions {
  std::vector<BlockLayout> layouts{};
  std::vector<Tier> tiers{};         // fastest first
  std::uint64_t max_blocks = 0;      // 0: what the tiers could hold at most
  std::vector<std::byte> profile{};  // of the model, for codecs that want one
  IndexMemory index{};
  Clock* clock = nullptr;  // nullptr: steady_clock()
  EventSink* events = nullptr;
  LogSink log{};
};

// How much index memory these options take; what IndexMemory::bytes must hold.
Result<std::uint64_t> index_bytes(const StoreOptions& options);

struct TierStats {
  std::uint64_t capacity = 0, used = 0, pinned = 0,
                blocks = 0;  // bytes, bytes, bytes, count
  std::uint64_t plain_bytes =
      0;  // of the blocks held; over `used` it is the codec's ratio
  std::uint64_t bytes_written = 0, bytes_read = 0;  // device counters
  std::uint64_t hits = 0, evictions = 0, demotions_in = 0, promotions_in = 0;
  std::uint64_t saves_dropped = 0, corrupted = 0, io_errors = 0;  // dropped: of tier 0
  bool fenced = false;
};

// Keeps a block from being evicted or moved while it lives. Movable; one thread.
class [[nodiscard]] Pin;

// Any thread may call any member. Operations, Pins and Sequences end before their store.
class BlockStore {
 public:
  // invalid_argument: what is wrong with the options, in a sentence. corrupted: a pool
  // that is not ours, of another version or layout. io_error: a device.
  static Result<std::unique_ptr<BlockStore>> open(StoreOptions options);
  ~BlockStore();
  BlockStore(const BlockStore&) = delete;
  BlockStore& operator=(const BlockStore&) = delete;

  // Registers memory for transfers until detach(); the id is never reused. Any alignment.
  // invalid_argument: empty, null, or past the end of the address space.
  Result<RegionId> attach(MutableBytes memory);
  // busy: an operation still uses it.
  Status detach(RegionId region);

  // How many blocks at the front of `prefix` can be loaded now, from whatever tier.
  std::size_t match(std::span<const BlockKey> prefix) const noexcept;
  // Where each block is: the fastest tier that has it, kAbsent or kPending, in `tiers`.
  static constexpr std::int8_t kAbsent = -1, kPending = -2;
  void lookup(std::span<const BlockKey> keys,
              std::span<std::int8_t> tiers) const noexcept;

  // Writes blocks to the fastest tier with room. Keys already stored are skipped (ok).
  // no_space: dropped. timed_out: dropped, or stored later by the device that has it, but
  // never in part. The memory is lent until the operation is done.
  Operation save(std::span<const BlockTransfer> blocks,
                 const TransferOptions& options = {});

  // Reads blocks, decoded. not_found, corrupted, timed_out or io_error a block; its
  // memory is then unspecified, but nothing writes into it any more.
  Operation load(std::span<const BlockTransfer> blocks,
                 const TransferOptions& options = {});

  // Starts moving blocks to the fastest tier. A hint: it may be dropped.
  // busy: the queue of hints is full, and none of these was taken.
  Status promote(std::span<const BlockKey> keys) noexcept;

  // Forgets blocks, now for match(), and their bytes once unpinned. Absent keys are fine;
  // returns how many were there.
  std::size_t erase(std::span<const BlockKey> keys) noexcept;

  // Keeps a block where it is (pin), or at least somewhere (retain), while the Pin lives.
  // not_found: no such block.
  Result<Pin> pin(BlockKey key);
  Result<Pin> retain(BlockKey key);

  // Makes everything saved so far durable where a persistent tier has room for it.
  Status flush();

  // Bytes that a tenant may have stored, all tiers together; 0: no limit. Saves beyond it
  // are dropped with no_space. purge() erases all it has.
  Status set_quota(TenantId tenant, std::uint64_t bytes);
  std::uint64_t tenant_bytes(TenantId tenant) const noexcept;
  std::size_t purge(TenantId tenant) noexcept;

  // From now on; stored blocks keep theirs and still decode. not_found: no such tier.
  // invalid_argument: no layout has these layers.
  Status set_codec(std::size_t tier, const Codec& codec, LayerRange layers = {});

  const std::vector<BlockLayout>& layouts() const noexcept;
  std::size_t tier_count() const noexcept;
  TierStats stats(std::size_t tier) const noexcept;  // REQUIRES: tier < tier_count()
  void report(MetricSink& sink) const;

  struct Impl;  // internal
  Impl& impl() noexcept { return *impl_; }

 private:
  explicit BlockStore(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

class Pin {
 public:
  Pin() noexcept = default;
  Pin(Pin&& other) noexcept;
  Pin& operator=(Pin&& other) noexcept;
  ~Pin();
  explicit operator bool() const noexcept { return store_ != nullptr; }

 private:
  friend class BlockStore;
  friend struct BlockStore::Impl;
  BlockStore::Impl* store_ = nullptr;
  std::uint32_t entry_ = 0;
  std::int8_t tier_ = -1;  // -1: retained, not pinned
};

}  // namespace speckv
