#include "prefetch/scheduler.hpp"

#include <algorithm>
#include <cmath>

namespace speckv::prefetch {
namespace {

constexpr std::uint32_t kNobody = ~std::uint32_t{0};
constexpr double kShortestTurnover = 4, kLongestTurnover = 3000;  // s
constexpr double kRateMemory = 120;                               // s
constexpr double kCostMemory = 1800;                              // s of requests
constexpr double kForgets = 0.5;            // of the bytes that a judgement was made of
constexpr double kPoor = 0.4, kGood = 0.7;  // precision of bytes
constexpr double kMostNeeded = 0.9;

// The expectation of worth_after(t), t being the time from `idle` on until the return,
// given that it was not before.
double discounted(const ReturnDistribution& returns, std::size_t horizon, double idle,
                  double turnover) {
  double sum = 0, left = 0;
  for (std::size_t k = 0; k < predict::kGaps; ++k) {
    const double end = std::ldexp(1.0, static_cast<int>(k));
    if (end <= idle) continue;
    double begin = k == 0 ? 0 : end / 2,
           mass = static_cast<double>(returns.probability[k]);
    if (begin < idle) {
      mass *= k == 0 ? end - idle : std::log2(end / idle);
      begin = idle;
    }
    left += mass;
    if (k <= horizon) sum += mass * worth_after((begin + end) / 2 - idle, turnover);
  }
  left += static_cast<double>(returns.probability[predict::kNever]);
  return left < 1e-6 ? 0 : sum / left;
}

}  // namespace

// All, where it is well before the content is turned over; soon nothing where it is
// after.
double worth_after(double seconds, double turnover) noexcept {
  const double x = seconds / turnover;
  return 1 / (1 + x * x);
}

Scheduler::Scheduler(const std::vector<TierView>& tiers, Options options)
    : tiers_(tiers),
      options_(options),
      judges_{Judge(options), Judge(options)},
      by_value_(options.retain),
      lru_(tiers),
      valued_(tiers) {
  turnover_.fill(kLongestTurnover);
}

std::uint32_t Scheduler::index(SessionId session) {
  const auto next = static_cast<std::uint32_t>(sessions_.size());
  const auto [found, is_new] = index_.emplace(session, next);
  if (is_new) {
    sessions_.emplace_back();
    sessions_.back().id = session;
  }
  return found->second;
}

void Scheduler::arrived(SessionId id, std::uint64_t bytes, std::uint64_t shared,
                        double now) {
  const std::uint32_t number = index(id);
  const double dt = std::max(now - rate_at_, 1e-3), kept = std::exp(-dt / kRateMemory);
  rate_ = rate_ * kept + (1 - kept) * static_cast<double>(bytes) / dt;
  rate_at_ = now;
  largest_ = std::max(static_cast<double>(bytes), largest_ * kept);
  double together = 0;
  for (std::size_t t = 0; t < tiers_.size() && rate_ > 0; ++t) {
    together += static_cast<double>(tiers_[t].capacity);
    turnover_[t] = std::clamp(together / rate_, kShortestTurnover, kLongestTurnover);
  }
  if (options_.guard && options_.retain) {
    const double forgotten = std::exp(-dt / kCostMemory);
    lru_cost_ *= forgotten;
    valued_cost_ *= forgotten;
    const auto all = static_cast<double>(bytes), old = static_cast<double>(shared);
    lru_cost_ += lru_.arrived(number, all, old, [&](std::uint32_t s, std::uint32_t) {
      return sessions_[s].last;
    });
    lru_missed_ = lru_.missed();
    valued_cost_ +=
        valued_.arrived(number, all, old, [&](std::uint32_t s, std::uint32_t tier) {
          (void)worth(sessions_[s], tier, now);
          return sessions_[s].learned[tier] + 1e-9 * sessions_[s].last;
        });
    follow_the_better();
  }
  staged_read_ = 0;
  Session& session = sessions_[number];
  if (session.known && !session.active) count_gap(std::max(0.0, now - session.completed));
  session.active = true;
  session.ended = false;
  session.confidence = 0;
  session.last = now;
  session.valid_until = -1;
}

void Scheduler::completed(SessionId id, double now, const ReturnDistribution& returns) {
  const std::uint32_t number = index(id);
  Session& session = sessions_[number];
  session.active = false;
  session.known = true;
  session.completed = session.last = now;
  session.returns = returns;
  session.valid_until = -1;
  lru_.completed(number);
  valued_.completed(number);
}

void Scheduler::hint(SessionId id, double /*now*/, double eta, double confidence) {
  Session& session = sessions_[index(id)];
  session.eta = eta;
  session.confidence = std::clamp(confidence, 0.0, 1.0);
  session.valid_until = -1;
}

void Scheduler::ended(SessionId id) {
  Session& session = sessions_[index(id)];
  session.ended = true;
  session.confidence = 0;
  session.valid_until = -1;
}

void Scheduler::forgotten(SessionId id) {
  const std::uint32_t number = index(id);
  sessions_[number] = Session{};
  sessions_[number].id = id;
  lru_.completed(number);  // where it stays until its bytes make room
  valued_.completed(number);
}

void Scheduler::held(SessionId id, std::uint32_t tier, std::int64_t bytes) {
  const std::uint32_t number = index(id);
  Session& session = sessions_[number];
  session.bytes[tier] += static_cast<std::uint64_t>(bytes);
  used_[tier] += static_cast<std::uint64_t>(bytes);
  std::vector<std::uint32_t>& list = lists_[tier];
  if (session.bytes[tier] > 0 && session.listed[tier] == 0) {
    list.push_back(number);
    session.listed[tier] = static_cast<std::uint32_t>(list.size());
  } else if (session.bytes[tier] == 0 && session.listed[tier] != 0) {
    const std::uint32_t place = session.listed[tier] - 1, moved = list.back();
    list[place] = moved;
    sessions_[moved].listed[tier] = place + 1;
    list.pop_back();
    session.listed[tier] = 0;
  }
}

bool Scheduler::hinted(const Session& session, double now) const noexcept {
  return session.confidence > 0 && now <= session.eta + options_.hint_ttl;
}
Source Scheduler::source_of(const Session& session, double now) const noexcept {
  return hinted(session, now) ? Source::hint : Source::learned;
}

// Values change slowly with time, so they are computed again when a sixteenth of the idle
// time has passed, not at every look.
void Scheduler::refresh(Session& session, double now) {
  const double idle = std::max(0.0, now - session.completed);
  const bool hint = hinted(session, now);
  const double wait = std::max(0.0, session.eta - now);
  for (std::uint32_t t = 0; t < tiers_.size(); ++t) {
    const bool learned = session.known && !session.ended;
    session.learned[t] =
        learned ? discounted(session.returns, horizon_, idle, turnover_[t]) : 0;
    double value = by_value_ ? session.learned[t] : 0;
    if (hint)
      value = session.confidence * worth_after(wait, turnover_[t]) +
              (1 - session.confidence) * value;
    session.value[t] = value;
  }
  // A class of gaps that goes by without a return changes much at once, as does a hint's
  // end.
  const double next_class = std::ldexp(1.0, static_cast<int>(predict::gap_class(idle)));
  session.valid_until =
      std::min(now + std::max(0.1, (hint ? std::min(wait, idle) : idle) / 16),
               session.completed + next_class);
  if (hint)
    session.valid_until = std::min(session.valid_until, session.eta + options_.hint_ttl);
}

// Those of equal value by their last use.
double Scheduler::worth(Session& session, std::uint32_t tier, double now) {
  if (now > session.valid_until) refresh(session, now);
  return session.value[tier] + 1e-9 * session.last;
}

double Scheduler::value(SessionId id, std::uint32_t tier, double now) {
  Session& session = sessions_[index(id)];
  if (session.active) return 2;
  refresh(session, now);
  return session.value[tier];
}

std::uint32_t Scheduler::worst(std::uint32_t tier, double now, std::uint32_t except) {
  std::uint32_t found = kNobody;
  double least = std::numeric_limits<double>::infinity();
  for (const std::uint32_t number : lists_[tier]) {
    Session& session = sessions_[number];
    if (session.active || number == except) continue;
    const double kept = worth(session, tier, now);
    if (kept < least) {
      least = kept;
      found = number;
    }
  }
  return found;
}

std::optional<SessionId> Scheduler::victim(std::uint32_t tier, double now) {
  const std::uint32_t found = worst(tier, now, kNobody);
  if (found == kNobody) return std::nullopt;
  return sessions_[found].id;
}

// The value of what a chunk would displace: nothing, where there is room; more than
// anything has, where all is in use.
double Scheduler::displaced_value(std::uint32_t to, double now, std::uint32_t except) {
  if (used_[to] + in_flight_ + options_.chunk_bytes <= tiers_[to].capacity) return 0;
  const std::uint32_t victim = worst(to, now, except);
  return victim == kNobody ? 2 : worth(sessions_[victim], to, now);
}

std::optional<Chunk> Scheduler::next(std::uint32_t from, double now) {
  if (!options_.stage || busy_[from]) return std::nullopt;
  if (in_flight_ + options_.chunk_bytes > options_.most_in_flight) return std::nullopt;
  // The one that is worth most, and whose source is heard; to the fastest tier that has
  // something which is worth less.
  std::uint32_t best = kNobody;
  double most = 0;
  for (const std::uint32_t number : lists_[from]) {
    Session& session = sessions_[number];
    if (session.active) continue;
    const double value = worth(session, 0, now);
    const Judge& judge = judges_[static_cast<std::size_t>(source_of(session, now))];
    if (value <= most || judge.account.silent(now)) continue;
    if (std::max(value, session.value[from - 1]) < judge.least) continue;
    most = value;
    best = number;
  }
  if (best == kNobody) return std::nullopt;
  Session& session = sessions_[best];
  const Source source = source_of(session, now);
  const double needed = judges_[static_cast<std::size_t>(source)].least;
  for (std::uint32_t to = 0; to < from; ++to) {
    const double value = session.value[to];
    if (tiers_[to].capacity == 0 || value < needed) continue;
    const double displaced = std::max(displaced_value(to, now, best), floor_[to]);
    if (value <= displaced + options_.margin) continue;
    const Chunk chunk{session.id, from, to,
                      std::min(options_.chunk_bytes, session.bytes[from]), source};
    busy_[from] = true;
    in_flight_ += chunk.bytes;
    ++judges_[static_cast<std::size_t>(source)].counters.chunks;
    return chunk;
  }
  return std::nullopt;
}

void Scheduler::finished(const Chunk& chunk, End end) {
  busy_[chunk.from] = false;
  in_flight_ -= chunk.bytes;
  Judge& judge = judges_[static_cast<std::size_t>(chunk.source)];
  if (end == End::displaced) {
    ++judge.counters.displaced;
    return;
  }
  judge.counters.staged += chunk.bytes;
  blame(judge, chunk.bytes);
}

void Scheduler::outcome(Source source, std::uint64_t bytes, Outcome outcome, double now) {
  Judge& it = judges_[static_cast<std::size_t>(source)];
  const auto size = static_cast<double>(bytes);
  if (outcome == Outcome::useful) {
    it.counters.useful += bytes;
    staged_read_ += size;
    it.recent_good += size;
    it.account.earned(bytes);
  } else {
    (outcome == Outcome::late ? it.counters.late : it.counters.wasted) += bytes;
    it.recent_bad += size;
  }
  // What came too late was read at that time by its own request: it costs nothing.
  if (outcome == Outcome::wasted) lose(it, bytes, now);
  if (it.recent_good + it.recent_bad >= static_cast<double>(options_.learning_bytes))
    judge(it);
}

// Wasted bytes make a source need more value, useful ones less.
void Scheduler::judge(Judge& it) {
  const double precision = it.recent_good / (it.recent_good + it.recent_bad);
  if (precision < kPoor) it.least = std::min(it.least * 1.25, kMostNeeded);
  if (precision > kGood) it.least = std::max(it.least / 1.1, options_.least / 2);
  it.recent_good *= kForgets;
  it.recent_bad *= kForgets;
}

void Scheduler::lose(Judge& it, std::uint64_t bytes, double now) {
  if (options_.guard && it.account.lost(bytes, now)) ++it.counters.pauses;
}

// Learned values count while keeping by them is what would have waited less, by a clear
// margin in both directions so that it does not swing.
void Scheduler::follow_the_better() {
  constexpr double kClearly = 0.02, kAtLeast = 0.05;  // share, s
  const double mine = by_value_ ? valued_cost_ : lru_cost_;
  const double other = by_value_ ? lru_cost_ : valued_cost_;
  if (mine <= other * (1 + kClearly) + kAtLeast) return;
  by_value_ = !by_value_;
  for (Session& session : sessions_)
    session.valid_until = -1;
}

// What lasts longer than 99 of 100 waits that ended is not expected to end.
void Scheduler::count_gap(double gap) {
  constexpr std::uint64_t kEnough = 50;
  const std::size_t k = predict::gap_class(gap);
  if (k >= predict::kGaps) return;
  ++gaps_[k];
  if (++gaps_counted_ < kEnough) return;
  std::uint64_t sum = 0;
  for (horizon_ = 0; horizon_ < predict::kGaps; ++horizon_) {
    sum += gaps_[horizon_];
    if (sum * 100 >= gaps_counted_ * 99) return;
  }
}

}  // namespace speckv::prefetch
