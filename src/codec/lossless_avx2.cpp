// lossless with AVX2: 32 values at a time between planes and values.
#if defined(__x86_64__)
#include <immintrin.h>

#define SPECKV_AVX2 __attribute__((target("avx2,bmi2,lzcnt")))
#define SPECKV_STREAMS_TARGET SPECKV_AVX2
#include "codec/lossless_streams.hpp"

namespace speckv {
namespace {

SPECKV_AVX2 inline __m256i load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
SPECKV_AVX2 inline void store(void* to, __m256i x) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), x);
}

SPECKV_AVX2 void split16(const std::byte* row, std::size_t n,
                         std::uint8_t* const* planes) noexcept {
  const __m256i low = _mm256_set1_epi16(0xFF);
  std::size_t c = 0;
  for (; c + 32 <= n; c += 32) {
    __m256i x[2];
    for (std::size_t i = 0; i < 2; ++i) {
      const __m256i v = load(row + 2 * (c + 16 * i));
      x[i] = _mm256_or_si256(_mm256_slli_epi16(v, 1), _mm256_srli_epi16(v, 15));
    }
    const __m256i high =
        _mm256_packus_epi16(_mm256_srli_epi16(x[0], 8), _mm256_srli_epi16(x[1], 8));
    const __m256i rest =
        _mm256_packus_epi16(_mm256_and_si256(x[0], low), _mm256_and_si256(x[1], low));
    store(planes[0] + c, _mm256_permute4x64_epi64(high, 0xD8));
    store(planes[1] + c, _mm256_permute4x64_epi64(rest, 0xD8));
  }
  lossless::split_values<std::uint16_t>(row, c, n, planes);
}

SPECKV_AVX2 void merge16(const std::uint8_t* const* planes, std::size_t n,
                         std::byte* row) noexcept {
  std::size_t c = 0;
  for (; c + 32 <= n; c += 32) {
    const __m256i high = _mm256_permute4x64_epi64(load(planes[0] + c), 0xD8);
    const __m256i low = _mm256_permute4x64_epi64(load(planes[1] + c), 0xD8);
    const __m256i x[2] = {_mm256_unpacklo_epi8(low, high),
                          _mm256_unpackhi_epi8(low, high)};
    for (std::size_t i = 0; i < 2; ++i)
      store(row + 2 * (c + 16 * i),
            _mm256_or_si256(_mm256_srli_epi16(x[i], 1), _mm256_slli_epi16(x[i], 15)));
  }
  lossless::merge_values<std::uint16_t>(planes, c, n, row);
}

SPECKV_AVX2 void split32(const std::byte* row, std::size_t n,
                         std::uint8_t* const* planes) noexcept {
  const __m256i low = _mm256_set1_epi32(0xFF);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  std::size_t c = 0;
  for (; c + 32 <= n; c += 32) {
    __m256i x[4];
    for (std::size_t i = 0; i < 4; ++i) {
      const __m256i v = load(row + 4 * (c + 8 * i));
      x[i] = _mm256_or_si256(_mm256_slli_epi32(v, 1), _mm256_srli_epi32(v, 31));
    }
    for (std::size_t p = 4; p-- > 0;) {
      __m256i byte[4];
      for (std::size_t i = 0; i < 4; ++i) {
        byte[i] = _mm256_and_si256(x[i], low);
        x[i] = _mm256_srli_epi32(x[i], 8);
      }
      const __m256i all = _mm256_packus_epi16(_mm256_packus_epi32(byte[0], byte[1]),
                                              _mm256_packus_epi32(byte[2], byte[3]));
      store(planes[p] + c, _mm256_permutevar8x32_epi32(all, order));
    }
  }
  lossless::split_values<std::uint32_t>(row, c, n, planes);
}

SPECKV_AVX2 void merge32(const std::uint8_t* const* planes, std::size_t n,
                         std::byte* row) noexcept {
  std::size_t c = 0;
  for (; c + 8 <= n; c += 8) {
    __m256i x = _mm256_setzero_si256();
    for (std::size_t p = 0; p < 4; ++p) {
      const __m128i plane =
          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(planes[p] + c));
      x = _mm256_or_si256(_mm256_slli_epi32(x, 8), _mm256_cvtepu8_epi32(plane));
    }
    store(row + 4 * c,
          _mm256_or_si256(_mm256_srli_epi32(x, 1), _mm256_slli_epi32(x, 31)));
  }
  lossless::merge_values<std::uint32_t>(planes, c, n, row);
}

}  // namespace

namespace codec_detail {
const LosslessLoops kLosslessAvx2{{lossless::split<std::uint8_t>, split16, split32},
                                  {lossless::merge<std::uint8_t>, merge16, merge32},
                                  read,
                                  read_two,
                                  write};
}  // namespace codec_detail

}  // namespace speckv

#endif
