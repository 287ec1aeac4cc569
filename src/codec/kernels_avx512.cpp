// The lossy codecs on AVX-512: 16 or 32 channels at a time, the definition's bits.
#include "codec/kvq4_avx512.hpp"

#if defined(__x86_64__)

#include <cstring>

#include "base/endian.hpp"
#include "codec/number.hpp"

namespace speckv {
namespace {

using namespace number;
using namespace avx512;

// ---- kvq4 ----------------------------------------------------------------------------

// Whole numbers at even and at odd places times a scale, in order.
SPECKV_AVX512_INLINE __m512i bf16_pairs(__m512i even, __m512i odd, __m512 even_scale,
                                        __m512 odd_scale) {
  const __m512i a = rounded_bf16(_mm512_mul_ps(_mm512_cvtepi32_ps(even), even_scale));
  const __m512i b = rounded_bf16(_mm512_mul_ps(_mm512_cvtepi32_ps(odd), odd_scale));
  return pairs_of(_mm512_srli_epi32(a, 16), b);
}

// Sixteen stored parameters: what the nibbles are multiplied by, and what is taken off
// before.
template <class F>
SPECKV_AVX512_INLINE Sound load_parameters(const std::byte* stored, __mmask16 lanes,
                                           __m512& scale, __m512i& zero) {
  const __m512i both = _mm512_maskz_loadu_epi32(lanes, stored);
  const __m256i bits = _mm512_cvtepi32_epi16(both);
  const __m512i whole = _mm512_srai_epi32(both, 16);
  const __m256i zeros = _mm256_setzero_si256();
  const __mmask16 bad =
      _mm256_cmpeq_epi16_mask(bits, zeros) |
      _mm256_cmpge_epu16_mask(bits, _mm256_set1_epi16(static_cast<short>(F::kInfinity))) |
      _mm512_cmpgt_epi32_mask(_mm512_abs_epi32(whole),
                              _mm512_set1_epi32(Kvq4Shape::kMaxZero));
  if ((bad & lanes) != 0) return Sound::no;
  if ((unusual<F>(bits) & lanes) != 0) return Sound::ask;
  scale = widen<F>(bits);
  zero = whole;
  return Sound::yes;
}

// The nibbles of 16 or of 8 bytes, as words in order; above the nibble is anything.
SPECKV_AVX512_INLINE __m512i spread(const std::byte* nibbles, bool sixteen) {
  const auto* at = reinterpret_cast<const __m128i*>(nibbles);
  const __m512i bytes =
      _mm512_cvtepu8_epi32(sixteen ? _mm_loadu_si128(at) : _mm_loadl_epi64(at));
  return _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12));
}

template <class F>
SPECKV_AVX512_INLINE __m256i restore(__m256i q, __m512 scale, __m512i zero) {
  const __m512i n = _mm512_sub_epi32(_mm512_cvtepu16_epi32(q), zero);
  return narrow<F>(_mm512_mul_ps(_mm512_cvtepi32_ps(n), scale));
}

// What 32 numbers have taken off and are multiplied by; as in a Quantiser.
struct Restorer {
  __m512 scale[2];
  __m512i zero[2];
};
template <class F>
SPECKV_AVX512_INLINE Restorer restorer(const __m512 (&scale)[2],
                                       const __m512i (&zero)[2]) {
  if constexpr (kIsF16<F>) return {{scale[0], scale[1]}, {zero[0], zero[1]}};
  const __m512 a = _mm512_castsi512_ps(zero[0]), b = _mm512_castsi512_ps(zero[1]);
  return {{even_of(scale[0], scale[1]), odd_of(scale[0], scale[1])},
          {_mm512_castps_si512(even_of(a, b)), _mm512_castps_si512(odd_of(a, b))}};
}

// The values of 16 bytes of nibbles.
template <class F>
SPECKV_AVX512_INLINE __m512i restored(const std::byte* nibbles, const Restorer& by) {
  if constexpr (kIsF16<F>) {
    const __m512i q = _mm512_and_si512(spread(nibbles, true), _mm512_set1_epi16(15));
    const __m256i a = restore<F>(_mm512_castsi512_si256(q), by.scale[0], by.zero[0]);
    const __m256i b =
        restore<F>(_mm512_extracti64x4_epi64(q, 1), by.scale[1], by.zero[1]);
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
  }
  const __m512i bytes =
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(nibbles)));
  const __m512i even =
      _mm512_sub_epi32(_mm512_and_si512(bytes, _mm512_set1_epi32(15)), by.zero[0]);
  const __m512i odd = _mm512_sub_epi32(_mm512_srli_epi32(bytes, 4), by.zero[1]);
  return bf16_pairs(even, odd, by.scale[0], by.scale[1]);
}

