// predict/return_window.hpp -- the last requests of a session as a network reads them,
// and what became of each: what it is asked with, and what it learns from.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "predict/lstm.hpp"
#include "predict/lstm_trainer.hpp"
#include "predict/return_features.hpp"

namespace speckv::predict {

// The shape of every network of return times.
inline constexpr LstmShape kReturnShape{.inputs = kReturnFeatures,
                                        .shortlist = kReturnClasses};

struct ReturnWindow {
  // A full one goes on as its second half.
  static constexpr std::size_t kMost = kHistory, kKept = kMost / 2;

  std::size_t steps = 0;
  std::uint32_t number = 0;  // of the session's windows
  std::array<std::array<std::int8_t, kReturnFeatures>, kMost> input{};
  std::array<Target, kMost> target{};  // kept ones are the last window's, and none here

  void append(const ReturnFeatures& features) noexcept;
  // Of the last request. REQUIRES: steps > 0.
  void settle(std::size_t gap, bool or_later) noexcept {
    target[steps - 1] = {.output = static_cast<std::uint32_t>(gap), .or_later = or_later};
  }
};

// What a network keeps of a session.
struct ReturnMemory {
  Int8State state;
  std::uint64_t version = 0;  // of the weights that made the state
  ReturnWindow window;
};

}  // namespace speckv::predict
