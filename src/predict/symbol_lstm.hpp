// predict/symbol_lstm.hpp -- an LSTM on symbols in the place of classes, and a sequence's
// state as bytes (docs/lstm-format.md).
#pragma once

#include <algorithm>
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

// Net: Int8Lstm or Bf16Lstm. Immutable; any thread.
template <class Net>
class Symbols {
 public:
  using Weights = typename Net::Weights;
  using State = typename Net::State;

  // REQUIRES: weights->shape.vocabulary != 0.
  explicit Symbols(std::shared_ptr<const Weights> weights)
      : weights_(std::move(weights)), net_(*weights_) {
    const std::vector<std::uint32_t>& symbols = weights_->symbols;
    classes_.reserve(symbols.size());
    for (std::uint32_t c = kUnknown + 1; c < symbols.size(); ++c)
      classes_.emplace_back(symbols[c], c);
    std::sort(classes_.begin(), classes_.end());
  }

  // The sequence grew by this symbol, whether it has a class of its own or not.
  void step(State& state, std::uint32_t symbol) const noexcept {
    const auto at =
        std::lower_bound(classes_.begin(), classes_.end(), std::pair{symbol, 0U});
    const bool known = at != classes_.end() && at->first == symbol;
    net_.step(state, known ? at->second : kUnknown);
  }

  // What comes next, the most likely first: how many were written to `to`, at most
  // kMostBest.
  std::size_t best(const State& state, std::span<SymbolAnswer> to) const noexcept {
    std::array<ClassAnswer, kMostBest> answers;
    const std::size_t count =
        net_.best(state, std::span(answers).first(std::min(to.size(), kMostBest)));
    for (std::size_t i = 0; i < count; ++i)
      to[i] = {weights_->symbols[answers[i].class_index], answers[i].confidence};
    return count;
  }

 private:
  std::shared_ptr<const Weights> weights_;
  Net net_;
  // Symbol and class, sorted: a file's writer chooses the symbols, and could choose such
  // as make any hash slow.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> classes_;
};

using SymbolLstm = Symbols<Int8Lstm>;

inline constexpr std::size_t kStateBytes = 3 * kLstmLayers * kHidden;

std::array<std::byte, kStateBytes> write_state(const Int8State& state) noexcept;
// Nothing: a number that no step leaves behind. REQUIRES: bytes.size() == kStateBytes.
std::optional<Int8State> read_state(Bytes bytes) noexcept;

}  // namespace speckv::predict
