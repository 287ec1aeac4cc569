// rt with vectors of 256 bits: decoding 32 channels at a time; encoding by the
// definition's own code, which the compiler turns into vectors.
#include "codec/vector256.hpp"

#if defined(SPECKV_256)

#include <cstring>

#define SPECKV_RT_TARGET SPECKV_256
#include "codec/rt_loops.hpp"

namespace speckv {
namespace {

using namespace vector256;

// 255 in the bytes whose bit is set.
SPECKV_256_INLINE __m256i spread(std::uint32_t bits) {
  const __m256i from =
      _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i of = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
  const __m256i bytes =
      _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)), from);
  return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, of), of);
}

// The levels of 32 channels, 16 a register. index: bits of the level's number, from the
// lowest.
template <std::uint32_t rate>
SPECKV_256_INLINE void look_up(const std::uint32_t (&index)[rate + 1], __m256i low,
                               __m256i high, __m256i* to) {
  __m256i at = _mm256_setzero_si256();
  constexpr std::uint32_t kFew = std::min(rate + 1, 4U);
#pragma GCC unroll 4
  for (std::uint32_t j = 0; j < kFew; ++j)
    at = _mm256_or_si256(
        at,
        _mm256_and_si256(spread(index[j]), _mm256_set1_epi8(static_cast<char>(1 << j))));
  __m256i level = _mm256_shuffle_epi8(low, at);
  if constexpr (rate == 4)
    level = _mm256_blendv_epi8(level, _mm256_shuffle_epi8(high, at), spread(index[4]));
  to[0] = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(level));
  to[1] = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(level, 1));
}

// Of 64 channels.
template <std::uint32_t rate>
SPECKV_256_INLINE void levels(const std::byte* row, std::uint32_t plane,
                              std::uint64_t& before, __m256i low, __m256i high,
                              __m256i* to) {
  std::uint64_t bits[rate + 1];
  const auto now = load_le<std::uint64_t>(row);
  bits[0] = now << 2 | before >> 62;
  bits[1] = now ^ (now << 1 | before >> 63) ^ (now << 3 | before >> 61);
  before = now;
#pragma GCC unroll 4
  for (std::uint32_t j = 1; j < rate; ++j)
    bits[j + 1] = load_le<std::uint64_t>(row + j * plane);
#pragma GCC unroll 2
  for (std::uint32_t h = 0; h < 2; ++h) {
    std::uint32_t half[rate + 1];
#pragma GCC unroll 5
    for (std::uint32_t j = 0; j <= rate; ++j)
      half[j] = static_cast<std::uint32_t>(bits[j] >> (32 * h));
    look_up<rate>(half, low, high, to + std::size_t{2} * h);
  }
}

// One stage within registers: lane i with lane i + distance.
template <int distance>
SPECKV_256_INLINE __m256i butterfly(__m256i x) {
  constexpr long long kMinus = -1;  // four lanes
  constexpr long long kPairs = static_cast<long long>(0xFFFFFFFF00010001);
  constexpr long long kSingles = static_cast<long long>(0xFFFF0001FFFF0001);
  constexpr long long kPlus = 0x0001000100010001;
  __m256i partner;
  __m256i sign;
  if constexpr (distance == 8) {
    partner = _mm256_permute4x64_epi64(x, 0x4E);
    sign = _mm256_setr_epi64x(kPlus, kPlus, kMinus, kMinus);
  } else if constexpr (distance == 4) {
    partner = _mm256_shuffle_epi32(x, 0x4E);
    sign = _mm256_setr_epi64x(kPlus, kMinus, kPlus, kMinus);
  } else if constexpr (distance == 2) {
    partner = _mm256_shuffle_epi32(x, 0xB1);
    sign = _mm256_set1_epi64x(kPairs);
  } else {
    partner = beside(x);
    sign = _mm256_set1_epi64x(kSingles);
  }
  return _mm256_add_epi16(partner, _mm256_sign_epi16(x, sign));
}

// The transform of 16 * count values.
template <std::uint32_t count>
SPECKV_256_INLINE void transform(__m256i* x) {
#pragma GCC unroll 4
  for (std::uint32_t half = 1; half < count; half *= 2) {
#pragma GCC unroll 16
    for (std::uint32_t i = 0; i < count; ++i) {
      if ((i & half) != 0) continue;
      const __m256i a = x[i], b = x[i + half];
      x[i] = _mm256_add_epi16(a, b);
      x[i + half] = _mm256_sub_epi16(a, b);
    }
  }
#pragma GCC unroll 16
  for (std::uint32_t i = 0; i < count; ++i)
    x[i] = butterfly<1>(butterfly<2>(butterfly<4>(butterfly<8>(x[i]))));
}

// What stays the same over the rows of a unit, in order of channels.
struct Unit {
  alignas(32) float step[RtShape::kMostKeyChannels];
  alignas(32) std::int16_t zero[RtShape::kMostKeyChannels];
  alignas(32) std::int16_t sign[256];
};

