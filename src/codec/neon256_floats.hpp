// codec/neon256_floats.hpp -- AVX2's float intrinsics on pairs of NEON registers, 16-bit
// formats, and what the loops of vector256.hpp have for each instruction set (internal).
//
// FPCR chooses rounding and flushing for the whole thread, not an instruction. So a float
// is only ever multiplied where the product is exact and a normal number, made whole by
// FCVTNS, which names its rounding, and made short in whole numbers.
#pragma once

#include "codec/kernels_float.hpp"
#include "codec/neon256_places.hpp"

#if defined(__aarch64__)

namespace speckv::neon256 {

using namespace codec_detail;

inline constexpr std::uint32_t kLanes = 16;  // channels that are worked on together

using __m128 = float32x4_t;
struct __m256 {
  float32x4_t low, high;
};
struct __m256d {
  float64x2_t low, high;
};

SPECKV_NEON_INLINE __m128 _mm_loadu_ps(const float* from) {
  return vld1q_f32(from);
}
SPECKV_NEON_INLINE __m256 _mm256_loadu_ps(const float* from) {
  return {vld1q_f32(from), vld1q_f32(from + 4)};
}
SPECKV_NEON_INLINE __m256 _mm256_load_ps(const float* from) {
  return _mm256_loadu_ps(from);
}
SPECKV_NEON_INLINE void _mm256_storeu_ps(float* to, __m256 x) {
  vst1q_f32(to, x.low);
  vst1q_f32(to + 4, x.high);
}
SPECKV_NEON_INLINE __m256 _mm256_set1_ps(float x) {
  return {vdupq_n_f32(x), vdupq_n_f32(x)};
}
SPECKV_NEON_INLINE __m256 _mm256_setzero_ps() {
  return _mm256_set1_ps(0);
}
SPECKV_NEON_INLINE __m256d _mm256_set1_pd(double x) {
  return {vdupq_n_f64(x), vdupq_n_f64(x)};
}
SPECKV_NEON_INLINE __m256 _mm256_castsi256_ps(__m256i x) {
  return {f32(x.low), f32(x.high)};
}
SPECKV_NEON_INLINE __m256i _mm256_castps_si256(__m256 x) {
  return {bytes(x.low), bytes(x.high)};
}
SPECKV_NEON_INLINE __m128 _mm256_castps256_ps128(__m256 x) {
  return x.low;
}
SPECKV_NEON_INLINE __m128 _mm256_extractf128_ps(__m256 x, int which) {
  return which == 0 ? x.low : x.high;
}

#define SPECKV_FLOATS(name, op)                                      \
  SPECKV_NEON_INLINE __m256 _mm256_##name##_ps(__m256 a, __m256 b) { \
    return {op##q_f32(a.low, b.low), op##q_f32(a.high, b.high)};     \
  }
#define SPECKV_DOUBLES(name, op)                                        \
  SPECKV_NEON_INLINE __m256d _mm256_##name##_pd(__m256d a, __m256d b) { \
    return {op##q_f64(a.low, b.low), op##q_f64(a.high, b.high)};        \
  }
SPECKV_FLOATS(add, vadd)
SPECKV_FLOATS(sub, vsub)
SPECKV_FLOATS(mul, vmul)
SPECKV_FLOATS(min, vmin)
SPECKV_FLOATS(max, vmax)
SPECKV_DOUBLES(add, vadd)
SPECKV_DOUBLES(sub, vsub)
SPECKV_DOUBLES(mul, vmul)
SPECKV_DOUBLES(div, vdiv)
SPECKV_DOUBLES(min, vmin)
SPECKV_DOUBLES(max, vmax)
#undef SPECKV_FLOATS
#undef SPECKV_DOUBLES
SPECKV_NEON_INLINE __m256 _mm256_and_ps(__m256 a, __m256 b) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
SPECKV_NEON_INLINE __m256 _mm256_blendv_ps(__m256 a, __m256 b, __m256 mask) {
  const auto set = [](float32x4_t x) { return vcltzq_s32(vreinterpretq_s32_f32(x)); };
  return {vbslq_f32(set(mask.low), b.low, a.low),
          vbslq_f32(set(mask.high), b.high, a.high)};
}
SPECKV_NEON_INLINE int _mm256_movemask_ps(__m256 x) {
  const uint32x4_t low = vshrq_n_u32(vreinterpretq_u32_f32(x.low), 31),
                   high = vshrq_n_u32(vreinterpretq_u32_f32(x.high), 31);
  const std::int32_t place[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  return static_cast<int>(vaddvq_u32(vorrq_u32(vshlq_u32(low, vld1q_s32(place)),
                                               vshlq_u32(high, vld1q_s32(place + 4)))));
}
SPECKV_NEON_INLINE __m256d _mm256_floor_pd(__m256d x) {
  return {vrndmq_f64(x.low), vrndmq_f64(x.high)};
}

// Of whole numbers that the other format has.
SPECKV_NEON_INLINE __m256 _mm256_cvtepi32_ps(__m256i x) {
  return {vcvtq_f32_s32(s32(x.low)), vcvtq_f32_s32(s32(x.high))};
}
SPECKV_NEON_INLINE __m256i _mm256_cvttps_epi32(__m256 x) {
  return {bytes(vcvtq_s32_f32(x.low)), bytes(vcvtq_s32_f32(x.high))};
}
SPECKV_NEON_INLINE __m256d _mm256_cvtepi32_pd(__m128i x) {
  return {vcvtq_f64_s64(vmovl_s32(vget_low_s32(s32(x)))),
          vcvtq_f64_s64(vmovl_high_s32(s32(x)))};
}
SPECKV_NEON_INLINE __m128i _mm256_cvtpd_epi32(__m256d x) {
  return bytes(vmovn_high_s64(vmovn_s64(vcvtnq_s64_f64(x.low)), vcvtnq_s64_f64(x.high)));
}
SPECKV_NEON_INLINE __m256d _mm256_cvtps_pd(__m128 x) {
  return {vcvt_f64_f32(vget_low_f32(x)), vcvt_high_f64_f32(x)};
}

SPECKV_NEON_INLINE __m256i _mm256_i32gather_epi32(const int* from, __m256i index,
                                                  int scale) {
  std::int32_t at[8], found[8];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), index);
  for (std::size_t i = 0; i < 8; ++i)
    found[i] = load_le<std::int32_t>(reinterpret_cast<const std::byte*>(from) +
                                     std::ptrdiff_t{at[i]} * scale);
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(found));
}

