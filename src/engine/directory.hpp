// engine/directory.hpp -- which blocks a card holds, and which of them matter.
//
// The block directory (RTBD) and the eviction scorer (HEPC) of docs/queue-protocol.md.
// Entries of all tenants share the sets, but no tenant finds, changes or displaces
// another's. Every lookup looks at four ways and the stash, and no more. One thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "cxlspeckv/address.hpp"
#include "cxlspeckv/block.hpp"

#include "engine/counters.hpp"
#include "engine/score.hpp"

namespace speckv::engine {

struct DirectorySettings {
  std::uint32_t quota = csr::kDirectoryQuotaReset;
  std::uint32_t block_shift = csr::kBlockShiftReset;
  Weights weights = kDefaultWeights;
};

class Directory {
 public:
  // entries: a power of two, at least one set of ways.
  Directory(std::uint32_t entries, Counters& counters);
  // Empty, every tenant at step 0, with these settings. REQUIRES: weights.valid(),
  // block_shift 4 to 8.
  void renew(const DirectorySettings& settings) noexcept;
  // One tenant as new, with these weights: none of its blocks, whatever references they
  // have. REQUIRES: weights.valid()
  void renew_tenant(std::uint32_t tenant, const Weights& weights) noexcept;

  std::uint32_t entries() const noexcept { return sets_ * kMaxDirectoryWays; }
  std::uint32_t block_tokens() const noexcept { return 1U << shift_; }

  // A block of `tokens` tokens from `first` on is there now: it has an entry, is used and
  // not staged. False: there is no place for it.
  bool insert(std::uint32_t tenant, const KvAddress& first, std::uint32_t tokens);
  // It was used, and with `staged` lies in the fast buffer. False: not there.
  bool use(std::uint32_t tenant, const KvAddress& first, bool staged);
  // It is not there any more, whatever references it has.
  void drop(std::uint32_t tenant, const KvAddress& first);
  // Whether a token is in a block: of its request, or shared (request 0).
  bool contains(std::uint32_t tenant, const KvAddress& token);

  struct Outcome {
    Answer answer = Answer::ok;
    std::uint32_t count = 0;
  };
  // REQUIRES: tokens >= 1, and the range ends within 32 bits.
  Outcome hint(std::uint32_t tenant, Hint hint, const KvAddress& first,
               std::uint32_t tokens, std::uint32_t due);

  // Returns how many became candidates.
  std::uint32_t advance(std::uint32_t tenant, std::uint32_t step);
  std::uint32_t step_of(std::uint32_t tenant) const noexcept {
    return tenants_[tenant].step;
  }
  // REQUIRES: weights.valid()
  void set_weights(std::uint32_t tenant, const Weights& weights) noexcept {
    tenants_[tenant].weights = weights;
  }

  // Writes candidates to `out`, as many as fit whole, and takes them off the list.
  // Returns the bytes written.
  std::size_t report(std::uint32_t tenant, Report kind, MutableBytes out);
  Telemetry telemetry(std::uint32_t tenant) const;
  // What the directory does not see itself: bytes moved, failures.
  Telemetry& tally(std::uint32_t tenant) noexcept { return tenants_[tenant].tally; }

 private:
  struct Name {
    std::uint32_t request = 0, page = 0;
    std::uint16_t layer = 0;
    std::uint8_t head = 0, tenant = 0;
    bool operator==(const Name&) const = default;
  };
  // Whether an entry is on a list of candidates, or has been told.
  enum class Mark : std::uint8_t { none, waiting, told };
  struct Entry {
    Name name{};
    Use use{};
    std::uint16_t tokens = 0;  // 0: a free entry
    bool staged = false;
    Mark victim = Mark::none, prefetch = Mark::none;
  };
  // A ring of entry numbers; what they stand for is looked at when they are taken.
  struct List {
    std::array<std::uint32_t, kMaxCandidates> ring{};
    std::uint32_t first = 0, count = 0;
    bool push(std::uint32_t entry) noexcept;
    std::uint32_t pop() noexcept;
  };
  struct Tenant {
    std::uint32_t step = 0, blocks = 0, shared = 0;
    Weights weights{};
    Telemetry tally{};  // its counters only
    List victims{}, prefetches{};
  };

  Name name_of(std::uint32_t tenant, const KvAddress& token) const noexcept;
  // The 4 ways of a name's set and the stash, as entry numbers.
  std::array<std::uint32_t, kMaxDirectoryWays + kMaxDirectoryStash> places(
      const Name& name) const noexcept;
  Entry* find(const Name& name) noexcept;
  // The same with the fallback to request 0; counts a hit or a miss. `from` and `end`:
  // positions of which the block must hold one.
  Entry* look_up(Name name, std::uint64_t from, std::uint64_t end) noexcept;
  bool holds(const Entry& entry, std::uint64_t from, std::uint64_t end) const noexcept;
  Entry* place_for(const Name& name) noexcept;
  void clear(Entry& entry) noexcept;
  void touch(Entry& entry) noexcept;
  void count_hint(Entry& entry, Hint hint, std::uint32_t due) noexcept;
  bool score(Tenant& tenant, std::uint32_t number) noexcept;
  Candidate candidate(const Entry& entry) const noexcept;
  void count(Tenant& tenant, std::uint64_t Telemetry::*mine, Counter all,
             std::uint64_t n = 1) noexcept;

  const std::uint32_t sets_;
  Counters& counters_;
  std::uint32_t quota_ = 0, shift_ = 0;
  std::vector<Entry> entries_;  // the sets, then the stash
  std::vector<Tenant> tenants_;
};

}  // namespace speckv::engine
