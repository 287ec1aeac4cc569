// The definition, in loops, and which kernel runs.
#include "predict/lstm_kernels.hpp"

#include "predict/int8_arithmetic.hpp"

namespace speckv::predict {
namespace {

bool always() noexcept {
  return true;
}

void affine(const Int8Matrix& matrix, const std::int8_t* in, std::int32_t* out) noexcept {
  for (std::uint32_t r = 0; r < matrix.padded_rows(); ++r) {
    std::int32_t sum = 0;
    for (std::uint32_t c = 0; c < matrix.columns; ++c)
      sum += matrix.at(r, c) * in[c];
    out[r] = int8::affine(sum, matrix.multiplier[r], matrix.bias[r], matrix.shift);
  }
}

void cells(const std::int32_t* gates, std::int16_t* c, std::int8_t* h) noexcept {
  for (std::uint32_t i = 0; i < kHidden; ++i) {
    const int8::Cell cell =
        int8::cell(gates[i], gates[kHidden + i], gates[2 * kHidden + i],
                   gates[3 * kHidden + i], c[i]);
    c[i] = cell.c;
    h[i] = cell.h;
  }
}

std::uint32_t weigh(const std::int32_t* logits, std::size_t count, std::int32_t most,
                    std::uint32_t* weights) noexcept {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    weights[i] = int8::weight(static_cast<std::uint32_t>(most - logits[i]));
    sum += weights[i];
  }
  return sum;
}

}  // namespace

namespace lstm_detail {
const LstmKernel kScalar = {"scalar", always, affine, cells, weigh};
}  // namespace lstm_detail

std::span<const LstmKernel> lstm_kernels() noexcept {
  using namespace lstm_detail;
#if defined(__x86_64__)
  static const LstmKernel kernels[] = {kAvx512Vnni, kAvx2, kScalar};
#else
  static const LstmKernel kernels[] = {kScalar};
#endif
  return kernels;
}

const LstmKernel& best_lstm_kernel() noexcept {
  for (const LstmKernel& kernel : lstm_kernels()) {
    if (kernel.usable()) return kernel;
  }
  return lstm_detail::kScalar;
}

}  // namespace speckv::predict
