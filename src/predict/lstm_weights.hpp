// predict/lstm_weights.hpp -- an LSTM's parameters, as numbers and as whole numbers, and
// the file that holds either (docs/lstm-format.md). A file is not trusted: every size,
// number and the checksum are looked at before anything is believed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/status.hpp"

#include "predict/lstm_shape.hpp"

namespace speckv::predict {

// Rows of 32-bit floats, one after the other, and a bias each.
struct FloatMatrix {
  std::uint32_t rows = 0, columns = 0;
  std::vector<float> weight, bias;

  FloatMatrix() = default;
  FloatMatrix(std::uint32_t r, std::uint32_t c)
      : rows(r), columns(c), weight(std::size_t{r} * c), bias(r) {}
};

// Value types. Gates are in the order input, forget, cell, output, as in PyTorch.
struct LstmWeights {
  LstmShape shape;
  std::vector<std::uint32_t> symbols;  // of the classes; the first stands for all others
  std::vector<float> embedding;  // [vocabulary][inputs]; what lies outside -1..1 is cut
  std::array<FloatMatrix, kLstmLayers> layers;  // [512][columns(layer)]
  FloatMatrix head, tail;                       // [outputs or tail][128]

  // All zero. REQUIRES: shape.validate().ok().
  static LstmWeights zero(const LstmShape& shape);
};

// y = (sum of weight x input * multiplier + bias + 2^(shift-1)) >> shift, row by row.
struct Int8Matrix {
  static constexpr std::uint32_t kPanel = 64;  // rows of a panel
  struct alignas(64) Line {
    std::int8_t byte[64];
  };

  std::uint32_t rows = 0, columns = 0, shift = 1;
  // [panel][column / 4][row in the panel][column % 4], rows padded with zeros to a panel.
  std::vector<Line> lines;
  std::vector<std::int32_t> multiplier, bias;  // padded likewise
  // For kernels that add 128 to inputs: bias, rounding, and what those 128 added, modulo
  // 2^32.
  std::vector<std::int32_t> start;

  Int8Matrix() = default;
  Int8Matrix(std::uint32_t r, std::uint32_t c);
  std::size_t place(std::uint32_t row, std::uint32_t column) const noexcept;
  std::int8_t at(std::uint32_t row, std::uint32_t column) const noexcept;
  void set(std::uint32_t row, std::uint32_t column, std::int8_t value) noexcept;
  std::uint32_t padded_rows() const noexcept {
    return static_cast<std::uint32_t>(bias.size());
  }
  // To be called once, when all else is known.
  void settle() noexcept;
};

struct Int8Weights {
  LstmShape shape;
  std::vector<std::uint32_t> symbols;
  std::vector<std::int8_t> embedding;
  std::array<Int8Matrix, kLstmLayers> layers;
  Int8Matrix head;
  std::vector<Int8Matrix> tail;  // one a cluster
};

// invalid_argument: a number is not finite, or too large to be written in 8 bits.
Result<Int8Weights> quantise(const LstmWeights& weights);

std::vector<std::byte> write_weights(const LstmWeights& weights);
std::vector<std::byte> write_weights(const Int8Weights& weights);

// corrupted: not a weights file, cut off, damaged, or a number that no writer writes.
// unsupported: of another version. invalid_argument: a shape that there is not.
// read_weights takes files of floats only, read_int8 those of whole numbers, too.
Result<LstmWeights> read_weights(Bytes file);
Result<Int8Weights> read_int8(Bytes file);

}  // namespace speckv::predict
