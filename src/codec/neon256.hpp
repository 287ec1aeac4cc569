// codec/neon256.hpp -- AVX2's whole-number intrinsics on pairs of NEON registers, for the
// loops of vector256.hpp (internal).
//
// They do as their namesakes for what these loops ask of them: counts of shifts are from
// 0 to 127. (Names and types are those of AVX2, so that the loops are written once.)
#pragma once

#if defined(__aarch64__)

#include <cstddef>
#include <cstdint>

#include <arm_neon.h>

#define SPECKV_NEON_INLINE __attribute__((always_inline)) inline

namespace speckv::neon256 {

using __m128i = uint8x16_t;
struct __m256i {
  uint8x16_t low, high;
};

// ---- Views of a register --------------------------------------------------------------

#define SPECKV_VIEW(name, type)                     \
  SPECKV_NEON_INLINE type##_t name(uint8x16_t x) {  \
    return vreinterpretq_##name##_u8(x);            \
  }                                                 \
  SPECKV_NEON_INLINE uint8x16_t bytes(type##_t x) { \
    return vreinterpretq_u8_##name(x);              \
  }
SPECKV_VIEW(s8, int8x16)
SPECKV_VIEW(s16, int16x8)
SPECKV_VIEW(u16, uint16x8)
SPECKV_VIEW(s32, int32x4)
SPECKV_VIEW(u32, uint32x4)
SPECKV_VIEW(s64, int64x2)
SPECKV_VIEW(u64, uint64x2)
SPECKV_VIEW(f32, float32x4)
#undef SPECKV_VIEW
SPECKV_NEON_INLINE uint8x16_t u8(uint8x16_t x) {
  return x;
}
SPECKV_NEON_INLINE uint8x16_t bytes(uint8x16_t x) {
  return x;
}

// ---- Lane by lane ---------------------------------------------------------------------

#define SPECKV_LANES_OF_TWO(name, name128, view, op)         \
  SPECKV_NEON_INLINE __m128i name128(__m128i a, __m128i b) { \
    return bytes(op(view(a), view(b)));                      \
  }                                                          \
  SPECKV_NEON_INLINE __m256i name(__m256i a, __m256i b) {    \
    return {name128(a.low, b.low), name128(a.high, b.high)}; \
  }
