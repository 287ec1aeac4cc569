// predict/bf16_lstm.hpp -- the LSTM in bfloat16: weights, inputs and outputs have 8
// significant bits, sums and cells are binary32. Between float_step() and the whole
// numbers of lstm.hpp in time and memory; how near it is to the first is told in
// docs/lstm-format.md.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "predict/best_classes.hpp"
#include "predict/lstm_weights.hpp"

namespace speckv::predict {

// To the nearest, halves to even. REQUIRES: a finite value.
constexpr std::uint16_t to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
constexpr float from_bf16(std::uint16_t value) noexcept {
  return std::bit_cast<float>(std::uint32_t{value} << 16);
}

struct Bf16Matrix {
  static constexpr std::uint32_t kPanel = 64;  // rows of a panel
  struct alignas(64) Line {
    std::uint16_t value[32];
  };

  std::uint32_t rows = 0, columns = 0;  // a multiple of 4 columns
  // [panel][column / 2][row in the panel][column % 2], rows padded with zeros to a panel.
  std::vector<Line> lines;
  std::vector<float> bias;  // padded likewise

  Bf16Matrix() = default;
  Bf16Matrix(std::uint32_t r, std::uint32_t c);
  void set(std::uint32_t row, std::uint32_t column, std::uint16_t value) noexcept;
  std::uint32_t padded_rows() const noexcept {
    return static_cast<std::uint32_t>(bias.size());
  }
};

struct Bf16Weights {
  LstmShape shape;
  std::vector<std::uint32_t> symbols;
  std::vector<std::uint16_t> embedding;
  std::array<Bf16Matrix, kLstmLayers> layers;
  Bf16Matrix head;
  std::vector<Bf16Matrix> tail;  // one a cluster
};

// invalid_argument: a number is not finite, or not in bfloat16.
Result<Bf16Weights> round_to_bf16(const LstmWeights& weights);

// Immutable. Each set stays within the bounds that tests/conformance/lstm_kernels.cpp
// states; they differ in the order of their sums.
struct Bf16Kernel {
  std::string_view name;  // "scalar", "avx512bf16"
  bool (*usable)() noexcept;
  // out[r] = bias[r] + sum of weight[r][c] * in[c], for all padded rows. `in` and `out`
  // are aligned to 64 bytes.
  void (*affine)(const Bf16Matrix& matrix, const std::uint16_t* in, float* out) noexcept;
  // 128 cells from 512 gates. All aligned to 64 bytes.
  void (*cells)(const float* gates, float* c, std::uint16_t* h) noexcept;
};

// In order of preference; the last, "scalar", is always usable.
std::span<const Bf16Kernel> bf16_kernels() noexcept;
// The first that is usable.
const Bf16Kernel& best_bf16_kernel() noexcept;

namespace bf16_detail {
extern const Bf16Kernel kScalar;
#if defined(__x86_64__)
extern const Bf16Kernel kAvx512Bf16;
#endif
}  // namespace bf16_detail

// What it knows of a sequence so far; zero at its beginning.
struct Bf16State {
  alignas(64) std::array<std::array<float, kHidden>, kLstmLayers> c{};
  alignas(64) std::array<std::array<std::uint16_t, kHidden>, kLstmLayers> h{};
};

// Immutable; does not own the weights, which have to stay.
class Bf16Lstm {
 public:
  using Weights = Bf16Weights;
  using State = Bf16State;

  explicit Bf16Lstm(const Bf16Weights& weights,
                    const Bf16Kernel& kernel = best_bf16_kernel()) noexcept
      : weights_(weights), kernel_(kernel) {}

  // `input`: shape.inputs finite numbers, cut to -127/128..127/128.
  void step(Bf16State& state, std::span<const float> input) const noexcept;
  // REQUIRES: class_index < shape.vocabulary.
  void step(Bf16State& state, std::uint32_t class_index) const noexcept;

  // Natural logits. REQUIRES: logits.size() == shape.outputs().
  void head(const Bf16State& state, std::span<float> logits) const noexcept;
  // As Int8Lstm::best(). REQUIRES: a vocabulary.
  std::size_t best(const Bf16State& state, std::span<ClassAnswer> to) const noexcept;

 private:
  void step(Bf16State& state, std::uint16_t* in) const noexcept;

  const Bf16Weights& weights_;
  const Bf16Kernel& kernel_;
};

}  // namespace speckv::predict
