#include "trace/live_side.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace speckv::trace {
namespace {

constexpr std::uint32_t kMostSessions = 1U << 16, kMostBlocks = 1U << 28;  // remembered

// Nothing is forgotten for want of memory, as far as the limits go.
PrefetchOptions completed(PrefetchOptions options, const Trace& trace, Clock& clock) {
  std::vector<std::uint32_t> longest(trace.sessions);
  for (const Request& request : trace.requests)
    longest[request.session] = std::max(longest[request.session], request.blocks);
  const auto blocks = std::accumulate(longest.begin(), longest.end(), std::uint64_t{1});
  options.sessions = std::clamp(trace.sessions, options.sessions, kMostSessions);
  options.blocks = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(blocks, options.blocks, kMostBlocks));
  options.clock = &clock;
  return options;
}

// Owned by the replay's caller.
std::shared_ptr<predict::ReturnPredictor> lent(predict::ReturnPredictor* predictor) {
  return {predictor, [](predict::ReturnPredictor*) {}};
}

}  // namespace

void LiveSide::VirtualClock::set(double seconds) noexcept {
  at_ = time_point(std::chrono::nanoseconds(std::llround(seconds * 1e9)));
}

LiveSide::LiveSide(const Trace& trace, std::shared_ptr<StoreModel> store,
                   std::uint64_t block_bytes, PrefetchOptions options,
                   predict::ReturnPredictor* predictor, prefetch::Journal* journal)
    : trace_(trace),
      store_(std::move(store)),
      prefetcher_(store_, block_bytes, completed(std::move(options), trace, clock_),
                  predictor != nullptr ? lent(predictor) : nullptr) {
  prefetcher_.record(journal);
}

void LiveSide::at(double now) {
  clock_.set(now);
  store_->advance(now);
}

void LiveSide::arrived(const Request& request, double now) {
  at(now);
  // not_found: its first request.
  (void)prefetcher_.arrived(request.session);
  store_->advance(now);
}

void LiveSide::finished(const Request& request, double now) {
  at(now);
  keys_.clear();
  for (const BlockId block : trace_.chain(request))
    keys_.push_back(key_of(block));
  (void)prefetcher_.finished(request.session, keys_,
                             {.input_tokens = request.input_tokens,
                              .output_tokens = request.output_tokens,
                              .brings_tool_result = request.brings_tool_result,
                              .stops_for_tool = request.stops_for_tool,
                              .calls_tool = request.calls_tool,
                              .sub_agent = request.sub_agent});
}

void LiveSide::hint(std::uint32_t session, double now, double eta, double confidence) {
  at(now);
  (void)prefetcher_.hint(session, eta, confidence);
}

void LiveSide::ended(std::uint32_t session, double now) {
  at(now);
  (void)prefetcher_.ended(session);
}

void LiveSide::advance(double now) {
  at(now);
  const std::chrono::duration<double> again = prefetcher_.advance();
  due_ = now + again.count();
}

double LiveSide::next() const noexcept {
  return std::min(due_, store_->next());
}

}  // namespace speckv::trace