template <class F>
SPECKV_256_INLINE void finish(__m256i steps, __m256 low, __m256 high, std::byte* to) {
  const __m256i most = _mm256_set1_epi16(RtShape::kMaxSteps);
  steps = _mm256_min_epi16(steps, most);
  steps = _mm256_max_epi16(steps, _mm256_sub_epi16(_mm256_setzero_si256(), most));
  const __m256 a =
      _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(steps)));
  const __m256 b =
      _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(steps, 1)));
  store16(to, narrow<F>(_mm256_mul_ps(a, low)));
  store16(to + 16, narrow<F>(_mm256_mul_ps(b, high)));
}

// A row of blocks of 16 * count channels.
template <class F, std::uint32_t rate, std::uint32_t count>
SPECKV_256 void decode_rows(const RtShape& shape, const Unit& known, std::int32_t scale,
                            const std::byte* unit, std::byte* plain) noexcept {
  alignas(32) std::int8_t bytes[32] = {};
  for (std::size_t i = 0; i < 2U << rate; ++i)
    bytes[i] = static_cast<std::int8_t>(rt::Levels<rate>::kLevel[i]);
  const auto table = [&](std::size_t half) SPECKV_256 {
    return _mm256_broadcastsi128_si256(
        _mm_load_si128(reinterpret_cast<const __m128i*>(bytes + 16 * half)));
  };
  const __m256i first = table(0), second = table(1);
  const std::uint32_t plane = shape.channels / 8;
  const std::byte* row = unit + shape.rows();
  for (std::uint32_t t = 0; t < shape.tokens; ++t, row += shape.row_bytes()) {
    std::byte* const to = plain + t * shape.stride;
    const auto e = std::to_integer<std::uint32_t>(unit[shape.gains() + t]);
    const __m256i factor = _mm256_set1_epi16(static_cast<short>(rt::gain(e)));
    const auto log = scale - static_cast<std::int32_t>(e) - 1;
    const __m256 same =
        _mm256_set1_ps(as_float(log_scale::power(e == RtShape::kNoGain ? 0 : log)));
    const __m256i some = _mm256_set1_epi16(e == RtShape::kNoGain ? 0 : -1);
    std::uint64_t before = 0;
    for (std::uint32_t c = 0; c < shape.channels; c += 16 * count) {
      __m256i x[count];
#pragma GCC unroll 4
      for (std::uint32_t i = 0; i < count; i += 4)
        levels<rate>(row + (c + 16 * i) / 8, plane, before, first, second, x + i);
      transform<count>(x);
#pragma GCC unroll 16
      for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t at = c + 16 * i;
        if constexpr (count == 16)
          x[i] = _mm256_srai_epi16(_mm256_add_epi16(x[i], _mm256_set1_epi16(1)), 1);
        x[i] = _mm256_sign_epi16(
            x[i],
            _mm256_load_si256(reinterpret_cast<const __m256i*>(known.sign + at % 256)));
        if (!shape.keys) {
          finish<F>(_mm256_and_si256(x[i], some), same, same, to + 2 * at);
          continue;
        }
        const __m256i zero =
            _mm256_load_si256(reinterpret_cast<const __m256i*>(known.zero + at));
        finish<F>(_mm256_adds_epi16(_mm256_mulhrs_epi16(x[i], factor), zero),
                  _mm256_load_ps(known.step + at), _mm256_load_ps(known.step + at + 8),
                  to + 2 * at);
      }
    }
  }
}

template <class F, std::uint32_t rate>
bool decode(const RtShape& shape, Bytes unit, std::byte* plain,
            bool /*stream*/) noexcept {
  rt::Parameters p;
  if (!rt::read_parameters(shape, unit, p)) return false;
  if (shape.channels % 64 != 0 || !p.is_usual<F>())
    return rt::decode_unit<F, rate>(shape, unit, plain);
  Unit known;
  for (std::uint32_t c = 0; shape.keys && c < shape.channels; ++c) {
    known.step[c] = as_float(log_scale::power(p.step_log[c]));
    known.zero[c] = p.zero[c];
  }
  for (std::uint32_t c = 0; c < 256; ++c)
    known.sign[c] = rt::turns(c) ? -1 : 1;
  const std::uint32_t block = shape.block();
  const auto rows = block == 64    ? decode_rows<F, rate, 4>
                    : block == 128 ? decode_rows<F, rate, 8>
                                   : decode_rows<F, rate, 16>;
  rows(shape, known, p.scale, unit.data(), plain);
  return true;
}

template <class F>
constexpr RtLoops kLoops{{encode<F, 2>, encode<F, 3>, encode<F, 4>},
                         {decode<F, 2>, decode<F, 3>, decode<F, 4>}};

}  // namespace

namespace codec_detail {
const RtLoops kRt256F16 = kLoops<number::F16>, kRt256Bf16 = kLoops<number::Bf16>;
}  // namespace codec_detail

}  // namespace speckv

#endif
