// predict/return_features.hpp -- what is known of a session when one of its requests
// completes, as numbers for a network and as keys for tables.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "predict/predictor.hpp"

namespace speckv::predict {

inline constexpr std::size_t kReturnFeatures = 32;
using ReturnFeatures = std::array<float, kReturnFeatures>;  // each of -1..1

// Contexts, from coarse to fine, of several points of view.
inline constexpr std::size_t kViews = 6, kViewLevels = 3;
// Single facts, and pairs of facts, whose effects are added up.
inline constexpr std::size_t kTerms = 43;
struct ReturnKeys {
  std::array<std::array<std::uint64_t, kViewLevels>, kViews> views{};
  std::array<std::uint64_t, kTerms> terms{};
};

// A session's past. A value type.
class SessionHistory {
 public:
  // Of a request that completes now; then it becomes part of the past.
  void complete(const Completion& request, ReturnFeatures& features,
                ReturnKeys& keys) noexcept;
  // The session's next request came after `gap` seconds.
  void returned(double gap) noexcept;

 private:
  ReturnFeatures features(const Completion& request) const noexcept;
  ReturnKeys keys(const Completion& request) const noexcept;
  std::array<std::uint64_t, kTerms> terms(const Completion& request) const noexcept;
  std::uint32_t new_tokens(const Completion& request) const noexcept;
  double mean_log() const noexcept;

  static constexpr std::size_t kNoGap = kReturnClasses;
  std::uint32_t turns_ = 0, gaps_ = 0, short_gaps_ = 0, tool_stops_ = 0;
  std::uint32_t last_tokens_ = 0;  // input and output of the last request
  std::uint32_t last_flags_ = 0;
  std::size_t last_class_ = kNoGap, class_before_ = kNoGap;
  double first_ = 0, sum_log_ = 0, sum_squares_ = 0, smooth_log_ = 0;
};

}  // namespace speckv::predict
