// prefetch/journal.hpp -- what a scheduler is told and asked, as data: a live run can be
// recorded, and a scheduler that is told the same decides the same.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "prefetch/scheduler.hpp"

namespace speckv::prefetch {

// One call of Scheduler, with the arguments that it takes.
struct Entry {
  enum class Kind : std::uint8_t {
    arrived,
    missed,
    completed,
    hint,
    ended,
    forgotten,
    held,
    keep,
    retained,
    next,
    finished,
    outcome
  };
  Kind kind{};
  SessionId session = 0;
  double now = 0;
  std::uint64_t bytes = 0, shared = 0;
  std::int64_t change = 0;
  std::uint32_t tier = 0;
  double eta = 0, confidence = 0;
  ReturnDistribution returns{};
  Chunk chunk{};
  Scheduler::End end{};
  Source source{};
  Scheduler::Outcome outcome{};
};

// Makes the call; a chunk only from `next`.
std::optional<Chunk> tell(Scheduler& scheduler, const Entry& entry);

struct Journal {
  std::vector<TierView> tiers{};
  Options options{};
  std::vector<Entry> entries{};
  std::vector<Chunk> chunks{};  // that were chosen, in their order
  std::vector<Kept> kept{};     // the answers to all `keep`, one after the other
};

// What a new scheduler answers that is told the same.
Journal replay(const Journal& journal);

// Not thread-safe.
class RecordedScheduler {
 public:
  RecordedScheduler(const std::vector<TierView>& tiers, const Options& options)
      : tiers_(tiers), options_(options), scheduler_(tiers, options) {}

  std::optional<Chunk> tell(const Entry& entry) {
    const std::optional<Chunk> chunk = prefetch::tell(scheduler_, entry);
    if (journal_ != nullptr) {
      journal_->entries.push_back(entry);
      if (chunk) journal_->chunks.push_back(*chunk);
      if (entry.kind == Entry::Kind::keep)
        journal_->kept.insert(journal_->kept.end(), scheduler_.kept().begin(),
                              scheduler_.kept().end());
    }
    return chunk;
  }
  // From now on; nullptr ends it. It grows without bound.
  void record(Journal* journal) {
    journal_ = journal;
    if (journal != nullptr) *journal = {.tiers = tiers_, .options = options_};
  }
  const Scheduler& scheduler() const noexcept { return scheduler_; }

 private:
  const std::vector<TierView> tiers_;
  const Options options_;
  Scheduler scheduler_;
  Journal* journal_ = nullptr;
};

}  // namespace speckv::prefetch
