// predict/lstm_shape.hpp -- sizes of the published LSTM (docs/lstm-format.md).
#pragma once

#include <cstddef>
#include <cstdint>

#include "cxlspeckv/status.hpp"

namespace speckv::predict {

inline constexpr std::uint32_t kHidden = 128, kGateRows = 4 * kHidden, kLstmLayers = 2;
inline constexpr std::uint32_t kHistory = 16;  // symbols that a state is rebuilt from
inline constexpr std::uint32_t kMostInputs = 64, kMostOutputs = 1024,
                               kMostVocabulary = 32768;
inline constexpr std::uint32_t kUnknown =
    0;  // the class of symbols without one of their own

// What an LSTM reads and answers: with a vocabulary symbols, without one features.
// Classes are symbols in order of how common they are. The first `shortlist` of them have
// outputs of their own; the others share an output by the `cluster`, and are told apart
// by a second matrix, of which only the rows of a likely cluster are computed.
struct LstmShape {
  std::uint32_t inputs = kMostInputs;  // a multiple of 8
  std::uint32_t vocabulary = 0;        // 0: features
  std::uint32_t shortlist = 0;         // without a vocabulary: all outputs
  std::uint32_t cluster = 0;           // classes a cluster; 0 where there is none

  std::uint32_t tail() const noexcept {
    return vocabulary == 0 ? 0 : vocabulary - shortlist;
  }
  std::uint32_t clusters() const noexcept {
    return tail() == 0 ? 0 : (tail() + cluster - 1) / cluster;
  }
  std::uint32_t outputs() const noexcept { return shortlist + clusters(); }
  // Columns of a layer's matrix: its input, then its own last output.
  std::uint32_t columns(std::uint32_t layer) const noexcept {
    return (layer == 0 ? inputs : kHidden) + kHidden;
  }
  // invalid_argument, with the reason.
  Status validate() const;

  friend bool operator==(const LstmShape&, const LstmShape&) = default;
};

}  // namespace speckv::predict
