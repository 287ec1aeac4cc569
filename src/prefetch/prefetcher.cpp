// Sessions come and go; what a request's arrival means for what is under way.
#include "cxlspeckv/prefetcher.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "cxlspeckv/guarded.hpp"

#include "predict/return_predictor.hpp"
#include "prefetch/prefetcher_impl.hpp"

namespace speckv {
namespace {

using prefetch::Entry;
using prefetch::Source;
constexpr std::uint32_t kMostSessions = 1U << 16, kMostBlocks = 1U << 28;

// Half of what a tier's queue of operations takes, so that a request's have room.
constexpr std::uint64_t kMostKeys = 4096;

double seconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

// What has been staged for nothing is gone once the first tier's content was turned over:
// by then it shows whether a source pays.
prefetch::Options schedule_of(const PrefetchOptions& options, std::uint64_t block_bytes,
                              std::uint64_t first_tier) {
  prefetch::Options schedule;
  schedule.chunk_bytes =
      std::clamp(options.chunk_bytes / block_bytes, std::uint64_t{1}, kMostKeys) *
      block_bytes;
  schedule.most_in_flight = std::max(options.most_in_flight, schedule.chunk_bytes);
  schedule.learning_bytes = std::min(options.learning_bytes, first_tier);
  schedule.hint_ttl = seconds(options.hint_life);
  schedule.stage = options.stage;
  return schedule;
}

std::uint64_t block_bytes_of(const BlockStore& store, LayoutId layout) {
  return store.layouts()[static_cast<std::size_t>(layout)].bytes();
}

Status check(const BlockStore& store, const PrefetchOptions& options) {
  const auto refused = [](const char* what) {
    return Status(Code::invalid_argument, what);
  };
  if (static_cast<std::size_t>(options.layout) >= store.layouts().size())
    return refused("the store has no such layout");
  if (store.tier_count() < 2 && (options.learned || options.hinted))
    return refused("there is nothing to stage in a store of one tier");
  if (options.sessions < 1 || options.sessions > kMostSessions)
    return refused("sessions must be 1 to 2^16");
  if (options.blocks < 1 || options.blocks > kMostBlocks)
    return refused("blocks must be 1 to 2^28");
  if (options.chunk_bytes < 1 || options.most_in_flight < 1 || options.learning_bytes < 1)
    return refused("chunk_bytes, most_in_flight and learning_bytes must be at least 1");
  if (options.hint_life.count() < 0 || options.unread_life.count() < 0)
    return refused("hint_life and unread_life must not be negative");
  if (!options.bytes_per_second.empty() &&
      options.bytes_per_second.size() != store.tier_count())
    return refused("bytes_per_second must name each tier's bandwidth");
  for (const double rate : options.bytes_per_second) {
    if (!(rate > 0) || !std::isfinite(rate))
      return refused("a tier's bytes_per_second must be more than 0");
  }
  return {};
}

std::vector<prefetch::TierView> views_of(const prefetch::Tiers& tiers,
                                         const PrefetchOptions& options) {
  constexpr double kUsual[] = {64e9, 28e9, 7e9};
  std::vector<prefetch::TierView> views;
  for (std::uint32_t t = 0; t < tiers.count(); ++t) {
    const double rate = options.bytes_per_second.empty() ? kUsual[std::min(t, 2U)]
                                                         : options.bytes_per_second[t];
    views.push_back({tiers.capacity(t), rate});
  }
  return views;
}

// A row for each block that may be remembered and be somewhere.
std::uint32_t rows_for(const prefetch::Tiers& tiers, const PrefetchOptions& options,
                       std::uint64_t block_bytes) {
  constexpr std::uint64_t kBestRatio = 8;
  std::uint64_t most = 1;
  for (std::uint32_t t = 0; t < tiers.count(); ++t)
    most += tiers.capacity(t) / block_bytes * kBestRatio;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(most, options.blocks));
}

}  // namespace

