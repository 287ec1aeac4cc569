// The LSTM in bfloat16 with AVX-512 BF16: two products a lane and instruction.
#include "predict/bf16_lstm.hpp"

#if defined(__x86_64__)

// g++ 12 calls its own intrinsics' undefined operands uninitialized (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <cstring>

#include <immintrin.h>

#define SPECKV_BF16 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define SPECKV_BF16_INLINE SPECKV_BF16 __attribute__((always_inline)) inline

namespace speckv::predict {
namespace {

bool usable() noexcept {
  return __builtin_cpu_supports("avx512f") != 0 &&
         __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("avx512bf16") != 0;
}

// Pairs of bfloat16, as the instruction's own type.
SPECKV_BF16_INLINE __m512bh pairs(const void* from) noexcept {
  __m512bh to;
  std::memcpy(&to, from, sizeof to);
  return to;
}

SPECKV_BF16_INLINE __m512bh same_pair(std::uint32_t pair) noexcept {
  const __m512i all = _mm512_set1_epi32(static_cast<int>(pair));
  return pairs(&all);
}

SPECKV_BF16 void affine(const Bf16Matrix& matrix, const std::uint16_t* in,
                        float* out) noexcept {
  const Bf16Matrix::Line* line = matrix.lines.data();
  for (std::uint32_t row = 0; row < matrix.padded_rows(); row += Bf16Matrix::kPanel) {
    __m512 sum[4], odd[4];
#pragma GCC unroll 4
    for (std::uint32_t i = 0; i < 4; ++i) {
      sum[i] = _mm512_loadu_ps(&matrix.bias[row + 16 * i]);
      odd[i] = _mm512_setzero_ps();
    }
    for (std::uint32_t c = 0; c < matrix.columns; c += 4, line += 8) {
      std::uint32_t two[2];
      std::memcpy(two, in + c, sizeof two);
      const __m512bh x = same_pair(two[0]), y = same_pair(two[1]);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        sum[i] = _mm512_dpbf16_ps(sum[i], pairs(line + i), x);
        odd[i] = _mm512_dpbf16_ps(odd[i], pairs(line + 4 + i), y);
      }
    }
#pragma GCC unroll 4
    for (std::uint32_t i = 0; i < 4; ++i)
      _mm512_store_ps(out + row + 16 * i, _mm512_add_ps(sum[i], odd[i]));
  }
}

// 2^f for -0.5..0.5 by its series, then the exponent: within 3e-7 of e^x, relatively.
SPECKV_BF16_INLINE __m512 exponential(__m512 x) noexcept {
  const __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504F));
  const __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT);
  const __m512 f = _mm512_sub_ps(t, n);
  __m512 y = _mm512_set1_ps(1.54035304e-4F);
  for (const float term :
       {1.33335581e-3F, 9.61812911e-3F, 5.55041087e-2F, 0.240226507F, 0.693147181F, 1.0F})
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(term));
  return _mm512_scalef_ps(y, n);
}

SPECKV_BF16_INLINE __m512 sigmoid(__m512 x) noexcept {
  const __m512 one = _mm512_set1_ps(1.0F);
  const __m512 minus = _mm512_sub_ps(_mm512_setzero_ps(), x);
  return _mm512_div_ps(one, _mm512_add_ps(one, exponential(minus)));
}

SPECKV_BF16_INLINE __m512 tanh(__m512 x) noexcept {
  const __m512 y = sigmoid(_mm512_add_ps(x, x));
  return _mm512_sub_ps(_mm512_add_ps(y, y), _mm512_set1_ps(1.0F));
}

SPECKV_BF16 void cells(const float* gates, float* c, std::uint16_t* h) noexcept {
  for (std::uint32_t k = 0; k < kHidden; k += 16) {
    const __m512 i = sigmoid(_mm512_load_ps(gates + k));
    const __m512 f = sigmoid(_mm512_load_ps(gates + kHidden + k));
    const __m512 g = tanh(_mm512_load_ps(gates + 2 * kHidden + k));
    const __m512 o = sigmoid(_mm512_load_ps(gates + 3 * kHidden + k));
    const __m512 now = _mm512_fmadd_ps(f, _mm512_load_ps(c + k), _mm512_mul_ps(i, g));
    _mm512_store_ps(c + k, now);
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_mul_ps(o, tanh(now)));
    std::memcpy(h + k, &rounded, sizeof rounded);
  }
}

}  // namespace

namespace bf16_detail {
const Bf16Kernel kAvx512Bf16 = {"avx512bf16", usable, affine, cells};
}  // namespace bf16_detail

}  // namespace speckv::predict

#endif