template <class F>
SPECKV_AVX512 bool decode_keys(const Kvq4Shape& shape, const std::byte* unit,
                               std::byte* plain, bool stream) noexcept {
  const std::byte* const nibbles = unit + padded(shape.key_parameters());
  stream = may_stream(stream, plain, shape.stride);
  for (std::uint32_t c = 0; c < shape.channels; c += kStrip) {
    const std::size_t width = std::min<std::size_t>(kStrip, shape.channels - c);
    __m512 scale[2] = {};
    __m512i zero[2] = {};
    for (std::uint32_t h = 0; h * kLanes < width; ++h) {
      const Sound sound =
          load_parameters<F>(unit + (c + h * kLanes) * Kvq4Shape::kParameterBytes, 0xFFFF,
                             scale[h], zero[h]);
      if (sound == Sound::no) return false;
      if (sound == Sound::ask)
        return exact<F>().kvq4_decode_keys(shape, unit, plain, stream);
    }
    const std::byte* from = nibbles + c / 2;
    std::byte* row = plain + 2ULL * c;
    const Restorer by = restorer<F>(scale, zero);
    for (std::uint32_t t = 0; t < shape.tokens; ++t) {
      if (width == kStrip) {
        store_line(row, restored<F>(from, by), stream);
      } else {
        const __m512i q = _mm512_and_si512(spread(from, false), _mm512_set1_epi16(15));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(row),
                            restore<F>(_mm512_castsi512_si256(q), scale[0], zero[0]));
      }
      from += shape.row_bytes();
      row += shape.stride;
    }
  }
  return true;
}

// A group of values has one scale, hence sixteen possible values: a table in a register.
template <class F>
SPECKV_AVX512 bool decode_values(const Kvq4Shape& shape, const std::byte* unit,
                                 std::byte* plain, bool stream) noexcept {
  const std::byte* nibbles = unit + padded(shape.value_parameters());
  const std::uint64_t groups = shape.value_groups();
  stream = may_stream(stream, plain, shape.stride | 2ULL * shape.group);
  const __m256i steps =
      _mm256_set_epi16(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  for (std::uint64_t g = 0; g < groups; g += kLanes) {
    const std::size_t count = std::min<std::uint64_t>(kLanes, groups - g);
    __m512 scales;
    __m512i zeros;
    const Sound sound = load_parameters<F>(unit + g * Kvq4Shape::kParameterBytes,
                                           first_lanes(count), scales, zeros);
    if (sound == Sound::no) return false;
    if (sound == Sound::ask)
      return exact<F>().kvq4_decode_values(shape, unit, plain, stream);
    alignas(64) float scale[kLanes];
    alignas(64) std::int32_t zero[kLanes];
    _mm512_store_ps(scale, scales);
    _mm512_store_si512(zero, zeros);
    for (std::size_t i = 0; i < count; ++i) {
      const __m256i levels =
          restore<F>(steps, _mm512_set1_ps(scale[i]), _mm512_set1_epi32(zero[i]));
      const __m512i table = _mm512_broadcast_i64x4(levels);  // bit 4 of an index is noise
      std::byte* row = plain + shape.group_at(g + i);
      std::uint32_t c = 0;
      for (; c + kStrip <= shape.group; c += kStrip, nibbles += kStrip / 2)
        store_line(row + 2ULL * c, _mm512_permutexvar_epi16(spread(nibbles, true), table),
                   stream);
      if (c < shape.group) {
        const __m512i values = _mm512_permutexvar_epi16(spread(nibbles, false), table);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + 2ULL * c),
                            _mm512_castsi512_si256(values));
        nibbles += 8;
      }
    }
  }
  return true;
}

// ---- int8 ----------------------------------------------------------------------------

SPECKV_AVX512_INLINE __mmask32 words(std::size_t left) {
  return left >= kStrip ? 0xFFFFFFFF : static_cast<__mmask32>((1U << left) - 1);
}

