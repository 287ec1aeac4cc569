#include "predict/return_features.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace speckv::predict {
namespace {

constexpr double kShort = 64;  // s
constexpr double kSmooth = 0.3;

float scaled(double value, double most) noexcept {
  return static_cast<float>(std::clamp(value / most, -1.0, 1.0));
}

double duration(const Completion& r) noexcept {
  return std::max(0.0, r.completed - r.arrived);
}

std::uint32_t flags_of(const Completion& r) noexcept {
  return (r.brings_tool_result ? 1U : 0U) | (r.stops_for_tool ? 2U : 0U) |
         (r.calls_tool ? 4U : 0U) | (r.sub_agent ? 8U : 0U) |
         (duration(r) <= 0 ? 16U : 0U);  // cut short, or nobody recorded how it ended
}

std::uint64_t size_class(double value) noexcept {
  return static_cast<std::uint64_t>(std::clamp(std::log2(1 + value), 0.0, 64.0));
}

std::uint64_t fine_class(double value) noexcept {
  return static_cast<std::uint64_t>(std::clamp(2 * std::log2(1 + value), 0.0, 128.0));
}

// Folds one more part into a key.
std::uint64_t with(std::uint64_t key, std::uint64_t part) noexcept {
  key = (key ^ (part + 0x9E3779B97F4A7C15)) * 0xFF51AFD7ED558CCD;
  return key ^ key >> 29;
}

}  // namespace

double SessionHistory::mean_log() const noexcept {
  return gaps_ == 0 ? 0 : sum_log_ / gaps_;
}

std::uint32_t SessionHistory::new_tokens(const Completion& r) const noexcept {
  return r.input_tokens - std::min(r.input_tokens, last_tokens_);
}

ReturnFeatures SessionHistory::features(const Completion& r) const noexcept {
  ReturnFeatures x{};
  x[last_class_] = 1;  // 0..15
  const std::uint32_t flags = flags_of(r);
  for (std::size_t i = 0; i < 4; ++i)
    x[16 + i] = (flags >> i & 1) != 0 ? 1.0F : 0.0F;
  const double most_gap = std::log1p(kLongestGap), mean = mean_log();
  x[20] = scaled(std::log1p(r.input_tokens), 12);
  x[21] = scaled(std::log1p(r.output_tokens), 9);
  x[22] = scaled(std::log1p(turns_), 6);
  x[23] = duration(r) <= 0 ? -1.0F : scaled(std::log1p(duration(r)), 6);
  x[24] = scaled(mean, most_gap);
  x[25] = scaled(r.reused_blocks, std::max(1U, r.blocks));
  x[26] = scaled(std::log1p(new_tokens(r)), 12);
  x[27] = scaled(short_gaps_, std::max(1U, gaps_));
  x[28] = scaled(smooth_log_, most_gap);
  x[29] = scaled(std::log1p(std::max(0.0, r.completed - first_)), 12);
  x[30] = scaled(std::log1p(tool_stops_), 5);
  const double variance = gaps_ < 2 ? 0 : sum_squares_ / gaps_ - mean * mean;
  x[31] = scaled(std::sqrt(std::max(0.0, variance)), 4);
  return x;
}

ReturnKeys SessionHistory::keys(const Completion& r) const noexcept {
  const std::uint32_t flags = flags_of(r);
  const std::uint64_t turn = std::min<std::uint64_t>(size_class(turns_), 6);
  const std::uint64_t output = size_class(r.output_tokens);
  const std::uint64_t often = gaps_ == 0 ? 9 : 4ULL * short_gaps_ / gaps_;
  const std::uint64_t typical =
      gaps_ == 0 ? 99 : static_cast<std::uint64_t>(2 * smooth_log_);
  ReturnKeys k{};
  const auto chain = [&](std::size_t view, std::uint64_t a, std::uint64_t b,
                         std::uint64_t c) {
    k.views[view][0] = with(view, a);
    k.views[view][1] = with(k.views[view][0], b);
    k.views[view][2] = with(k.views[view][1], c);
  };
  const std::uint64_t runs = std::min<std::uint64_t>(size_class(tool_stops_), 5);
  const std::uint64_t pace = size_class(1000 * duration(r) / (1.0 + r.output_tokens));
  chain(0, flags, last_class_, with(output / 2, std::min<std::uint64_t>(turn, 3)));
  chain(1, flags, with(typical, often), with(runs, output / 2));
  chain(2, with(turn, flags), size_class(r.input_tokens),
        with(size_class(new_tokens(r)) / 2, output / 2));
  chain(3, with(flags, last_flags_), with(last_class_, class_before_),
        with(std::min(tool_stops_, 7U), often));
  chain(4, with(flags, output), with(runs, pace), with(typical / 2, turn));
  chain(5, with(flags, runs), with(typical, output / 2), with(pace, often));
  k.terms = terms(r);
  return k;
}

