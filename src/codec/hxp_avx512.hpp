// codec/hxp_avx512.hpp -- steps and offsets of hxp with AVX-512, channels side by side:
// what its encoder and decoder share (internal).
#pragma once

#include "codec/hx_vectors.hpp"

#if defined(__x86_64__)

#include "codec/hxp_waves.hpp"

namespace speckv::hxp512 {

using namespace hx512;
using hxp::kMostChannels;
using hxp::Waves;

// As HxpLoops::encode.
template <class F>
bool encode(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
            const std::byte* other, MutableBytes unit, hxp::Scratch& scratch) noexcept;

SPECKV_VBMI_INLINE __m512i significands(const std::uint16_t* table, __m512i log) {
  constexpr __mmask32 kLowHalves = 0x55555555;
  return _mm512_maskz_permutex2var_epi16(kLowHalves, _mm512_load_si512(table), log,
                                         _mm512_load_si512(table + 32));
}
// 2^(log / 64) and its inverse as floats, exactly, for logarithms that are_usual_steps().
SPECKV_VBMI_INLINE __m512 power_of(__m512i log) {
  constexpr int kBias = 127 - 1;  // the significand's own highest bit counts one
  const __m512i exponent =
      _mm512_add_epi32(_mm512_srai_epi32(log, 6), _mm512_set1_epi32(kBias));
  return _mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_slli_epi32(exponent, 23),
                       _mm512_slli_epi32(significands(hxp::kOctave.power, log), 13)));
}
SPECKV_VBMI_INLINE __m512 inverse_of(__m512i log) {
  constexpr int kBias = 127 - 1 - 1;
  const __m512i exponent =
      _mm512_sub_epi32(_mm512_set1_epi32(kBias), _mm512_srai_epi32(log, 6));
  return _mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_slli_epi32(exponent, 23),
                       _mm512_slli_epi32(significands(hxp::kOctave.inverse, log), 11)));
}

// hxp::steps_of() for eight offsets: exact but for quotients that round to 0.
SPECKV_VBMI_INLINE __m256i steps_of(__m512d offset, __m512d inverse) {
  const __m512d most = _mm512_set1_pd(HxShape::kMostSteps);
  __m512d n = _mm512_fmadd_pd(
      offset, _mm512_mul_pd(inverse, _mm512_set1_pd(1.0 / (1 << hxp::kOffsetBits))),
      _mm512_set1_pd(0.5));
  n = _mm512_min_pd(n, most);
  n = _mm512_max_pd(n, _mm512_sub_pd(_mm512_setzero_pd(), most));
  return _mm512_cvt_roundpd_epi32(n, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
SPECKV_VBMI_INLINE __m512d floor_of(__m512d x) {
  return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
SPECKV_VBMI_INLINE __m512d whole(const std::int32_t* from) {
  return _mm512_cvtepi32_pd(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
SPECKV_VBMI_INLINE __m512d wide(const float* from) {
  return _mm512_cvtps_pd(_mm256_loadu_ps(from));
}

// hxp::sine(), as a float between -1 and 1.
SPECKV_VBMI_INLINE __m512 sine(__m512i phase) {
  const __m512i entry =
      _mm512_i32gather_epi32(_mm512_srli_epi32(phase, 22), hxp::kWaves.data(), 4);
  const __m512i way = _mm512_srai_epi32(_mm512_slli_epi32(entry, 22), 22);
  const __m512i within =
      _mm512_and_si512(_mm512_srli_epi32(phase, 6), _mm512_set1_epi32(0xFFFF));
  const __m512i rise = _mm512_srai_epi32(
      _mm512_add_epi32(_mm512_mullo_epi32(way, within), _mm512_set1_epi32(1 << 15)), 16);
  const __m512i n = _mm512_add_epi32(_mm512_srai_epi32(entry, 10), rise);
  return _mm512_mul_ps(_mm512_cvtepi32_ps(n),
                       _mm512_set1_ps(1.0F / (1 << hxp::kSineBits)));
}

SPECKV_VBMI inline void fill(const HxpBlock& block, std::uint32_t tokens,
                             Waves& waves) noexcept {
  alignas(64) std::uint32_t frequency[Waves::kMostPairs];
  waves.take(block.profile, frequency);
  for (std::uint32_t t = 0; t < tokens; ++t) {
    const __m512i position =
        _mm512_set1_epi32(static_cast<std::int32_t>(block.first_position + t));
    for (std::uint32_t i = 0; i < waves.pairs; i += kLanes) {
      const __m512i phase =
          _mm512_mullo_epi32(position, _mm512_load_si512(frequency + i));
      const __m512i quarter = _mm512_set1_epi32(1 << 30);
      _mm512_storeu_ps(waves.cosine + t * waves.pairs + i,
                       sine(_mm512_add_epi32(phase, quarter)));
      _mm512_storeu_ps(waves.sine + t * waves.pairs + i, sine(phase));
    }
  }
}

// hxp::Offsets::at() of a token of K: eight pairs, of the channels `mean` and
// `mean + pairs`.
struct Turned {
  __m512d low, high;
};
SPECKV_VBMI_INLINE Turned turned(const std::int32_t* mean, const Waves& waves,
                                 std::uint32_t t, std::uint32_t i) {
  const __m512d a = whole(mean + i), b = whole(mean + waves.pairs + i);
  const __m512d c = wide(waves.cosine + t * waves.pairs + i),
                s = wide(waves.sine + t * waves.pairs + i), half = _mm512_set1_pd(0.5);
  return {floor_of(_mm512_fnmadd_pd(b, s, _mm512_fmadd_pd(a, c, half))),
          floor_of(_mm512_fmadd_pd(a, s, _mm512_fmadd_pd(b, c, half)))};
}

}  // namespace speckv::hxp512

#endif
