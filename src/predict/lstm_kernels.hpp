// predict/lstm_kernels.hpp -- the three loops of the INT8 LSTM, one set per instruction
// set. "scalar" is the definition (int8_arithmetic.hpp); every other set gives the same
// bits for all input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "predict/lstm_weights.hpp"

namespace speckv::predict {

// Immutable.
struct LstmKernel {
  std::string_view name;  // "scalar", "avx2", "avx512vnni"
  bool (*usable)() noexcept;
  // out[r] = int8::affine(...) for all padded rows. `in` has matrix.columns values of
  // -127..127, `out` is aligned to 64 bytes, and `in` is, too.
  void (*affine)(const Int8Matrix& matrix, const std::int8_t* in,
                 std::int32_t* out) noexcept;
  // int8::cell() 128 times. All aligned to 64 bytes.
  void (*cells)(const std::int32_t* gates, std::int16_t* c, std::int8_t* h) noexcept;
  // weights[i] = int8::weight(most - logits[i]), where no logit is larger than `most`;
  // returns their sum. count <= kMostOutputs.
  std::uint32_t (*weigh)(const std::int32_t* logits, std::size_t count, std::int32_t most,
                         std::uint32_t* weights) noexcept;
};

// In order of preference; the last, "scalar", is always usable.
std::span<const LstmKernel> lstm_kernels() noexcept;
// The first that is usable.
const LstmKernel& best_lstm_kernel() noexcept;

namespace lstm_detail {
extern const LstmKernel kScalar;
#if defined(__x86_64__)
extern const LstmKernel kAvx2, kAvx512Vnni;
#endif
}  // namespace lstm_detail

}  // namespace speckv::predict
