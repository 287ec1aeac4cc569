// predict/return_regression.hpp -- return times by logistic regression: the log-odds of a
// return in each gap class, given that the wait came to it, are sums over what is known.
// Learns at every event, with steps that shrink where much was learned (AdaGrad; Duchi,
// Hazan and Singer, 2011).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "predict/return_features.hpp"

namespace speckv::predict {

// Fixed in size; terms share rows by chance. One thread.
class ReturnRegression {
 public:
  // REQUIRES: rows is a power of two.
  explicit ReturnRegression(std::uint32_t rows = 1U << 15);

  ReturnDistribution predict(const ReturnKeys& keys) const noexcept;
  // A wait came to class `reached` (< kGaps), and ended in it or went on.
  void learn(const ReturnKeys& keys, std::size_t reached, bool ended) noexcept;

 private:
  struct Row {
    std::array<float, kGaps> weight{}, learned{};
  };
  float odds(const ReturnKeys& keys, std::size_t k) const noexcept;
  std::size_t place(std::uint64_t key) const noexcept { return key & (rows_.size() - 1); }

  std::vector<Row> rows_;
};

}  // namespace speckv::predict
