// prefetch/scheduler.hpp -- which KV to keep and which to fetch ahead of its use: one
// queue for every source of speculation, within a budget, behind demand.
//
// The scheduler decides and counts; whoever owns the bytes moves them and tells what
// became of it. It reads no clock: times are seconds that do not go backwards, so that a
// replay decides what a live run decided. Sessions are what is kept and fetched: their
// chains, from the front. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <unordered_map>
#include <vector>

#include "predict/predictor.hpp"
#include "prefetch/account.hpp"
#include "prefetch/ghost.hpp"

namespace speckv::prefetch {

using predict::ReturnDistribution;
using predict::SessionId;

// Who said that a session comes back.
enum class Source : std::uint8_t {
  learned,  // a predictor
  hint,     // the engine, a gateway or a tool
};
inline constexpr std::size_t kSources = 2;

struct Options {
  bool retain = true;  // learned values count; else hints do, and the last use
  bool stage = true;
  // By so much the value of what comes exceeds that of what it displaces. Values are in
  // [0, 1]: the expectation of worth_after() of the time until the return.
  double margin = 0.05;
  double least = 0.10;  // below it nothing is fetched; adapts to the precision of bytes
  std::uint64_t chunk_bytes = 64ULL << 20;  // a demand waits for one at most
  std::uint64_t most_in_flight = 256ULL << 20;
  double hint_ttl = 10;  // s after its time that a hint is believed
  // Bytes that a source may lose before it is silent: half of what learning costs at
  // most.
  std::uint64_t learning_bytes = 64ULL << 30;
  double pause = 60;  // s that a source which loses is silent; doubles each time
  // Learned values count only while keeping by them would have waited less than keeping
  // what was used last.
  bool guard = true;
};

// A piece of a session's chain on its way from tier `from` to the faster tier `to`.
struct Chunk {
  SessionId session = 0;
  std::uint32_t from = 0, to = 0;
  std::uint64_t bytes = 0;
  Source source = Source::learned;
};

struct Counters {
  std::uint64_t chunks = 0, displaced = 0;  // started; given up for a demand
  std::uint64_t staged = 0, useful = 0, wasted = 0, late = 0;  // bytes
  std::uint64_t retained = 0, pauses = 0;  // bytes passed over; times it was silenced
};

struct Kept {
  SessionId session = 0;
  std::uint64_t bytes = 0;  // from the front of its chain
  bool whole = true;        // all that is there
  bool expected = false;    // somebody says that it returns: `source`
  Source source = Source::learned;
  auto operator<=>(const Kept&) const = default;
};

// What a return after `seconds` is worth: 1 / (1 + (seconds / turnover)^2), `turnover`
// being the time in which the content of the tier is turned over.
double worth_after(double seconds, double turnover) noexcept;

class Scheduler {
 public:
  // REQUIRES: 2 to kMostTiers tiers, the fastest first.
  Scheduler(const std::vector<TierView>& tiers, Options options);

  // What happens to a session. An active one is neither fetched nor given up. `shared`
  // of the `bytes` of its chain were known before.
  void arrived(SessionId session, std::uint64_t bytes, std::uint64_t shared, double now);
  // Where a store's own policy decides what goes: so many bytes of the session that just
  // arrived were below the first tier. More than least-recently-used without speculation
  // would have there (a ghost tells) were displaced by what was staged or retained, and
  // are charged to who said so, once a byte at most. Fewer, but for staged ones, earn.
  void missed(std::uint64_t bytes, double now);
  void completed(SessionId session, double now, const ReturnDistribution& returns);
  // It will be needed at `eta`, with that confidence in (0, 1]. The last word counts.
  void hint(SessionId session, double now, double eta, double confidence);
  void ended(SessionId session);  // by its own word: it does not return
  // Its number may name another one from now on. REQUIRES: it holds nothing.
  void forgotten(SessionId session);
  // Bytes of a session came to a tier, or left it.
  void held(SessionId session, std::uint32_t tier, std::int64_t bytes);

