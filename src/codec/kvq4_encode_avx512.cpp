// Encoding kvq4 with AVX-512: 32 channels at a time, the definition's bits.
#include "codec/kvq4_avx512.hpp"

#if defined(__x86_64__)

#include "codec/number.hpp"

namespace speckv::kvq4_512 {

using namespace number;
using namespace avx512;

namespace {

// The place of each value in the order of numbers.
SPECKV_AVX512_INLINE __m512i ranks(__m512i bits) {
  const __m512i minus = _mm512_srai_epi16(bits, 15);
  const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi16(kMagnitude));
  return _mm512_sub_epi16(_mm512_xor_si512(magnitude, minus), minus);
}

// The extremes of values lane by lane, in the order of numbers: as words without a sign,
// negative ones are above all others, and the larger the further below zero.
struct Extremes {
  __m512i upper, top, lower;

  SPECKV_AVX512_INLINE static Extremes none() {
    return {_mm512_setzero_si512(), _mm512_set1_epi16(INT16_MIN), _mm512_set1_epi16(-1)};
  }
  SPECKV_AVX512_INLINE void add(__m512i bits) {
    upper = _mm512_max_epu16(upper, bits);
    top = _mm512_max_epi16(top, bits);
    lower = _mm512_min_epu16(lower, bits);
  }
  // The ranks of the smallest and the largest.
  SPECKV_AVX512_INLINE __m512i low() const {
    return ranks(_mm512_mask_mov_epi16(lower, _mm512_movepi16_mask(upper), upper));
  }
  SPECKV_AVX512_INLINE __m512i high() const {
    return ranks(_mm512_mask_mov_epi16(top, _mm512_movepi16_mask(top), lower));
  }
};

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

// What 32 values are multiplied by, and what is added then, as words. For f16 the lower
// and the upper sixteen; for bf16, which needs no shuffles so, those at even places and
// those at odd ones.
struct Quantiser {
  __m512 inverse[2];
  __m512i zero;
};
template <class F>
SPECKV_AVX512_INLINE Quantiser quantiser(const Groups& first, const Groups& second) {
  const __m512i zero = words(first.zero, second.zero);
  if constexpr (kIsF16<F>) return {{first.inverse, second.inverse}, zero};
  return {{even_of(first.inverse, second.inverse), odd_of(first.inverse, second.inverse)},
          zero};
}

// Products, rounded, of which each has 16 bits.
template <class F>
SPECKV_AVX512_INLINE __m512i products(__m512i bits, const __m512 (&by)[2]) {
  if constexpr (kIsF16<F>) {
    const __m512 low = widen<F>(_mm512_castsi512_si256(bits));
    const __m512 high = widen<F>(_mm512_extracti64x4_epi64(bits, 1));
    return words(_mm512_cvt_roundps_epi32(_mm512_mul_ps(low, by[0]), kNearest),
                 _mm512_cvt_roundps_epi32(_mm512_mul_ps(high, by[1]), kNearest));
  }
  const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  const __m512 odd = _mm512_castsi512_ps(
      _mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xFFFF0000))));
  const __m512i a = _mm512_cvt_roundps_epi32(_mm512_mul_ps(even, by[0]), kNearest);
  const __m512i b = _mm512_cvt_roundps_epi32(_mm512_mul_ps(odd, by[1]), kNearest);
  return pairs_of(a, _mm512_slli_epi32(b, 16));
}

// The values in `lanes`, all 32 or the first 16, to as many nibbles.
template <class F>
SPECKV_AVX512_INLINE void quantise(const std::byte* plain, __mmask32 lanes,
                                   const Quantiser& by, std::byte* nibbles) {
  const __m512i n = products<F>(_mm512_maskz_loadu_epi16(lanes, plain), by.inverse);
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
  Extremes ends[count];
#pragma GCC unroll 4
  for (Extremes& each : ends)
    each = Extremes::none();
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const std::byte* const row = plain + t * shape.stride;
#pragma GCC unroll 4
    for (std::uint32_t s = 0; s < count; ++s) {
      const __mmask32 lanes = s + 1 == count ? last : kAllWords;
      ends[s].add(_mm512_maskz_loadu_epi16(lanes, row + 64ULL * s));
    }
  }
  Quantiser by[count];
#pragma GCC unroll 4
  for (std::uint32_t s = 0; s < count; ++s) {
    const bool whole = s + 1 < count || last == kAllWords;
    const __m512i low = ends[s].low(), high = ends[s].high();
    Groups first, second;
    const Sound sound = parameters<F>(_mm512_castsi512_si256(low),
                                      _mm512_castsi512_si256(high), 0xFFFF, first);
    if (sound != Sound::yes) return sound;
    second = first;
    if (whole) {
      const Sound too = parameters<F>(_mm512_extracti64x4_epi64(low, 1),
                                      _mm512_extracti64x4_epi64(high, 1), 0xFFFF, second);
      if (too != Sound::yes) return too;
    }
    by[s] = quantiser<F>(first, second);
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

// The smallest and largest rank of a row.
SPECKV_AVX512_INLINE void extent(const std::byte* row, std::uint32_t channels,
                                 std::int16_t& low, std::int16_t& high) {
  Extremes ends = Extremes::none();
  std::uint32_t c = 0;
  for (; c + kStrip <= channels; c += kStrip)
    ends.add(_mm512_loadu_si512(row + 2ULL * c));
  if (c < channels)
    ends.add(_mm512_broadcast_i64x4(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 2ULL * c))));
  const __m512i least = ends.low(), most = ends.high();
  const __m512i flip = _mm512_set1_epi16(INT16_MIN);
  low = static_cast<std::int16_t>(lowest(_mm512_xor_si512(least, flip)) ^ 0x8000);
  const __m512i reversed = _mm512_xor_si512(most, _mm512_set1_epi16(INT16_MAX));
  high = static_cast<std::int16_t>(lowest(reversed) ^ 0x7FFF);
}

}  // namespace

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

template bool encode_keys<F16>(const Kvq4Shape&, const std::byte*, std::byte*) noexcept;
template bool encode_keys<Bf16>(const Kvq4Shape&, const std::byte*, std::byte*) noexcept;

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
template bool encode_values<F16>(const Kvq4Shape&, const std::byte*, std::byte*) noexcept;
template bool encode_values<Bf16>(const Kvq4Shape&, const std::byte*,
                                  std::byte*) noexcept;

}  // namespace speckv::kvq4_512

#endif
