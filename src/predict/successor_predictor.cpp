// What follows what: a chain of links, each to the symbol that came next of late.
#include <algorithm>

#include "predict/sequence_predictors.hpp"

namespace speckv::predict {
namespace {

constexpr float kGain = 0.25F;     // of trust, by what was just seen
constexpr float kReplaced = 0.3F;  // below it, another symbol takes the link

}  // namespace

SuccessorPredictor::SuccessorPredictor(std::uint32_t streams, std::uint32_t symbols)
    : last_(streams), links_(symbols) {}

void SuccessorPredictor::observe(StreamId stream, std::uint32_t symbol) noexcept {
  bool is_new = false;
  std::uint32_t& last = last_.touch(stream, symbol, is_new);
  if (is_new) return;
  bool fresh = false;
  Link& link = links_.touch(last, {.next = symbol}, fresh);
  last = symbol;
  if (fresh) return;
  const bool right = link.next == symbol;
  link.trust += kGain * ((right ? 1.0F : 0.0F) - link.trust);
  if (!right && link.trust < kReplaced) link = {.next = symbol};
}

std::size_t SuccessorPredictor::predict(StreamId stream,
                                        std::span<Candidate> best) const noexcept {
  const std::uint32_t* const last = last_.find(stream);
  if (last == nullptr) return 0;
  std::size_t count = 0;
  float confidence = 1;
  for (std::uint32_t at = *last; count < best.size();) {
    const Link* const link = links_.find(at);
    if (link == nullptr || link->next == *last) break;
    at = link->next;
    const auto known = best.first(count);
    if (std::any_of(known.begin(), known.end(),
                    [at](const Candidate& guess) { return guess.symbol == at; }))
      break;
    confidence *= link->trust;
    best[count++] = {at, confidence};
  }
  return count;
}

void SuccessorPredictor::forget(StreamId stream) noexcept {
  last_.erase(stream);
}

}  // namespace speckv::predict
