// The lossy codecs on AVX2 and F16C: 8 or 16 channels at a time, the definition's bits.
// Scales and zeros are computed by the definition, a group at a time.
#include "codec/vector256.hpp"

#if defined(__x86_64__)

#include <algorithm>
#include <cstring>

#include "base/endian.hpp"
#include "codec/kvq4_floats.hpp"

namespace speckv {
namespace {

using namespace number;
using namespace vector256;

// ---- kvq4
// --------------------------------------------------------------------------------

// The place of each value in the order of numbers.
SPECKV_AVX2_INLINE __m256i ranks(const std::byte* plain) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(plain));
  const __m256i minus = _mm256_srai_epi16(bits, 15);
  const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi16(kMagnitude));
  return _mm256_sub_epi16(_mm256_xor_si256(magnitude, minus), minus);
}

using Sixteen = kvq4::Floats<kLanes>;

// Sixteen values to eight bytes of nibbles.
template <class F>
SPECKV_AVX2_INLINE void quantise(const std::byte* plain, const __m256 (&by)[2],
                                 const __m256i (&zero)[2], std::byte* nibbles) {
  const __m256i low = _mm256_add_epi32(whole<F>(load16(plain), by[0]), zero[0]);
  const __m256i high = _mm256_add_epi32(whole<F>(load16(plain + 16), by[1]), zero[1]);
  __m256i q = _mm256_max_epi16(words(low, high), _mm256_setzero_si256());
  q = _mm256_min_epi16(q, _mm256_set1_epi16(Kvq4Shape::kTop));
  const __m128i bytes =
      _mm_packus_epi16(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
  const __m128i pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi16(0x1001));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(nibbles), _mm_packus_epi16(pairs, pairs));
}

template <class F>
SPECKV_AVX2 bool encode_keys(const Kvq4Shape& shape, const std::byte* plain,
                             std::byte* unit) noexcept {
  for (std::uint32_t c = 0; c < shape.channels; c += kLanes) {
    const std::byte* const from = plain + 2ULL * c;
    __m256i low = _mm256_set1_epi16(INT16_MAX), high = _mm256_set1_epi16(INT16_MIN);
    for (std::uint32_t t = 0; t < shape.tokens; ++t) {
      const __m256i r = ranks(from + t * shape.stride);
      low = _mm256_min_epi16(low, r);
      high = _mm256_max_epi16(high, r);
    }
    std::int16_t least[kLanes], most[kLanes];
    std::memcpy(least, &low, sizeof low);
    std::memcpy(most, &high, sizeof high);
    Sixteen group;
    for (std::uint32_t i = 0; i < kLanes; ++i) {
      const Sound sound = kvq4::quantiser<F>({least[i], most[i]},
                                             unit + (c + i) * Kvq4Shape::kParameterBytes,
                                             group.by[i], group.zero[i]);
      if (sound == Sound::no) return false;
      if (sound == Sound::ask) return exact<F>().kvq4_encode_keys(shape, plain, unit);
    }
    const __m256 by[2] = {_mm256_load_ps(group.by), _mm256_load_ps(group.by + 8)};
    __m256i zero[2];
    std::memcpy(zero, group.zero, sizeof zero);
    std::byte* to = unit + padded(shape.key_parameters()) + c / 2;
    for (std::uint32_t t = 0; t < shape.tokens; ++t, to += shape.row_bytes())
      quantise<F>(from + t * shape.stride, by, zero, to);
  }
  return true;
}

