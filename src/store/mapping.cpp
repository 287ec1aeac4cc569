#include "store/mapping.hpp"

#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <utility>

#include "codec/frame.hpp"

namespace speckv {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::chrono::microseconds kNap{50};
constexpr std::chrono::milliseconds kFormatPoll{1};

// Backs off while another process holds a lock word. There is no futex to sleep on that a
// dying holder would wake, so after a few yields this naps; the caller then looks whether
// the holder still lives.
class Backoff {
 public:
  void pause() noexcept {
    if (++rounds_ < 64) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);  // sleeps: a dying holder wakes nobody
    }
  }
  bool time_to_check() const noexcept { return rounds_ % 64 == 63; }

 private:
  std::uint32_t rounds_ = 0;
};

}  // namespace

bool RobustLock::try_lock(const Owner& self, bool& stolen) noexcept {
  std::uint32_t holder = 0;
  stolen = false;
  // acquire: pairs with unlock()'s release.
  if (word_.compare_exchange_strong(holder, self.id, std::memory_order_acquire))
    return true;
  if (self.alive(holder)) return false;
  stolen = word_.compare_exchange_strong(holder, self.id, std::memory_order_acquire);
  return stolen;
}

bool RobustLock::lock(const Owner& self) noexcept {
  std::uint32_t holder = 0;
  if (word_.compare_exchange_strong(holder, self.id, std::memory_order_acquire))
    return false;
  for (Backoff backoff;; backoff.pause()) {
    holder = 0;
    if (word_.compare_exchange_weak(holder, self.id, std::memory_order_acquire))
      return false;
    if (holder == 0 || !backoff.time_to_check() || self.alive(holder)) continue;
    if (word_.compare_exchange_strong(holder, self.id, std::memory_order_acquire))
      return true;
  }
}

void MappingPlan::lay_out() noexcept {
  std::uint64_t end = 0;
  const auto place = [&end](std::uint64_t count, std::uint64_t size) {
    const std::uint64_t at = end;
    end = align_up(end + count * size, kPageBytes);
    return at;
  };
  header = place(1, sizeof(MappingHeader));
  shards = place(kShards, sizeof(ShardHeader));
  tier_headers = place(tiers, sizeof(TierHeader));
  tenants = place(kTenants, sizeof(TenantRow));
  bucket_heads = place(std::uint64_t{kShards} * buckets, sizeof(std::uint32_t));
  entry_records = place(entries, sizeof(Entry));
  refs = place(std::uint64_t{columns} * entries, sizeof(std::uint32_t));
  for (std::uint32_t t = 0; t < tiers; ++t) {
    node_records[t] = place(nodes[t], sizeof(Node));
    pins[t] = place(std::uint64_t{columns} * nodes[t], sizeof(std::uint32_t));
    policy[t] = place(1, policy_bytes[t]);
  }
  bytes = end;
}

Mapping::Mapping(const MappingPlan& plan, IndexMemory memory)
    : plan_(plan), memory_(std::move(memory)), base_(memory_.bytes.data()) {
  self_ = {memory_.process, memory_.alive, memory_.context};
  column_ = plan_.columns > 1 ? self_.column() : 0;
}

Result<std::unique_ptr<Mapping>> Mapping::attach(const MappingPlan& plan,
                                                 IndexMemory memory) {
  if (memory.bytes.empty()) {
    // calloc: large zeroed memory that costs nothing until it is touched.
    // NOLINTNEXTLINE(cppcoreguidelines-no-malloc): operator new would touch it all
    void* const raw = std::calloc(plan.bytes / 64 + 1, 64);
    if (raw == nullptr) return Status(Code::no_space, "no memory for the block index");
    // NOLINTNEXTLINE(cppcoreguidelines-no-malloc)
    memory.keep = std::shared_ptr<void>(raw, [](void* p) { std::free(p); });
    auto* const aligned =
        reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(raw), 64));
    memory.bytes = {aligned, plan.bytes};
    memory.fresh = true;
  }
  if (memory.bytes.size() < plan.bytes) {
    return Status(Code::invalid_argument,
                  "the index memory is smaller than index_bytes()");
  }
  if (memory.process == 0)
    return Status(Code::invalid_argument, "owner id 0 is reserved");
  auto mapping = std::unique_ptr<Mapping>(new Mapping(plan, std::move(memory)));
  if (mapping->memory_.fresh) {
    mapping->format();
  } else if (Status joined = mapping->join(); !joined.ok()) {
    return joined;
  }
  return mapping;
}

