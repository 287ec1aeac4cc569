// predict/symbol_lstm.hpp -- the INT8 LSTM on symbols, and a sequence's state as bytes
// (docs/lstm-format.md).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "cxlspeckv/block.hpp"

#include "predict/lstm.hpp"

namespace speckv::predict {

struct SymbolAnswer {
  std::uint32_t symbol = 0;
  std::uint32_t confidence = 0;  // of 65536
};

// Immutable; any thread.
class SymbolLstm {
 public:
  // REQUIRES: weights->shape.vocabulary != 0.
  explicit SymbolLstm(std::shared_ptr<const Int8Weights> weights,
                      const LstmKernel& kernel = best_lstm_kernel());

  // The sequence grew by this symbol, whether it has a class of its own or not.
  void step(Int8State& state, std::uint32_t symbol) const noexcept;
  // What comes next, the most likely first: how many were written to `to`, at most
  // Int8Lstm::kMostBest.
  std::size_t best(const Int8State& state, std::span<SymbolAnswer> to) const noexcept;

 private:
  std::shared_ptr<const Int8Weights> weights_;
  Int8Lstm net_;
  // Symbol and class, sorted: a file's writer chooses the symbols, and could choose such
  // as make any hash slow.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> classes_;
};

inline constexpr std::size_t kStateBytes = 3 * kLstmLayers * kHidden;

std::array<std::byte, kStateBytes> write_state(const Int8State& state) noexcept;
// Nothing: a number that no step leaves behind. REQUIRES: bytes.size() == kStateBytes.
std::optional<Int8State> read_state(Bytes bytes) noexcept;

}  // namespace speckv::predict