  // The session of which a tier gives up its deepest block next; none: all are active.
  std::optional<SessionId> victim(std::uint32_t tier, double now);
  // What a tier whose store chooses victims by last use should pass over: active
  // sessions, and those of most value as far as they fit beside one more request and an
  // eighth of the tier; none, if nobody expects any of them. One that nobody speaks for
  // is taken to stay away for as long as it has been. Bytes: that the tier has room for
  // from now on, and those of it that no session has.
  const std::vector<Kept>& keep(std::uint32_t tier, std::uint64_t capacity,
                                std::uint64_t others, double now);
  // So many bytes were passed over for what the source said.
  void retained(Source source, std::uint64_t bytes);
  // What to fetch next from a tier whose link no demand uses; at most one chunk a tier is
  // under way. It is in flight until finished().
  std::optional<Chunk> next(std::uint32_t from, double now);
  enum class End : std::uint8_t { moved, displaced };
  void finished(const Chunk& chunk, End end);
  // What became of staged bytes: read by a request, given up unread, or still on their
  // way when the request came.
  enum class Outcome : std::uint8_t { useful, wasted, late };
  void outcome(Source source, std::uint64_t bytes, Outcome outcome, double now);

  const Counters& counters(Source source) const noexcept {
    return judges_[static_cast<std::size_t>(source)].counters;
  }
  std::uint64_t in_flight() const noexcept { return in_flight_; }
  bool retains_by_value() const noexcept { return by_value_; }
  const std::vector<Kept>& kept() const noexcept { return kept_; }  // the last answer
  // In [0, 1]; of an active session, 2. Exposed for tests.
  double value(SessionId session, std::uint32_t tier, double now);

 private:
  struct Session {
    SessionId id = 0;
    bool active = false, ended = false, known = false;
    double completed = 0, last = 0;
    ReturnDistribution returns{};
    double eta = 0, confidence = 0;  // 0: no hint
    std::array<std::uint64_t, kMostTiers> bytes{};
    std::array<std::uint32_t, kMostTiers> listed{};     // place in lists_[tier], + 1
    std::array<double, kMostTiers> value{}, learned{};  // with hints; without
    double valid_until = -1;
  };
  // How a source does, and whether it is heard.
  struct Judge {
    explicit Judge(const Options& options)
        : least(options.least),
          account(options.learning_bytes, options.chunk_bytes, options.pause) {}
    Counters counters{};
    double least;                            // value that it needs
    double recent_good = 0, recent_bad = 0;  // bytes, forgotten as new ones come
    double blamed = 0;  // bytes staged and retained, which may have displaced as many
    double spared = 0;  // bytes retained, which may be read where they are
    Account account;
  };

  struct Rank {
    std::uint32_t number = 0;
    double value = 0;
    bool expected = false;  // as in Kept
    Source source{};
  };

  std::uint32_t index(SessionId session);
  Rank rank(std::uint32_t number, std::uint32_t tier, double now);
  void blame(Judge& judge, std::uint64_t bytes);
  void refresh(Session& session, double now);
  double worth(Session& session, std::uint32_t tier, double now);
  Source source_of(const Session& session, double now) const noexcept;
  bool hinted(const Session& session, double now) const noexcept;
  std::uint32_t worst(std::uint32_t tier, double now, std::uint32_t except);
  double displaced_value(std::uint32_t to, double now, std::uint32_t except);
  void judge(Judge& judge);
  void lose(Judge& judge, std::uint64_t bytes, double now);
  void follow_the_better();
  void count_gap(double gap);

  std::vector<TierView> tiers_;
  Options options_;
  std::vector<Session> sessions_;
  std::unordered_map<SessionId, std::uint32_t> index_;
  std::array<std::vector<std::uint32_t>, kMostTiers> lists_;  // sessions with bytes there
  std::array<std::uint64_t, kMostTiers> used_{};
  std::array<double, kMostTiers> turnover_{}, floor_{};  // s; value that is not kept
  std::array<bool, kMostTiers> busy_{};
  std::uint64_t in_flight_ = 0;
  // Of chains that are asked for: bytes/s, and bytes of one, of late.
  double rate_ = 0, rate_at_ = 0, largest_ = 0;
  std::array<Judge, kSources> judges_;
  std::array<std::uint64_t, predict::kGaps> gaps_{};  // waits that ended, by class
  std::uint64_t gaps_counted_ = 0;
  std::size_t horizon_ = predict::kGaps;
  bool by_value_ = true;  // learned values count
  Ghost lru_, valued_;
  double lru_cost_ = 0, valued_cost_ = 0;    // s, of late
  double lru_missed_ = 0, staged_read_ = 0;  // bytes, of the last arrival
  std::vector<Rank> ranks_;
  std::vector<Kept> kept_;
};

}  // namespace speckv::prefetch