std::array<std::uint64_t, kTerms> SessionHistory::terms(
    const Completion& r) const noexcept {
  constexpr std::uint64_t kNone = 99;
  const std::uint64_t flags = flags_of(r);
  const auto gap = [&](double log) {
    return gaps_ == 0 ? kNone : static_cast<std::uint64_t>(std::max(0.0, 3 * log));
  };
  const double mean = mean_log();
  const double variance = gaps_ < 2 ? 0 : sum_squares_ / gaps_ - mean * mean;
  const std::uint64_t facts[] = {
      gap(smooth_log_),
      gap(mean),
      last_class_,
      size_class(3.0 * tool_stops_),
      fine_class(r.output_tokens),
      fine_class(1000 * duration(r) / (1.0 + r.output_tokens)),
      gaps_ == 0 ? kNone : 10ULL * short_gaps_ / gaps_,
      std::min(turns_, 30U),
      fine_class(r.input_tokens),
      fine_class(duration(r)),
      fine_class(new_tokens(r)),
      with(class_before_, last_flags_),
      static_cast<std::uint64_t>(4 * std::sqrt(std::max(0.0, variance))),
  };
  constexpr std::size_t kFacts = std::size(facts);
  constexpr std::size_t kPairs[][2] = {{0, 3}, {0, 4}, {3, 4}, {0, 6},  {4, 5},
                                       {0, 7}, {3, 6}, {0, 9}, {3, 5},  {2, 3},
                                       {3, 7}, {0, 5}, {2, 4}, {3, 10}, {0, 12}};
  static_assert(2 + 2 * kFacts + std::size(kPairs) == kTerms);
  std::array<std::uint64_t, kTerms> to;
  to[0] = with(100, flags);
  to[1] = with(with(101, facts[0]), with(facts[3], facts[4] / 2));
  for (std::size_t i = 0; i < kFacts; ++i) {
    to[2 + i] = with(110 + i, facts[i]);
    to[2 + kFacts + i] = with(with(130 + i, facts[i]), flags);
  }
  for (std::size_t i = 0; i < std::size(kPairs); ++i)
    to[2 + 2 * kFacts + i] =
        with(with(with(150 + i, facts[kPairs[i][0]]), facts[kPairs[i][1]]), flags);
  return to;
}

void SessionHistory::complete(const Completion& request, ReturnFeatures& x,
                              ReturnKeys& k) noexcept {
  if (turns_ == 0) first_ = request.arrived;
  x = features(request);
  k = keys(request);
  if (turns_ < ~0U) ++turns_;
  tool_stops_ = request.stops_for_tool ? std::min(tool_stops_ + 1, 1000U) : 0;
  last_flags_ = flags_of(request);
  last_tokens_ =
      request.input_tokens + std::min(request.output_tokens, ~0U - request.input_tokens);
}

void SessionHistory::returned(double gap) noexcept {
  const double log = std::log1p(std::clamp(gap, 0.0, kLongestGap));
  class_before_ = last_class_;
  last_class_ = gap_class(gap);
  smooth_log_ = gaps_ == 0 ? log : smooth_log_ + kSmooth * (log - smooth_log_);
  ++gaps_;
  if (gap <= kShort) ++short_gaps_;
  sum_log_ += log;
  sum_squares_ += log * log;
}

}  // namespace speckv::predict
