// lossless with AVX-512: 16 or 32 values at a time between planes and values.
#include "codec/avx512.hpp"

#if defined(__x86_64__)

// Shifts by a register that leave the flags alone.
#define SPECKV_STREAMS_TARGET __attribute__((target("bmi2,lzcnt")))
#include "codec/lossless_streams.hpp"

namespace speckv {
namespace {

using namespace avx512;

// The lanes of n values that are left, of `lanes`.
SPECKV_AVX512_INLINE std::uint32_t lanes_of(std::size_t left, std::size_t lanes) {
  return left >= lanes ? ~0U >> (32 - lanes) : (1U << left) - 1;
}

SPECKV_AVX512 void split16(const std::byte* row, std::size_t n,
                           std::uint8_t* const* planes) noexcept {
  for (std::size_t c = 0; c < n; c += 32) {
    const __mmask32 lanes = lanes_of(n - c, 32);
    const __m512i x = _mm512_maskz_loadu_epi16(lanes, row + 2 * c);
    const __m512i turned =
        _mm512_or_si512(_mm512_slli_epi16(x, 1), _mm512_srli_epi16(x, 15));
    _mm512_mask_cvtepi16_storeu_epi8(planes[0] + c, lanes, _mm512_srli_epi16(turned, 8));
    _mm512_mask_cvtepi16_storeu_epi8(planes[1] + c, lanes, turned);
  }
}

// The sign bit back to the top.
SPECKV_AVX512_INLINE __m512i turned_up(__m512i x) {
  return _mm512_or_si512(_mm512_srli_epi16(x, 1), _mm512_slli_epi16(x, 15));
}

SPECKV_AVX512 void merge16(const std::uint8_t* const* planes, std::size_t n,
                           std::byte* row) noexcept {
  std::size_t c = 0;
  // Eight bytes where the planes' are put side by side in order.
  const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  for (; c + 64 <= n; c += 64) {
    const __m512i high =
        _mm512_permutexvar_epi64(order, _mm512_loadu_si512(planes[0] + c));
    const __m512i low =
        _mm512_permutexvar_epi64(order, _mm512_loadu_si512(planes[1] + c));
    _mm512_storeu_si512(row + 2 * c, turned_up(_mm512_unpacklo_epi8(low, high)));
    _mm512_storeu_si512(row + 2 * c + 64, turned_up(_mm512_unpackhi_epi8(low, high)));
  }
  for (; c < n; c += 32) {
    const __mmask32 lanes = lanes_of(n - c, 32);
    const __m512i high =
        _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(lanes, planes[0] + c));
    const __m512i low =
        _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(lanes, planes[1] + c));
    const __m512i x = _mm512_or_si512(_mm512_slli_epi16(high, 8), low);
    _mm512_mask_storeu_epi16(row + 2 * c, lanes, turned_up(x));
  }
}

SPECKV_AVX512 void split32(const std::byte* row, std::size_t n,
                           std::uint8_t* const* planes) noexcept {
  for (std::size_t c = 0; c < n; c += 16) {
    const auto lanes = static_cast<__mmask16>(lanes_of(n - c, 16));
    const __m512i x = _mm512_rol_epi32(_mm512_maskz_loadu_epi32(lanes, row + 4 * c), 1);
    _mm512_mask_cvtepi32_storeu_epi8(planes[0] + c, lanes, _mm512_srli_epi32(x, 24));
    _mm512_mask_cvtepi32_storeu_epi8(planes[1] + c, lanes, _mm512_srli_epi32(x, 16));
    _mm512_mask_cvtepi32_storeu_epi8(planes[2] + c, lanes, _mm512_srli_epi32(x, 8));
    _mm512_mask_cvtepi32_storeu_epi8(planes[3] + c, lanes, x);
  }
}

SPECKV_AVX512 void merge32(const std::uint8_t* const* planes, std::size_t n,
                           std::byte* row) noexcept {
  for (std::size_t c = 0; c < n; c += 16) {
    const auto lanes = static_cast<__mmask16>(lanes_of(n - c, 16));
    __m512i x = _mm512_setzero_si512();
    for (std::size_t p = 0; p < 4; ++p) {
      const __m128i plane = _mm_maskz_loadu_epi8(lanes, planes[p] + c);
      x = _mm512_or_si512(_mm512_slli_epi32(x, 8), _mm512_cvtepu8_epi32(plane));
    }
    _mm512_mask_storeu_epi32(row + 4 * c, lanes, _mm512_ror_epi32(x, 1));
  }
}

}  // namespace

namespace codec_detail {
const LosslessLoops kLosslessAvx512{{lossless::split<std::uint8_t>, split16, split32},
                                    {lossless::merge<std::uint8_t>, merge16, merge32},
                                    read,
                                    read_two,
                                    write};
}  // namespace codec_detail

}  // namespace speckv

#endif