template <class F>
SPECKV_AVX512 bool encode_row(const std::byte* row, std::size_t channels,
                              std::byte* scale, std::int8_t* values) noexcept {
  __m512i most = _mm512_setzero_si512();
  for (std::size_t c = 0; c < channels; c += kStrip) {
    const __m512i bits = _mm512_maskz_loadu_epi16(words(channels - c), row + 2 * c);
    most = _mm512_max_epu16(most, _mm512_and_si512(bits, _mm512_set1_epi16(kMagnitude)));
  }
  const __m512i reversed = _mm512_xor_si512(most, _mm512_set1_epi16(-1));
  const std::uint32_t amax = static_cast<std::uint32_t>(lowest(reversed)) ^ 0xFFFF;
  if (amax >= F::kInfinity) return false;
  const std::uint32_t s = int8_scale<F>(amax);
  if (s == 0 || is_unusual<F>(s))
    return exact<F>().int8_encode(row, channels, scale, values);
  store_le(scale, static_cast<std::uint16_t>(s));
  const __m512 by = _mm512_set1_ps(as_float(inverse<F>(s)));
  const __m512i limit = _mm512_set1_epi32(127), floor = _mm512_set1_epi32(-127);
  for (std::size_t c = 0; c < channels; c += kLanes) {
    const __mmask16 lanes = first_lanes(channels - c);
    const __m256i plain = _mm256_maskz_loadu_epi16(lanes, row + 2 * c);
    const __m512i n =
        _mm512_cvt_roundps_epi32(_mm512_mul_ps(widen<F>(plain), by), kNearest);
    const __m512i kept = _mm512_max_epi32(_mm512_min_epi32(n, limit), floor);
    _mm512_mask_cvtepi32_storeu_epi8(values + c, lanes, kept);
  }
  return true;
}

template <class F>
SPECKV_AVX512 bool decode_row(const std::byte* scale, const std::int8_t* values,
                              std::size_t channels, std::byte* row,
                              bool stream) noexcept {
  const std::uint32_t bits = load_le<std::uint16_t>(scale);
  if (bits >= F::kInfinity) return false;
  if (bits == 0 || is_unusual<F>(bits))
    return exact<F>().int8_decode(scale, values, channels, row, stream);
  const __m512 by = widen<F>(_mm256_set1_epi16(static_cast<short>(bits)));
  const auto times_scale = [by](__m128i n) SPECKV_AVX512 {
    return narrow<F>(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(n)), by));
  };
  stream = may_stream(stream, row, 0);
  std::uint32_t bad = 0;
  std::size_t c = 0;
  for (; c + kStrip <= channels; c += kStrip) {
    const __m256i n = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + c));
    bad |= _mm256_cmpeq_epi8_mask(n, _mm256_set1_epi8(INT8_MIN));
    __m512i x;
    if constexpr (kIsF16<F>) {
      const __m256i low = times_scale(_mm256_castsi256_si128(n));
      const __m256i high = times_scale(_mm256_extracti128_si256(n, 1));
      x = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    } else {
      const __m512i both = _mm512_cvtepi8_epi16(n);
      const __m512i even = _mm512_srai_epi32(_mm512_slli_epi32(both, 16), 16);
      x = bf16_pairs(even, _mm512_srai_epi32(both, 16), by, by);
    }
    store_line(row + 2 * c, x, stream);
  }
  for (; c < channels; c += kLanes) {
    const __mmask16 lanes = first_lanes(channels - c);
    const __m128i n = _mm_maskz_loadu_epi8(lanes, values + c);
    bad |= _mm_cmpeq_epi8_mask(n, _mm_set1_epi8(INT8_MIN));
    _mm256_mask_storeu_epi16(row + 2 * c, lanes, times_scale(n));
  }
  return bad == 0;
}

SPECKV_AVX512 void settle() noexcept {
  _mm_sfence();
}

template <class F>
constexpr CodecLoops kLoops{
    kvq4_512::encode_keys<F>,
    kvq4_512::encode_values<F>,
    decode_keys<F>,
    decode_values<F>,
    encode_row<F>,
    decode_row<F>,
    settle,
    kIsF16<F> ? &codec_detail::kRtAvx512F16 : &codec_detail::kRtAvx512Bf16,
    kIsF16<F> ? &codec_detail::kHxAvx512F16 : &codec_detail::kHxAvx512Bf16,
    kIsF16<F> ? &codec_detail::kHxpAvx512F16 : &codec_detail::kHxpAvx512Bf16,
    kIsF16<F> ? &codec_detail::kPlanes256F16 : &codec_detail::kPlanes256Bf16};

bool usable() noexcept {
  return __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("bmi2") != 0 &&
         has_f16c();
}

}  // namespace

namespace codec_detail {
const CodecKernel kAvx512{"avx512", usable, kLoops<F16>, kLoops<Bf16>, &kLosslessAvx512};
}

}  // namespace speckv

// Why rounding up thrice is rounding up once: let b be the least 16-bit number that is at
// least range / 15. No step goes below the exact quotient, and none passes b: b fits 11
// bits and 15 b fits 15, so what rounds up to 53 or 24 bits stops there.

#endif
