// rt with AVX-512: decoding 32 channels at a time.
#include "codec/avx512.hpp"

#if defined(__x86_64__)

#include <cstring>

#include "codec/rt_decode.hpp"
#include "codec/rt_vectors.hpp"

namespace speckv {
namespace {

using namespace avx512;

// Registers in which bits of bytes change places (GFNI), and bytes their own (VBMI).
#define SPECKV_GFNI \
  __attribute__((   \
      target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,gfni,f16c,sse4.1")))
#define SPECKV_GFNI_INLINE SPECKV_GFNI __attribute__((always_inline)) inline

bool is_usable() noexcept {
  static const bool usable =
      __builtin_cpu_supports("avx512vbmi") != 0 && __builtin_cpu_supports("gfni") != 0;
  return usable;
}

constexpr std::uint32_t kWord = 64;  // channels of a word of bits

// Levels of 64 channels come in two registers of words. Of their places (register, word 4
// to 0) transform() wants channel bits 4, 5, 3, 1, 0, 2; and it leaves bits 5, 3, 2, 1,
// 0, 4: two words that share 32 bits are sixteen channels apart.
constexpr std::uint32_t channel_of_place(std::uint32_t place) noexcept {
  const auto bit = [place](unsigned i) { return place >> i & 1; };
  return bit(1) | bit(2) << 1 | bit(0) << 2 | bit(3) << 3 | bit(5) << 4 | bit(4) << 5;
}
constexpr std::uint32_t place_of_channel(std::uint32_t channel) noexcept {
  return (channel & ~31U) | (channel & 15) << 1 | (channel >> 4 & 1);
}

// Eight channels' numbers of levels come of a matrix of bits, whose rows, from the last
// byte down, are the bytes of z0, z1 and the other planes: which bytes of the words that
// follow each other; and which column a place wants.
struct Matrices {
  alignas(64) std::uint8_t byte[64] = {}, column[64] = {};
  constexpr Matrices() {
    for (std::uint32_t place = 0; place < 64; ++place) {
      const std::uint32_t row = 7 - place % 8;
      byte[place] = static_cast<std::uint8_t>(8 * row + channel_of_place(place) / 8);
      column[place] = static_cast<std::uint8_t>(1U << channel_of_place(place) % 8);
    }
  }
};
inline constexpr Matrices kMatrices;

// By half words: whose sign is turned, in the order that transform() leaves.
struct Turned {
  __mmask32 words[8] = {};
  constexpr Turned() {
    for (std::uint32_t c = 0; c < 256; ++c) {
      if (rt::turns(c)) words[c / 32] |= 1U << place_of_channel(c % 32);
    }
  }
};
inline constexpr Turned kTurned;

SPECKV_AVX512_INLINE void butterfly(__m512i& a, __m512i& b) {
  const __m512i sum = _mm512_add_epi16(a, b);
  b = _mm512_sub_epi16(a, b);
  a = sum;
}

// The transform of 32 * count values. Of each two registers one bit of the words' places
// after the other changes places with the register's, which is where a butterfly is
// cheap.
template <std::uint32_t count>
SPECKV_AVX512_INLINE void transform(__m512i* x) {
#pragma GCC unroll 4
  for (std::uint32_t i = 0; i < count; i += 2) {
    __m512i& a = x[i];
    __m512i& b = x[i + 1];
    butterfly(a, b);
    const __m512i words = _mm512_unpacklo_epi16(a, b);
    b = _mm512_unpackhi_epi16(a, b);
    a = words;
    butterfly(a, b);
#pragma GCC unroll 2
    for (int stage = 0; stage < 2; ++stage) {
      const __m512i low = _mm512_unpacklo_epi32(a, b);
      b = _mm512_unpackhi_epi32(a, b);
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

// What stays the same over the rows of a unit: steps in order of channels, means as
// transform() leaves them.
struct Unit {
  alignas(64) float step[RtShape::kMostKeyChannels];
  alignas(64) std::int16_t zero[RtShape::kMostKeyChannels];
};

SPECKV_AVX512_INLINE __m128i word_at(const std::byte* from) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
}

// The levels of 64 channels, as transform() wants them. table: by number.
template <std::uint32_t rate>
SPECKV_GFNI_INLINE void levels(const std::byte* row, std::uint32_t plane,
                               std::uint64_t& before, __m512i table, __m512i* to) {
  const auto now = load_le<std::uint64_t>(row);
  const std::uint64_t z0 = now << 2 | before >> 62;
  const std::uint64_t z1 = now ^ (now << 1 | before >> 63) ^ (now << 3 | before >> 61);
  before = now;
  const __m128i subset =
      _mm_set_epi64x(static_cast<long long>(z1), static_cast<long long>(z0));
  __m128i first = word_at(row + plane);
  if constexpr (rate > 2) first = _mm_unpacklo_epi64(first, word_at(row + 2 * plane));
  __m512i words = _mm512_castsi256_si512(
      _mm256_inserti128_si256(_mm256_castsi128_si256(subset), first, 1));
  if constexpr (rate > 3) words = _mm512_inserti32x4(words, word_at(row + 3 * plane), 2);
  constexpr __mmask64 kRows = 0x0101010101010101U * (0xFFU & ~(0x7FU >> rate));
  const __m512i matrices =
      _mm512_maskz_permutexvar_epi8(kRows, _mm512_load_si512(kMatrices.byte), words);
  const __m512i index =
      _mm512_gf2p8affine_epi64_epi8(_mm512_load_si512(kMatrices.column), matrices, 0);
  const __m512i level = _mm512_permutexvar_epi8(index, table);
  to[0] = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(level));
  to[1] = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(level, 1));
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
  const __m512i first = _mm512_madd_epi16(steps, _mm512_set1_epi32(1));  // lower words
  const __m512i second = _mm512_srai_epi32(steps, 16);
  const __m256i upper = value_of<F, small>(second, high);
  return _mm512_inserti64x4(_mm512_castsi256_si512(value_of<F, small>(first, low)), upper,
                            1);
}

// What differs between rows.
struct Row {
  const std::byte* from;
  std::byte* to;
  __m512i factor;
  __m512 same;
  __mmask32 lanes;
  std::uint64_t before;
};

SPECKV_AVX512_INLINE Row row_of(const RtShape& shape, std::int32_t scale,
                                const std::byte* unit, std::byte* plain,
                                std::uint32_t t) {
  const auto e = std::to_integer<std::uint32_t>(unit[shape.gains() + t]);
  const bool zero = e == RtShape::kNoGain;
  const auto log = scale - static_cast<std::int32_t>(e) - 1;
  return {unit + shape.rows() + t * shape.row_bytes(),
          plain + t * shape.stride,
          _mm512_set1_epi16(static_cast<short>(rt::gain(e))),
          _mm512_set1_ps(as_float(log_scale::power(zero ? 0 : log))),
          zero ? 0 : kAllWords,
          0};
}

// `side` rows of blocks of 32 * count channels, side by side: one alone leaves units
// idle.
template <class F, bool small, std::uint32_t rate, std::uint32_t count,
          std::uint32_t side>
SPECKV_GFNI_INLINE void decode_side_by_side(const RtShape& shape, const Unit& known,
                                            __m512i table, Row* rows, bool stream) {
  const __m512i none = _mm512_setzero_si512();
  const std::uint32_t plane = shape.channels / 8;
  for (std::uint32_t c = 0; c < shape.channels; c += 32 * count) {
    __m512i x[side][count];
#pragma GCC unroll 4
    for (std::uint32_t i = 0; i < count; i += 2) {
#pragma GCC unroll 2
      for (std::uint32_t r = 0; r < side; ++r)
        levels<rate>(rows[r].from + (c + 32 * i) / 8, plane, rows[r].before, table,
                     x[r] + i);
    }
#pragma GCC unroll 2
    for (std::uint32_t r = 0; r < side; ++r)
      transform<count>(x[r]);
#pragma GCC unroll 8
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint32_t at = c + 32 * i;
#pragma GCC unroll 2
      for (std::uint32_t r = 0; r < side; ++r) {
        __m512i y = x[r][i];
        if constexpr (count == 8)
          y = _mm512_srai_epi16(_mm512_add_epi16(y, _mm512_set1_epi16(1)), 1);
        y = _mm512_mask_sub_epi16(y, kTurned.words[at / 32 % 8], none, y);
        __m512 low = rows[r].same, high = rows[r].same;
        if (!shape.keys) {
          y = _mm512_maskz_mov_epi16(rows[r].lanes, y);
        } else {
          y = _mm512_adds_epi16(_mm512_mulhrs_epi16(y, rows[r].factor),
                                _mm512_load_si512(known.zero + at));
          low = _mm512_load_ps(known.step + at);
          high = _mm512_load_ps(known.step + at + 16);
        }
        store_line(rows[r].to + 2 * at, finish<F, small>(y, low, high), stream);
      }
    }
  }
}

template <class F, bool small, std::uint32_t rate, std::uint32_t count>
SPECKV_GFNI void decode_rows(const RtShape& shape, const Unit& known, std::int32_t scale,
                             const std::byte* unit, std::byte* plain,
                             bool stream) noexcept {
  alignas(64) std::int8_t level[64] = {};
  for (std::size_t i = 0; i < 2U << rate; ++i)
    level[i] = static_cast<std::int8_t>(rt::Levels<rate>::kLevel[i]);
  const __m512i table = _mm512_load_si512(level);
  constexpr std::uint32_t kSide = count <= 4 ? 2 : 1;  // registers
  std::uint32_t t = 0;
  for (; t + kSide <= shape.tokens; t += kSide) {
    Row rows[kSide];
#pragma GCC unroll 2
    for (std::uint32_t r = 0; r < kSide; ++r)
      rows[r] = row_of(shape, scale, unit, plain, t + r);
    decode_side_by_side<F, small, rate, count, kSide>(shape, known, table, rows, stream);
  }
  for (; t < shape.tokens; ++t) {
    Row row = row_of(shape, scale, unit, plain, t);
    decode_side_by_side<F, small, rate, count, 1>(shape, known, table, &row, stream);
  }
}

template <class F, bool small, std::uint32_t rate>
constexpr auto rows_of(std::uint32_t block) noexcept {
  return block == 64    ? decode_rows<F, small, rate, 2>
         : block == 128 ? decode_rows<F, small, rate, 4>
                        : decode_rows<F, small, rate, 8>;
}

template <class F, std::uint32_t rate>
SPECKV_GFNI bool decode(const RtShape& shape, Bytes unit, std::byte* plain,
                        bool stream) noexcept {
  if (!is_usable()) {
    const RtLoops& loops = kIsF16<F> ? codec_detail::kRt256F16 : codec_detail::kRt256Bf16;
    return loops.decode[rate - 2](shape, unit, plain, stream);
  }
  rt::Parameters p;
  if (!rt::read_parameters(shape, unit, p)) return false;
  if (shape.channels % kWord != 0 || !p.is_usual<F>())
    return rt::decode_unit<F, rate>(shape, unit, plain);
  Unit known;
  for (std::uint32_t c = 0; shape.keys && c < shape.channels; ++c) {
    known.step[c] = as_float(log_scale::power(p.step_log[c]));
    known.zero[place_of_channel(c)] = p.zero[c];
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