Prefetcher::Impl::Impl(std::shared_ptr<prefetch::Tiers> the_tiers,
                       std::uint64_t block_bytes, PrefetchOptions the_options,
                       std::shared_ptr<predict::ReturnPredictor> the_predictor)
    : tiers_(std::move(the_tiers)),
      options_(std::move(the_options)),
      block_bytes_(block_bytes),
      views_(views_of(*tiers_, options_)),
      clock_(options_.clock != nullptr ? *options_.clock : steady_clock()),
      origin_(clock_.now()),
      scheduler_(views_, schedule_of(options_, block_bytes_, views_.front().capacity)),
      chains_(*tiers_, scheduler_, block_bytes_, off() ? 0 : options_.sessions),
      predictor_(std::move(the_predictor)),
      sessions_(off() ? 0 : options_.sessions) {
  for (std::uint32_t n = static_cast<std::uint32_t>(sessions_.size()); n-- > 0;)
    free_numbers_.push_back(n);
  if (off() || !options_.retain) return;
  auto kept = std::make_shared<KeptBlocks>(rows_for(*tiers_, options_, block_bytes_),
                                           options_.sessions);
  if (!tiers_->retain(kept)) return;  // another prefetcher does so
  retention_.blocks = std::move(kept);
  chains_.tell(retention_.blocks.get());
}

// The moves wait for what the devices have; what is not begun ends at once.
Prefetcher::Impl::~Impl() {
  const MutexLock lock(mutex_);
  if (retention_.blocks != nullptr) tiers_->release(*retention_.blocks);
  for (Lane& lane : lanes_) {
    if (lane.moves != nullptr) lane.moves->cancel();
  }
}

double Prefetcher::Impl::now() {
  last_now_ = std::max(last_now_, seconds(clock_.now() - origin_));
  return last_now_;
}

void Prefetcher::Impl::record(prefetch::Journal* journal) {
  const MutexLock lock(mutex_);
  scheduler_.record(journal);
}

// ---- sessions by name

std::uint32_t Prefetcher::Impl::find(std::uint64_t id) const {
  const auto found = numbers_.find(id);
  return found == numbers_.end() ? kNobody : found->second;
}

std::uint32_t Prefetcher::Impl::find_or_make(std::uint64_t id, double now) {
  if (const std::uint32_t known = find(id); known != kNobody) return known;
  if (free_numbers_.empty() && !forget_oldest(kNobody, now)) return kNobody;
  const std::uint32_t number = free_numbers_.back();
  free_numbers_.pop_back();
  sessions_[number] = {.id = id, .known = true, .last = now};
  numbers_.emplace(id, number);
  return number;
}

bool Prefetcher::Impl::forget_oldest(std::uint32_t except, double now) {
  std::uint32_t oldest = kNobody;
  for (std::uint32_t n = 0; n < sessions_.size(); ++n) {
    const Session& session = sessions_[n];
    if (!session.known || session.active > 0 || session.chunks > 0 || n == except)
      continue;
    if (oldest == kNobody || session.last < sessions_[oldest].last) oldest = n;
  }
  if (oldest == kNobody) return false;
  forget(oldest, now);
  return true;
}

// Its number is free once nothing is under way for it.
void Prefetcher::Impl::forget(std::uint32_t number, double now) {
  Session& session = sessions_[number];
  if (!std::exchange(session.gone, true)) {
    numbers_.erase(session.id);
    chains_.clear(number, now);
    if (retention_.blocks != nullptr) retention_.blocks->keep(number, 0, 0);
  }
  if (session.chunks > 0) return;
  scheduler_.tell({.kind = Entry::Kind::forgotten, .session = number});
  session = Session{};
  free_numbers_.push_back(number);
}

// ---- what the engine says

void Prefetcher::Impl::arrive(std::uint32_t number, std::uint64_t bytes, double now) {
  Session& session = sessions_[number];
  if (predictor_ != nullptr) predictor_->arrived(session.id, now);
  if (session.active++ == 0) session.arrived = now;
  session.last = now;
  session.expires = 0;
  scheduler_.tell({.kind = Entry::Kind::arrived,
                   .session = number,
                   .now = now,
                   .bytes = bytes,
                   .shared = std::min(bytes, chains_.length(number) * block_bytes_)});
}

// A request loads what slower tiers hold: what is under way on links that it needs is
// given up, and they are in use for as long as that takes.
void Prefetcher::Impl::demand(std::uint32_t number, const prefetch::Numbers& bytes,
                              double now) {
  std::uint64_t loaded = 0;
  for (std::size_t t = 1; t < views_.size(); ++t) {
    if (bytes[t] == 0) continue;
    link_free_[t] = std::max(now, link_free_[t]) +
                    static_cast<double>(bytes[t]) / views_[t].bytes_per_second;
    loaded += bytes[t];
  }
  if (loaded > 0)
    link_free_[0] = std::max(now, link_free_[0]) +
                    static_cast<double>(loaded) / views_[0].bytes_per_second;
  for (std::size_t t = 1; t < views_.size(); ++t) {
    Lane& lane = lanes_[t];
    if (!lane.busy) continue;
    const bool is_its = lane.chunk.session == number;
    if (is_its) lane.in_time = chains_.are_in(lane.keys, lane.chunk.to);
    if (is_its || bytes[t] > 0 || (loaded > 0 && lane.chunk.to == 0)) give_up(lane);
  }
}

