// The lossy codecs on AVX-512: 16 or 32 channels at a time, the definition's bits.
#include "codec/avx512.hpp"

#if defined(__x86_64__)

#include <cstring>

#include "base/endian.hpp"
#include "codec/number.hpp"

namespace speckv {
namespace {

using namespace number;
using namespace avx512;

// ---- kvq4: encoding ------------------------------------------------------------------

// The place of each value in the order of numbers.
SPECKV_AVX512_INLINE __m512i ranks(__m512i bits) {
  const __m512i minus = _mm512_srai_epi16(bits, 15);
  const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi16(kMagnitude));
  return _mm512_sub_epi16(_mm512_xor_si512(magnitude, minus), minus);
}

// Back to a value, as a float.
template <class F>
SPECKV_AVX512_INLINE __m512 value_of(__m256i rank) {
  const __m256i sign =
      _mm256_and_si256(rank, _mm256_set1_epi16(static_cast<short>(kSign)));
  return widen<F>(_mm256_or_si256(_mm256_abs_epi16(rank), sign));
}

// What sixteen groups' values are multiplied by and shifted by, and what is stored.
struct Groups {
  __m512 inverse;
  __m512i zero, stored;
};

// range / 15, rounded up, in doubles that round up as well: see the note at the end.
SPECKV_AVX512_INLINE __m256 fifteenth(__m256 low, __m256 high) {
  const __m512d range =
      _mm512_sub_round_pd(_mm512_cvtps_pd(high), _mm512_cvtps_pd(low), kUp);
  return _mm512_cvt_roundpd_ps(_mm512_div_round_pd(range, _mm512_set1_pd(15.0), kUp),
                               kUp);
}

// 1 / scale with a significand of 13 bits. There are no ties, so adding half will do.
SPECKV_AVX512_INLINE __m256 inverse_of(__m256 scale) {
  const __m512d quotient =
      _mm512_div_round_pd(_mm512_set1_pd(1.0), _mm512_cvtps_pd(scale), kNearest);
  const __m512i bits = _mm512_add_epi64(_mm512_castpd_si512(quotient),
                                        _mm512_set1_epi64(std::int64_t{1} << 39));
  const __m512i kept =
      _mm512_and_si512(bits, _mm512_set1_epi64(-(std::int64_t{1} << 40)));
  return _mm512_cvtpd_ps(_mm512_castsi512_pd(kept));
}

SPECKV_AVX512_INLINE __m256 half(__m512 x, int which) {
  return which == 0 ? _mm512_castps512_ps256(x) : _mm512_extractf32x8_ps(x, 1);
}
SPECKV_AVX512_INLINE __m512 join(__m256 low, __m256 high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

// The spacing of numbers near a magnitude, at least one unit.
template <class F>
SPECKV_AVX512_INLINE __m256i spacing(__m256i magnitude) {
  constexpr int kM = F::kMantissa;
  const __m256i one = _mm256_set1_epi16(1);
  const __m256i place =
      _mm256_sub_epi16(_mm256_max_epu16(_mm256_srli_epi16(magnitude, kM), one), one);
  const __m256i normal =
      _mm256_slli_epi16(_mm256_sub_epi16(place, _mm256_set1_epi16(kM - 1)), kM);
  const __mmask16 is_normal = _mm256_cmpge_epu16_mask(place, _mm256_set1_epi16(kM));
  return _mm256_mask_mov_epi16(_mm256_sllv_epi16(one, place), is_normal, normal);
}

// Of the groups in `lanes`, from their smallest and largest ranks.
template <class F>
SPECKV_AVX512_INLINE Sound parameters(__m256i low, __m256i high, __mmask16 lanes,
                                      Groups& groups) {
  const __m256i below = _mm256_abs_epi16(low), above = _mm256_abs_epi16(high);
  const __m256i largest = _mm256_max_epu16(below, above);
  const __m256i infinity = _mm256_set1_epi16(static_cast<short>(F::kInfinity));
  if (_mm256_mask_cmpge_epu16_mask(lanes, largest, infinity) != 0) return Sound::no;
  const __m512 low_value = value_of<F>(low), high_value = value_of<F>(high);
  const __m512 share = join(fifteenth(half(low_value, 0), half(high_value, 0)),
                            fifteenth(half(low_value, 1), half(high_value, 1)));
  const __m256i scale = _mm256_max_epu16(narrow_up<F>(share), spacing<F>(largest));
  int ask = unusual<F>(scale);
  if constexpr (!kIsF16<F>) {  // a subnormal end might be taken for zero
    const __m256i one = _mm256_set1_epi16(1), normal = _mm256_set1_epi16(0x7F);
    ask |= _mm256_cmplt_epu16_mask(_mm256_sub_epi16(below, one), normal) |
           _mm256_cmplt_epu16_mask(_mm256_sub_epi16(above, one), normal);
  }
  if ((ask & lanes) != 0) return Sound::ask;
  const __m512 wide = widen<F>(scale);
  groups.inverse = join(inverse_of(half(wide, 0)), inverse_of(half(wide, 1)));
  const __m512i first =
      _mm512_cvt_roundps_epi32(_mm512_mul_ps(low_value, groups.inverse), kNearest);
  groups.zero = _mm512_sub_epi32(_mm512_setzero_si512(), first);
  groups.stored =
      _mm512_or_si512(_mm512_slli_epi32(groups.zero, 16), _mm512_cvtepu16_epi32(scale));
  return Sound::yes;
}

// The low words of two registers, in order.
SPECKV_AVX512_INLINE __m512i words(__m512i low, __m512i high) {
  const __m512i even = _mm512_add_epi32(
      _mm512_mullo_epi32(
          _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
          _mm512_set1_epi32(0x00040004)),
      _mm512_set1_epi32(0x00020000));
  return _mm512_permutex2var_epi16(low, even, high);
}

// What 32 values are multiplied by, and what is added then, as words.
struct Quantiser {
  __m512 inverse[2];
  __m512i zero;
};

// The values in `lanes`, all 32 or the first 16, to as many nibbles.
template <class F>
SPECKV_AVX512_INLINE void quantise(const std::byte* plain, __mmask32 lanes,
                                   const Quantiser& by, std::byte* nibbles) {
  const __m512i bits = _mm512_maskz_loadu_epi16(lanes, plain);
  const __m512 low = widen<F>(_mm512_castsi512_si256(bits));
  const __m512 high = widen<F>(_mm512_extracti64x4_epi64(bits, 1));
  const __m512i n =
      words(_mm512_cvt_roundps_epi32(_mm512_mul_ps(low, by.inverse[0]), kNearest),
            _mm512_cvt_roundps_epi32(_mm512_mul_ps(high, by.inverse[1]), kNearest));
  __m512i q = _mm512_max_epi16(_mm512_add_epi16(n, by.zero), _mm512_setzero_si512());
  q = _mm512_min_epi16(q, _mm512_set1_epi16(Kvq4Shape::kTop));
  // Neighbours share a 32-bit lane: the upper one moves down beside the lower one.
  const __m128i bytes =
      _mm512_cvtepi32_epi8(_mm512_or_si512(q, _mm512_srli_epi32(q, 12)));
  auto* const to = reinterpret_cast<__m128i*>(nibbles);
  if (lanes == kAllWords) {
    _mm_storeu_si128(to, bytes);
  } else {
    _mm_storel_epi64(to, bytes);
  }
}

// `count` strips of channels side by side, row after row as memory has them; the last
// strip may be half a one. The parameters and nibbles of the first go to the addresses.
template <class F, std::uint32_t count>
SPECKV_AVX512 Sound encode_strips(const Kvq4Shape& shape, const std::byte* plain,
                                  __mmask32 last, std::byte* stored,
                                  std::byte* nibbles) noexcept {
  __m512i low[count], high[count];
#pragma GCC unroll 4
  for (std::uint32_t s = 0; s < count; ++s) {
    low[s] = _mm512_set1_epi16(INT16_MAX);
    high[s] = _mm512_set1_epi16(INT16_MIN);
  }
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const std::byte* const row = plain + t * shape.stride;
#pragma GCC unroll 4
    for (std::uint32_t s = 0; s < count; ++s) {
      const __mmask32 lanes = s + 1 == count ? last : kAllWords;
      const __m512i r = ranks(_mm512_maskz_loadu_epi16(lanes, row + 64ULL * s));
      low[s] = _mm512_min_epi16(low[s], r);
      high[s] = _mm512_max_epi16(high[s], r);
    }
  }
  Quantiser by[count];
#pragma GCC unroll 4
  for (std::uint32_t s = 0; s < count; ++s) {
    const bool whole = s + 1 < count || last == kAllWords;
    Groups first, second;
    const Sound sound = parameters<F>(_mm512_castsi512_si256(low[s]),
                                      _mm512_castsi512_si256(high[s]), 0xFFFF, first);
    if (sound != Sound::yes) return sound;
    second = first;
    if (whole) {
      const Sound too =
          parameters<F>(_mm512_extracti64x4_epi64(low[s], 1),
                        _mm512_extracti64x4_epi64(high[s], 1), 0xFFFF, second);
      if (too != Sound::yes) return too;
    }
    by[s] = {{first.inverse, second.inverse}, words(first.zero, second.zero)};
    _mm512_storeu_si512(stored + 128ULL * s, first.stored);
    if (whole) _mm512_storeu_si512(stored + 128ULL * s + 64, second.stored);
  }
  for (std::uint32_t t = 0; t < shape.tokens; ++t, nibbles += shape.row_bytes()) {
    const std::byte* const row = plain + t * shape.stride;
#pragma GCC unroll 4
    for (std::uint32_t s = 0; s < count; ++s)
      quantise<F>(row + 64ULL * s, s + 1 == count ? last : kAllWords, by[s],
                  nibbles + 16ULL * s);
  }
  return Sound::yes;
}

template <class F>
SPECKV_AVX512 bool encode_keys(const Kvq4Shape& shape, const std::byte* plain,
                               std::byte* unit) noexcept {
  constexpr std::uint32_t kMost = 4;  // strips that fit the registers
  static constexpr decltype(&encode_strips<F, 1>) kEncode[kMost] = {
      encode_strips<F, 1>, encode_strips<F, 2>, encode_strips<F, 3>, encode_strips<F, 4>};
  std::byte* const nibbles = unit + padded(shape.key_parameters());
  for (std::uint32_t c = 0; c < shape.channels; c += kMost * kStrip) {
    const std::uint32_t width =
        std::min<std::uint32_t>(kMost * kStrip, shape.channels - c);
    const Sound sound = kEncode[(width - 1) / kStrip](
        shape, plain + 2ULL * c, width % kStrip == 0 ? kAllWords : kHalfWords,
        unit + c * Kvq4Shape::kParameterBytes, nibbles + c / 2);
    if (sound == Sound::no) return false;
    if (sound == Sound::ask) return exact<F>().kvq4_encode_keys(shape, plain, unit);
  }
  return true;
}

// The least of 32 unsigned words.
SPECKV_AVX512_INLINE int lowest(__m512i x) {
  const __m256i a =
      _mm256_min_epu16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
  const __m128i b =
      _mm_min_epu16(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  return _mm_extract_epi16(_mm_minpos_epu16(b), 0);
}

// The smallest and largest rank of a row.
SPECKV_AVX512_INLINE void extent(const std::byte* row, std::uint32_t channels,
                                 std::int16_t& low, std::int16_t& high) {
  __m512i least = _mm512_set1_epi16(INT16_MAX), most = _mm512_set1_epi16(INT16_MIN);
  for (std::uint32_t c = 0; c < channels; c += kStrip) {
    const __mmask32 lanes = channels - c >= kStrip ? kAllWords : kHalfWords;
    const __m512i r = ranks(_mm512_maskz_loadu_epi16(lanes, row + 2ULL * c));
    least = _mm512_mask_min_epi16(least, lanes, least, r);
    most = _mm512_mask_max_epi16(most, lanes, most, r);
  }
  const __m512i flip = _mm512_set1_epi16(INT16_MIN);
  low = static_cast<std::int16_t>(lowest(_mm512_xor_si512(least, flip)) ^ 0x8000);
  const __m512i reversed = _mm512_xor_si512(most, _mm512_set1_epi16(INT16_MAX));
  high = static_cast<std::int16_t>(lowest(reversed) ^ 0x7FFF);
}

template <class F>
SPECKV_AVX512 bool encode_values(const Kvq4Shape& shape, const std::byte* plain,
                                 std::byte* unit) noexcept {
  std::byte* nibbles = unit + padded(shape.value_parameters());
  const std::uint64_t groups = shape.value_groups();
  for (std::uint64_t g = 0; g < groups; g += kLanes) {
    const std::size_t count = std::min<std::uint64_t>(kLanes, groups - g);
    const __mmask16 lanes = first_lanes(count);
    alignas(32) std::int16_t low[kLanes] = {}, high[kLanes] = {};
    for (std::size_t i = 0; i < count; ++i)
      extent(plain + shape.group_at(g + i), shape.group, low[i], high[i]);
    Groups part;
    const Sound sound = parameters<F>(
        _mm256_load_si256(reinterpret_cast<const __m256i*>(low)),
        _mm256_load_si256(reinterpret_cast<const __m256i*>(high)), lanes, part);
    if (sound == Sound::no) return false;
    if (sound == Sound::ask) return exact<F>().kvq4_encode_values(shape, plain, unit);
    _mm512_mask_storeu_epi32(unit + g * Kvq4Shape::kParameterBytes, lanes, part.stored);
    alignas(64) float inverse[kLanes];
    alignas(64) std::int32_t zero[kLanes];
    _mm512_store_ps(inverse, part.inverse);
    _mm512_store_si512(zero, part.zero);
    for (std::size_t i = 0; i < count; ++i) {
      const std::byte* const row = plain + shape.group_at(g + i);
      const __m512 factor = _mm512_set1_ps(inverse[i]);
      const Quantiser by{{factor, factor},
                         _mm512_set1_epi16(static_cast<short>(zero[i]))};
      for (std::uint32_t c = 0; c < shape.group; c += kStrip) {
        const bool whole = shape.group - c >= kStrip;
        quantise<F>(row + 2ULL * c, whole ? kAllWords : kHalfWords, by, nibbles);
        nibbles += whole ? kStrip / 2 : kLanes / 2;
      }
    }
  }
  return true;
}

// ---- kvq4: decoding ------------------------------------------------------------------

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
    const __m512i low = _mm512_set1_epi16(15);
    for (std::uint32_t t = 0; t < shape.tokens; ++t) {
      const __m512i q = _mm512_and_si512(spread(from, width == kStrip), low);
      const __m256i a = restore<F>(_mm512_castsi512_si256(q), scale[0], zero[0]);
      if (width == kStrip) {
        const __m256i b = restore<F>(_mm512_extracti64x4_epi64(q, 1), scale[1], zero[1]);
        store_line(row, _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1), stream);
      } else {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(row), a);
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
  const auto restored = [by](__m128i n) SPECKV_AVX512 {
    return narrow<F>(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(n)), by));
  };
  stream = may_stream(stream, row, 0);
  std::uint32_t bad = 0;
  std::size_t c = 0;
  for (; c + kStrip <= channels; c += kStrip) {
    const __m256i n = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + c));
    bad |= _mm256_cmpeq_epi8_mask(n, _mm256_set1_epi8(INT8_MIN));
    const __m256i low = restored(_mm256_castsi256_si128(n));
    const __m256i high = restored(_mm256_extracti128_si256(n, 1));
    store_line(row + 2 * c, _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1),
               stream);
  }
  for (; c < channels; c += kLanes) {
    const __mmask16 lanes = first_lanes(channels - c);
    const __m128i n = _mm_maskz_loadu_epi8(lanes, values + c);
    bad |= _mm_cmpeq_epi8_mask(n, _mm_set1_epi8(INT8_MIN));
    _mm256_mask_storeu_epi16(row + 2 * c, lanes, restored(n));
  }
  return bad == 0;
}

SPECKV_AVX512 void settle() noexcept {
  _mm_sfence();
}

template <class F>
constexpr CodecLoops kLoops{
    encode_keys<F>,
    encode_values<F>,
    decode_keys<F>,
    decode_values<F>,
    encode_row<F>,
    decode_row<F>,
    settle,
    kIsF16<F> ? &codec_detail::kRtAvx512F16 : &codec_detail::kRtAvx512Bf16,
    kIsF16<F> ? &codec_detail::kHxAvx512F16 : &codec_detail::kHxAvx512Bf16,
    kIsF16<F> ? &codec_detail::kHxpAvx512F16 : &codec_detail::kHxpAvx512Bf16};

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
