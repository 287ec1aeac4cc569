// Steps and answers of the LSTM.
#include "predict/lstm.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace speckv::predict {
namespace {

struct Outputs {
  alignas(64) std::int32_t logit[kMostOutputs];
  alignas(64) std::uint32_t weight[kMostOutputs];
  std::uint32_t sum;

  // Softmax in whole numbers of a matrix's rows.
  void weigh(const LstmKernel& kernel, const Int8Matrix& matrix,
             const std::int8_t* h) noexcept {
    kernel.affine(matrix, h, logit);
    const std::int32_t most = *std::max_element(logit, logit + matrix.rows);
    sum = kernel.weigh(logit, matrix.rows, most, weight);
  }
  std::uint32_t share(std::size_t i) const noexcept {
    return static_cast<std::uint32_t>(std::uint64_t{weight[i]} * kCertain / sum);
  }
};

}  // namespace

void Int8Lstm::step(Int8State& state, std::span<const std::int8_t> input) const noexcept {
  alignas(64) std::int8_t in[2 * kHidden];
  alignas(64) std::int32_t gates[kGateRows];
  const std::uint32_t width = weights_.shape.inputs;
  std::memcpy(in, input.data(), width);
  std::memcpy(in + width, state.h[0].data(), kHidden);
  kernel_.affine(weights_.layers[0], in, gates);
  kernel_.cells(gates, state.c[0].data(), state.h[0].data());
  std::memcpy(in, state.h[0].data(), kHidden);
  std::memcpy(in + kHidden, state.h[1].data(), kHidden);
  kernel_.affine(weights_.layers[1], in, gates);
  kernel_.cells(gates, state.c[1].data(), state.h[1].data());
}

void Int8Lstm::step(Int8State& state, std::uint32_t class_index) const noexcept {
  const std::size_t width = weights_.shape.inputs;
  step(state, std::span(weights_.embedding).subspan(class_index * width, width));
}

void Int8Lstm::distribution(const Int8State& state,
                            std::span<std::uint32_t> all) const noexcept {
  Outputs out;
  out.weigh(kernel_, weights_.head, state.h[1].data());
  for (std::size_t i = 0; i < all.size(); ++i)
    all[i] = out.share(i);
}

std::size_t Int8Lstm::best(const Int8State& state,
                           std::span<ClassAnswer> to) const noexcept {
  return best_classes<Outputs>(
      weights_.shape, to, [&](std::uint32_t part, Outputs& out) noexcept {
        const Int8Matrix& matrix = part == kHead ? weights_.head : weights_.tail[part];
        out.weigh(kernel_, matrix, state.h[1].data());
        return matrix.rows;
      });
}

namespace {

void float_rows(const FloatMatrix& matrix, std::uint32_t first, std::span<const float> in,
                std::span<float> out) noexcept {
  for (std::size_t r = 0; r < out.size(); ++r) {
    const float* row = matrix.weight.data() + (first + r) * matrix.columns;
    float sum = matrix.bias[first + r];
    for (std::size_t c = 0; c < in.size(); ++c)
      sum += row[c] * in[c];
    out[r] = sum;
  }
}

float sigmoid(float x) noexcept {
  return 1 / (1 + std::exp(-x));
}

}  // namespace

void float_step(const LstmWeights& weights, FloatState& state,
                std::span<const float> input) noexcept {
  std::array<float, 2 * kHidden> in;
  std::array<float, kGateRows> gates;
  const auto clip = [](float x) { return std::clamp(x, -127.0F / 128, 127.0F / 128); };
  std::size_t width = input.size();
  std::transform(input.begin(), input.end(), in.begin(), clip);
  for (std::size_t l = 0; l < kLstmLayers; ++l) {
    auto& c = state.c[l];
    auto& h = state.h[l];
    std::copy(h.begin(), h.end(), in.begin() + static_cast<std::ptrdiff_t>(width));
    float_rows(weights.layers[l], 0, std::span(in).first(width + kHidden), gates);
    for (std::size_t k = 0; k < kHidden; ++k) {
      const float i = sigmoid(gates[k]), f = sigmoid(gates[kHidden + k]);
      const float g = std::tanh(gates[2 * kHidden + k]);
      const float o = sigmoid(gates[3 * kHidden + k]);
      c[k] = f * c[k] + i * g;
      h[k] = o * std::tanh(c[k]);
    }
    std::copy(h.begin(), h.end(), in.begin());
    width = kHidden;
  }
}

void float_head(const LstmWeights& weights, const FloatState& state,
                std::span<float> logits) noexcept {
  float_rows(weights.head, 0, state.h[1], logits);
}

void float_tail(const LstmWeights& weights, const FloatState& state,
                std::uint32_t cluster, std::span<float> logits) noexcept {
  float_rows(weights.tail, cluster * weights.shape.cluster, state.h[1], logits);
}

}  // namespace speckv::predict