SPECKV_AVX2_INLINE kvq4::Extent extent(const std::byte* row, std::uint32_t channels) {
  __m256i low = _mm256_set1_epi16(INT16_MAX), high = _mm256_set1_epi16(INT16_MIN);
  for (std::uint32_t c = 0; c < channels; c += kLanes) {
    const __m256i r = ranks(row + 2ULL * c);
    low = _mm256_min_epi16(low, r);
    high = _mm256_max_epi16(high, r);
  }
  // phminposuw finds the least of eight unsigned words.
  const __m128i least =
      _mm_min_epi16(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  const __m128i most =
      _mm_max_epi16(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  const __m128i flipped = _mm_xor_si128(least, _mm_set1_epi16(INT16_MIN));
  const __m128i reversed = _mm_xor_si128(most, _mm_set1_epi16(INT16_MAX));
  const int a = _mm_extract_epi16(_mm_minpos_epu16(flipped), 0) ^ 0x8000;
  const int b = _mm_extract_epi16(_mm_minpos_epu16(reversed), 0) ^ 0x7FFF;
  return {static_cast<std::int16_t>(a), static_cast<std::int16_t>(b)};
}

template <class F>
SPECKV_AVX2 bool encode_values(const Kvq4Shape& shape, const std::byte* plain,
                               std::byte* unit) noexcept {
  std::byte* nibbles = unit + padded(shape.value_parameters());
  for (std::uint64_t g = 0; g < shape.value_groups(); ++g) {
    const std::byte* const row = plain + shape.group_at(g);
    float scale = 0;
    std::int32_t shift = 0;
    const Sound sound = kvq4::quantiser<F>(
        extent(row, shape.group), unit + g * Kvq4Shape::kParameterBytes, scale, shift);
    if (sound == Sound::no) return false;
    if (sound == Sound::ask) return exact<F>().kvq4_encode_values(shape, plain, unit);
    const __m256 by[2] = {_mm256_set1_ps(scale), _mm256_set1_ps(scale)};
    const __m256i zero[2] = {_mm256_set1_epi32(shift), _mm256_set1_epi32(shift)};
    for (std::uint32_t c = 0; c < shape.group; c += kLanes, nibbles += kLanes / 2)
      quantise<F>(row + 2ULL * c, by, zero, nibbles);
  }
  return true;
}

template <class F>
SPECKV_AVX2_INLINE __m128i restore(__m128i q, __m256 scale, __m256i zero) {
  const __m256i n = _mm256_sub_epi32(_mm256_cvtepu8_epi32(q), zero);
  return narrow<F>(_mm256_mul_ps(_mm256_cvtepi32_ps(n), scale));
}

template <class F>
SPECKV_AVX2 bool decode_keys(const Kvq4Shape& shape, const std::byte* unit,
                             std::byte* plain, bool stream) noexcept {
  for (std::uint32_t c = 0; c < shape.channels; c += kLanes) {
    Sixteen group;
    for (std::uint32_t i = 0; i < kLanes; ++i) {
      const Sound sound = kvq4::restorer<F>(unit + (c + i) * Kvq4Shape::kParameterBytes,
                                            group.by[i], group.zero[i]);
      if (sound == Sound::no) return false;
      if (sound == Sound::ask)
        return exact<F>().kvq4_decode_keys(shape, unit, plain, stream);
    }
    const __m256 scale[2] = {_mm256_load_ps(group.by), _mm256_load_ps(group.by + 8)};
    __m256i zero[2];
    std::memcpy(zero, group.zero, sizeof zero);
    const std::byte* from = unit + padded(shape.key_parameters()) + c / 2;
    std::byte* row = plain + 2ULL * c;
    for (std::uint32_t t = 0; t < shape.tokens; ++t) {
      const __m128i q = spread(from);
      store16(row, restore<F>(q, scale[0], zero[0]));
      store16(row + 16, restore<F>(_mm_srli_si128(q, 8), scale[1], zero[1]));
      from += shape.row_bytes();
      row += shape.stride;
    }
  }
  return true;
}

// A group of values has one scale, hence sixteen possible values: two tables of bytes.
template <class F>
SPECKV_AVX2 bool decode_values(const Kvq4Shape& shape, const std::byte* unit,
                               std::byte* plain, bool stream) noexcept {
  const std::byte* nibbles = unit + padded(shape.value_parameters());
  const __m128i steps =
      _mm_set_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m128i byte = _mm_set1_epi16(0xFF);
  for (std::uint64_t g = 0; g < shape.value_groups(); ++g) {
    float by = 0;
    std::int32_t shift = 0;
    const Sound sound =
        kvq4::restorer<F>(unit + g * Kvq4Shape::kParameterBytes, by, shift);
    if (sound == Sound::no) return false;
    if (sound == Sound::ask)
      return exact<F>().kvq4_decode_values(shape, unit, plain, stream);
    const __m256 scale = _mm256_set1_ps(by);
    const __m256i zero = _mm256_set1_epi32(shift);
    const __m128i a = restore<F>(steps, scale, zero);
    const __m128i b = restore<F>(_mm_srli_si128(steps, 8), scale, zero);
    const __m128i lower =
        _mm_packus_epi16(_mm_and_si128(a, byte), _mm_and_si128(b, byte));
    const __m128i upper = _mm_packus_epi16(_mm_srli_epi16(a, 8), _mm_srli_epi16(b, 8));
    std::byte* row = plain + shape.group_at(g);
    for (std::uint32_t c = 0; c < shape.group; c += kLanes, nibbles += kLanes / 2) {
      const __m128i q = spread(nibbles);
      const __m128i l = _mm_shuffle_epi8(lower, q), u = _mm_shuffle_epi8(upper, q);
      store16(row + 2ULL * c, _mm_unpacklo_epi8(l, u));
      store16(row + 2ULL * c + 16, _mm_unpackhi_epi8(l, u));
    }
  }
  return true;
}

// ---- int8: rows of whole vectors; others are too short to matter
// -------------------------

template <class F>
SPECKV_AVX2 bool encode_row(const std::byte* row, std::size_t channels, std::byte* scale,
                            std::int8_t* values) noexcept {
  if (channels % kLanes != 0) return exact<F>().int8_encode(row, channels, scale, values);
  const __m256i magnitude = _mm256_set1_epi16(kMagnitude);
  __m256i most = _mm256_setzero_si256();
  for (std::size_t c = 0; c < channels; c += kLanes) {
    const auto* at = reinterpret_cast<const __m256i*>(row + 2 * c);
    most = _mm256_max_epu16(most, _mm256_and_si256(_mm256_loadu_si256(at), magnitude));
  }
  const __m128i eight =
      _mm_max_epu16(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  const __m128i reversed = _mm_xor_si128(eight, _mm_set1_epi16(-1));
  const auto amax =
      static_cast<std::uint32_t>(_mm_extract_epi16(_mm_minpos_epu16(reversed), 0)) ^
      0xFFFF;
  if (amax >= F::kInfinity) return false;
  const std::uint32_t s = int8_scale<F>(amax);
  if (s == 0 || is_unusual<F>(s))
    return exact<F>().int8_encode(row, channels, scale, values);
  store_le(scale, static_cast<std::uint16_t>(s));
  const __m256 by = _mm256_set1_ps(as_float(inverse<F>(s)));
  const __m256i floor = _mm256_set1_epi16(-127), limit = _mm256_set1_epi16(127);
  for (std::size_t c = 0; c < channels; c += kLanes) {
    const __m256i low = whole<F>(load16(row + 2 * c), by);
    const __m256i high = whole<F>(load16(row + 2 * c + 16), by);
    const __m256i n = _mm256_max_epi16(_mm256_min_epi16(words(low, high), limit), floor);
    store16(reinterpret_cast<std::byte*>(values + c),
            _mm_packs_epi16(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1)));
  }
  return true;
}

template <class F>
SPECKV_AVX2 bool decode_row(const std::byte* scale, const std::int8_t* values,
                            std::size_t channels, std::byte* row, bool stream) noexcept {
  const std::uint32_t bits = load_le<std::uint16_t>(scale);
  if (bits >= F::kInfinity) return false;
  if (channels % kLanes != 0 || bits == 0 || is_unusual<F>(bits))
    return exact<F>().int8_decode(scale, values, channels, row, stream);
  const __m256 by = widen<F>(_mm_set1_epi16(static_cast<short>(bits)));
  __m128i bad = _mm_setzero_si128();
  for (std::size_t c = 0; c < channels; c += kLanes) {
    const __m128i n = load16(reinterpret_cast<const std::byte*>(values + c));
    bad = _mm_or_si128(bad, _mm_cmpeq_epi8(n, _mm_set1_epi8(INT8_MIN)));
    const __m256 low = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(n));
    const __m256 high = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(n, 8)));
    store16(row + 2 * c, narrow<F>(_mm256_mul_ps(low, by)));
    store16(row + 2 * c + 16, narrow<F>(_mm256_mul_ps(high, by)));
  }
  return _mm_movemask_epi8(bad) == 0;
}

// Nothing is streamed: the stores are shorter than a cache line.
void settle() noexcept {}

template <class F>
constexpr CodecLoops kLoops{
    encode_keys<F>,
    encode_values<F>,
    decode_keys<F>,
    decode_values<F>,
    encode_row<F>,
    decode_row<F>,
    settle,
    kIsF16<F> ? &codec_detail::kRt256F16 : &codec_detail::kRt256Bf16,
    kIsF16<F> ? &codec_detail::kHx256F16 : &codec_detail::kHx256Bf16,
    kIsF16<F> ? &codec_detail::kHxp256F16 : &codec_detail::kHxp256Bf16,
    kIsF16<F> ? &codec_detail::kPlanes256F16 : &codec_detail::kPlanes256Bf16};

bool usable() noexcept {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("bmi2") != 0 &&
         has_f16c();
}

}  // namespace

namespace codec_detail {
const CodecKernel kAvx2{"avx2", usable, kLoops<F16>, kLoops<Bf16>, &kLosslessAvx2};
}

}  // namespace speckv

#endif
