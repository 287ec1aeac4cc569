// Steps and answers of the LSTM.
#include "predict/lstm.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace speckv::predict {
namespace {

constexpr std::uint32_t kAll = 65536;

struct Outputs {
  alignas(64) std::int32_t logit[kMostOutputs];
  alignas(64) std::uint32_t weight[kMostOutputs];
};

// Softmax in whole numbers of the first `rows` outputs.
std::uint32_t weigh(const LstmKernel& kernel, const Int8Matrix& matrix,
                    const std::int8_t* h, Outputs& out) noexcept {
  kernel.affine(matrix, h, out.logit);
  const std::int32_t most = *std::max_element(out.logit, out.logit + matrix.rows);
  return kernel.weigh(out.logit, matrix.rows, most, out.weight);
}

std::uint32_t share(std::uint32_t weight, std::uint32_t sum) noexcept {
  return static_cast<std::uint32_t>(std::uint64_t{weight} * kAll / sum);
}

// The places of the largest logits, the largest first and equal ones in their order.
std::size_t largest(const std::int32_t* logits, std::uint32_t begin, std::uint32_t end,
                    std::span<std::uint32_t> to) noexcept {
  std::size_t count = 0;
  for (std::uint32_t i = begin; i < end; ++i) {
    if (count == to.size() && logits[i] <= logits[to[count - 1]]) continue;
    std::size_t at = count < to.size() ? count++ : count - 1;
    for (; at > 0 && logits[to[at - 1]] < logits[i]; --at)
      to[at] = to[at - 1];
    to[at] = i;
  }
  return count;
}

bool better(const Int8Answer& a, const Int8Answer& b) noexcept {
  return a.confidence != b.confidence ? a.confidence > b.confidence
                                      : a.class_index < b.class_index;
}

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
  const std::uint32_t sum = weigh(kernel_, weights_.head, state.h[1].data(), out);
  for (std::size_t i = 0; i < all.size(); ++i)
    all[i] = share(out.weight[i], sum);
}

std::size_t Int8Lstm::best(const Int8State& state,
                           std::span<Int8Answer> to) const noexcept {
  const LstmShape& shape = weights_.shape;
  to = to.first(std::min(to.size(), kMostBest));
  if (to.empty()) return 0;
  Outputs out;
  const std::uint32_t sum = weigh(kernel_, weights_.head, state.h[1].data(), out);
  std::array<std::uint32_t, kMostBest> place;
  const std::size_t found = largest(out.logit, kUnknown + 1, shape.outputs(),
                                    std::span(place).first(to.size()));
  std::array<Int8Answer, kMostBest * kMostBest> all;
  std::size_t count = 0;
  for (std::size_t i = 0; i < found; ++i) {
    const std::uint32_t confidence = share(out.weight[place[i]], sum);
    if (place[i] < shape.shortlist) {
      all[count++] = {place[i], confidence};
    } else {
      count += best_of_cluster(state, place[i] - shape.shortlist, confidence,
                               std::span(all).subspan(count, to.size()));
    }
  }
  std::sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count), better);
  count = std::min(count, to.size());
  std::copy_n(all.begin(), count, to.begin());
  return count;
}

std::size_t Int8Lstm::best_of_cluster(const Int8State& state, std::uint32_t cluster,
                                      std::uint32_t confidence,
                                      std::span<Int8Answer> to) const noexcept {
  Outputs out;
  const Int8Matrix& matrix = weights_.tail[cluster];
  const std::uint32_t sum = weigh(kernel_, matrix, state.h[1].data(), out);
  std::array<std::uint32_t, kMostBest> place;
  const std::size_t found =
      largest(out.logit, 0, matrix.rows, std::span(place).first(to.size()));
  for (std::size_t i = 0; i < found; ++i) {
    const std::uint64_t within = share(out.weight[place[i]], sum);
    to[i] = {weights_.shape.shortlist + cluster * weights_.shape.cluster + place[i],
             static_cast<std::uint32_t>(within * confidence / kAll)};
  }
  return found;
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
