#include "predict/return_regression.hpp"

#include <algorithm>
#include <cmath>

namespace speckv::predict {
namespace {

constexpr float kFirstOdds = -1.7F;  // of a return in a class: 0.15
constexpr float kRate = 0.25F, kFirstStep = 1.0F;
constexpr float kMostOdds = 12;

float chance(float odds) noexcept {
  return 1 / (1 + std::exp(-std::clamp(odds, -kMostOdds, kMostOdds)));
}

}  // namespace

ReturnRegression::ReturnRegression(std::uint32_t rows) : rows_(rows) {}

float ReturnRegression::odds(const ReturnKeys& keys, std::size_t k) const noexcept {
  float sum = kFirstOdds;
  for (const std::uint64_t key : keys.terms)
    sum += rows_[place(key)].weight[k];
  return sum;
}

ReturnDistribution ReturnRegression::predict(const ReturnKeys& keys) const noexcept {
  ReturnDistribution to;
  float left = 1;
  for (std::size_t k = 0; k < kGaps; ++k) {
    const float hazard = chance(odds(keys, k));
    to.probability[k] = left * hazard;
    left *= 1 - hazard;
  }
  to.probability[kNever] = left;
  return to;
}

void ReturnRegression::learn(const ReturnKeys& keys, std::size_t reached,
                             bool ended) noexcept {
  const float slope = chance(odds(keys, reached)) - (ended ? 1.0F : 0.0F);
  for (const std::uint64_t key : keys.terms) {
    Row& row = rows_[place(key)];
    float& learned = row.learned[reached];
    learned += slope * slope;
    row.weight[reached] -= kRate * slope / std::sqrt(kFirstStep + learned);
  }
}

}  // namespace speckv::predict
