#include "predict/page_digest.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace speckv::predict {
namespace {

constexpr float kInfinite = std::numeric_limits<float>::infinity();
// Of the budget, for pages that were taken lately but are not called for: what one step
// needed, the next often does.
constexpr std::uint32_t kRecentShare = 4;

}  // namespace

PageDigests::PageDigests(std::uint32_t channels, std::uint32_t page_tokens)
    : channels_(channels), page_tokens_(page_tokens) {}

std::uint32_t PageDigests::pages() const noexcept {
  return static_cast<std::uint32_t>((tokens_ + page_tokens_ - 1) / page_tokens_);
}

void PageDigests::append(std::span<const float> key) {
  if (tokens_ % page_tokens_ == 0) {
    least_.resize(least_.size() + channels_, kInfinite);
    most_.resize(most_.size() + channels_, -kInfinite);
  }
  const std::size_t first = tokens_++ / page_tokens_ * channels_;
  for (std::size_t c = 0; c < channels_; ++c) {
    float& least = least_[first + c];
    float& most = most_[first + c];
    if (std::isnan(key[c])) {  // which bounds nothing
      least = -kInfinite;
      most = kInfinite;
    } else {
      least = std::min(least, key[c]);
      most = std::max(most, key[c]);
    }
  }
}

float PageDigests::bound(std::uint32_t page,
                         std::span<const float> query) const noexcept {
  const std::size_t first = std::size_t{page} * channels_;
  float sum = 0;
  for (std::size_t c = 0; c < channels_; ++c)
    sum += std::max(query[c] * least_[first + c], query[c] * most_[first + c]);
  if (std::isnan(sum)) return kInfinite;
  return sum;
}

std::vector<std::uint32_t> PageChoice::choose(const PageDigests& digests,
                                              std::span<const float> query,
                                              std::uint32_t budget) {
  const std::uint32_t pages = digests.pages();
  taken_.resize(pages, 0);
  ++step_;
  std::vector<std::uint32_t> order(pages);
  std::iota(order.begin(), order.end(), 0U);
  if (pages > budget) {
    std::vector<float> bound(pages);
    for (std::uint32_t p = 0; p < pages; ++p)
      bound[p] = digests.bound(p, query);
    bound.back() = kInfinite;
    const std::uint32_t recent = budget / kRecentShare;
    const auto called = order.begin() + (budget - recent);
    std::nth_element(order.begin(), called, order.end(), [&](auto a, auto b) {
      return bound[a] != bound[b] ? bound[a] > bound[b] : a > b;
    });
    // Of the rest those taken lately, the likelier first.
    const auto lately = [&](std::uint32_t p) { return step_ - taken_[p] <= kLately; };
    std::partial_sort(called, called + recent, order.end(), [&](auto a, auto b) {
      if (lately(a) != lately(b)) return lately(a);
      return bound[a] != bound[b] ? bound[a] > bound[b] : a > b;
    });
    // Being there by recency does not prolong it.
    for (auto p = order.begin(); p != called; ++p)
      taken_[*p] = step_;
    order.resize(budget);
  }
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace speckv::predict