Status Prefetcher::Impl::arrived(std::uint64_t id) {
  {
    const MutexLock lock(mutex_);
    const std::uint32_t number = find(id);
    if (number == kNobody) return {Code::not_found, "nothing is known of the session"};
    const double at = now();
    settle(at);
    arrive(number, chains_.length(number) * block_bytes_, at);
    const prefetch::Numbers found = chains_.read(number, at);
    const std::uint64_t below =
        std::accumulate(found.begin() + 1, found.end(), std::uint64_t{0});
    scheduler_.tell({.kind = Entry::Kind::missed, .now = at, .bytes = below});
    demand(number, found, at);
    retain(at);
    stage(at);
  }
  begin();
  return {};
}

Status Prefetcher::Impl::finished(std::uint64_t id, std::span<const BlockKey> chain,
                                  const RequestFacts& facts) {
  if (chain.size() > options_.blocks)
    return {Code::invalid_argument, "a chain of more keys than are remembered at once"};
  Status remembered;
  {
    const MutexLock lock(mutex_);
    const double at = now();
    settle(at);
    const std::uint32_t number = find_or_make(id, at);
    if (number == kNobody)
      return {Code::no_space, "as many sessions as are remembered are all in use"};
    Session& session = sessions_[number];
    if (session.active == 0) {
      arrive(number, chain.size() * block_bytes_, at);
      demand(number, {}, at);
      (void)chains_.read(number, at);
    }
    const std::size_t own = chains_.length(number);
    bool fits = chains_.blocks() - own + chain.size() <= options_.blocks;
    while (!fits && forget_oldest(number, at))
      fits = chains_.blocks() - own + chain.size() <= options_.blocks;
    if (!fits) {
      remembered = {Code::no_space, "the chains that are remembered are all in use"};
      chain = {};
    }
    const std::uint32_t reused = chains_.set(number, chain, at);
    session.last = at;
    if (--session.active == 0) {
      predict::ReturnDistribution returns;
      returns.probability[predict::kNever] = 1;
      if (predictor_ != nullptr) {
        returns =
            predictor_->completed({.session = id,
                                   .arrived = session.arrived,
                                   .completed = at,
                                   .input_tokens = facts.input_tokens,
                                   .output_tokens = facts.output_tokens,
                                   .blocks = static_cast<std::uint32_t>(chain.size()),
                                   .reused_blocks = reused,
                                   .brings_tool_result = facts.brings_tool_result,
                                   .stops_for_tool = facts.stops_for_tool,
                                   .calls_tool = facts.calls_tool,
                                   .sub_agent = facts.sub_agent});
        predictor_->advance(at);
      }
      scheduler_.tell({.kind = Entry::Kind::completed,
                       .session = number,
                       .now = at,
                       .returns = returns});
      retain_soon();
    }
    retain(at);
    stage(at);
  }
  begin();
  return remembered;
}

Status Prefetcher::Impl::hint(std::uint64_t id, double eta, double confidence) {
  if (!(eta >= 0) || !std::isfinite(eta))
    return {Code::invalid_argument, "eta must be seconds, not negative"};
  if (!(confidence >= 0 && confidence <= 1))
    return {Code::invalid_argument, "a confidence is between 0 and 1"};
  {
    const MutexLock lock(mutex_);
    const std::uint32_t number = find(id);
    if (number == kNobody) return {Code::not_found, "nothing is known of the session"};
    if (!options_.hinted) return {};
    const double at = now();
    settle(at);
    scheduler_.tell({.kind = Entry::Kind::hint,
                     .session = number,
                     .now = at,
                     .eta = at + eta,
                     .confidence = confidence});
    Session& session = sessions_[number];
    if (confidence > 0) {
      chains_.wanted(number, at);
      session.expires = std::max(session.expires, at + eta + seconds(options_.hint_life));
    } else {
      for (Lane& lane : lanes_) {
        if (lane.busy && lane.chunk.session == number &&
            lane.chunk.source == Source::hint)
          give_up(lane);
      }
    }
    retain_soon();
    retain(at);
    stage(at);
  }
  begin();
  return {};
}

