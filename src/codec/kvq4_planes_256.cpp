// kvq4's second plane on vectors of 256 bits: sixteen channels at a time, the
// definition's bits.
//
// 16 v / s is exact in a float, as v / s is. On the way back a product has up to 29 bits:
// it is computed in whole numbers, and what a float has no room for becomes one odd bit
// far below the format's last, so that the one rounding sees which side it is on.
#include "codec/vector256.hpp"

#if defined(SPECKV_256)

#include <cstring>

#include "codec/kvq4_group.hpp"
#include "codec/kvq4_plane_loops.hpp"

namespace speckv {
namespace {

using namespace number;
using namespace vector256;

// Of sixteen channels: what their values are multiplied by, and where they are then.
struct Encoding {
  __m256 by[2];      // 16 / scale
  __m256i shift[2];  // 16 zero + 8
};
struct Decoding {
  __m256i significand[2];
  __m256 power[2];   // of a sixteenth of a scale
  __m256i shift[2];  // as above
};

// The parameters of sixteen channels, `stride` bytes from one to the next (0: all have
// one). False: some is for the definition.
template <class F>
SPECKV_256_INLINE bool gather(const std::byte* from, std::uint64_t stride,
                              std::uint32_t (&scale)[kLanes],
                              std::int32_t (&shift)[kLanes]) {
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    const kvq4::Parameters p = kvq4::get(from + i * stride);
    if (is_unusual<F>(p.scale)) return false;
    scale[i] = p.scale;
    shift[i] = kPlaneParts * p.zero + kPlaneMiddle;
  }
  return true;
}

template <class F>
SPECKV_256_INLINE bool read(const std::byte* from, std::uint64_t stride, Encoding& out) {
  std::uint32_t scale[kLanes];
  std::int32_t shift[kLanes];
  if (!gather<F>(from, stride, scale, shift)) return false;
  float by[kLanes];
  for (std::uint32_t i = 0; i < kLanes; ++i)
    by[i] = as_float(inverse<F>(scale[i])) * kPlaneParts;
  std::memcpy(out.by, by, sizeof by);
  std::memcpy(out.shift, shift, sizeof shift);
  return true;
}

template <class F>
SPECKV_256_INLINE bool read(const std::byte* from, std::uint64_t stride, Decoding& out) {
  std::uint32_t scale[kLanes];
  std::int32_t shift[kLanes];
  if (!gather<F>(from, stride, scale, shift)) return false;
  float power[kLanes];
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    const Scaled s = unpack<F>(scale[i]);
    scale[i] = s.significand;
    power[i] = as_float({1, s.exponent - 4});
  }
  std::memcpy(out.significand, scale, sizeof scale);
  std::memcpy(out.power, power, sizeof power);
  std::memcpy(out.shift, shift, sizeof shift);
  return true;
}

// ---- encoding

// What eight values have beyond their nibbles q of the first plane, not yet clamped.
template <class F>
SPECKV_256_INLINE __m256i rests(__m128i plain, __m128i q, __m256 by, __m256i shift) {
  // Far beyond every nibble, and within 32 bits.
  const __m256 most = _mm256_set1_ps(2097152.0F);
  __m256 x = _mm256_mul_ps(widen<F>(plain), by);
  x = _mm256_max_ps(_mm256_min_ps(x, most), _mm256_sub_ps(_mm256_setzero_ps(), most));
  const __m256i parts = nearest_whole(x);
  return _mm256_sub_epi32(_mm256_add_epi32(parts, shift),
                          _mm256_slli_epi32(_mm256_cvtepu8_epi32(q), 4));
}

// False: an infinity or a NaN, of which floats would make something else.
template <class F>
SPECKV_256_INLINE bool encode16(const std::byte* plain, const std::byte* first,
                                const Encoding& with, std::byte* second) {
  const __m128i q = spread(first), a = load16(plain), b = load16(plain + 16);
  const __m128i magnitude = _mm_set1_epi16(kMagnitude),
                largest = _mm_set1_epi16(static_cast<short>(F::kLargest));
  const __m128i far = _mm_or_si128(_mm_cmpgt_epi16(_mm_and_si128(a, magnitude), largest),
                                   _mm_cmpgt_epi16(_mm_and_si128(b, magnitude), largest));
  if (_mm_movemask_epi8(far) != 0) return false;
  const __m256i low = rests<F>(a, q, with.by[0], with.shift[0]);
  const __m256i high = rests<F>(b, _mm_srli_si128(q, 8), with.by[1], with.shift[1]);
  __m256i l = _mm256_max_epi16(words(low, high), _mm256_setzero_si256());
  l = _mm256_min_epi16(l, _mm256_set1_epi16(Kvq4Shape::kTop));
  const __m128i bytes =
      _mm_packus_epi16(_mm256_castsi256_si128(l), _mm256_extracti128_si256(l, 1));
  const __m128i pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi16(0x1001));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(second), _mm_packus_epi16(pairs, pairs));
  return true;
}

// ---- decoding