#define SPECKV_TWO(name, view, op) \
  SPECKV_LANES_OF_TWO(_mm256_##name, _mm_##name, view, op)
SPECKV_LANES_OF_TWO(_mm256_and_si256, _mm_and_si128, u8, vandq_u8)
SPECKV_LANES_OF_TWO(_mm256_or_si256, _mm_or_si128, u8, vorrq_u8)
SPECKV_LANES_OF_TWO(_mm256_xor_si256, _mm_xor_si128, u8, veorq_u8)
SPECKV_TWO(add_epi8, u8, vaddq_u8)
SPECKV_TWO(add_epi16, u16, vaddq_u16)
SPECKV_TWO(add_epi32, u32, vaddq_u32)
SPECKV_TWO(add_epi64, u64, vaddq_u64)
SPECKV_TWO(adds_epi16, s16, vqaddq_s16)
SPECKV_TWO(sub_epi16, u16, vsubq_u16)
SPECKV_TWO(sub_epi32, u32, vsubq_u32)
SPECKV_TWO(min_epi16, s16, vminq_s16)
SPECKV_TWO(min_epi32, s32, vminq_s32)
SPECKV_TWO(min_epu16, u16, vminq_u16)
SPECKV_TWO(max_epi16, s16, vmaxq_s16)
SPECKV_TWO(max_epi32, s32, vmaxq_s32)
SPECKV_TWO(max_epu16, u16, vmaxq_u16)
SPECKV_TWO(mullo_epi16, u16, vmulq_u16)
SPECKV_TWO(mullo_epi32, u32, vmulq_u32)
SPECKV_TWO(mulhrs_epi16, s16, vqrdmulhq_s16)  // not of twice -32768
SPECKV_TWO(cmpeq_epi8, u8, vceqq_u8)
SPECKV_TWO(cmpeq_epi16, u16, vceqq_u16)
SPECKV_TWO(cmpeq_epi32, u32, vceqq_u32)
SPECKV_TWO(cmpgt_epi16, s16, vcgtq_s16)
SPECKV_TWO(cmpgt_epi32, s32, vcgtq_s32)
SPECKV_TWO(cmplt_epi32, s32, vcltq_s32)
SPECKV_TWO(unpacklo_epi8, u8, vzip1q_u8)
SPECKV_TWO(unpackhi_epi8, u8, vzip2q_u8)
SPECKV_TWO(unpacklo_epi16, u16, vzip1q_u16)
SPECKV_TWO(unpackhi_epi16, u16, vzip2q_u16)
SPECKV_TWO(unpacklo_epi32, u32, vzip1q_u32)
SPECKV_TWO(unpackhi_epi32, u32, vzip2q_u32)
SPECKV_TWO(unpacklo_epi64, u64, vzip1q_u64)
SPECKV_TWO(unpackhi_epi64, u64, vzip2q_u64)

namespace detail {
SPECKV_NEON_INLINE int8x16_t packed(int16x8_t a, int16x8_t b) {
  return vqmovn_high_s16(vqmovn_s16(a), b);
}
SPECKV_NEON_INLINE uint8x16_t packed_unsigned(int16x8_t a, int16x8_t b) {
  return vqmovun_high_s16(vqmovun_s16(a), b);
}
SPECKV_NEON_INLINE int16x8_t packed(int32x4_t a, int32x4_t b) {
  return vqmovn_high_s32(vqmovn_s32(a), b);
}
SPECKV_NEON_INLINE uint16x8_t packed_unsigned(int32x4_t a, int32x4_t b) {
  return vqmovun_high_s32(vqmovun_s32(a), b);
}
SPECKV_NEON_INLINE uint8x16_t without(uint8x16_t a, uint8x16_t b) {
  return vbicq_u8(b, a);
}
SPECKV_NEON_INLINE int64x2_t products(int64x2_t a, int64x2_t b) {
  return vmull_s32(vmovn_s64(a), vmovn_s64(b));
}
SPECKV_NEON_INLINE int32x4_t sums_of_products(int16x8_t a, int16x8_t b) {
  return vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
}
SPECKV_NEON_INLINE uint64x2_t sums_of_differences(uint8x16_t a, uint8x16_t b) {
  return vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(vabdq_u8(a, b))));
}
SPECKV_NEON_INLINE int16x8_t with_sign(int16x8_t x, int16x8_t sign) {
  const int16x8_t turned = vbslq_s16(vcltzq_s16(sign), vnegq_s16(x), x);
  return vbicq_s16(turned, vreinterpretq_s16_u16(vceqzq_s16(sign)));
}
SPECKV_NEON_INLINE int32x4_t with_sign(int32x4_t x, int32x4_t sign) {
  const int32x4_t turned = vbslq_s32(vcltzq_s32(sign), vnegq_s32(x), x);
  return vbicq_s32(turned, vreinterpretq_s32_u32(vceqzq_s32(sign)));
}
// Of an index with its highest bit set it is 0.
SPECKV_NEON_INLINE uint8x16_t looked_up(uint8x16_t table, uint8x16_t index) {
  return vqtbl1q_u8(table, vandq_u8(index, vdupq_n_u8(0x8F)));
}
SPECKV_NEON_INLINE uint32x4_t shifted_down(uint32x4_t x, int32x4_t by) {
  return vshlq_u32(x, vnegq_s32(by));
}
// Unsigned bytes a times signed ones b, sums of two saturated.
SPECKV_NEON_INLINE int16x8_t sums_of_bytes(uint8x16_t a, uint8x16_t b) {
  const int16x8_t low = vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(a))),
                                  vmovl_s8(vget_low_s8(s8(b))));
  const int16x8_t high =
      vmulq_s16(vreinterpretq_s16_u16(vmovl_high_u8(a)), vmovl_high_s8(s8(b)));
  return vqaddq_s16(vuzp1q_s16(low, high), vuzp2q_s16(low, high));
}
}  // namespace detail
SPECKV_TWO(packs_epi16, s16, detail::packed)
SPECKV_TWO(packs_epi32, s32, detail::packed)
SPECKV_TWO(packus_epi16, s16, detail::packed_unsigned)
SPECKV_TWO(packus_epi32, s32, detail::packed_unsigned)
SPECKV_LANES_OF_TWO(_mm256_andnot_si256, _mm_andnot_si128, u8, detail::without)
SPECKV_TWO(mul_epi32, s64, detail::products)
SPECKV_TWO(madd_epi16, s16, detail::sums_of_products)
SPECKV_TWO(maddubs_epi16, u8, detail::sums_of_bytes)
SPECKV_TWO(sad_epu8, u8, detail::sums_of_differences)
SPECKV_TWO(sign_epi16, s16, detail::with_sign)
SPECKV_TWO(sign_epi32, s32, detail::with_sign)
SPECKV_TWO(shuffle_epi8, u8, detail::looked_up)
#undef SPECKV_TWO
#undef SPECKV_LANES_OF_TWO
SPECKV_NEON_INLINE __m256i _mm256_abs_epi16(__m256i x) {
  return {bytes(vabsq_s16(s16(x.low))), bytes(vabsq_s16(s16(x.high)))};
}
SPECKV_NEON_INLINE __m256i _mm256_abs_epi32(__m256i x) {
  return {bytes(vabsq_s32(s32(x.low))), bytes(vabsq_s32(s32(x.high)))};
}
// By the highest bits of the mask's bytes.
SPECKV_NEON_INLINE __m128i _mm_blendv_epi8(__m128i a, __m128i b, __m128i mask) {
  return vbslq_u8(vcltzq_s8(s8(mask)), b, a);
}
SPECKV_NEON_INLINE __m256i _mm256_blendv_epi8(__m256i a, __m256i b, __m256i mask) {
  return {_mm_blendv_epi8(a.low, b.low, mask.low),
          _mm_blendv_epi8(a.high, b.high, mask.high)};
}

}  // namespace speckv::neon256

#endif
