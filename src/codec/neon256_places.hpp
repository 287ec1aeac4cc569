// codec/neon256_places.hpp -- AVX2's intrinsics that load, store, shift, widen and move
// on pairs of NEON registers; more of neon256.hpp (internal).
#pragma once

#include "codec/neon256_memory.hpp"

#if defined(__aarch64__)

namespace speckv::neon256 {

// ---- Shifts ---------------------------------------------------------------------------

#define SPECKV_SHIFTS(suffix, unsigned_view, signed_view, broadcast)      \
  SPECKV_NEON_INLINE __m128i _mm_slli_##suffix(__m128i x, int n) {        \
    return bytes(vshlq_##unsigned_view(unsigned_view(x), broadcast(n)));  \
  }                                                                       \
  SPECKV_NEON_INLINE __m128i _mm_srli_##suffix(__m128i x, int n) {        \
    return bytes(vshlq_##unsigned_view(unsigned_view(x), broadcast(-n))); \
  }                                                                       \
  SPECKV_NEON_INLINE __m128i _mm_srai_##suffix(__m128i x, int n) {        \
    return bytes(vshlq_##signed_view(signed_view(x), broadcast(-n)));     \
  }                                                                       \
  SPECKV_NEON_INLINE __m256i _mm256_slli_##suffix(__m256i x, int n) {     \
    return {_mm_slli_##suffix(x.low, n), _mm_slli_##suffix(x.high, n)};   \
  }                                                                       \
  SPECKV_NEON_INLINE __m256i _mm256_srli_##suffix(__m256i x, int n) {     \
    return {_mm_srli_##suffix(x.low, n), _mm_srli_##suffix(x.high, n)};   \
  }                                                                       \
  SPECKV_NEON_INLINE __m256i _mm256_srai_##suffix(__m256i x, int n) {     \
    return {_mm_srai_##suffix(x.low, n), _mm_srai_##suffix(x.high, n)};   \
  }
SPECKV_NEON_INLINE int16x8_t counts16(int n) {
  return vdupq_n_s16(static_cast<std::int16_t>(n));
}
SPECKV_SHIFTS(epi16, u16, s16, counts16)
SPECKV_SHIFTS(epi32, u32, s32, vdupq_n_s32)
SPECKV_SHIFTS(epi64, u64, s64, vdupq_n_s64)
#undef SPECKV_SHIFTS
// The count is the lowest lane's.
SPECKV_NEON_INLINE __m128i _mm_cvtsi32_si128(int x) {
  return bytes(vsetq_lane_s32(x, vdupq_n_s32(0), 0));
}
SPECKV_NEON_INLINE __m256i _mm256_sra_epi16(__m256i x, __m128i n) {
  const int16x8_t down =
      vdupq_n_s16(static_cast<std::int16_t>(-vgetq_lane_s32(s32(n), 0)));
  return {bytes(vshlq_s16(s16(x.low), down)), bytes(vshlq_s16(s16(x.high), down))};
}
SPECKV_NEON_INLINE __m256i _mm256_sllv_epi32(__m256i x, __m256i n) {
  return {bytes(vshlq_u32(u32(x.low), s32(n.low))),
          bytes(vshlq_u32(u32(x.high), s32(n.high)))};
}
SPECKV_NEON_INLINE __m256i _mm256_srlv_epi32(__m256i x, __m256i n) {
  return {bytes(detail::shifted_down(u32(x.low), s32(n.low))),
          bytes(detail::shifted_down(u32(x.high), s32(n.high)))};
}
// By 8 bytes, the only count there is.
SPECKV_NEON_INLINE __m128i _mm_srli_si128(__m128i x, int /*eight*/) {
  return vextq_u8(x, vdupq_n_u8(0), 8);
}

// ---- Wider lanes ----------------------------------------------------------------------

SPECKV_NEON_INLINE __m256i _mm256_cvtepu8_epi16(__m128i x) {
  return {bytes(vmovl_u8(vget_low_u8(x))), bytes(vmovl_high_u8(x))};
}
SPECKV_NEON_INLINE __m256i _mm256_cvtepi8_epi16(__m128i x) {
  return {bytes(vmovl_s8(vget_low_s8(s8(x)))), bytes(vmovl_high_s8(s8(x)))};
}
SPECKV_NEON_INLINE __m256i _mm256_cvtepu16_epi32(__m128i x) {
  return {bytes(vmovl_u16(vget_low_u16(u16(x)))), bytes(vmovl_high_u16(u16(x)))};
}
SPECKV_NEON_INLINE __m256i _mm256_cvtepi16_epi32(__m128i x) {
  return {bytes(vmovl_s16(vget_low_s16(s16(x)))), bytes(vmovl_high_s16(s16(x)))};
}
SPECKV_NEON_INLINE __m256i _mm256_cvtepi32_epi64(__m128i x) {
  return {bytes(vmovl_s32(vget_low_s32(s32(x)))), bytes(vmovl_high_s32(s32(x)))};
}
SPECKV_NEON_INLINE __m256i _mm256_cvtepu8_epi32(__m128i x) {
  return _mm256_cvtepu16_epi32(bytes(vmovl_u8(vget_low_u8(x))));
}

// ---- Places ---------------------------------------------------------------------------

SPECKV_NEON_INLINE __m128i _mm256_castsi256_si128(__m256i x) {
  return x.low;
}
SPECKV_NEON_INLINE __m256i _mm256_castsi128_si256(__m128i x) {
  return {x, x};
}
SPECKV_NEON_INLINE __m256i _mm256_broadcastsi128_si256(__m128i x) {
  return {x, x};
}
SPECKV_NEON_INLINE __m128i _mm256_extracti128_si256(__m256i x, int which) {
  return which == 0 ? x.low : x.high;
}
SPECKV_NEON_INLINE __m256i _mm256_inserti128_si256(__m256i x, __m128i part, int which) {
  return which == 0 ? __m256i{part, x.high} : __m256i{x.low, part};
}
SPECKV_NEON_INLINE __m256i _mm256_permute2x128_si256(__m256i a, __m256i b, int which) {
  const auto part = [&](int i) {
    return i == 0 ? a.low : i == 1 ? a.high : i == 2 ? b.low : b.high;
  };
  return {part(which & 3), part(which >> 4 & 3)};
}
SPECKV_NEON_INLINE __m256i _mm256_permute4x64_epi64(__m256i x, int which) {
  const auto part = [&](int i) {
    const uint64x2_t from = i < 2 ? u64(x.low) : u64(x.high);
    return i % 2 == 0 ? vget_low_u64(from) : vget_high_u64(from);
  };
  return {bytes(vcombine_u64(part(which & 3), part(which >> 2 & 3))),
          bytes(vcombine_u64(part(which >> 4 & 3), part(which >> 6 & 3)))};
}
SPECKV_NEON_INLINE __m256i _mm256_permutevar8x32_epi32(__m256i x, __m256i place) {
  const auto part = [&](uint8x16_t at) {
    const uint32x4_t lane = vandq_u32(u32(at), vdupq_n_u32(7));  // as there
    const uint32x4_t first = vmlaq_n_u32(vdupq_n_u32(0x03020100), lane, 0x04040404);
    return vqtbl2q_u8({{x.low, x.high}}, bytes(first));
  };
  return {part(place.low), part(place.high)};
}
SPECKV_NEON_INLINE __m128i _mm_shuffle_epi32(__m128i x, int which) {
  if (which == 0x4E) return vextq_u8(x, x, 8);
  if (which == 0xB1) return bytes(vrev64q_u32(u32(x)));
  const auto lane = [&](int i) {
    return 0x03020100U + 0x04040404U * static_cast<std::uint32_t>(which >> 2 * i & 3);
  };
  const std::uint32_t index[4] = {lane(0), lane(1), lane(2), lane(3)};
  return vqtbl1q_u8(x, bytes(vld1q_u32(index)));
}
SPECKV_NEON_INLINE __m256i _mm256_shuffle_epi32(__m256i x, int which) {
  return {_mm_shuffle_epi32(x.low, which), _mm_shuffle_epi32(x.high, which)};
}

// ---- Bits of lanes --------------------------------------------------------------------

// The highest bit of each byte.
SPECKV_NEON_INLINE int _mm_movemask_epi8(__m128i x) {
  const uint8x8_t bit = vcreate_u8(0x8040201008040201);
  const uint8x16_t set = vandq_u8(bytes(vshrq_n_s8(s8(x), 7)), vcombine_u8(bit, bit));
  return vaddv_u8(vget_low_u8(set)) | vaddv_u8(vget_high_u8(set)) << 8;
}
SPECKV_NEON_INLINE int _mm256_movemask_epi8(__m256i x) {
  return static_cast<int>(static_cast<std::uint32_t>(_mm_movemask_epi8(x.low)) |
                          static_cast<std::uint32_t>(_mm_movemask_epi8(x.high)) << 16);
}

}  // namespace speckv::neon256

#endif
