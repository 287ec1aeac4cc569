// codec/hxp_256.hpp -- steps and offsets of hxp with vectors of 256 bits, channels side
// by side: what its encoder and decoder share (internal).
#pragma once

#include "codec/vector256.hpp"

#if defined(SPECKV_256)

#include "codec/hxp_waves.hpp"

namespace speckv::hxp256 {

using namespace vector256;
using hxp::kMostChannels;
using hxp::Waves;

// As HxpLoops::encode.
template <class F>
bool encode(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
            const std::byte* other, MutableBytes unit, hxp::Scratch& scratch) noexcept;

// 2^(log / 64) and its inverse as floats, exactly, for logarithms that are_usual_steps():
// the significands' own highest bits count one in the exponents.
SPECKV_256_INLINE __m256i significands(const std::uint16_t* table, __m256i log) {
  const __m256i index = _mm256_and_si256(log, _mm256_set1_epi32(63));
  return _mm256_and_si256(
      _mm256_i32gather_epi32(reinterpret_cast<const int*>(table), index, 2),
      _mm256_set1_epi32(0xFFFF));
}
SPECKV_256_INLINE __m256 power_of(__m256i log) {
  const __m256i exponent =
      _mm256_add_epi32(_mm256_srai_epi32(log, 6), _mm256_set1_epi32(127 - 1));
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_slli_epi32(exponent, 23),
                       _mm256_slli_epi32(significands(hxp::kOctave.power, log), 13)));
}
SPECKV_256_INLINE __m256 inverse_of(__m256i log) {
  const __m256i exponent =
      _mm256_sub_epi32(_mm256_set1_epi32(127 - 2), _mm256_srai_epi32(log, 6));
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_slli_epi32(exponent, 23),
                       _mm256_slli_epi32(significands(hxp::kOctave.inverse, log), 11)));
}

SPECKV_256_INLINE __m256d whole(const std::int32_t* from) {
  return _mm256_cvtepi32_pd(load16(reinterpret_cast<const std::byte*>(from)));
}
SPECKV_256_INLINE __m256d wide(const float* from) {
  return _mm256_cvtps_pd(_mm_loadu_ps(from));
}
SPECKV_256_INLINE __m256d halves_up(__m256d x) {
  return _mm256_floor_pd(_mm256_add_pd(x, _mm256_set1_pd(0.5)));
}
// hxp::steps_of() for four offsets: exact but for quotients that round to 0.
SPECKV_256_INLINE __m128i steps_of(__m256d offset, __m256d inverse) {
  constexpr double kMost = HxShape::kMostSteps;
  const __m256d scale = _mm256_set1_pd(1.0 / (1 << hxp::kOffsetBits));
  __m256d n = halves_up(_mm256_mul_pd(offset, _mm256_mul_pd(inverse, scale)));
  n = _mm256_min_pd(n, _mm256_set1_pd(kMost));
  return _mm256_cvtpd_epi32(_mm256_max_pd(n, _mm256_set1_pd(-kMost)));
}
// hxp::sine(), as a float between -1 and 1.
SPECKV_256_INLINE __m256 sine(__m256i phase) {
  const __m256i entry =
      _mm256_i32gather_epi32(hxp::kWaves.data(), _mm256_srli_epi32(phase, 22), 4);
  const __m256i way = _mm256_srai_epi32(_mm256_slli_epi32(entry, 22), 22);
  const __m256i within =
      _mm256_and_si256(_mm256_srli_epi32(phase, 6), _mm256_set1_epi32(0xFFFF));
  const __m256i rise = _mm256_srai_epi32(
      _mm256_add_epi32(_mm256_mullo_epi32(way, within), _mm256_set1_epi32(1 << 15)), 16);
  const __m256i n = _mm256_add_epi32(_mm256_srai_epi32(entry, 10), rise);
  return _mm256_mul_ps(_mm256_cvtepi32_ps(n),
                       _mm256_set1_ps(1.0F / (1 << hxp::kSineBits)));
}
SPECKV_256 inline void fill(const HxpBlock& block, std::uint32_t tokens,
                            Waves& waves) noexcept {
  alignas(32) std::uint32_t frequency[Waves::kMostPairs];
  waves.take(block.profile, frequency);
  for (std::uint32_t t = 0; t < tokens; ++t) {
    const __m256i position =
        _mm256_set1_epi32(static_cast<std::int32_t>(block.first_position + t));
    for (std::uint32_t i = 0; i < waves.pairs; i += 8) {
      const __m256i phase = _mm256_mullo_epi32(
          position, _mm256_load_si256(reinterpret_cast<const __m256i*>(frequency + i)));
      const __m256i quarter = _mm256_set1_epi32(1 << 30);
      _mm256_storeu_ps(waves.cosine + t * waves.pairs + i,
                       sine(_mm256_add_epi32(phase, quarter)));
      _mm256_storeu_ps(waves.sine + t * waves.pairs + i, sine(phase));
    }
  }
}

// hxp::Offsets::at() of a token of K: four pairs, of the channels `mean` and
// `mean + pairs`.
struct Turned {
  __m256d low, high;
};
SPECKV_256_INLINE Turned turned(const std::int32_t* mean, const Waves& waves,
                                std::uint32_t t, std::uint32_t i) {
  const __m256d a = whole(mean + i), b = whole(mean + waves.pairs + i);
  const __m256d c = wide(waves.cosine + t * waves.pairs + i),
                s = wide(waves.sine + t * waves.pairs + i);
  return {halves_up(_mm256_sub_pd(_mm256_mul_pd(a, c), _mm256_mul_pd(b, s))),
          halves_up(_mm256_add_pd(_mm256_mul_pd(b, c), _mm256_mul_pd(a, s)))};
}

}  // namespace speckv::hxp256

#endif
