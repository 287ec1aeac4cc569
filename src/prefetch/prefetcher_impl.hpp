// prefetch/prefetcher_impl.hpp -- a Prefetcher at work: sessions by the engine's names,
// the scheduler's chunks as moves between tiers, and what a request's own loads use.
#pragma once

#include <array>
#include <cmath>
#include <memory>
#include <unordered_map>
#include <vector>

#include "cxlspeckv/prefetcher.hpp"

#include "base/mutex.hpp"
#include "predict/predictor.hpp"
#include "prefetch/chains.hpp"

namespace speckv {

// What time alone brings is looked at so often, at whole multiples of it since the
// prefetcher began: so a replay looks when a live run did, however late that came to it.
inline constexpr double kTick = 0.1;  // s
inline double next_tick(double now) noexcept {
  constexpr double kRounding = 1e-6;  // of a tick
  return (std::floor(now / kTick + kRounding) + 1) * kTick;
}

struct Prefetcher::Impl {
  // The options have been checked, of which the layout is not looked at. `predictor`:
  // none where nothing is learned.
  Impl(std::shared_ptr<prefetch::Tiers> tiers, std::uint64_t block_bytes,
       PrefetchOptions options, std::shared_ptr<predict::ReturnPredictor> predictor);
  ~Impl();

  bool off() const noexcept { return !options_.learned && !options_.hinted; }
  RequestSink* requests() const noexcept { return options_.requests; }
  Status finished(std::uint64_t id, std::span<const BlockKey> chain,
                  const RequestFacts& facts) SPECKV_EXCLUDES(mutex_);
  Status arrived(std::uint64_t id) SPECKV_EXCLUDES(mutex_);
  Status hint(std::uint64_t id, double eta, double confidence) SPECKV_EXCLUDES(mutex_);
  Status ended(std::uint64_t id) SPECKV_EXCLUDES(mutex_);
  std::chrono::nanoseconds advance() SPECKV_EXCLUDES(mutex_);
  PrefetchStats stats() const SPECKV_EXCLUDES(mutex_);
  // For tests: from now on; nullptr ends it.
  void record(prefetch::Journal* journal) SPECKV_EXCLUDES(mutex_);

 private:
  struct Session {
    std::uint64_t id = 0;
    bool known = false;        // its number is taken
    std::uint32_t active = 0;  // requests
    std::uint32_t chunks = 0;  // under way
    bool gone = false;         // nobody knows it by its id any more
    double arrived = 0, last = 0;
    double expires = 0;         // when nobody comes any more for what is staged for it
    std::uint64_t kept_in = 0;  // number of the last plan that kept it
    std::uint64_t kept = 0;     // bytes
  };
  // A chunk on its way from a tier: chosen, then begun with the lock let go, then done.
  struct Lane {
    bool busy = false, beginning = false, begun = false, given_up = false;
    prefetch::Chunk chunk{};
    std::vector<BlockKey> keys{};
    std::vector<bool> in_time{};  // there when the session came; empty: it did not come
    std::unique_ptr<prefetch::Moves> moves{};  // begun; none: there was no memory
    double failing_until = 0, pause = 0;       // s, after a chunk that could not be moved
  };

  double now() SPECKV_REQUIRES(mutex_);
  std::uint32_t find(std::uint64_t id) const SPECKV_REQUIRES(mutex_);
  std::uint32_t find_or_make(std::uint64_t id, double now) SPECKV_REQUIRES(mutex_);
  bool forget_oldest(std::uint32_t except, double now) SPECKV_REQUIRES(mutex_);
  void forget(std::uint32_t number, double now) SPECKV_REQUIRES(mutex_);
  void arrive(std::uint32_t number, std::uint64_t bytes, double now)
      SPECKV_REQUIRES(mutex_);
  void demand(std::uint32_t number, const prefetch::Numbers& bytes, double now)
      SPECKV_REQUIRES(mutex_);
  void give_up(Lane& lane) SPECKV_REQUIRES(mutex_);
  void settle(double now) SPECKV_REQUIRES(mutex_);
  void settle(Lane& lane, double now) SPECKV_REQUIRES(mutex_);
  void stage(double now) SPECKV_REQUIRES(mutex_);
  void stage_from(std::uint32_t tier, double now) SPECKV_REQUIRES(mutex_);
  void retain(double now) SPECKV_REQUIRES(mutex_);
  void retain_soon() SPECKV_REQUIRES(mutex_);
  void count_retained() SPECKV_REQUIRES(mutex_);
  void poll(double now) SPECKV_REQUIRES(mutex_);
  void begin() SPECKV_EXCLUDES(mutex_);

  // What the first tier passes over, and how much of that the scheduler was told.
  struct Retention {
    std::shared_ptr<KeptBlocks> blocks{};  // none: nothing is retained
    std::array<std::uint64_t, prefetch::kSources> told{};
    std::vector<std::uint32_t> sessions{};  // that are kept
    std::uint64_t plan = 0;
    double planned = -1, due = 0;  // s
  };

  static constexpr std::uint32_t kNobody = ~std::uint32_t{0};

  const std::shared_ptr<prefetch::Tiers> tiers_;
  const PrefetchOptions options_;
  const std::uint64_t block_bytes_;
  const std::vector<prefetch::TierView> views_;
  Clock& clock_;
  const Clock::time_point origin_;

  mutable Mutex mutex_;
  prefetch::RecordedScheduler scheduler_ SPECKV_GUARDED_BY(mutex_);
  prefetch::Chains chains_ SPECKV_GUARDED_BY(mutex_);
  Retention retention_ SPECKV_GUARDED_BY(mutex_);
  std::shared_ptr<predict::ReturnPredictor> predictor_ SPECKV_GUARDED_BY(mutex_);
  std::vector<Session> sessions_ SPECKV_GUARDED_BY(mutex_);  // by number
  std::vector<std::uint32_t> free_numbers_ SPECKV_GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, std::uint32_t> numbers_ SPECKV_GUARDED_BY(mutex_);
  std::array<Lane, prefetch::kMostTiers> lanes_ SPECKV_GUARDED_BY(mutex_);
  // Until when a request's own loads use each tier's link.
  std::array<double, prefetch::kMostTiers> link_free_ SPECKV_GUARDED_BY(mutex_){};
  double last_now_ SPECKV_GUARDED_BY(mutex_) = 0;
  double poll_at_ SPECKV_GUARDED_BY(mutex_) = 0;
  std::uint32_t looked_at_ SPECKV_GUARDED_BY(mutex_) =
      0;  // number of the next to look at
  std::uint64_t peak_in_flight_ SPECKV_GUARDED_BY(mutex_) = 0;
  std::uint64_t failed_ SPECKV_GUARDED_BY(mutex_) = 0;
};

}  // namespace speckv
