// The LSTM in bfloat16: rounding, steps, answers, and which kernel runs.
#include "predict/bf16_lstm.hpp"

#include <cmath>
#include <cstring>

namespace speckv::predict {

Bf16Matrix::Bf16Matrix(std::uint32_t r, std::uint32_t c) : rows(r), columns(c) {
  const std::size_t padded = (std::size_t{r} + kPanel - 1) / kPanel * kPanel;
  lines.resize(padded * c * sizeof(std::uint16_t) / sizeof(Line));
  bias.resize(padded);
}

void Bf16Matrix::set(std::uint32_t row, std::uint32_t column,
                     std::uint16_t value) noexcept {
  constexpr std::size_t kLine = sizeof(Line) / sizeof(std::uint16_t);
  const std::size_t at = std::size_t{row / kPanel} * kPanel * columns +
                         std::size_t{column / 2} * 2 * kPanel + (row % kPanel) * 2 +
                         column % 2;
  lines[at / kLine].value[at % kLine] = value;
}

namespace {

// Whether `from` is a number that has a finite neighbour in bfloat16.
bool round(float from, std::uint16_t& to) noexcept {
  if (!std::isfinite(from)) return false;
  to = to_bf16(from);
  return std::isfinite(from_bf16(to));
}

bool round(const FloatMatrix& from, std::uint32_t first, std::uint32_t rows,
           Bf16Matrix& to) {
  to = Bf16Matrix(rows, from.columns);
  bool good = true;
  for (std::uint32_t r = 0; r < rows; ++r) {
    to.bias[r] = from.bias[first + r];
    good = good && std::isfinite(to.bias[r]);
    for (std::uint32_t c = 0; c < from.columns; ++c) {
      std::uint16_t value = 0;
      good = round(from.weight[std::size_t{first + r} * from.columns + c], value) && good;
      to.set(r, c, value);
    }
  }
  return good;
}

constexpr float kMostInput = 127.0F / 128;

std::uint16_t input(float value) noexcept {
  return to_bf16(std::clamp(value, -kMostInput, kMostInput));
}

struct Outputs {
  alignas(64) float logit[kMostOutputs];
  float weight[kMostOutputs];
  float sum;

