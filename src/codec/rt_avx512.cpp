// rt with AVX-512: decoding 32 channels at a time.
#include "codec/avx512.hpp"

#if defined(__x86_64__)

#include <cstring>

#include "codec/rt_decode.hpp"
#include "codec/rt_vectors.hpp"

namespace speckv {
namespace {

using namespace avx512;

constexpr std::uint32_t kWord = 64;  // channels of a word of bits

// Where levels stand before transform(), of 64 channels in two registers: channel bits 0
// to 5 in the bits of a place (register, word 4 to 0) 1, 2, register, 0, 3, 4.
struct Order {
  alignas(64) std::uint16_t channel[2][32];
};
constexpr Order order() noexcept {
  Order made{};
  for (unsigned r = 0; r < 2; ++r) {
    for (unsigned w = 0; w < 32; ++w) {
      const auto bit = [w](unsigned i) { return w >> i & 1; };
      made.channel[r][w] = static_cast<std::uint16_t>(
          bit(1) | bit(2) << 1 | r << 2 | bit(0) << 3 | bit(3) << 4 | bit(4) << 5);
    }
  }
  return made;
}
inline constexpr Order kOrder = order();

SPECKV_AVX512_INLINE void butterfly(__m512i& a, __m512i& b) {
  const __m512i sum = _mm512_add_epi16(a, b);
  b = _mm512_sub_epi16(a, b);
  a = sum;
}

// The transform of 32 * count values. Of each two registers one bit of the words' places
// after the other changes places with the register's, which is where a butterfly is
// cheap; in the end all channels are in order.
template <std::uint32_t count>
SPECKV_AVX512_INLINE void transform(__m512i* x) {
#pragma GCC unroll 4
  for (std::uint32_t i = 0; i < count; i += 2) {
    __m512i& a = x[i];
    __m512i& b = x[i + 1];
    butterfly(a, b);
#pragma GCC unroll 3
    for (int stage = 0; stage < 3; ++stage) {
      const __m512i low = _mm512_unpacklo_epi16(a, b);
      b = _mm512_unpackhi_epi16(a, b);
      a = low;
      butterfly(a, b);
    }
#pragma GCC unroll 2
    for (int stage = 0; stage < 2; ++stage) {
      const __m512i even = _mm512_shuffle_i64x2(a, b, 0x88);
      b = _mm512_shuffle_i64x2(a, b, 0xDD);
      a = even;
      butterfly(a, b);
    }
  }
#pragma GCC unroll 2
  for (std::uint32_t half = 2; half < count; half *= 2) {
#pragma GCC unroll 8
    for (std::uint32_t i = 0; i < count; ++i) {
      if ((i & half) == 0) butterfly(x[i], x[i + half]);
    }
  }
}

// What stays the same over the rows of a unit, in order of channels.
struct Unit {
  alignas(64) float step[RtShape::kMostKeyChannels];
  alignas(64) std::int16_t zero[RtShape::kMostKeyChannels];
};

SPECKV_AVX512_INLINE __mmask32 half_of(std::uint64_t word, int which) {
  return static_cast<__mmask32>(which == 0 ? word : word >> 32);
}

// The levels of 64 channels, in the order of transform(). low, high: those of numbers 0
// to 15, and from 16.
template <std::uint32_t rate>
SPECKV_AVX512_INLINE void levels(const std::byte* row, std::uint32_t plane,
                                 std::uint64_t& before, __m512i low, __m512i high,
                                 __m512i* to) {
  std::uint64_t bits[rate];
#pragma GCC unroll 4
  for (std::uint32_t j = 0; j < rate; ++j)
    bits[j] = load_le<std::uint64_t>(row + j * plane);
  const std::uint64_t now = bits[0];
  const std::uint64_t z0 = now << 2 | before >> 62;
  const std::uint64_t z1 = now ^ (now << 1 | before >> 63) ^ (now << 3 | before >> 61);
  before = now;
  __m512i index = _mm512_maskz_set1_epi8(z0, 1);
  index = _mm512_mask_add_epi8(index, z1, index, _mm512_set1_epi8(2));
  constexpr std::uint32_t kFew = std::min(rate, 3U);
#pragma GCC unroll 2
  for (std::uint32_t j = 1; j < kFew; ++j)
    index = _mm512_mask_add_epi8(index, bits[j], index,
                                 _mm512_set1_epi8(static_cast<char>(2 << j)));
  __m512i level = _mm512_shuffle_epi8(low, index);
  if constexpr (rate == 4) level = _mm512_mask_shuffle_epi8(level, bits[3], high, index);
  const __m512i a = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(level));
  const __m512i b = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(level, 1));
  to[0] = _mm512_permutex2var_epi16(a, _mm512_load_si512(kOrder.channel[0]), b);
  to[1] = _mm512_permutex2var_epi16(a, _mm512_load_si512(kOrder.channel[1]), b);
}

// `small`: no value can be too large for F.
template <class F, bool small>
SPECKV_AVX512_INLINE __m256i value_of(__m512i steps, __m512 step) {
  const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(steps), step);
  if constexpr (kIsF16<F> && small) return _mm512_cvtps_ph(x, kNearest);
  return narrow<F>(x);
}
template <class F, bool small>
SPECKV_AVX512_INLINE __m512i finish(__m512i steps, __m512 low, __m512 high) {
  const __m512i most = _mm512_set1_epi16(RtShape::kMaxSteps);
  steps = _mm512_min_epi16(steps, most);
  steps = _mm512_max_epi16(steps, _mm512_sub_epi16(_mm512_setzero_si512(), most));
  const __m512i first = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(steps));
  const __m512i second = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(steps, 1));
  const __m256i upper = value_of<F, small>(second, high);
  return _mm512_inserti64x4(_mm512_castsi256_si512(value_of<F, small>(first, low)), upper,
                            1);
}

