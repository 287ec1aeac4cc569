// predict/best_classes.hpp -- the most likely classes of an adaptive output
// (docs/lstm-format.md, "An answer"), whatever numbers the logits are.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "predict/lstm_shape.hpp"

namespace speckv::predict {

struct ClassAnswer {
  std::uint32_t class_index = 0;
  std::uint32_t confidence = 0;  // of 65536
};

inline constexpr std::uint32_t kCertain = 65536;
inline constexpr std::size_t kMostBest = 16;
inline constexpr std::uint32_t kHead = ~std::uint32_t{0};  // in the place of a cluster

// The places of the largest logits, the largest first and equal ones in their order.
template <class Logit>
std::size_t largest(const Logit* logits, std::uint32_t begin, std::uint32_t end,
                    std::span<std::uint32_t> to) noexcept {
  std::size_t count = 0;
  for (std::uint32_t i = begin; i < end; ++i) {
    if (count == to.size() && logits[i] <= logits[to[count - 1]]) continue;
    std::size_t at = count < to.size() ? count++ : count - 1;
    for (; at > 0 && logits[to[at - 1]] < logits[i]; --at)
      to[at] = to[at - 1];
    to[at] = i;
  }
  return count;
}

// `weigh(cluster or kHead, out)` computes the logits of that part and returns how many
// there are; `out.share(i)` is then a place's probability in it, of 65536. At most
// kMostBest answers; how many there are. REQUIRES: a vocabulary.
template <class Outputs, class Weigh>
std::size_t best_classes(const LstmShape& shape, std::span<ClassAnswer> to,
                         Weigh&& weigh) noexcept {
  to = to.first(std::min(to.size(), kMostBest));
  if (to.empty()) return 0;
  const auto better = [](const ClassAnswer& a, const ClassAnswer& b) {
    return a.confidence != b.confidence ? a.confidence > b.confidence
                                        : a.class_index < b.class_index;
  };
  Outputs head, part;
  std::array<std::uint32_t, kMostBest> place, within;
  std::array<ClassAnswer, kMostBest * kMostBest> all;
  std::size_t count = 0;
  const std::size_t found = largest(head.logit, kUnknown + 1, weigh(kHead, head),
                                    std::span(place).first(to.size()));
  for (std::size_t i = 0; i < found; ++i) {
    const std::uint32_t confidence = head.share(place[i]);
    if (place[i] < shape.shortlist) {
      all[count++] = {place[i], confidence};
      continue;
    }
    const std::uint32_t cluster = place[i] - shape.shortlist;
    const std::uint32_t first = shape.shortlist + cluster * shape.cluster;
    const std::size_t more =
        largest(part.logit, 0, weigh(cluster, part), std::span(within).first(to.size()));
    for (std::size_t j = 0; j < more; ++j) {
      const std::uint64_t share = part.share(within[j]);
      all[count++] = {first + within[j],
                      static_cast<std::uint32_t>(share * confidence / kCertain)};
    }
  }
  std::sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count), better);
  count = std::min(count, to.size());
  std::copy_n(all.begin(), count, to.begin());
  return count;
}

}  // namespace speckv::predict
