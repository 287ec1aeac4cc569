// predict/page_digest.hpp -- which pages of keys attention will look at: a page is known
// by the least and the largest value of each channel of its keys, which bound what any
// query can give with any of them (Quest; Tang et al., ICML 2024).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace speckv::predict {

// Of one head of one sequence. One thread.
class PageDigests {
 public:
  // REQUIRES: both at least 1.
  PageDigests(std::uint32_t channels, std::uint32_t page_tokens);

  // The key of the next token, after its position was worked in: `channels` numbers. A
  // NaN makes its page one that is always taken.
  void append(std::span<const float> key);

  std::uint32_t pages() const noexcept;
  // No key of the page has a larger product with the query than this.
  float bound(std::uint32_t page, std::span<const float> query) const noexcept;

 private:
  std::uint32_t channels_, page_tokens_;
  std::uint64_t tokens_ = 0;
  std::vector<float> least_, most_;  // [page][channel]
};

// Which pages to have ready for the next step: those that the rehearsal (the bounds for a
// query that is close to the next one: of the layer before, or of the last step) calls
// for, and of those taken lately the latest. One thread.
class PageChoice {
 public:
  static constexpr std::uint32_t kLately = 16;  // steps

  // The best `budget` pages, in order of their number. The newest page is always among
  // them. REQUIRES: budget >= 1.
  std::vector<std::uint32_t> choose(const PageDigests& digests,
                                    std::span<const float> query, std::uint32_t budget);

 private:
  std::vector<std::uint64_t> taken_;  // by page: the step at which it was taken last
  std::uint64_t step_ = kLately + 1;
};

}  // namespace speckv::predict
