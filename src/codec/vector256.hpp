// codec/vector256.hpp -- 256 bits at a time, for loops that instruction sets share: one
// register of AVX2, two of NEON (internal). They are written in AVX2's intrinsics.
#pragma once

#if defined(__x86_64__)

#include "codec/avx2.hpp"
#define SPECKV_256 SPECKV_AVX2
#define SPECKV_256_INLINE SPECKV_AVX2_INLINE
namespace speckv::vector256 {
using namespace avx2;
}

#elif defined(__aarch64__)

#include "codec/neon256_floats.hpp"
#define SPECKV_256
#define SPECKV_256_INLINE SPECKV_NEON_INLINE
namespace speckv::vector256 {
using namespace neon256;
}

#endif

#if defined(SPECKV_256)

#include <cstddef>

namespace speckv::vector256 {

SPECKV_256_INLINE __m128i load8(const std::byte* from) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
}
SPECKV_256_INLINE __m128i load16(const std::byte* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
SPECKV_256_INLINE void store16(std::byte* to, __m128i x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), x);
}

// Eight values times an inverse, to the nearest whole number.
template <class F>
SPECKV_256_INLINE __m256i whole(__m128i plain, __m256 inverse) {
  return nearest_whole(_mm256_mul_ps(widen<F>(plain), inverse));
}

// The sixteen nibbles of eight bytes, as bytes in order.
SPECKV_256_INLINE __m128i spread(const std::byte* nibbles) {
  const __m128i low = _mm_set1_epi8(15), bytes = load8(nibbles);
  return _mm_unpacklo_epi8(_mm_and_si128(bytes, low),
                           _mm_and_si128(_mm_srli_epi16(bytes, 4), low));
}

// Two times eight lanes to sixteen words in order, saturated as signed ones.
SPECKV_256_INLINE __m256i words(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
}

// Of eight registers with eight words in either half, rows for columns.
SPECKV_256_INLINE void transpose(const __m256i* x, __m256i* y) {
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

}  // namespace speckv::vector256

#endif
