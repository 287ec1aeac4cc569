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

// Per lane the one `distance` lanes away, a power of two.
template <int distance>
SPECKV_AVX512_INLINE __m512i partner(__m512i x) {
  if constexpr (distance == 16) return _mm512_shuffle_i64x2(x, x, 0x4E);
  if constexpr (distance == 8) return _mm512_permutex_epi64(x, 0x4E);
  if constexpr (distance == 4)
    return _mm512_shuffle_epi32(x, static_cast<_MM_PERM_ENUM>(0x4E));
  if constexpr (distance == 2)
    return _mm512_shuffle_epi32(x, static_cast<_MM_PERM_ENUM>(0xB1));
  return _mm512_rol_epi32(x, 16);
}

template <int distance>
SPECKV_AVX512_INLINE __m512i butterfly(__m512i x) {
  constexpr __mmask32 kUpper = distance == 16  ? 0xFFFF0000
                               : distance == 8 ? 0xFF00FF00
                               : distance == 4 ? 0xF0F0F0F0
                               : distance == 2 ? 0xCCCCCCCC
                                               : 0xAAAAAAAA;
  const __m512i minus = _mm512_mask_sub_epi16(x, kUpper, _mm512_setzero_si512(), x);
  return _mm512_add_epi16(partner<distance>(x), minus);
}

// The transform of 32 * count values.
template <std::uint32_t count>
SPECKV_AVX512_INLINE void transform(__m512i* x) {
#pragma GCC unroll 4
  for (std::uint32_t half = 1; half < count; half *= 2) {
#pragma GCC unroll 8
    for (std::uint32_t i = 0; i < count; ++i) {
      if ((i & half) != 0) continue;
      const __m512i a = x[i], b = x[i + half];
      x[i] = _mm512_add_epi16(a, b);
      x[i + half] = _mm512_sub_epi16(a, b);
    }
  }
#pragma GCC unroll 8
  for (std::uint32_t i = 0; i < count; ++i)
    x[i] = butterfly<1>(butterfly<2>(butterfly<4>(butterfly<8>(butterfly<16>(x[i])))));
}

// What stays the same over the rows of a unit, in order of channels.
struct Unit {
  alignas(64) float step[RtShape::kMostKeyChannels];
  alignas(64) std::int16_t zero[RtShape::kMostKeyChannels];
};

SPECKV_AVX512_INLINE __mmask32 half_of(std::uint64_t word, int which) {
  return static_cast<__mmask32>(which == 0 ? word : word >> 32);
}

// The levels of 64 channels.
template <std::uint32_t rate>
SPECKV_AVX512_INLINE void levels(const std::byte* row, std::uint32_t plane,
                                 std::uint64_t& before, __m512i table, __m512i* to) {
  std::uint64_t bits[rate];
#pragma GCC unroll 4
  for (std::uint32_t j = 0; j < rate; ++j)
    bits[j] = load_le<std::uint64_t>(row + j * plane);
  const std::uint64_t now = bits[0];
  const std::uint64_t z0 = now << 2 | before >> 62;
  const std::uint64_t z1 = now ^ (now << 1 | before >> 63) ^ (now << 3 | before >> 61);
  before = now;
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    __m512i index = _mm512_maskz_set1_epi16(half_of(z0, h), 1);
    index = _mm512_mask_add_epi16(index, half_of(z1, h), index, _mm512_set1_epi16(2));
#pragma GCC unroll 4
    for (std::uint32_t j = 1; j < rate; ++j)
      index = _mm512_mask_add_epi16(index, half_of(bits[j], h), index,
                                    _mm512_set1_epi16(static_cast<short>(2 << j)));
    to[h] = _mm512_permutexvar_epi16(index, table);
  }
}

template <class F>
SPECKV_AVX512_INLINE __m512i finish(__m512i steps, __m512 low, __m512 high) {
  const __m512i most = _mm512_set1_epi16(RtShape::kMaxSteps);
  steps = _mm512_min_epi16(steps, most);
  steps = _mm512_max_epi16(steps, _mm512_sub_epi16(_mm512_setzero_si512(), most));
  const __m512 a =
      _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(steps)));
  const __m512 b =
      _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(steps, 1)));
  return _mm512_inserti64x4(_mm512_castsi256_si512(narrow<F>(_mm512_mul_ps(a, low))),
                            narrow<F>(_mm512_mul_ps(b, high)), 1);
}

// A row of `blocks` blocks of 32 * count channels.
template <class F, std::uint32_t rate, std::uint32_t count>
SPECKV_AVX512 void decode_rows(const RtShape& shape, const Unit& known,
                               std::int32_t scale, const std::byte* unit,
                               std::byte* plain, bool stream) noexcept {
  alignas(64) std::int16_t words[32] = {};
  for (std::size_t i = 0; i < 2U << rate; ++i)
    words[i] = rt::Levels<rate>::kLevel[i];
  const __m512i table = _mm512_load_si512(words), none = _mm512_setzero_si512();
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
        levels<rate>(row + (c + 32 * i) / 8, plane, before, table, x + i);
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
        store_line(to + 2 * at, finish<F>(x[i], low, high), stream);
      }
    }
  }
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
  const auto rows = block == 64    ? decode_rows<F, rate, 2>
                    : block == 128 ? decode_rows<F, rate, 4>
                                   : decode_rows<F, rate, 8>;
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
