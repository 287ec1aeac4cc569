#include "prefetch/stream_scheduler.hpp"

#include <cmath>
#include <utility>

namespace speckv::prefetch {
namespace {

constexpr std::uint32_t kMostStreams = 1U << 20, kMostSymbols = 1U << 28;
constexpr double kDemandMemory = 1;                 // s
constexpr double kPause = 0.2, kLongestPause = 30;  // s, after what cannot be moved

}  // namespace

Result<std::unique_ptr<StreamScheduler>> StreamScheduler::make(
    std::unique_ptr<predict::SequencePredictor> predictor, const StreamOptions& options) {
  const auto refused = [](const char* what) {
    return Status(Code::invalid_argument, what);
  };
  if (options.streams < 1 || options.streams > kMostStreams)
    return refused("streams must be 1 to 2^20");
  if (options.symbols < 1 || options.symbols > kMostSymbols)
    return refused("symbols must be 1 to 2^28");
  if (options.block_bytes < 1 || options.most_in_flight < options.block_bytes)
    return refused("most_in_flight must be at least a block");
  if (options.learning_bytes < 1) return refused("learning_bytes must be at least 1");
  if (!(options.bytes_per_second > 0) || !std::isfinite(options.bytes_per_second))
    return refused("bytes_per_second must be more than 0");
  auto lookahead = predict::Lookahead::make(*predictor, options.lookahead);
  if (!lookahead.ok()) return lookahead.error();
  return std::unique_ptr<StreamScheduler>(
      new StreamScheduler(std::move(predictor), *lookahead, options));
}

StreamScheduler::StreamScheduler(std::unique_ptr<predict::SequencePredictor> predictor,
                                 const predict::Lookahead& lookahead,
                                 const StreamOptions& options)
    : options_(options),
      predictor_(std::move(predictor)),
      lookahead_(lookahead),
      account_(std::min(options.learning_bytes, options.first_tier), options.block_bytes,
               options.pause),
      keys_(options.symbols),
      last_(options.streams),
      lru_(static_cast<std::uint32_t>(std::clamp(options.first_tier / options.block_bytes,
                                                 std::uint64_t{1},
                                                 std::uint64_t{options.symbols}))) {}

// Where it was found tells what speculation brought, or displaced.
void StreamScheduler::use(const Fetch& used, int tier, double now) {
  const double kept = std::exp(-std::max(0.0, now - demanded_at_) / kDemandMemory);
  demanded_ *= kept;
  demanded_at_ = now;
  missed_last_ = tier > 0;
  if (tier != 0) lookahead_.gone(used.symbol);
  if (tier > 0) {
    ++counters_.missed;
    demanded_ += static_cast<double>(options_.block_bytes);
    const std::uint64_t before_it = in_flight_ / options_.block_bytes;
    counters_.delayed += before_it - delaying_;
    lose(before_it - std::exchange(delaying_, before_it), now);
    if (lru_.find(used.key.low) != nullptr && blamed_ >= options_.block_bytes) {
      blamed_ -= options_.block_bytes;
      ++counters_.displaced;
      lru_.erase(used.key.low);
      lose(1, now);
    }
  }
  lookahead_.set_busy(
      std::min(1.0, demanded_ / (kDemandMemory * options_.bytes_per_second)));
  bool is_new = false;
  keys_.touch(used.symbol, used.key, is_new) = used.key;
}

// What the guesses came to since the last look.
void StreamScheduler::settle(double now) {
  const predict::LookaheadCounts& counts = lookahead_.counts();
  account_.earned((counts.useful - settled_.useful) * options_.block_bytes);
  lose(counts.wasted - settled_.wasted, now);
  settled_ = counts;
}

void StreamScheduler::lose(std::uint64_t blocks, double now) {
  if (blocks > 0 && options_.guard && account_.lost(blocks * options_.block_bytes, now))
    ++counters_.pauses;
}

void StreamScheduler::landed(std::uint32_t symbol, Landing landing, double now) {
  in_flight_ -= options_.block_bytes;
  if (delaying_ > 0) {
    --delaying_;
    if (landing == Landing::cancelled) {
      --counters_.delayed;
      account_.earned(options_.block_bytes);  // it held nobody up
    }
  }
  if (landing == Landing::moved) {
    lookahead_.arrived(symbol);
    blamed_ = std::min(blamed_ + options_.block_bytes, options_.first_tier);
    failing_pause_ = 0;
    return;
  }
  lookahead_.failed(symbol);
  if (landing == Landing::cancelled || now < failing_until_) return;
  failing_pause_ = std::clamp(2 * failing_pause_, kPause, kLongestPause);
  failing_until_ = now + failing_pause_;
}

void StreamScheduler::ended(predict::StreamId stream) {
  lookahead_.forget(stream);
  last_.erase(stream);
}

}  // namespace speckv::prefetch
