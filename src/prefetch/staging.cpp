// The scheduler's chunks as moves between tiers: chosen under the lock, begun without
// it, and settled by whoever calls next.
#include <algorithm>

#include "prefetch/prefetcher_impl.hpp"

namespace speckv {
namespace {

using prefetch::Entry;
using prefetch::Fate;
using prefetch::Source;
constexpr std::size_t kLookedAt = 1024;  // blocks a poll: what the store moved by itself
constexpr int kMostTries = 8;            // sessions whose blocks turn out to be elsewhere
constexpr double kPause = 0.2, kLongestPause = 30;  // s, after a chunk that failed

}  // namespace

// Done with what is under way: the rest of it ends as cancelled.
void Prefetcher::Impl::give_up(Lane& lane) {
  lane.given_up = true;
  if (lane.moves != nullptr) lane.moves->cancel();
}

void Prefetcher::Impl::settle(double now) {
  count_retained();
  for (Lane& lane : lanes_) {
    if (lane.begun && (lane.moves == nullptr || lane.moves->done())) settle(lane, now);
  }
}

void Prefetcher::Impl::settle(Lane& lane, double now) {
  const prefetch::Chunk chunk = lane.chunk;
  const auto number = static_cast<std::uint32_t>(chunk.session);
  Session& session = sessions_[number];
  std::vector<Fate> fates(lane.keys.size(), Fate::stayed);
  bool any = false;
  for (std::size_t i = 0; i < fates.size(); ++i) {
    if (lane.moves == nullptr || lane.moves->code(i) != Code::ok) continue;
    any = true;
    fates[i] = session.gone           ? Fate::wasted
               : lane.in_time.empty() ? Fate::unread
               : lane.in_time[i]      ? Fate::useful
                                      : Fate::late;
  }
  chains_.landed(chunk, lane.keys, fates, now);
  if (any && chunk.source == Source::learned)
    session.expires =
        std::max(session.expires,
                 now + std::chrono::duration<double>(options_.unread_life).count());
  scheduler_.tell({.kind = Entry::Kind::finished,
                   .chunk = chunk,
                   .end = lane.given_up ? prefetch::Scheduler::End::displaced
                                        : prefetch::Scheduler::End::moved});
  const bool failing = !any && !lane.given_up;
  failed_ += failing ? 1 : 0;
  const double pause = failing ? std::clamp(2 * lane.pause, kPause, kLongestPause) : 0.0;
  lane = Lane{};
  lane.pause = pause;
  lane.failing_until = now + pause;
  --session.chunks;
  if (any) retention_.due = now;  // or what comes next takes its place
  if (session.gone) forget(number, now);
}

void Prefetcher::Impl::stage(double now) {
  for (auto t = static_cast<std::uint32_t>(views_.size()) - 1; t > 0; --t) {
    if (lanes_[t].busy || now < lanes_[t].failing_until) continue;
    if (link_free_[t] > now || link_free_[0] > now) continue;
    stage_from(t, now);
  }
}

// The scheduler chooses by where blocks were when they were last looked at, so the chosen
// session is looked at once more.
void Prefetcher::Impl::stage_from(std::uint32_t tier, double now) {
  for (int i = 0; i < kMostTries; ++i) {
    const auto chunk =
        scheduler_.tell({.kind = Entry::Kind::next, .now = now, .tier = tier});
    if (!chunk) return;
    const auto number = static_cast<std::uint32_t>(chunk->session);
    chains_.look(number, now);
    std::vector<BlockKey> keys = chains_.take(number, tier, chunk->bytes / block_bytes_);
    if (keys.empty()) {
      scheduler_.tell({.kind = Entry::Kind::finished,
                       .chunk = *chunk,
                       .end = prefetch::Scheduler::End::displaced});
      continue;
    }
    Lane& lane = lanes_[tier];
    lane.busy = true;
    lane.chunk = *chunk;
    lane.keys = std::move(keys);
    ++sessions_[number].chunks;
    peak_in_flight_ = std::max(peak_in_flight_, scheduler_.scheduler().in_flight());
    return;
  }
}

// Begins what was chosen. A move may be done at once, and tell so; hence no lock.
void Prefetcher::Impl::begin() {
  for (std::size_t t = 1; t < views_.size(); ++t) {
    std::vector<BlockKey> keys;
    std::uint32_t to = 0;
    {
      const MutexLock lock(mutex_);
      Lane& lane = lanes_[t];
      if (!lane.busy || lane.begun || lane.beginning) continue;
      keys = lane.keys;
      lane.beginning = true;
      to = lane.chunk.to;
    }
    auto moves = tiers_->promote(keys, to);
    const MutexLock lock(mutex_);
    Lane& lane = lanes_[t];
    lane.moves = std::move(moves);
    lane.begun = true;
    if (lane.given_up && lane.moves != nullptr) lane.moves->cancel();
  }
}

// What time alone brings: nobody came for what was staged; blocks moved by themselves.
void Prefetcher::Impl::poll(double now) {
  if (predictor_ != nullptr) predictor_->advance(now);
  for (std::uint32_t n = 0; n < sessions_.size(); ++n) {
    if (chains_.unread_of(n) > 0 && now > sessions_[n].expires) chains_.waste(n, now);
  }
  std::size_t looked = 0;
  for (std::size_t i = 0; i < sessions_.size() && looked < kLookedAt; ++i) {
    looked_at_ = (looked_at_ + 1) % static_cast<std::uint32_t>(sessions_.size());
    if (chains_.length(looked_at_) == 0) continue;
    chains_.look(looked_at_, now);
    looked += chains_.length(looked_at_);
  }
}

std::chrono::nanoseconds Prefetcher::Impl::advance() {
  double wait = 0;
  {
    const MutexLock lock(mutex_);
    const double at = now();
    settle(at);
    if (at >= poll_at_) {
      poll(at);
      poll_at_ = next_tick(at);
    }
    retain(at);
    stage(at);
    wait = poll_at_ - at;
  }
  begin();
  return std::chrono::nanoseconds(static_cast<std::int64_t>(wait * 1e9) + 1);
}

PrefetchStats Prefetcher::Impl::stats() const {
  const MutexLock lock(mutex_);
  PrefetchStats told;
  const auto fill = [&](Source source,
                        PrefetchStats::Source& out) SPECKV_REQUIRES(mutex_) {
    const prefetch::Counters& counters = scheduler_.scheduler().counters(source);
    out = {.chunks = counters.chunks,
           .displaced = counters.displaced,
           .staged = chains_.staged(source),
           .useful = counters.useful,
           .late = counters.late,
           .wasted = counters.wasted,
           .unread = chains_.unread(source),
           .pauses = counters.pauses,
           .retained = counters.retained};
  };
  fill(Source::learned, told.learned);
  fill(Source::hint, told.hinted);
  told.in_flight = scheduler_.scheduler().in_flight();
  told.peak_in_flight = peak_in_flight_;
  told.sessions = numbers_.size();
  told.blocks = chains_.blocks();
  told.failed = failed_;
  return told;
}

}  // namespace speckv
