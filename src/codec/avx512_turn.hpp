// codec/avx512_turn.hpp -- rows for columns, as encoders and decoders with a token a lane
// need them (internal).
#pragma once

#include "codec/avx512.hpp"

#if defined(__x86_64__)

namespace speckv::avx512 {

// Word i of a register to word 2 i, word 16 + i to word 2 i + 1; and back.
alignas(64) inline constexpr std::uint16_t kInterleaved[32] = {
    0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
    8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
alignas(64) inline constexpr std::uint16_t kApart[32] = {
    0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
    1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};

// Of 16 registers with 16 words of 32 bits, rows for columns.
SPECKV_AVX512_INLINE void transpose(__m512i* x) {
  __m512i y[16];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  // x[4 j + k]: rows 4 j to 4 j + 3 of columns k, 4 + k, 8 + k, 12 + k.
#pragma GCC unroll 4
  for (std::size_t k = 0; k < 4; ++k) {
    y[k] = _mm512_shuffle_i32x4(x[k], x[4 + k], 0x44);
    y[4 + k] = _mm512_shuffle_i32x4(x[k], x[4 + k], 0xEE);
    y[8 + k] = _mm512_shuffle_i32x4(x[8 + k], x[12 + k], 0x44);
    y[12 + k] = _mm512_shuffle_i32x4(x[8 + k], x[12 + k], 0xEE);
  }
#pragma GCC unroll 4
  for (std::size_t k = 0; k < 4; ++k) {
    x[k] = _mm512_shuffle_i32x4(y[k], y[8 + k], 0x88);
    x[4 + k] = _mm512_shuffle_i32x4(y[k], y[8 + k], 0xDD);
    x[8 + k] = _mm512_shuffle_i32x4(y[4 + k], y[12 + k], 0x88);
    x[12 + k] = _mm512_shuffle_i32x4(y[4 + k], y[12 + k], 0xDD);
  }
}

// The lower halves of the 32-bit words of a, then of b.
SPECKV_AVX512_INLINE __m512i lower_halves(__m512i a, __m512i b) {
  alignas(64) static constexpr std::uint16_t kLower[32] = {
      0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
      32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62};
  return _mm512_permutex2var_epi16(a, _mm512_load_si512(kLower), b);
}

// 16-bit values as whole numbers of 2^exponent, rounded half away from zero: the fixed
// point of docs/block-format.md, for the scale 2^-exponent. No value is 2^22 of them.
template <class F>
SPECKV_AVX512_INLINE __m512i fixed_point(__m256i bits, __m512 scale) {
  const __m512 x = widen<F>(bits);
  const __m512 size = _mm512_mul_ps(_mm512_abs_ps(x), scale);
  const __m512i n = _mm512_cvttps_epi32(_mm512_add_ps(size, _mm512_set1_ps(0.5F)));
  const __mmask16 minus = _mm512_movepi32_mask(_mm512_castps_si512(x));
  return _mm512_mask_sub_epi32(n, minus, _mm512_setzero_si512(), n);
}

}  // namespace speckv::avx512

#endif
