#include "predict/return_table.hpp"

#include <algorithm>

namespace speckv::predict {
namespace {

constexpr std::uint32_t kProbes = 4;
constexpr double kTrust = 4;        // waits that the coarser context counts for
constexpr float kMostWaits = 4000;  // then old ones are halved: habits change
constexpr double kFirstHazard = 0.15;

}  // namespace

ReturnTable::ReturnTable(std::uint32_t rows) : rows_(rows) {}

const ReturnTable::Row* ReturnTable::find(std::uint64_t key) const noexcept {
  for (std::uint32_t i = 0; i < kProbes; ++i) {
    const Row& row = rows_[(key + i) & (rows_.size() - 1)];
    if (row.key == key) return &row;
  }
  return nullptr;
}

ReturnTable::Row& ReturnTable::take(std::uint64_t key) noexcept {
  Row* least = nullptr;
  for (std::uint32_t i = 0; i < kProbes; ++i) {
    Row& row = rows_[(key + i) & (rows_.size() - 1)];
    if (row.key == key) return row;
    if (least == nullptr || row.reached[0] < least->reached[0]) least = &row;
  }
  *least = Row{.key = key};
  return *least;
}

void ReturnTable::refine(Hazards& hazards, const Row& row) noexcept {
  for (std::size_t k = 0; k < kGaps; ++k) {
    hazards[k] = (static_cast<double>(row.ended[k]) + kTrust * hazards[k]) /
                 (static_cast<double>(row.reached[k]) + kTrust);
  }
}

std::array<ReturnDistribution, kViews> ReturnTable::predict(
    const ReturnKeys& keys) const noexcept {
  Hazards common;
  common.fill(kFirstHazard);
  refine(common, all_);
  std::array<ReturnDistribution, kViews> to;
  for (std::size_t v = 0; v < kViews; ++v) {
    Hazards hazards = common;
    for (const std::uint64_t key : keys.views[v]) {
      if (const Row* row = find(key)) refine(hazards, *row);
    }
    double left = 1;
    for (std::size_t k = 0; k < kGaps; ++k) {
      to[v].probability[k] = static_cast<float>(left * hazards[k]);
      left *= 1 - hazards[k];
    }
    to[v].probability[kNever] = static_cast<float>(left);
  }
  return to;
}

void ReturnTable::count(Row& row, std::size_t reached, bool ended) noexcept {
  row.reached[reached] += 1;
  if (ended) row.ended[reached] += 1;
  if (row.reached[reached] < kMostWaits) return;
  row.reached[reached] /= 2;
  row.ended[reached] /= 2;
}

void ReturnTable::learn(const ReturnKeys& keys, std::size_t reached,
                        bool ended) noexcept {
  count(all_, reached, ended);
  for (const auto& view : keys.views) {
    for (const std::uint64_t key : view)
      count(take(key), reached, ended);
  }
}

}  // namespace speckv::predict