void Mapping::enter(const Adopt& adopt) {
  bury(self_.column(), adopt);
  std::atomic<std::uint32_t>& place = header().owners[self_.column()];
  if (place.load(std::memory_order_relaxed) == self_.id) return;
  if (!fresh_) clear_column(column_);  // else zero, and touching it would cost its memory
  place.store(self_.id, std::memory_order_release);
}

// A process that leaves stays on the list: whatever it could not finish (a tier that was
// fenced, say) is taken over like that of the dead, once its claim is gone.
Mapping::~Mapping() = default;

// The memory is all zero, which is right for everything but the list ends.
void Mapping::format() noexcept {
  fresh_ = true;
  header().fingerprint = plan_.fingerprint;
  header().profile = plan_.profile;
  header().bytes = plan_.bytes;
  header().tiers = plan_.tiers;
  for (std::uint32_t s = 0; s < kShards; ++s) {
    shard(s).free = kNone;
    std::memset(buckets(s), 0xFF, std::size_t{plan_.buckets} * sizeof(std::uint32_t));
  }
}

// Waits until the process that formats has published the magic (publish()).
Status Mapping::join() {
  for (int round = 0; header().magic.load(std::memory_order_acquire) != kIndexMagic;
       ++round) {
    if (header().magic.load(std::memory_order_relaxed) != 0) {
      return {Code::corrupted, "the index memory is not a block index of this version"};
    }
    if (round > 10000) return {Code::timed_out, "the index memory was never formatted"};
    std::this_thread::sleep_for(kFormatPoll);  // sleeps: another process publishes it
  }
  if (header().fingerprint != plan_.fingerprint || header().bytes != plan_.bytes) {
    return {Code::invalid_argument,
            "the shared store was opened with other layouts, tiers or capacities"};
  }
  if (header().profile != plan_.profile) {
    return {
        Code::invalid_argument,
        header().profile == 0
            ? "the shared store was opened without a model profile"
            : "the shared store was opened with a model profile that is not this one"};
  }
  return {};
}

void Mapping::publish() noexcept {
  header().magic.store(kIndexMagic, std::memory_order_release);
}

bool Mapping::pinned(std::uint32_t t, std::uint32_t node) const noexcept {
  if (!is_shared()) return pins(t, 0, node).load(std::memory_order_acquire) != 0;
  for (std::uint32_t c = 0; c < kMaxProcesses; ++c) {
    if (header().owners[c].load(std::memory_order_relaxed) != 0 &&
        pins(t, c, node).load(std::memory_order_acquire) != 0) {
      return true;
    }
  }
  return false;
}

bool Mapping::referenced(std::uint32_t e) const noexcept {
  if (!is_shared()) return refs(0, e).load(std::memory_order_acquire) != 0;
  for (std::uint32_t c = 0; c < kMaxProcesses; ++c) {
    if (header().owners[c].load(std::memory_order_relaxed) != 0 &&
        refs(c, e).load(std::memory_order_acquire) != 0) {
      return true;
    }
  }
  return false;
}

void Mapping::clear_column(std::uint32_t column) noexcept {
  for (std::uint32_t t = 0; t < plan_.tiers; ++t) {
    for (std::uint32_t n = 0; n < tier(t).extents.bump; ++n) {
      pins(t, column, n).store(0, std::memory_order_relaxed);
    }
  }
  for (std::uint32_t s = 0; s < kShards; ++s) {
    for (std::uint32_t i = 0; i < shard(s).bump; ++i) {
      refs(column, s * plan_.shard_entries + i).store(0, std::memory_order_relaxed);
    }
  }
}

bool Mapping::alone() const noexcept {
  for (std::uint32_t c = 0; c < kMaxProcesses; ++c) {
    const std::uint32_t id = header().owners[c].load(std::memory_order_acquire);
    if (id != 0 && id != self_.id && self_.alive(id)) return false;
  }
  return true;
}

void Mapping::bury_dead(const Adopt& adopt) {
  for (std::uint32_t c = 0; c < kMaxProcesses; ++c)
    bury(c, adopt);
}

void Mapping::bury(std::uint32_t c, const Adopt& adopt) {
  std::atomic<std::uint32_t>& place = header().owners[c];
  const std::uint32_t id = place.load(std::memory_order_acquire);
  if (!is_shared() || id == 0 || self_.alive(id)) return;
  // One undertaker at a time: a second, late one would zero the column of whoever has it
  // by then. The name goes last, so that if this one dies another starts again; and it
  // makes way for the name of its heir, who is then never at work without being listed.
  const RobustGuard burying(header().burying, self_);
  if (place.load(std::memory_order_acquire) != id) return;
  clear_column(c);
  adopt();
  place.store(c == self_.column() ? self_.id : 0, std::memory_order_release);
}

}  // namespace speckv
