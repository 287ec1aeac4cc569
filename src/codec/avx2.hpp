// codec/avx2.hpp -- 16-bit formats and memory, as the AVX2 loops use them (internal).
#pragma once

#include "codec/kernels_float.hpp"

#if defined(__x86_64__)

#include <immintrin.h>

#define SPECKV_AVX2 __attribute__((target("avx2,f16c,bmi2,popcnt")))
// Functions of another target set cannot be inlined, so these are always of this one.
#define SPECKV_AVX2_INLINE SPECKV_AVX2 __attribute__((always_inline)) inline

namespace speckv::avx2 {

using namespace codec_detail;

inline constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
inline constexpr std::uint32_t kLanes = 16;  // channels that are worked on together

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

// To the nearest whole numbers.
SPECKV_AVX2_INLINE __m256i nearest_whole(__m256 x) {
  return _mm256_cvttps_epi32(_mm256_round_ps(x, kNearest));
}
// Words, each in the place of the other of its pair.
SPECKV_AVX2_INLINE __m256i beside(__m256i x) {
  return _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(x, 0xB1), 0xB1);
}

SPECKV_AVX2_INLINE std::int64_t sum_of_quarters(__m256i x) {
  const __m128i two =
      _mm_add_epi64(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  return _mm_extract_epi64(two, 0) + _mm_extract_epi64(two, 1);
}
SPECKV_AVX2_INLINE std::int32_t sum_of_eighths(__m256i x) {
  const __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  const __m128i two = _mm_add_epi32(four, _mm_srli_si128(four, 8));
  return _mm_extract_epi32(two, 0) + _mm_extract_epi32(two, 1);
}
// The largest of 16 unsigned words.
SPECKV_AVX2_INLINE std::uint32_t largest(__m256i x) {
  const __m128i eight =
      _mm_max_epu16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  const __m128i turned = _mm_xor_si128(eight, _mm_set1_epi16(-1));
  return 0xFFFFU -
         static_cast<std::uint32_t>(_mm_extract_epi16(_mm_minpos_epu16(turned), 0));
}

}  // namespace speckv::avx2

#endif