// A row of `blocks` blocks of 32 * count channels.
template <class F, bool small, std::uint32_t rate, std::uint32_t count>
SPECKV_AVX512 void decode_rows(const RtShape& shape, const Unit& known,
                               std::int32_t scale, const std::byte* unit,
                               std::byte* plain, bool stream) noexcept {
  alignas(16) std::int8_t level[32] = {};
  for (std::size_t i = 0; i < 2U << rate; ++i)
    level[i] = static_cast<std::int8_t>(rt::Levels<rate>::kLevel[i]);
  const auto* const table = reinterpret_cast<const __m128i*>(level);
  const __m512i few = _mm512_broadcast_i32x4(_mm_load_si128(table)),
                more = _mm512_broadcast_i32x4(_mm_load_si128(table + 1)),
                none = _mm512_setzero_si512();
  const std::uint32_t plane = shape.channels / 8;
  const std::byte* row = unit + shape.rows();
  for (std::uint32_t t = 0; t < shape.tokens; ++t, row += shape.row_bytes()) {
    std::byte* const to = plain + t * shape.stride;
    const auto e = std::to_integer<std::uint32_t>(unit[shape.gains() + t]);
    const __m512i factor = _mm512_set1_epi16(static_cast<short>(rt::gain(e)));
    const auto log = scale - static_cast<std::int32_t>(e) - 1;
    const __m512 same =
        _mm512_set1_ps(as_float(log_scale::power(e == RtShape::kNoGain ? 0 : log)));
    const __mmask32 lanes = e == RtShape::kNoGain ? 0 : kAllWords;
    std::uint64_t before = 0;
    for (std::uint32_t c = 0; c < shape.channels; c += 32 * count) {
      __m512i x[count];
#pragma GCC unroll 4
      for (std::uint32_t i = 0; i < count; i += 2)
        levels<rate>(row + (c + 32 * i) / 8, plane, before, few, more, x + i);
      transform<count>(x);
#pragma GCC unroll 8
      for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t at = c + 32 * i;
        if constexpr (count == 8)
          x[i] = _mm512_srai_epi16(_mm512_add_epi16(x[i], _mm512_set1_epi16(1)), 1);
        const __mmask32 turned =
            half_of(rt::kSigns[at / kWord % 4], static_cast<int>(at / 32 % 2));
        x[i] = _mm512_mask_sub_epi16(x[i], turned, none, x[i]);
        __m512 low = same, high = same;
        if (!shape.keys) {
          x[i] = _mm512_maskz_mov_epi16(lanes, x[i]);
        } else {
          x[i] = _mm512_adds_epi16(_mm512_mulhrs_epi16(x[i], factor),
                                   _mm512_load_si512(known.zero + at));
          low = _mm512_load_ps(known.step + at);
          high = _mm512_load_ps(known.step + at + 16);
        }
        store_line(to + 2 * at, finish<F, small>(x[i], low, high), stream);
      }
    }
  }
}

template <class F, bool small, std::uint32_t rate>
constexpr auto rows_of(std::uint32_t block) noexcept {
  return block == 64    ? decode_rows<F, small, rate, 2>
         : block == 128 ? decode_rows<F, small, rate, 4>
                        : decode_rows<F, small, rate, 8>;
}

template <class F, std::uint32_t rate>
SPECKV_AVX512 bool decode(const RtShape& shape, Bytes unit, std::byte* plain,
                          bool stream) noexcept {
  rt::Parameters p;
  if (!rt::read_parameters(shape, unit, p)) return false;
  if (shape.channels % kWord != 0 || !p.is_usual<F>())
    return rt::decode_unit<F, rate>(shape, unit, plain);
  Unit known;
  for (std::uint32_t c = 0; shape.keys && c < shape.channels; ++c) {
    known.step[c] = as_float(log_scale::power(p.step_log[c]));
    known.zero[c] = p.zero[c];
  }
  stream = may_stream(stream, plain, shape.stride);
  const std::uint32_t block = shape.block();
  constexpr std::int32_t kSmall = 16 * 3;  // 2^13 * 2^3 is beyond F16
  std::int32_t most = p.scale - 1;
  for (std::uint32_t c = 0; shape.keys && c < shape.channels; ++c)
    most = std::max<std::int32_t>(most, p.step_log[c]);
  const auto rows =
      most < kSmall ? rows_of<F, true, rate>(block) : rows_of<F, !kIsF16<F>, rate>(block);
  rows(shape, known, p.scale, unit.data(), plain, stream);
  return true;
}

template <class F>
constexpr RtLoops kLoops{{rt512::encode<F, 2>, rt512::encode<F, 3>, rt512::encode<F, 4>},
                         {decode<F, 2>, decode<F, 3>, decode<F, 4>}};

}  // namespace

namespace codec_detail {
const RtLoops kRtAvx512F16 = kLoops<number::F16>, kRtAvx512Bf16 = kLoops<number::Bf16>;
}  // namespace codec_detail

}  // namespace speckv

#endif
