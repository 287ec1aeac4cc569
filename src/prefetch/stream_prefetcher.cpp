// A StreamPrefetcher at work: what its scheduler asks for as operations of the store,
// chosen under the lock, begun without it, and settled by whoever calls next.
#include "cxlspeckv/stream_prefetcher.hpp"

#include <algorithm>
#include <array>
#include <list>
#include <utility>

#include "cxlspeckv/guarded.hpp"
#include "cxlspeckv/promotion.hpp"

#include "base/mutex.hpp"
#include "predict/lstm_weights.hpp"
#include "predict/sequence_predictors.hpp"
#include "prefetch/stream_scheduler.hpp"

namespace speckv {
namespace {

using prefetch::StreamScheduler;
using Rule = predict::LookaheadOptions::Rule;

constexpr std::uint64_t kMostOutstanding = 1U << 20;

Status check(const BlockStore& store, const StreamPrefetchOptions& options) {
  const auto refused = [](const char* what) {
    return Status(Code::invalid_argument, what);
  };
  if (static_cast<std::size_t>(options.layout) >= store.layouts().size())
    return refused("the store has no such layout");
  if (store.tier_count() < 2)
    return refused("there is nothing to stage in a store of one tier");
  if (options.rule != StreamPrefetchOptions::Rule::fixed &&
      options.rule != StreamPrefetchOptions::Rule::adaptive &&
      options.rule != StreamPrefetchOptions::Rule::bandit)
    return refused("there is no such rule of depth");
  // The scheduler asks for the rest, but the predictor is made first.
  if (options.streams < 1 || options.streams > 1U << 20)
    return refused("streams must be 1 to 2^20");
  if (options.symbols < 1 || options.symbols > 1U << 28)
    return refused("symbols must be 1 to 2^28");
  return {};
}

Result<std::unique_ptr<predict::SequencePredictor>> predictor_of(
    const StreamPrefetchOptions& options) {
  if (options.lstm.empty()) {
    return std::unique_ptr<predict::SequencePredictor>(
        std::make_unique<predict::SuccessorPredictor>(options.streams, options.symbols));
  }
  auto weights = predict::read_int8(options.lstm);
  if (!weights.ok()) return weights.error();
  return predict::make_lstm_predictor(
      std::make_shared<const predict::Int8Weights>(*std::move(weights)), options.streams);
}

prefetch::StreamOptions schedule_of(const BlockStore& store,
                                    const StreamPrefetchOptions& options) {
  prefetch::StreamOptions schedule;
  schedule.block_bytes =
      store.layouts()[static_cast<std::size_t>(options.layout)].bytes();
  schedule.lookahead = {.rule = static_cast<Rule>(options.rule),
                        .depth = options.depth,
                        .confidence = options.confidence,
                        .patience = options.patience};
  // What has come and is not used yet does not count there as in flight.
  schedule.lookahead.outstanding = static_cast<std::uint32_t>(
      std::clamp(2 * (options.most_in_flight / schedule.block_bytes), std::uint64_t{64},
                 kMostOutstanding));
  schedule.streams = options.streams;
  schedule.symbols = options.symbols;
  schedule.first_tier = store.stats(0).capacity;
  schedule.most_in_flight = options.most_in_flight;
  schedule.learning_bytes = options.learning_bytes;
  schedule.bytes_per_second = options.bytes_per_second;
  return schedule;
}

}  // namespace

struct StreamPrefetcher::Impl {
  Impl(BlockStore& store, const StreamPrefetchOptions& options,
       std::unique_ptr<StreamScheduler> scheduler)
      : store_(store),
        clock_(options.clock != nullptr ? *options.clock : steady_clock()),
        origin_(clock_.now()),
        transfer_{.completions = options.completions, .tag = options.tag},
        scheduler_(std::move(scheduler)) {}
  // The operations wait for what the devices have; what is not begun ends at once.
  ~Impl() { give_up(); }

  Status touched(std::uint64_t stream, std::uint32_t symbol, BlockKey block)
      SPECKV_EXCLUDES(mutex_);
  void ended(std::uint64_t stream) SPECKV_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    scheduler_->ended(stream);
  }
  void advance() SPECKV_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    settle(now());
  }
  StreamPrefetchStats stats() const SPECKV_EXCLUDES(mutex_);

 private:
  using Fetches = std::array<StreamScheduler::Fetch, StreamScheduler::kMost>;
  struct Flight {
    Fetches fetches{};
    std::size_t count = 0;
    Operation operation{};
  };

  double now() SPECKV_REQUIRES(mutex_) {
    const std::chrono::duration<double> since = clock_.now() - origin_;
    return last_now_ = std::max(last_now_, since.count());
  }
  int tier_of(BlockKey key) const noexcept {
    std::int8_t tier = 0;
    store_.lookup({&key, 1}, {&tier, 1});
    return tier;
  }
  void settle(double now) SPECKV_REQUIRES(mutex_);
  void give_up() SPECKV_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    cancel();
  }
  void cancel() SPECKV_REQUIRES(mutex_) {
    for (Flight& flight : flights_)
      flight.operation.cancel();
  }

  BlockStore& store_;
  Clock& clock_;
  const Clock::time_point origin_;
  const TransferOptions transfer_;

  mutable Mutex mutex_;
  std::unique_ptr<StreamScheduler> scheduler_ SPECKV_GUARDED_BY(mutex_);
  std::list<Flight> flights_ SPECKV_GUARDED_BY(mutex_);
  double last_now_ SPECKV_GUARDED_BY(mutex_) = 0;
  std::uint64_t peak_in_flight_ SPECKV_GUARDED_BY(mutex_) = 0;
};

