// codec/neon256_memory.hpp -- AVX2's intrinsics that load, store and set on pairs of NEON
// registers; more of neon256.hpp (internal).
#pragma once

#include "codec/neon256.hpp"

#if defined(__aarch64__)

namespace speckv::neon256 {

SPECKV_NEON_INLINE __m128i _mm_loadu_si128(const __m128i* from) {
  return vld1q_u8(reinterpret_cast<const std::uint8_t*>(from));
}
SPECKV_NEON_INLINE __m128i _mm_load_si128(const __m128i* from) {
  return _mm_loadu_si128(from);
}
SPECKV_NEON_INLINE void _mm_storeu_si128(__m128i* to, __m128i x) {
  vst1q_u8(reinterpret_cast<std::uint8_t*>(to), x);
}
SPECKV_NEON_INLINE __m128i _mm_loadl_epi64(const __m128i* from) {
  return vcombine_u8(vld1_u8(reinterpret_cast<const std::uint8_t*>(from)), vdup_n_u8(0));
}
SPECKV_NEON_INLINE void _mm_storel_epi64(__m128i* to, __m128i x) {
  vst1_u8(reinterpret_cast<std::uint8_t*>(to), vget_low_u8(x));
}
SPECKV_NEON_INLINE __m256i _mm256_loadu_si256(const __m256i* from) {
  const auto* const at = reinterpret_cast<const std::uint8_t*>(from);
  return {vld1q_u8(at), vld1q_u8(at + 16)};
}
SPECKV_NEON_INLINE __m256i _mm256_load_si256(const __m256i* from) {
  return _mm256_loadu_si256(from);
}
SPECKV_NEON_INLINE void _mm256_storeu_si256(__m256i* to, __m256i x) {
  auto* const at = reinterpret_cast<std::uint8_t*>(to);
  vst1q_u8(at, x.low);
  vst1q_u8(at + 16, x.high);
}
SPECKV_NEON_INLINE void _mm256_store_si256(__m256i* to, __m256i x) {
  _mm256_storeu_si256(to, x);
}
SPECKV_NEON_INLINE __m128i _mm_setzero_si128() {
  return vdupq_n_u8(0);
}
SPECKV_NEON_INLINE __m128i _mm_set1_epi8(int x) {
  return bytes(vdupq_n_s8(static_cast<std::int8_t>(x)));
}
SPECKV_NEON_INLINE __m128i _mm_set1_epi16(std::int16_t x) {
  return bytes(vdupq_n_s16(x));
}
SPECKV_NEON_INLINE __m128i _mm_set1_epi32(std::int32_t x) {
  return bytes(vdupq_n_s32(x));
}
SPECKV_NEON_INLINE __m256i both(__m128i x) {
  return {x, x};
}
SPECKV_NEON_INLINE __m256i _mm256_setzero_si256() {
  return both(_mm_setzero_si128());
}
SPECKV_NEON_INLINE __m256i _mm256_set1_epi8(int x) {
  return both(_mm_set1_epi8(x));
}
SPECKV_NEON_INLINE __m256i _mm256_set1_epi16(std::int16_t x) {
  return both(_mm_set1_epi16(x));
}
SPECKV_NEON_INLINE __m256i _mm256_set1_epi32(std::int32_t x) {
  return both(_mm_set1_epi32(x));
}
SPECKV_NEON_INLINE __m256i _mm256_set1_epi64x(std::int64_t x) {
  return both(bytes(vdupq_n_s64(x)));
}
template <class... Lanes>
SPECKV_NEON_INLINE __m256i _mm256_setr_epi16(Lanes... x) {
  const std::int16_t all[16] = {static_cast<std::int16_t>(x)...};
  return {bytes(vld1q_s16(all)), bytes(vld1q_s16(all + 8))};
}
template <class... Lanes>
SPECKV_NEON_INLINE __m256i _mm256_setr_epi32(Lanes... x) {
  const std::int32_t all[8] = {x...};
  return {bytes(vld1q_s32(all)), bytes(vld1q_s32(all + 4))};
}
template <class... Lanes>
SPECKV_NEON_INLINE __m256i _mm256_setr_epi64x(Lanes... x) {
  const std::int64_t all[4] = {x...};
  return {bytes(vld1q_s64(all)), bytes(vld1q_s64(all + 2))};
}

}  // namespace speckv::neon256

#endif
