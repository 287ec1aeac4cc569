// From floats to whole numbers.
#include "predict/lstm_weights.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "predict/int8_arithmetic.hpp"

namespace speckv::predict {
namespace {

Status invalid(const char* what) {
  return {Code::invalid_argument, what};
}

// One scale a matrix (a power of two), one multiplier a row: the largest shift at which
// every multiplier has 8 bits and every bias 30.
Result<Int8Matrix> quantise(const FloatMatrix& from, std::uint32_t first,
                            std::uint32_t rows, double unit) {
  double widest = 0, bias = 0;
  const auto row_of = [&](std::uint32_t r) {
    return from.weight.data() + std::size_t{first + r} * from.columns;
  };
  for (std::uint32_t r = 0; r < rows; ++r) {
    for (std::uint32_t c = 0; c < from.columns; ++c) {
      const double w = std::abs(static_cast<double>(row_of(r)[c])) * unit;
      if (!std::isfinite(w)) return invalid("weights: a weight is not finite");
      widest = std::max(widest, w);
    }
    const double b = std::abs(static_cast<double>(from.bias[first + r])) * unit;
    if (!std::isfinite(b)) return invalid("weights: a bias is not finite");
    bias = std::max(bias, b);
  }
  std::uint32_t shift = int8::kMostShift;
  const auto fits = [&] {
    const int s = static_cast<int>(shift);
    return std::ldexp(widest / 127, s + int8::kScale) <= int8::kMostMultiplier &&
           std::ldexp(bias, s + int8::kFraction) <= int8::kMostBias;
  };
  while (shift > 1 && !fits())
    --shift;
  if (!fits()) return invalid("weights: too large for 8 bits");

  Int8Matrix to(rows, from.columns);
  to.shift = shift;
  const int scale = static_cast<int>(shift) + int8::kScale;
  for (std::uint32_t r = 0; r < rows; ++r) {
    double most = 0;
    for (std::uint32_t c = 0; c < from.columns; ++c)
      most = std::max(most, std::abs(static_cast<double>(row_of(r)[c])) * unit);
    const double multiplier = std::max(1.0, std::ceil(std::ldexp(most / 127, scale)));
    to.multiplier[r] = static_cast<std::int32_t>(multiplier);
    for (std::uint32_t c = 0; c < from.columns; ++c) {
      const double w = static_cast<double>(row_of(r)[c]) * unit;
      to.set(r, c,
             static_cast<std::int8_t>(std::clamp(
                 std::round(std::ldexp(w, scale) / multiplier), -127.0, 127.0)));
    }
    const double b = static_cast<double>(from.bias[first + r]) * unit;
    to.bias[r] = static_cast<std::int32_t>(
        std::round(std::ldexp(b, static_cast<int>(shift) + int8::kFraction)));
  }
  to.settle();
  return to;
}

}  // namespace

Status LstmShape::validate() const {
  if (inputs == 0 || inputs > kMostInputs || inputs % 8 != 0)
    return invalid("weights: inputs are a multiple of 8, up to 64");
  if (shortlist == 0 || shortlist > kMostOutputs)
    return invalid("weights: the shortlist has 1 to 1024 classes");
  if (vocabulary > kMostVocabulary)
    return invalid("weights: a vocabulary has at most 32768 classes");
  if (vocabulary != 0 && (vocabulary < 2 || vocabulary < shortlist))
    return invalid("weights: a vocabulary has at least 2 classes, and its shortlist");
  if ((tail() == 0) != (cluster == 0) || cluster > kMostOutputs)
    return invalid("weights: a cluster has 1 to 1024 classes, and is there for a tail");
  if (outputs() > kMostOutputs) return invalid("weights: more than 1024 outputs");
  return {};
}

LstmWeights LstmWeights::zero(const LstmShape& shape) {
  LstmWeights w;
  w.shape = shape;
  w.symbols.resize(shape.vocabulary);
  w.embedding.resize(std::size_t{shape.vocabulary} * shape.inputs);
  for (std::uint32_t l = 0; l < kLstmLayers; ++l)
    w.layers[l] = FloatMatrix(kGateRows, shape.columns(l));
  w.head = FloatMatrix(shape.outputs(), kHidden);
  w.tail = FloatMatrix(shape.tail(), kHidden);
  return w;
}

Int8Matrix::Int8Matrix(std::uint32_t r, std::uint32_t c) : rows(r), columns(c) {
  const std::size_t padded = (r + kPanel - 1) / kPanel * kPanel;
  lines.resize(padded * c / sizeof(Line));
  multiplier.resize(padded);
  bias.resize(padded);
  start.resize(padded);
}

std::size_t Int8Matrix::place(std::uint32_t row, std::uint32_t column) const noexcept {
  const std::size_t panel = std::size_t{row / kPanel} * kPanel * columns;
  return panel + std::size_t{column / 4} * 4 * kPanel + (row % kPanel) * 4 + column % 4;
}

std::int8_t Int8Matrix::at(std::uint32_t row, std::uint32_t column) const noexcept {
  const std::size_t p = place(row, column);
  return lines[p / sizeof(Line)].byte[p % sizeof(Line)];
}

void Int8Matrix::set(std::uint32_t row, std::uint32_t column,
                     std::int8_t value) noexcept {
  const std::size_t p = place(row, column);
  lines[p / sizeof(Line)].byte[p % sizeof(Line)] = value;
}

void Int8Matrix::settle() noexcept {
  for (std::uint32_t r = 0; r < padded_rows(); ++r) {
    std::int32_t sum = 0;
    for (std::uint32_t c = 0; c < columns; ++c)
      sum += at(r, c);
    const std::int64_t all = std::int64_t{bias[r]} + (std::int64_t{1} << (shift - 1)) -
                             std::int64_t{128} * sum * multiplier[r];
    start[r] = static_cast<std::int32_t>(static_cast<std::uint32_t>(all));
  }
}

Result<Int8Weights> quantise(const LstmWeights& weights) {
  Int8Weights to;
  to.shape = weights.shape;
  to.symbols = weights.symbols;
  to.embedding.reserve(weights.embedding.size());
  for (const float value : weights.embedding) {
    if (!std::isfinite(value)) return invalid("weights: an embedding is not finite");
    to.embedding.push_back(int8::input(value));
  }
  const auto take = [](Result<Int8Matrix> made, Int8Matrix& place) -> Status {
    if (!made.ok()) return made.error();
    place = *std::move(made);
    return {};
  };
  for (std::size_t l = 0; l < kLstmLayers; ++l) {
    const Status done =
        take(quantise(weights.layers[l], 0, kGateRows, 1.0), to.layers[l]);
    if (!done.ok()) return done;
  }
  const double bits = std::numbers::log2e;
  Status done = take(quantise(weights.head, 0, weights.head.rows, bits), to.head);
  const LstmShape& shape = weights.shape;
  for (std::uint32_t c = 0; done.ok() && c < shape.clusters(); ++c) {
    const std::uint32_t first = c * shape.cluster;
    const std::uint32_t rows = std::min(shape.cluster, shape.tail() - first);
    done = take(quantise(weights.tail, first, rows, bits), to.tail.emplace_back());
  }
  if (!done.ok()) return done;
  return to;
}

}  // namespace speckv::predict
