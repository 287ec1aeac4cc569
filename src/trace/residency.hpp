// trace/residency.hpp -- where the blocks of a trace are during a replay: each in one
// tier, or gone.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "prefetch/scheduler.hpp"
#include "trace/policy_cache.hpp"
#include "trace/trace.hpp"

namespace speckv::trace {

// What a request found of the prefix that it shares with earlier ones.
struct Found {
  std::uint32_t reused = 0;  // blocks from its start that are somewhere
  std::array<std::uint32_t, prefetch::kMostTiers> in{};  // of those, by tier
};

class Residency {
 public:
  virtual ~Residency() = default;
  // The request's chain comes to the first tier and stays there until done().
  virtual Found use(const Request& request, std::uint32_t shared, double now) = 0;
  virtual void done(const Request& request, double now) = 0;
};

// By a policy of the library in each tier. What is in use may be more than the first tier
// has room for; it then holds nothing else.
class PolicyResidency final : public Residency {
 public:
  // `blocks`: of each tier. REQUIRES: there is such a policy.
  PolicyResidency(const Trace& trace, std::string_view policy,
                  const std::vector<std::uint32_t>& blocks);
  Found use(const Request& request, std::uint32_t shared, double now) override;
  void done(const Request& request, double now) override;

 private:
  void insert(std::uint32_t tier, BlockId block);
  void make_room(std::uint32_t tier);

  const Trace& trace_;
  std::vector<std::uint32_t> capacity_;  // blocks, by tier
  std::vector<std::uint32_t> pins_;
  std::vector<std::uint8_t> tier_;  // of each block; kGone
  std::vector<std::unique_ptr<PolicyCache>> tiers_;
};

// By a scheduler, session by session, the deepest blocks of a session first.
class SessionResidency final : public Residency {
 public:
  SessionResidency(const Trace& trace, prefetch::Scheduler& scheduler,
                   std::uint64_t block_bytes, const std::vector<std::uint32_t>& blocks);
  Found use(const Request& request, std::uint32_t shared, double now) override;
  void done(const Request& request, double now) override;

  // A chunk has come: the session's first blocks of its tier are in the faster one now.
  void staged(const prefetch::Chunk& chunk, double now);

 private:
  struct Place {
    std::uint32_t owner = 0;  // the session that used it last
    std::uint8_t tier = 0;
    std::uint8_t staged_to = 0;  // + 1; 0: not staged, or used since
    prefetch::Source source{};
  };
  // Blocks that no session's last chain has belong to one that is never wanted.
  std::uint32_t nobody() const noexcept { return trace_.sessions; }
  // Blocks of a session in a tier, from the start of its chain; entries that are no
  // longer so are skipped.
  using Row = std::deque<BlockId>;

  Row& row(std::uint32_t session, std::uint32_t tier) {
    return rows_[session * tiers_ + tier];
  }
  bool is_in(BlockId block, std::uint32_t session, std::uint32_t tier) const {
    return places_[block].owner == session && places_[block].tier == tier;
  }
  void account(std::uint32_t session, std::uint32_t tier, std::int64_t blocks);
  std::uint32_t give_up(std::uint32_t session, std::uint32_t tier, double now);
  void make_room(std::uint32_t tier, double now);
  void settle(BlockId block, double now);

  const Trace& trace_;
  prefetch::Scheduler& scheduler_;
  const std::uint64_t block_bytes_;
  const std::uint32_t tiers_;
  std::vector<std::uint32_t> capacity_, used_;  // blocks, by tier
  std::vector<Place> places_;
  std::vector<Row> rows_;
  std::vector<std::uint32_t> stamp_;  // request that a block was last seen in, + 1
  std::uint32_t now_number_ = 0;
};

}  // namespace speckv::trace
