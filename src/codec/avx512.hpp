// codec/avx512.hpp -- 16-bit formats and memory, as the AVX-512 loops use them
// (internal).
#pragma once

#include "codec/kernels_float.hpp"

#if defined(__x86_64__)

#include <algorithm>

// g++ 12 calls its own intrinsics' undefined operands uninitialized (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#define SPECKV_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,sse4.1")))
// Functions of another target set cannot be inlined, so these are always of this one.
#define SPECKV_AVX512_INLINE SPECKV_AVX512 __attribute__((always_inline)) inline

namespace speckv::avx512 {

using namespace codec_detail;

inline constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
inline constexpr int kUp = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;
inline constexpr std::uint32_t kLanes = 16, kStrip = 32;  // channels
inline constexpr __mmask32 kAllWords = 0xFFFFFFFF, kHalfWords = 0xFFFF;

template <class F>
SPECKV_AVX512_INLINE __m512 widen(__m256i x) {
  if constexpr (kIsF16<F>) return _mm512_cvtph_ps(x);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

// To bf16 in the upper halves of words, below which anything is, to nearest even. Within
// kLeastScale and kMostScale nothing is too large.
SPECKV_AVX512_INLINE __m512i rounded_bf16(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
}
// The low halves of one register's words and the others' as the high ones.
SPECKV_AVX512_INLINE __m512i pairs_of(__m512i even, __m512i odd) {
  return _mm512_mask_mov_epi16(even, 0xAAAAAAAA, odd);
}

// Rounds to nearest even; what is too large becomes the largest finite value.
template <class F>
SPECKV_AVX512_INLINE __m256i narrow(__m512 x) {
  if constexpr (kIsF16<F>) {
    const __m512 most = _mm512_set1_ps(65504.0F);
    x = _mm512_min_ps(x, most);
    x = _mm512_max_ps(x, _mm512_sub_ps(_mm512_setzero_ps(), most));
    return _mm512_cvtps_ph(x, kNearest);
  } else {
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded_bf16(x), 16));
  }
}

// For values that are not negative.
template <class F>
SPECKV_AVX512_INLINE __m256i narrow_up(__m512 x) {
  if constexpr (kIsF16<F>) return _mm512_cvtps_ph(x, kUp);
  const __m512i bits =
      _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0xFFFF));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}

// Of two registers the floats at even and at odd places.
SPECKV_AVX512_INLINE __m512 even_of(__m512 low, __m512 high) {
  return _mm512_permutex2var_ps(
      low, _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0),
      high);
}
SPECKV_AVX512_INLINE __m512 odd_of(__m512 low, __m512 high) {
  return _mm512_permutex2var_ps(
      low, _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1),
      high);
}

// The least of 32 unsigned words.
SPECKV_AVX512_INLINE int lowest(__m512i x) {
  const __m256i a =
      _mm256_min_epu16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
  const __m128i b =
      _mm_min_epu16(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  return _mm_extract_epi16(_mm_minpos_epu16(b), 0);
}

// Whether a scale needs the definition.
template <class F>
SPECKV_AVX512_INLINE __mmask16 unusual(__m256i scale) {
  if constexpr (kIsF16<F>) return 0;
  return _mm256_cmplt_epu16_mask(scale, _mm256_set1_epi16(kLeastScale)) |
         _mm256_cmpge_epu16_mask(scale,
                                 _mm256_set1_epi16(static_cast<short>(kMostScale)));
}

// A whole cache line, past the caches where that is wanted and possible.
SPECKV_AVX512_INLINE void store_line(std::byte* to, __m512i x, bool stream) {
  if (stream) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), x);
  } else {
    _mm512_storeu_si512(to, x);
  }
}
inline bool may_stream(bool wanted, const std::byte* first,
                       std::uint64_t stride) noexcept {
  return wanted && (reinterpret_cast<std::uintptr_t>(first) | stride) % 64 == 0;
}

SPECKV_AVX512_INLINE __mmask16 first_lanes(std::size_t n) {
  return static_cast<__mmask16>((1U << std::min<std::size_t>(n, kLanes)) - 1);
}

}  // namespace speckv::avx512

#endif
