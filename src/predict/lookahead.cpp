#include "predict/lookahead.hpp"

#include <algorithm>
#include <cmath>

namespace speckv::predict {
namespace {

constexpr double kRaise = 0.7, kLower = 0.4;  // of guesses used
constexpr double kForget = 0.98;              // of an arm's past, a window
constexpr double kLeastPrice = 0.1;           // of a fetch over an idle link, in uses

}  // namespace

Result<Lookahead> Lookahead::make(SequencePredictor& predictor,
                                  const LookaheadOptions& o) {
  if (o.depth < 1 || o.depth > kMostDepth || !(o.confidence >= 0 && o.confidence <= 1) ||
      o.outstanding < 1 || o.outstanding > 1U << 20 || o.patience < 1) {
    return Status{Code::invalid_argument,
                  "lookahead: depth 1 to 16, confidence 0 to 1, 1 to 2^20 outstanding, "
                  "patience at least 1"};
  }
  return Lookahead(predictor, o);
}

Lookahead::Lookahead(SequencePredictor& predictor, const LookaheadOptions& options)
    : predictor_(&predictor),
      options_(options),
      asked_(options.outstanding),
      depth_(options.rule == LookaheadOptions::Rule::fixed
                 ? options.depth
                 : std::clamp(options.depth, kLeast, kMost)) {}

void Lookahead::use(std::uint32_t symbol) noexcept {
  ++counts_.symbols;
  expire();
  if (const Asked* asked = asked_.find(symbol)) {
    ++(asked->here ? counts_.useful : counts_.late);
    settled(*asked, true);
    asked_.erase(symbol);
  }
}

void Lookahead::expire() noexcept {
  while (asked_.size() > 0) {
    const auto [symbol, asked] = asked_.oldest();
    if (counts_.symbols - asked->at <= options_.patience) return;
    ++counts_.wasted;
    settled(*asked, false);
    asked_.erase(symbol);
  }
}

bool Lookahead::ask(std::uint32_t symbol) noexcept {
  if (asked_.find(symbol) != nullptr) {
    ++counts_.repeated;
    return false;
  }
  if (asked_.size() == options_.outstanding) {
    ++counts_.full;
    return false;
  }
  bool fresh = false;
  asked_.touch(symbol, {.at = counts_.symbols, .arm = arm_}, fresh);
  ++counts_.asked;
  return true;
}

void Lookahead::arrived(std::uint32_t symbol) noexcept {
  if (Asked* asked = asked_.find(symbol)) asked->here = true;
}

void Lookahead::failed(std::uint32_t symbol) noexcept {
  if (asked_.find(symbol) == nullptr) return;
  ++counts_.failed;
  asked_.erase(symbol);
}

void Lookahead::gone(std::uint32_t symbol) noexcept {
  const Asked* asked = asked_.find(symbol);
  if (asked == nullptr || !asked->here) return;
  ++counts_.wasted;
  settled(*asked, false);
  asked_.erase(symbol);
}

void Lookahead::set_busy(double share) noexcept {
  if (share >= 0 && share <= 1) price_ = kLeastPrice + (1 - kLeastPrice) * share;
}

void Lookahead::settled(const Asked& asked, bool used) noexcept {
  arms_[asked.arm].earned += (used ? 1.0 : 0.0) - price_;
  used_ += used ? 1 : 0;
  if (++judged_ < kWindow) return;
  const double share = static_cast<double>(used_) / judged_;
  if (options_.rule == LookaheadOptions::Rule::adaptive) {
    if (share > kRaise) depth_ = std::min(depth_ + 1, kMost);
    if (share < kLower) depth_ = std::max(depth_ - 1, kLeast);
  }
  used_ = judged_ = 0;
}

std::uint32_t Lookahead::choose_depth() noexcept {
  const bool next = counts_.symbols % kWindow == 1;
  if (options_.rule == LookaheadOptions::Rule::bandit && next) pull();
  return depth_;
}

// The arm with the best mean, or of which too little is known.
void Lookahead::pull() noexcept {
  double all = 0;
  for (Arm& arm : arms_) {
    arm.pulls *= kForget;
    arm.earned *= kForget;
    all += arm.pulls;
  }
  double best = -1e300;
  for (std::uint8_t i = 0; i < kArms; ++i) {
    const double n = arms_[i].pulls;
    const double value =
        n < 0.5 ? 1e6 - i
                : arms_[i].earned / n / kWindow + std::sqrt(0.05 * std::log(all + 1) / n);
    if (value <= best) continue;
    best = value;
    arm_ = i;
  }
  arms_[arm_].pulls += 1;
  depth_ = kLeast * (arm_ + 1U);
}

}  // namespace speckv::predict