// ---- 16-bit formats -------------------------------------------------------------------

// Exact: of a finite number FCVTL depends on no mode.
template <class F>
SPECKV_NEON_INLINE __m256 widen(__m128i x) {
  if constexpr (kIsF16<F>) {
    const float16x8_t halves = vreinterpretq_f16_u8(x);
    return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
  } else {
    return {f32(bytes(vshll_n_u16(vget_low_u16(u16(x)), 16))),
            f32(bytes(vshll_high_n_u16(u16(x), 16)))};
  }
}

// The magnitude, rounded to nearest even at bit `drop`.
template <int drop>
SPECKV_NEON_INLINE uint32x4_t shortened(uint32x4_t magnitude) {
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(magnitude, drop), vdupq_n_u32(1));
  const uint32x4_t up = vaddq_u32(odd, vdupq_n_u32((1U << (drop - 1)) - 1));
  return vshrq_n_u32(vaddq_u32(magnitude, up), drop);
}

// Rounds to nearest even; what is too large becomes the largest finite value. A number
// that is subnormal in F16 is a count of its least unit.
template <class F>
SPECKV_NEON_INLINE uint16x4_t narrow(float32x4_t x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  if constexpr (!kIsF16<F>) {  // within kLeastScale and kMostScale nothing is too large
    return vmovn_u32(shortened<16>(bits));
  } else {
    const uint32x4_t magnitude = vandq_u32(bits, vdupq_n_u32(0x7FFFFFFF));
    const uint32x4_t normal =
        vsubq_u32(shortened<13>(magnitude), vdupq_n_u32((127 - 15) << 10));
    const uint32x4_t units =
        vcvtnq_u32_f32(vmulq_n_f32(vreinterpretq_f32_u32(magnitude), 0x1p24F));
    const uint32x4_t small = vcltq_u32(magnitude, vdupq_n_u32((127 - 14) << 23));
    const uint32x4_t size =
        vminq_u32(vbslq_u32(small, units, normal), vdupq_n_u32(F::kLargest));
    return vmovn_u32(
        vorrq_u32(size, vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(number::kSign))));
  }
}
template <class F>
SPECKV_NEON_INLINE __m128i narrow(__m256 x) {
  return bytes(vcombine_u16(narrow<F>(x.low), narrow<F>(x.high)));
}

// As avx2.hpp has them.
SPECKV_NEON_INLINE __m256i nearest_whole(__m256 x) {
  return {bytes(vcvtnq_s32_f32(x.low)), bytes(vcvtnq_s32_f32(x.high))};
}
SPECKV_NEON_INLINE __m256i beside(__m256i x) {
  return {bytes(vrev32q_u16(u16(x.low))), bytes(vrev32q_u16(u16(x.high)))};
}
SPECKV_NEON_INLINE std::int64_t sum_of_quarters(__m256i x) {
  return vaddvq_s64(vaddq_s64(s64(x.low), s64(x.high)));
}
SPECKV_NEON_INLINE std::int32_t sum_of_eighths(__m256i x) {
  return vaddvq_s32(vaddq_s32(s32(x.low), s32(x.high)));
}
SPECKV_NEON_INLINE std::uint32_t largest(__m256i x) {
  return vmaxvq_u16(vmaxq_u16(u16(x.low), u16(x.high)));
}

}  // namespace speckv::neon256

#endif
