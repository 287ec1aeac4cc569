// predict/return_table.hpp -- return times by counting: for contexts from coarse to fine,
// how many waits came to each gap class, and how many ended in it (Kaplan and Meier's
// estimate, so a wait whose end is not known yet counts as far as it got).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "predict/return_features.hpp"

namespace speckv::predict {

// Fixed in size; a full table gives up the row that has seen least, of a few. One thread.
class ReturnTable {
 public:
  // REQUIRES: rows is a power of two, at least 64.
  explicit ReturnTable(std::uint32_t rows = 1U << 14);

  // Of each view, backed off from its finest context to the one that all waits share.
  std::array<ReturnDistribution, kViews> predict(const ReturnKeys& keys) const noexcept;
  // A wait came to class `reached` (< kGaps), and ended in it or went on.
  void learn(const ReturnKeys& keys, std::size_t reached, bool ended) noexcept;

 private:
  struct Row {
    std::uint64_t key = 0;
    std::array<float, kGaps> reached{}, ended{};
  };
  using Hazards = std::array<double, kGaps>;

  const Row* find(std::uint64_t key) const noexcept;
  Row& take(std::uint64_t key) noexcept;
  static void refine(Hazards& hazards, const Row& row) noexcept;
  static void count(Row& row, std::size_t reached, bool ended) noexcept;

  std::vector<Row> rows_;
  Row all_;
};

}  // namespace speckv::predict