Status StreamPrefetcher::Impl::touched(std::uint64_t stream, std::uint32_t symbol,
                                       BlockKey block) {
  std::list<Flight> next(1);  // memory is taken before anything is decided
  Flight& flight = next.front();
  {
    const MutexLock lock(mutex_);
    const double at = now();
    settle(at);
    flight.count = scheduler_->touched(
        stream, {symbol, block}, at, [&](BlockKey key) { return tier_of(key); },
        flight.fetches);
    if (scheduler_->missed_last()) cancel();
    peak_in_flight_ = std::max(peak_in_flight_, scheduler_->in_flight());
  }
  if (flight.count == 0) return {};
  std::array<BlockKey, StreamScheduler::kMost> keys{};
  for (std::size_t i = 0; i < flight.count; ++i)
    keys[i] = flight.fetches[i].key;
  flight.operation = promote(store_, std::span(keys).first(flight.count), 0, transfer_);
  const MutexLock lock(mutex_);
  flights_.splice(flights_.end(), next);
  return {};
}

void StreamPrefetcher::Impl::settle(double now) {
  using Landing = StreamScheduler::Landing;
  for (auto flight = flights_.begin(); flight != flights_.end();) {
    if (!flight->operation.done()) {
      ++flight;
      continue;
    }
    for (std::size_t i = 0; i < flight->count; ++i) {
      const Code code = flight->operation.code(i);
      scheduler_->landed(flight->fetches[i].symbol,
                         code == Code::ok          ? Landing::moved
                         : code == Code::cancelled ? Landing::cancelled
                                                   : Landing::failed,
                         now);
    }
    flight = flights_.erase(flight);
  }
}

StreamPrefetchStats StreamPrefetcher::Impl::stats() const {
  const MutexLock lock(mutex_);
  const predict::LookaheadCounts& guesses = scheduler_->guesses();
  const prefetch::StreamCounters& counters = scheduler_->counters();
  return {.touched = guesses.symbols,
          .missed = counters.missed,
          .asked = guesses.asked,
          .useful = guesses.useful,
          .late = guesses.late,
          .wasted = guesses.wasted,
          .failed = guesses.failed,
          .outstanding = scheduler_->outstanding(),
          .resident = guesses.resident - counters.crowded,
          .repeated = guesses.repeated,
          .unlikely = guesses.unlikely,
          .full = guesses.full + counters.crowded,
          .displaced = counters.displaced,
          .delayed = counters.delayed,
          .unheard = counters.unheard,
          .pauses = counters.pauses,
          .depth = scheduler_->depth(),
          .in_flight = scheduler_->in_flight(),
          .peak_in_flight = peak_in_flight_};
}

// ---- the public face

StreamPrefetcher::StreamPrefetcher(std::unique_ptr<Impl> impl) noexcept
    : impl_(std::move(impl)) {}
StreamPrefetcher::~StreamPrefetcher() = default;

Result<std::unique_ptr<StreamPrefetcher>> StreamPrefetcher::create(
    BlockStore& store, StreamPrefetchOptions options) {
  return guarded([&]() -> Result<std::unique_ptr<StreamPrefetcher>> {
    if (Status checked = check(store, options); !checked.ok()) return checked;
    auto predictor = predictor_of(options);
    if (!predictor.ok()) return predictor.error();
    auto scheduler =
        StreamScheduler::make(*std::move(predictor), schedule_of(store, options));
    if (!scheduler.ok()) return scheduler.error();
    return std::unique_ptr<StreamPrefetcher>(new StreamPrefetcher(
        std::make_unique<Impl>(store, options, *std::move(scheduler))));
  });
}

Status StreamPrefetcher::touched(std::uint64_t stream, std::uint32_t symbol,
                                 BlockKey block) {
  return guarded([&] { return impl_->touched(stream, symbol, block); });
}
void StreamPrefetcher::ended(std::uint64_t stream) {
  impl_->ended(stream);
}
void StreamPrefetcher::advance() {
  impl_->advance();
}
StreamPrefetchStats StreamPrefetcher::stats() const {
  return impl_->stats();
}

void StreamPrefetcher::report(MetricSink& sink) const {
  const StreamPrefetchStats all = stats();
  const auto outcome = [&](std::string_view name, std::uint64_t blocks) {
    sink.counter("lookahead_blocks_total", {"outcome", name}, blocks);
  };
  outcome("useful", all.useful);
  outcome("late", all.late);
  outcome("wasted", all.wasted);
  outcome("failed", all.failed);
  const auto skipped = [&](std::string_view name, std::uint64_t guesses) {
    sink.counter("lookahead_skipped_total", {"reason", name}, guesses);
  };
  skipped("resident", all.resident);
  skipped("repeated", all.repeated);
  skipped("unlikely", all.unlikely);
  skipped("full", all.full);
  sink.counter("lookahead_touched_total", {}, all.touched);
  sink.counter("lookahead_missed_total", {}, all.missed);
  sink.counter("lookahead_asked_total", {}, all.asked);
  sink.counter("lookahead_displaced_total", {}, all.displaced);
  sink.counter("lookahead_delayed_total", {}, all.delayed);
  sink.counter("lookahead_unheard_total", {}, all.unheard);
  sink.counter("lookahead_pauses_total", {}, all.pauses);
  sink.gauge("lookahead_depth", {}, all.depth);
  sink.gauge("lookahead_outstanding", {}, static_cast<double>(all.outstanding));
  sink.gauge("lookahead_in_flight_bytes", {}, static_cast<double>(all.in_flight));
}

}  // namespace speckv
