// Classes of gaps, and what a distribution over them says.
#include "predict/predictor.hpp"

#include <algorithm>
#include <cmath>

namespace speckv::predict {
namespace {

constexpr double kAlmostGone = 1e-4;

}  // namespace

std::size_t gap_class(double gap) noexcept {
  if (!(gap < kLongestGap)) return kNever;
  if (gap < 1) return 0;
  return static_cast<std::size_t>(std::ilogb(gap)) + 1;
}

double ReturnDistribution::within(double seconds) const noexcept {
  if (!(seconds > 0)) return 0;
  const std::size_t last = gap_class(seconds);
  double sum = 0;
  for (std::size_t k = 0; k < std::min(last, kGaps); ++k)
    sum += static_cast<double>(probability[k]);
  if (last < kGaps) {
    const double part =
        last == 0 ? seconds : std::log2(seconds) - static_cast<double>(last) + 1;
    sum += static_cast<double>(probability[last]) * part;
  }
  return std::min(sum, 1.0);
}

double ReturnDistribution::hazard(double idle, double window) const noexcept {
  const double start = std::max(idle, 0.0);
  const double before = within(start), left = 1 - before;
  if (!(left >= kAlmostGone)) return 0;
  return std::clamp((within(start + window) - before) / left, 0.0, 1.0);
}

}  // namespace speckv::predict