  void weigh(std::uint32_t rows) noexcept {
    const float most = *std::max_element(logit, logit + rows);
    sum = 0;
    for (std::uint32_t i = 0; i < rows; ++i)
      sum += weight[i] = std::exp(logit[i] - most);
  }
  std::uint32_t share(std::uint32_t i) const noexcept {
    return static_cast<std::uint32_t>(weight[i] / sum * kCertain);
  }
};

}  // namespace

Result<Bf16Weights> round_to_bf16(const LstmWeights& weights) {
  Bf16Weights to;
  to.shape = weights.shape;
  to.symbols = weights.symbols;
  bool good = true;
  to.embedding.reserve(weights.embedding.size());
  for (const float value : weights.embedding) {
    good = good && std::isfinite(value);
    to.embedding.push_back(good ? input(value) : std::uint16_t{0});
  }
  for (std::size_t l = 0; l < kLstmLayers; ++l)
    good = round(weights.layers[l], 0, kGateRows, to.layers[l]) && good;
  good = round(weights.head, 0, weights.head.rows, to.head) && good;
  const LstmShape& shape = weights.shape;
  for (std::uint32_t c = 0; c < shape.clusters(); ++c) {
    const std::uint32_t first = c * shape.cluster;
    const std::uint32_t rows = std::min(shape.cluster, shape.tail() - first);
    good = round(weights.tail, first, rows, to.tail.emplace_back()) && good;
  }
  if (!good)
    return Status{Code::invalid_argument, "weights: a number that bfloat16 has not"};
  return to;
}

// `in`: the step's input, with room for the two h behind it.
void Bf16Lstm::step(Bf16State& state, std::uint16_t* in) const noexcept {
  alignas(64) float gates[kGateRows];
  std::size_t width = weights_.shape.inputs;
  for (std::size_t l = 0; l < kLstmLayers; ++l) {
    std::memcpy(in + width, state.h[l].data(), sizeof state.h[l]);
    kernel_.affine(weights_.layers[l], in, gates);
    kernel_.cells(gates, state.c[l].data(), state.h[l].data());
    std::memcpy(in, state.h[l].data(), sizeof state.h[l]);
    width = kHidden;
  }
}

void Bf16Lstm::step(Bf16State& state, std::span<const float> input) const noexcept {
  alignas(64) std::uint16_t in[2 * kHidden];
  std::transform(input.begin(), input.end(), in, predict::input);
  step(state, in);
}

void Bf16Lstm::step(Bf16State& state, std::uint32_t class_index) const noexcept {
  alignas(64) std::uint16_t in[2 * kHidden];
  const std::size_t width = weights_.shape.inputs;
  std::memcpy(in, weights_.embedding.data() + class_index * width,
              width * sizeof(std::uint16_t));
  step(state, in);
}

void Bf16Lstm::head(const Bf16State& state, std::span<float> logits) const noexcept {
  Outputs out;
  kernel_.affine(weights_.head, state.h[1].data(), out.logit);
  std::copy_n(out.logit, logits.size(), logits.begin());
}

std::size_t Bf16Lstm::best(const Bf16State& state,
                           std::span<ClassAnswer> to) const noexcept {
  return best_classes<Outputs>(
      weights_.shape, to, [&](std::uint32_t part, Outputs& out) noexcept {
        const Bf16Matrix& matrix = part == kHead ? weights_.head : weights_.tail[part];
        kernel_.affine(matrix, state.h[1].data(), out.logit);
        out.weigh(matrix.rows);
        return matrix.rows;
      });
}

// ---- Kernels
// ------------------------------------------------------------------------------

namespace {

bool always() noexcept {
  return true;
}

// A panel at a time: its rows are next to each other, for the compiler's vectors.
void affine(const Bf16Matrix& matrix, const std::uint16_t* in, float* out) noexcept {
  constexpr std::uint32_t kPanel = Bf16Matrix::kPanel;
  constexpr std::uint32_t kLine = 32;  // values
  const Bf16Matrix::Line* line = matrix.lines.data();
  for (std::uint32_t row = 0; row < matrix.padded_rows(); row += kPanel) {
    float sum[kPanel];
    std::copy_n(matrix.bias.data() + row, kPanel, sum);
    for (std::uint32_t c = 0; c < matrix.columns; c += 2) {
      const float x = from_bf16(in[c]), y = from_bf16(in[c + 1]);
      for (std::uint32_t r = 0; r < kPanel; r += kLine / 2, ++line) {
        for (std::uint32_t i = 0; i < kLine / 2; ++i) {
          sum[r + i] += from_bf16(line->value[2 * i]) * x;
          sum[r + i] += from_bf16(line->value[2 * i + 1]) * y;
        }
      }
    }
    std::copy_n(sum, kPanel, out + row);
  }
}

float sigmoid(float x) noexcept {
  return 1 / (1 + std::exp(-x));
}

void cells(const float* gates, float* c, std::uint16_t* h) noexcept {
  for (std::uint32_t k = 0; k < kHidden; ++k) {
    const float added = sigmoid(gates[k]) * std::tanh(gates[2 * kHidden + k]);
    c[k] = sigmoid(gates[kHidden + k]) * c[k] + added;
    h[k] = to_bf16(sigmoid(gates[3 * kHidden + k]) * std::tanh(c[k]));
  }
}

}  // namespace

namespace bf16_detail {
const Bf16Kernel kScalar = {"scalar", always, affine, cells};
}  // namespace bf16_detail

std::span<const Bf16Kernel> bf16_kernels() noexcept {
  using namespace bf16_detail;
#if defined(__x86_64__)
  static const Bf16Kernel kernels[] = {kAvx512Bf16, kScalar};
#else
  static const Bf16Kernel kernels[] = {kScalar};
#endif
  return kernels;
}

const Bf16Kernel& best_bf16_kernel() noexcept {
  for (const Bf16Kernel& kernel : bf16_kernels()) {
    if (kernel.usable()) return kernel;
  }
  return bf16_detail::kScalar;
}

}  // namespace speckv::predict