// n * significand, of at most 29 bits, as a float: exactly, or odd where some are lost.
SPECKV_256_INLINE __m256 jammed(__m256i product) {
  const __m256i low = _mm256_set1_epi32(31);
  const __m256i lost =
      _mm256_add_epi32(_mm256_and_si256(product, low), low);  // bit 5: there are any
  const __m256i odd =
      _mm256_or_si256(_mm256_andnot_si256(low, product), _mm256_andnot_si256(low, lost));
  const __m256i wide =
      _mm256_cmpgt_epi32(_mm256_abs_epi32(product), _mm256_set1_epi32((1 << 24) - 1));
  return _mm256_cvtepi32_ps(_mm256_blendv_epi8(product, odd, wide));
}

template <class F>
SPECKV_256_INLINE __m128i restore(__m128i parts, const Decoding& with, int half) {
  const __m256i n = _mm256_sub_epi32(_mm256_cvtepu8_epi32(parts), with.shift[half]);
  const __m256 x = jammed(_mm256_mullo_epi32(n, with.significand[half]));
  const __m128i value = narrow<F>(_mm256_mul_ps(x, with.power[half]));
  if constexpr (!kIsF16<F>) return value;  // scales are far from zero
  const __m128i minus_zero = _mm_set1_epi16(INT16_MIN);
  return _mm_andnot_si128(_mm_cmpeq_epi16(value, minus_zero), value);
}

template <class F>
SPECKV_256_INLINE void decode16(const std::byte* first, const std::byte* second,
                                const Decoding& with, std::byte* plain) {
  const __m128i parts = _mm_or_si128(_mm_slli_epi16(spread(first), 4), spread(second));
  store16(plain, restore<F>(parts, with, 0));
  store16(plain + 16, restore<F>(_mm_srli_si128(parts, 8), with, 1));
}

// ---- units: K by columns of sixteen channels, V by rows

template <class F>
const PlaneLoops& definition() noexcept {
  return kIsF16<F> ? codec_detail::kPlanesScalarF16 : codec_detail::kPlanesScalarBf16;
}

// Calls visit(t, c, with) for sixteen channels at a time, until one answers false. False
// then, and where a parameter is for the definition.
template <class F, class With, class Visit>
SPECKV_256_INLINE bool for_sixteen(const Kvq4Shape& shape, bool keys,
                                   const std::byte* unit, const Visit& visit) {
  With with{};
  if (keys) {
    for (std::uint32_t c = 0; c < shape.channels; c += kLanes) {
      const std::byte* const at = unit + c * Kvq4Shape::kParameterBytes;
      if (!read<F>(at, Kvq4Shape::kParameterBytes, with)) return false;
      for (std::uint32_t t = 0; t < shape.tokens; ++t)
        if (!visit(t, c, with)) return false;
    }
    return true;
  }
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    for (std::uint32_t c = 0; c < shape.channels; c += kLanes) {
      if (c % shape.group == 0) {
        if (!read<F>(unit, 0, with)) return false;
        unit += Kvq4Shape::kParameterBytes;
      }
      if (!visit(t, c, with)) return false;
    }
  }
  return true;
}

std::uint64_t nibbles_of(const Kvq4Shape& shape, bool keys) noexcept {
  return padded(keys ? shape.key_parameters() : shape.value_parameters());
}

template <class F>
SPECKV_256 void encode(const Kvq4Shape& shape, bool keys, const std::byte* plain,
                       const std::byte* unit, std::byte* second) noexcept {
  const std::byte* const first = unit + nibbles_of(shape, keys);
  const auto visit = [&](std::uint32_t t, std::uint32_t c, const Encoding& with)
                         SPECKV_256 {
                           const std::uint64_t at = t * shape.row_bytes() + c / 2;
                           return encode16<F>(plain + t * shape.stride + 2ULL * c,
                                              first + at, with, second + at);
                         };
  if (!for_sixteen<F, Encoding>(shape, keys, unit, visit))
    definition<F>().encode(shape, keys, plain, unit, second);
}

template <class F>
SPECKV_256 void decode(const Kvq4Shape& shape, bool keys, const std::byte* unit,
                       const std::byte* second, std::byte* plain) noexcept {
  const std::byte* const first = unit + nibbles_of(shape, keys);
  const auto visit = [&](std::uint32_t t, std::uint32_t c,
                         const Decoding& with) SPECKV_256 {
    const std::uint64_t at = t * shape.row_bytes() + c / 2;
    decode16<F>(first + at, second + at, with, plain + t * shape.stride + 2ULL * c);
    return true;
  };
  if (!for_sixteen<F, Decoding>(shape, keys, unit, visit))
    definition<F>().decode(shape, keys, unit, second, plain);
}

}  // namespace

namespace codec_detail {
const PlaneLoops kPlanes256F16{encode<F16>, decode<F16>};
const PlaneLoops kPlanes256Bf16{encode<Bf16>, decode<Bf16>};
}  // namespace codec_detail

}  // namespace speckv

#endif
