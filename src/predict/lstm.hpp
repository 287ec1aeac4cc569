// predict/lstm.hpp -- one step of the LSTM: in whole numbers, as it is used, and in
// floats, as it is trained and judged by.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "predict/best_classes.hpp"
#include "predict/lstm_kernels.hpp"
#include "predict/lstm_weights.hpp"
#include "predict/predictor.hpp"

namespace speckv::predict {

// What an LSTM knows of a sequence so far; zero at its beginning.
struct Int8State {
  alignas(64) std::array<std::array<std::int16_t, kHidden>, kLstmLayers> c{};
  alignas(64) std::array<std::array<std::int8_t, kHidden>, kLstmLayers> h{};

  friend bool operator==(const Int8State&, const Int8State&) = default;
};

// Immutable; does not own the weights, which have to stay.
class Int8Lstm {
 public:
  using Weights = Int8Weights;
  using State = Int8State;

  explicit Int8Lstm(const Int8Weights& weights,
                    const LstmKernel& kernel = best_lstm_kernel()) noexcept
      : weights_(weights), kernel_(kernel) {}

  const LstmShape& shape() const noexcept { return weights_.shape; }

  // `input`: shape().inputs numbers of -127..127.
  void step(Int8State& state, std::span<const std::int8_t> input) const noexcept;
  // REQUIRES: class_index < shape().vocabulary.
  void step(Int8State& state, std::uint32_t class_index) const noexcept;

  // Of 65536, for each output, rounded down: their sum is at most that.
  // REQUIRES: all.size() == shape().outputs().
  void distribution(const Int8State& state, std::span<std::uint32_t> all) const noexcept;
  // The most likely classes but kUnknown, best first, equal ones in order of their
  // number; at most kMostBest of them. REQUIRES: a vocabulary.
  std::size_t best(const Int8State& state, std::span<ClassAnswer> to) const noexcept;

 private:
  const Int8Weights& weights_;
  const LstmKernel& kernel_;
};

// The same network in floats: what the INT8 one is an approximation of.
struct FloatState {
  std::array<std::array<float, kHidden>, kLstmLayers> c{}, h{};
};
void float_step(const LstmWeights& weights, FloatState& state,
                std::span<const float> input) noexcept;
// Natural logits of the head, and of a cluster's rows of the tail.
void float_head(const LstmWeights& weights, const FloatState& state,
                std::span<float> logits) noexcept;
void float_tail(const LstmWeights& weights, const FloatState& state,
                std::uint32_t cluster, std::span<float> logits) noexcept;

}  // namespace speckv::predict
