// prefetch/stream_scheduler.hpp -- Algorithm 1 with a purse: which blocks to fetch ahead
// for streams that name the block they use, one after the other, and whether that pays.
//
// A stream is a sequence, say; a symbol what the engine says it is made of: a token, a
// page. predict/lookahead.hpp decides which symbols to ask for and how deep to look; here
// they get blocks, a bound on bytes in flight, and an account (prefetch/account.hpp).
// Blocks used in time earn their bytes. Lost are those that nobody used, those that had
// to make room and were missed, and those on their way when a block is missed, which
// waits for them: on a link without idle time even the truth gains nothing. While too
// much is lost nothing is asked for.
//
// It decides and counts; whoever owns the bytes moves them and tells what became of it.
// It reads no clock: times are seconds that do not go backwards. Not thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/status.hpp"

#include "predict/lookahead.hpp"
#include "prefetch/account.hpp"

namespace speckv::prefetch {

struct StreamOptions {
  predict::LookaheadOptions lookahead{};
  std::uint32_t streams = 1024;  // remembered at once; 1 to 2^20
  // Symbols whose block and successor are remembered, and blocks at most that are counted
  // as what the first tier would keep; 1 to 2^28.
  std::uint32_t symbols = 1U << 18;
  std::uint64_t block_bytes = 1;                // at least 1
  std::uint64_t first_tier = 0;                 // bytes of the tier fetched to
  std::uint64_t most_in_flight = 256ULL << 20;  // bytes; at least a block
  std::uint64_t learning_bytes = 64ULL << 30;   // at most first_tier counts
  double pause = 60;                            // s, the first silence
  double bytes_per_second = 28e9;               // of the link: what a fetch costs
  bool guard = true;                            // false, for tests: it may lose
};

struct StreamCounters {
  std::uint64_t missed = 0;  // blocks used that lay below the first tier, late ones too
  std::uint64_t displaced = 0;  // of those, charged: they had gone to make room
  std::uint64_t delayed = 0;    // blocks on their way when one was missed, charged
  std::uint64_t crowded = 0;    // guesses for which too much was in flight
  std::uint64_t unheard = 0;    // symbols that came while it was silent
  std::uint64_t pauses = 0;     // times that it fell silent
};

class StreamScheduler {
 public:
  static constexpr std::size_t kMost = predict::kMostDepth;
  struct Fetch {
    std::uint32_t symbol = 0;
    BlockKey key{};
  };
  enum class Landing : std::uint8_t { moved, cancelled, failed };

  // invalid_argument: an option out of its bounds.
  static Result<std::unique_ptr<StreamScheduler>> make(
      std::unique_ptr<predict::SequencePredictor> predictor,
      const StreamOptions& options);

  // The stream is about to use `symbol`, which lies in that block. What to fetch now is
  // written to `fetch`; how many. `tier_of(key)`: the fastest tier that has it, negative
  // if none.
  template <class TierOf>
  std::size_t touched(predict::StreamId stream, Fetch used, double now, TierOf&& tier_of,
                      std::span<Fetch, kMost> fetch) {
    follow(stream, used, tier_of);
    use(used, tier_of(used.key), now);
    if (!heard(now)) {
      ++counters_.unheard;
      lookahead_.watch(stream, used.symbol);
      settle(now);
      return 0;
    }
    std::array<std::uint32_t, kMost> symbols{};
    std::uint64_t room = (options_.most_in_flight - in_flight_) / options_.block_bytes;
    const auto stays = [&](std::uint32_t symbol) {
      const BlockKey* const key = keys_.find(symbol);
      if (key == nullptr || tier_of(*key) <= 0) return true;
      if (lookahead_.asked_for(symbol)) return false;
      if (room == 0) {
        ++counters_.crowded;
        return true;
      }
      --room;
      return false;
    };
    const std::size_t count = lookahead_.observe(stream, used.symbol, stays, symbols);
    for (std::size_t i = 0; i < count; ++i) {
      const BlockKey* const key = keys_.find(symbols[i]);  // stays() found it
      fetch[i] = {symbols[i], key == nullptr ? BlockKey{} : *key};
    }
    in_flight_ += count * options_.block_bytes;
    settle(now);
    return count;
  }
  // What became of something to fetch.
  void landed(std::uint32_t symbol, Landing landing, double now);
  void ended(predict::StreamId stream);

  bool missed_last() const noexcept { return missed_last_; }
  std::uint64_t in_flight() const noexcept { return in_flight_; }  // bytes
  std::uint32_t depth() const noexcept { return lookahead_.depth(); }
  std::uint32_t outstanding() const noexcept { return lookahead_.outstanding(); }
  const predict::LookaheadCounts& guesses() const noexcept { return lookahead_.counts(); }
  const StreamCounters& counters() const noexcept { return counters_; }

 private:
  struct Nothing {};

  StreamScheduler(std::unique_ptr<predict::SequencePredictor> predictor,
                  const predict::Lookahead& lookahead, const StreamOptions& options);
  // What the stream used last is in the first tier by now, or the engine leaves it below.
  template <class TierOf>
  void follow(predict::StreamId stream, const Fetch& used, TierOf&& tier_of) {
    bool is_new = false;
    BlockKey& last = last_.touch(stream, used.key, is_new);
    if (!is_new && tier_of(last) == 0) lru_.touch(last.low, Nothing{}, is_new);
    last = used.key;
  }
  void use(const Fetch& used, int tier, double now);
  bool heard(double now) const noexcept {
    return now >= failing_until_ && !(options_.guard && account_.silent(now));
  }
  void settle(double now);
  void lose(std::uint64_t blocks, double now);

  StreamOptions options_;
  std::unique_ptr<predict::SequencePredictor> predictor_;
  predict::Lookahead lookahead_;
  Account account_;
  StreamCounters counters_;
  predict::RecentTable<BlockKey> keys_;  // by symbol
  predict::RecentTable<BlockKey> last_;  // by stream
  predict::RecentTable<Nothing> lru_;    // what the first tier would keep by last use
  predict::LookaheadCounts settled_{};   // that the account knows of
  std::uint64_t in_flight_ = 0;
  std::uint64_t delaying_ = 0;  // blocks in flight that are charged: the first of them
  std::uint64_t blamed_ = 0;    // bytes that came, and which may have displaced as many
  bool missed_last_ = false;
  double demanded_ = 0, demanded_at_ = 0;  // bytes of misses, of late
  double failing_until_ = 0, failing_pause_ = 0;
};

}  // namespace speckv::prefetch