Status Prefetcher::Impl::ended(std::uint64_t id) {
  {
    const MutexLock lock(mutex_);
    const std::uint32_t number = find(id);
    if (number == kNobody) return {Code::not_found, "nothing is known of the session"};
    const double at = now();
    settle(at);
    if (predictor_ != nullptr) predictor_->ended(id);
    scheduler_.tell({.kind = Entry::Kind::ended, .session = number});
    for (Lane& lane : lanes_) {
      if (lane.busy && lane.chunk.session == number) give_up(lane);
    }
    forget(number, at);
    retain(at);
    stage(at);
  }
  begin();
  return {};
}

// ---- the public face

Prefetcher::Prefetcher(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Prefetcher::~Prefetcher() = default;

Result<std::unique_ptr<Prefetcher>> Prefetcher::create(BlockStore& store,
                                                       PrefetchOptions options) {
  return guarded([&]() -> Result<std::unique_ptr<Prefetcher>> {
    if (Status checked = check(store, options); !checked.ok()) return checked;
    std::unique_ptr<predict::ReturnPredictor> predictor;
    if (options.learned) {
      auto made = predict::make_return_predictor({.sessions = options.sessions});
      if (!made) return made.error();
      predictor = *std::move(made);
    }
    auto tiers = prefetch::tiers_of(store, options.completions, options.tag);
    const std::uint64_t block_bytes = block_bytes_of(store, options.layout);
    return std::unique_ptr<Prefetcher>(new Prefetcher(std::make_unique<Impl>(
        std::move(tiers), block_bytes, std::move(options), std::move(predictor))));
  });
}

Status Prefetcher::finished(std::uint64_t session, std::span<const BlockKey> chain,
                            const RequestFacts& facts) {
  if (RequestSink* const sink = impl_->requests(); sink != nullptr)
    sink->finished(session, chain, facts);
  return guarded(
      [&] { return impl_->off() ? Status() : impl_->finished(session, chain, facts); });
}
Status Prefetcher::arrived(std::uint64_t session) {
  if (RequestSink* const sink = impl_->requests(); sink != nullptr)
    sink->arrived(session);
  return guarded([&] { return impl_->off() ? Status() : impl_->arrived(session); });
}
Status Prefetcher::hint(std::uint64_t session, double eta, double confidence) {
  if (RequestSink* const sink = impl_->requests(); sink != nullptr)
    sink->hinted(session, eta, confidence);
  return guarded(
      [&] { return impl_->off() ? Status() : impl_->hint(session, eta, confidence); });
}
Status Prefetcher::ended(std::uint64_t session) {
  if (RequestSink* const sink = impl_->requests(); sink != nullptr) sink->ended(session);
  return guarded([&] { return impl_->off() ? Status() : impl_->ended(session); });
}
std::chrono::nanoseconds Prefetcher::advance() {
  if (impl_->off()) return std::chrono::nanoseconds::max();
  std::chrono::nanoseconds wait = std::chrono::milliseconds(1);  // where memory is short
  (void)guarded([&] {
    wait = impl_->advance();
    return Code::ok;
  });
  return wait;
}
PrefetchStats Prefetcher::stats() const {
  return impl_->stats();
}

void Prefetcher::report(MetricSink& sink) const {
  const PrefetchStats all = stats();
  const auto tell = [&](std::string_view source, const PrefetchStats::Source& s) {
    const MetricSink::Label label{"source", source};
    sink.counter("prefetch_chunks_total", label, s.chunks);
    sink.counter("prefetch_displaced_total", label, s.displaced);
    sink.counter("prefetch_staged_bytes_total", label, s.staged);
    sink.counter("prefetch_useful_bytes_total", label, s.useful);
    sink.counter("prefetch_late_bytes_total", label, s.late);
    sink.counter("prefetch_wasted_bytes_total", label, s.wasted);
    sink.gauge("prefetch_unread_bytes", label, static_cast<double>(s.unread));
    sink.counter("prefetch_pauses_total", label, s.pauses);
    sink.counter("prefetch_retained_bytes_total", label, s.retained);
  };
  tell("learned", all.learned);
  tell("hint", all.hinted);
  sink.gauge("prefetch_in_flight_bytes", {}, static_cast<double>(all.in_flight));
  sink.gauge("prefetch_sessions", {}, static_cast<double>(all.sessions));
  sink.gauge("prefetch_blocks", {}, static_cast<double>(all.blocks));
  sink.counter("prefetch_failed_chunks_total", {}, all.failed);
}

}  // namespace speckv
