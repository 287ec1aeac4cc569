// What a store that chooses victims by last use should keep all the same, and what came
// of it.
#include <algorithm>
#include <cmath>

#include "prefetch/scheduler.hpp"

namespace speckv::prefetch {
namespace {

constexpr std::uint64_t kLeftToLastUse = 8;  // one of so many bytes, whatever is said

}  // namespace

// What somebody says of a session's return counts as long as he is heard.
Scheduler::Rank Scheduler::rank(std::uint32_t number, std::uint32_t tier, double now) {
  const auto heard = [&](Source source) {
    return !judges_[static_cast<std::size_t>(source)].account.silent(now);
  };
  Session& session = sessions_[number];
  (void)worth(session, tier, now);
  Rank its{.number = number};
  const double learned = by_value_ && heard(Source::learned) ? session.learned[tier] : 0;
  if (learned >= options_.margin) {
    its.value = learned;
    its.expected = true;
  } else {
    its.value = worth_after(now - session.last, turnover_[tier]);
  }
  if (!hinted(session, now) || !heard(Source::hint)) return its;
  its.value = session.confidence *
                  worth_after(std::max(0.0, session.eta - now), turnover_[tier]) +
              (1 - session.confidence) * its.value;
  its.expected = its.value >= options_.margin;
  its.source = Source::hint;
  return its;
}

const std::vector<Kept>& Scheduler::keep(std::uint32_t tier, std::uint64_t capacity,
                                         std::uint64_t others, double now) {
  lru_.set_capacity(tier, capacity);
  valued_.set_capacity(tier, capacity);
  ranks_.clear();
  kept_.clear();
  floor_[tier] = 0;
  std::uint64_t active = 0;
  for (const std::uint32_t number : lists_[tier]) {
    const Session& session = sessions_[number];
    if (!session.active) {
      ranks_.push_back(rank(number, tier, now));
      continue;
    }
    active += session.bytes[tier];
    kept_.push_back({.session = session.id, .bytes = session.bytes[tier]});
  }
  const auto expected = [](const auto& its) { return its.expected; };
  if (std::none_of(ranks_.begin(), ranks_.end(), expected)) {
    kept_.clear();
    return kept_;
  }
  // What is there of active sessions is room that their own requests need no more.
  const auto request = static_cast<std::uint64_t>(largest_);
  const std::uint64_t left =
      active + capacity / kLeftToLastUse + (request - std::min(request, active));
  std::uint64_t room = capacity - std::min(capacity, left + others);
  // Blocks of nobody's session are not given up for what is kept, but by last use they
  // make way for what is staged.
  std::uint64_t stageable = capacity - std::min(capacity, left);
  std::sort(ranks_.begin(), ranks_.end(), [this](const Rank& a, const Rank& b) {
    if (a.value != b.value) return a.value > b.value;
    const double last_a = sessions_[a.number].last, last_b = sessions_[b.number].last;
    return last_a != last_b ? last_a > last_b : a.number < b.number;
  });
  for (const Rank& its : ranks_) {
    const Session& session = sessions_[its.number];
    const std::uint64_t bytes = std::min(room, session.bytes[tier]);
    const bool whole = bytes == session.bytes[tier];
    room -= bytes;
    if (bytes > 0) kept_.push_back({session.id, bytes, whole, its.expected, its.source});
    if (session.bytes[tier] <= stageable) {
      stageable -= session.bytes[tier];
      continue;
    }
    // What nobody speaks for is no reason not to stage what somebody does.
    floor_[tier] = its.expected ? its.value : 0;
    break;
  }
  if (std::none_of(kept_.begin(), kept_.end(), expected)) kept_.clear();
  return kept_;
}

// No more than the first tier has is there at once, in place of something else.
void Scheduler::blame(Judge& judge, std::uint64_t bytes) {
  judge.blamed = std::min(judge.blamed + static_cast<double>(bytes),
                          static_cast<double>(tiers_[0].capacity));
}

void Scheduler::retained(Source source, std::uint64_t bytes) {
  Judge& judge = judges_[static_cast<std::size_t>(source)];
  judge.counters.retained += bytes;
  judge.spared = std::min(judge.spared + static_cast<double>(bytes),
                          static_cast<double>(tiers_[0].capacity));
  blame(judge, bytes);
}

void Scheduler::missed(std::uint64_t bytes, double now) {
  if (!options_.guard || !options_.retain) return;  // no ghost looks
  const double more = static_cast<double>(bytes) - lru_missed_;
  const double fewer = -more - staged_read_;
  double blamed = 0, spared = 0;
  for (const Judge& judge : judges_) {
    blamed += judge.blamed;
    spared += judge.spared;
  }
  for (Judge& judge : judges_) {
    if (more > 0 && blamed > 0) {
      const double part = std::min(more, blamed) * judge.blamed / blamed;
      judge.blamed -= part;
      lose(judge, static_cast<std::uint64_t>(part), now);
    } else if (fewer > 0 && spared > 0) {
      const double part = std::min(fewer, spared) * judge.spared / spared;
      judge.spared -= part;
      judge.account.earned(static_cast<std::uint64_t>(part));
    }
  }
}

}  // namespace speckv::prefetch
