// codec/avx2.hpp -- 16-bit formats and memory, as the AVX2 loops use them (internal).
#pragma once

#include "codec/kernels_float.hpp"

#if defined(__x86_64__)

#include <cstddef>

#include <immintrin.h>

#define SPECKV_AVX2 __attribute__((target("avx2,f16c,bmi2,popcnt")))
// Functions of another target set cannot be inlined, so these are always of this one.
#define SPECKV_AVX2_INLINE SPECKV_AVX2 __attribute__((always_inline)) inline

namespace speckv::avx2 {

using namespace codec_detail;

inline constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
inline constexpr std::uint32_t kLanes = 16;  // channels that are worked on together

SPECKV_AVX2_INLINE __m128i load8(const std::byte* from) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
}
SPECKV_AVX2_INLINE __m128i load16(const std::byte* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
SPECKV_AVX2_INLINE void store16(std::byte* to, __m128i x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), x);
}

template <class F>
SPECKV_AVX2_INLINE __m256 widen(__m128i x) {
  if constexpr (kIsF16<F>) return _mm256_cvtph_ps(x);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

// Rounds to nearest even; what is too large becomes the largest finite value.
template <class F>
SPECKV_AVX2_INLINE __m128i narrow(__m256 x) {
  if constexpr (kIsF16<F>) {
    x = _mm256_min_ps(x, _mm256_set1_ps(65504.0F));
    return _mm256_cvtps_ph(_mm256_max_ps(x, _mm256_set1_ps(-65504.0F)), kNearest);
  } else {  // within kLeastScale and kMostScale nothing is too large
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd =
        _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, up), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded),
                            _mm256_extracti128_si256(rounded, 1));
  }
}

// Eight values times an inverse, to the nearest whole number.
template <class F>
SPECKV_AVX2_INLINE __m256i whole(__m128i plain, __m256 inverse) {
  const __m256 x = _mm256_mul_ps(widen<F>(plain), inverse);
  return _mm256_cvttps_epi32(_mm256_round_ps(x, kNearest));
}

// The sixteen nibbles of eight bytes, as bytes in order.
SPECKV_AVX2_INLINE __m128i spread(const std::byte* nibbles) {
  const __m128i low = _mm_set1_epi8(15), bytes = load8(nibbles);
  return _mm_unpacklo_epi8(_mm_and_si128(bytes, low),
                           _mm_and_si128(_mm_srli_epi16(bytes, 4), low));
}

// Two times eight lanes to sixteen words in order, saturated as signed ones.
SPECKV_AVX2_INLINE __m256i words(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
}

// Of eight registers with eight words in either half, rows for columns.
SPECKV_AVX2_INLINE void transpose(const __m256i* x, __m256i* y) {
  __m256i a[8], b[8];
#pragma GCC unroll 4
  for (std::size_t k = 0; k < 8; k += 2) {
    b[k] = _mm256_unpacklo_epi16(x[k], x[k + 1]);      // columns 0 to 3 of k, k + 1
    b[k + 1] = _mm256_unpackhi_epi16(x[k], x[k + 1]);  // 4 to 7
  }
#pragma GCC unroll 2
  for (std::size_t k = 0; k < 8; k += 4) {
#pragma GCC unroll 2
    for (std::size_t h = 0; h < 2; ++h) {  // of four: columns 0, 1; 2, 3; 4, 5; 6, 7
      a[k + 2 * h] = _mm256_unpacklo_epi32(b[k + h], b[k + 2 + h]);
      a[k + 2 * h + 1] = _mm256_unpackhi_epi32(b[k + h], b[k + 2 + h]);
    }
  }
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    y[2 * i] = _mm256_unpacklo_epi64(a[i], a[4 + i]);
    y[2 * i + 1] = _mm256_unpackhi_epi64(a[i], a[4 + i]);
  }
}

}  // namespace speckv::avx2

#endif
