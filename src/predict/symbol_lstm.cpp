// Symbols to classes and back, and states to bytes and back.
#include "predict/symbol_lstm.hpp"

#include <algorithm>
#include <limits>

#include "base/endian.hpp"

namespace speckv::predict {

SymbolLstm::SymbolLstm(std::shared_ptr<const Int8Weights> weights,
                       const LstmKernel& kernel)
    : weights_(std::move(weights)), net_(*weights_, kernel) {
  const std::vector<std::uint32_t>& symbols = weights_->symbols;
  classes_.reserve(symbols.size());
  for (std::uint32_t c = kUnknown + 1; c < symbols.size(); ++c)
    classes_.emplace_back(symbols[c], c);
  std::sort(classes_.begin(), classes_.end());
}

void SymbolLstm::step(Int8State& state, std::uint32_t symbol) const noexcept {
  const auto at =
      std::lower_bound(classes_.begin(), classes_.end(), std::pair{symbol, 0U});
  const bool known = at != classes_.end() && at->first == symbol;
  net_.step(state, known ? at->second : kUnknown);
}

std::size_t SymbolLstm::best(const Int8State& state,
                             std::span<SymbolAnswer> to) const noexcept {
  std::array<Int8Answer, Int8Lstm::kMostBest> answers;
  const std::size_t count =
      net_.best(state, std::span(answers).first(std::min(to.size(), answers.size())));
  for (std::size_t i = 0; i < count; ++i)
    to[i] = {weights_->symbols[answers[i].class_index], answers[i].confidence};
  return count;
}

std::array<std::byte, kStateBytes> write_state(const Int8State& state) noexcept {
  std::array<std::byte, kStateBytes> bytes;
  std::byte* at = bytes.data();
  const auto put = [&](const auto& layers) {
    for (const auto& layer : layers) {
      for (const auto value : layer) {
        store_le(at, value);
        at += sizeof value;
      }
    }
  };
  put(state.c);
  put(state.h);
  return bytes;
}

std::optional<Int8State> read_state(Bytes bytes) noexcept {
  Int8State state;
  const std::byte* at = bytes.data();
  bool good = true;
  const auto get = [&](auto& layers) {
    for (auto& layer : layers) {
      for (auto& value : layer) {
        using T = std::remove_reference_t<decltype(value)>;
        value = load_le<T>(at);
        good = good && value != std::numeric_limits<T>::min();
        at += sizeof value;
      }
    }
  };
  get(state.c);
  get(state.h);
  if (!good) return std::nullopt;
  return state;
}

}  // namespace speckv::predict
