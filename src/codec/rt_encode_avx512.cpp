// Encoding an rt unit with AVX-512: the passes over a unit 16 channels at a time, the
// trellis 32 tokens at a time.
#include "codec/avx512_turn.hpp"

#if defined(__x86_64__)

#include "codec/rt_encode.hpp"
#include "codec/rt_vectors.hpp"
#include "codec/rt_write.hpp"

namespace speckv::rt512 {

using namespace avx512;

namespace {

using rt::kLanes;
using rt::kMostInput;
using rt::Levels;
using rt::Work;
static_assert(kLanes == 32);

// ---- The coefficients ----------------------------------------------------------------

SPECKV_AVX512_INLINE __m512i at(const std::int32_t* from) {
  return _mm512_loadu_si512(from);
}

// The largest magnitude of a unit.
SPECKV_AVX512 std::uint32_t largest(const RtShape& shape,
                                    const std::byte* plain) noexcept {
  __m512i most = _mm512_setzero_si512();
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    for (std::uint32_t c = 0; c < shape.channels; c += 32) {
      const __mmask32 words = shape.channels - c < 32 ? kHalfWords : kAllWords;
      const __m512i x = _mm512_maskz_loadu_epi16(words, plain + t * shape.stride + 2 * c);
      most = _mm512_max_epu16(most,
                              _mm512_and_si512(x, _mm512_set1_epi16(number::kMagnitude)));
    }
  }
  const __m512i low = _mm512_and_si512(most, _mm512_set1_epi32(0xFFFF));
  return static_cast<std::uint32_t>(
      _mm512_reduce_max_epi32(_mm512_max_epi32(low, _mm512_srli_epi32(most, 16))));
}

template <class F>
SPECKV_AVX512 void load_values(const RtShape& shape, const std::byte* plain,
                               Work& work) noexcept {
  const __m512 scale = _mm512_set1_ps(fixed_scale(work.exponent));
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const std::byte* const row = plain + t * shape.stride;
    std::int32_t* const to = work.x + std::size_t{t} * shape.channels;
    for (std::uint32_t c = 0; c < shape.channels; c += 16) {
      const __m256i bits =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 2 * c));
      _mm512_storeu_si512(to + c, fixed_point<F>(bits, scale));
    }
  }
}

// Whole numbers by one of them, rounded down: in binary64, where a quotient that is not
// whole is too far from one to become it.
SPECKV_AVX512_INLINE __m512i quotients(__m512i n, __m512d by) {
  constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  const __m512d low = _mm512_cvtepi32_pd(_mm512_castsi512_si256(n));
  const __m512d high = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(n, 1));
  return _mm512_inserti64x4(
      _mm512_castsi256_si512(_mm512_cvt_roundpd_epi32(_mm512_div_pd(low, by), kDown)),
      _mm512_cvt_roundpd_epi32(_mm512_div_pd(high, by), kDown), 1);
}

// The means, and the weights from the energies about them.
SPECKV_AVX512 void center(const RtShape& shape, Work& work) noexcept {
  const auto tokens = static_cast<std::int32_t>(shape.tokens);
  std::int32_t sum_of_logs = 0;
  for (std::uint32_t c = 0; c < shape.channels; c += 16) {
    __m512i sum = _mm512_setzero_si512();
    for (std::uint32_t t = 0; t < shape.tokens; ++t)
      sum = _mm512_add_epi32(sum, at(work.x + std::size_t{t} * shape.channels + c));
    const __m512i mean = quotients(_mm512_add_epi32(sum, _mm512_set1_epi32(tokens / 2)),
                                   _mm512_set1_pd(tokens));
    _mm512_storeu_si512(work.mean + c, mean);
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (std::uint32_t t = 0; t < shape.tokens; ++t) {
      std::int32_t* const to = work.x + std::size_t{t} * shape.channels + c;
      const __m512i x = _mm512_sub_epi32(at(to), mean);
      _mm512_storeu_si512(to, x);
      const __m512i high = _mm512_srli_epi64(x, 32);
      even = _mm512_add_epi64(even, _mm512_mul_epi32(x, x));
      odd = _mm512_add_epi64(odd, _mm512_mul_epi32(high, high));
    }
    alignas(64) std::uint64_t energy[2][8];
    _mm512_store_si512(energy[0], even);
    _mm512_store_si512(energy[1], odd);
    for (std::uint32_t i = 0; i < 16; ++i)
      sum_of_logs += work.weight[c + i] = log_scale::log2_of(energy[i % 2][i / 2]);
  }
  rt::settle_weights(shape, sum_of_logs, work);
}

// One stage of the transform within registers: lane i with lane i + distance.
template <int distance>
SPECKV_AVX512_INLINE __m512i butterfly(__m512i x) {
  constexpr __mmask16 kUpper = distance == 8   ? 0xFF00
                               : distance == 4 ? 0xF0F0
                               : distance == 2 ? 0xCCCC
                                               : 0xAAAA;
  const __m512i minus = _mm512_mask_sub_epi32(x, kUpper, _mm512_setzero_si512(), x);
  if constexpr (distance == 8)
    return _mm512_add_epi32(_mm512_shuffle_i64x2(x, x, 0x4E), minus);
  if constexpr (distance == 4)
    return _mm512_add_epi32(_mm512_permutex_epi64(x, 0x4E), minus);
  return _mm512_add_epi32(
      _mm512_shuffle_epi32(x, static_cast<_MM_PERM_ENUM>(distance == 2 ? 0x4E : 0xB1)),
      minus);
}

// The rows by `count` registers.
template <std::uint32_t count>
SPECKV_AVX512 __m512i transform_rows(const RtShape& shape, const std::int32_t* factor,
                                     const std::int32_t* down, Work& work) noexcept {
  __m512i most = _mm512_setzero_si512();
  const __m512i one = _mm512_set1_epi32(1);
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    for (std::uint32_t c = 0; c < shape.channels; c += 16 * count) {
      std::int32_t* const row = work.x + std::size_t{t} * shape.channels + c;
      __m512i x[count];
#pragma GCC unroll 16
      for (std::uint32_t i = 0; i < count; ++i) {
        const __m512i shift = at(down + c + 16 * i);
        const __m512i half = _mm512_sllv_epi32(one, _mm512_sub_epi32(shift, one));
        const __m512i y = _mm512_mullo_epi32(at(row + 16 * i), at(factor + c + 16 * i));
        x[i] = _mm512_srav_epi32(_mm512_add_epi32(y, half), shift);
        x[i] = butterfly<8>(butterfly<4>(butterfly<2>(butterfly<1>(x[i]))));
      }
#pragma GCC unroll 4
      for (std::uint32_t half = 1; half < count; half *= 2) {
#pragma GCC unroll 16
        for (std::uint32_t i = 0; i < count; ++i) {
          if ((i & half) != 0) continue;
          const __m512i a = x[i], b = x[i + half];
          x[i] = _mm512_add_epi32(a, b);
          x[i + half] = _mm512_sub_epi32(a, b);
        }
      }
#pragma GCC unroll 16
      for (std::uint32_t i = 0; i < count; ++i) {
        _mm512_storeu_si512(row + 16 * i, x[i]);
        most = _mm512_max_epi32(most, _mm512_abs_epi32(x[i]));
      }
    }
  }
  return most;
}

SPECKV_AVX512 void transform_unit(const RtShape& shape, Work& work) noexcept {
  alignas(64) std::int32_t factor[RtShape::kMostChannels], down[RtShape::kMostChannels];
  rt::find_factors(shape, work, factor, down);
  const std::uint32_t block = shape.block();
  const auto rows = block == 16    ? transform_rows<1>
                    : block == 32  ? transform_rows<2>
                    : block == 64  ? transform_rows<4>
                    : block == 128 ? transform_rows<8>
                                   : transform_rows<16>;
  const auto most = static_cast<std::uint32_t>(
      _mm512_reduce_max_epi32(rows(shape, factor, down, work)));
  work.shift = std::max(0, static_cast<int>(std::bit_width(most)) - rt::kCoefficientBits);
  const std::int32_t size = log_scale::log2_of(shape.channels);
  const __m128i shift = _mm_cvtsi32_si128(work.shift);
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    std::int32_t* const row = work.x + std::size_t{t} * shape.channels;
    __m512i sum = _mm512_setzero_si512();
    for (std::uint32_t c = 0; c < shape.channels; c += 16) {
      const __m512i x = _mm512_sra_epi32(at(row + c), shift);
      _mm512_storeu_si512(row + c, x);
      const __m512i high = _mm512_srli_epi64(x, 32);
      sum = _mm512_add_epi64(
          sum, _mm512_add_epi64(_mm512_mul_epi32(x, x), _mm512_mul_epi32(high, high)));
    }
    const auto energy = static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sum));
    work.rms[t] = energy == 0 ? rt::kNone : (log_scale::log2_of(energy) - size) >> 1;
  }
}

// ---- The trellis ---------------------------------------------------------------------

// An input's cell of 64 eighths has at most one threshold of each subset between two of
// its levels. By cell: that threshold (or one beyond all inputs) times 8, and in its
// lowest bits the number of thresholds below the cell; and these numbers of all subsets.
template <std::uint32_t rate>
struct Cells {
  static constexpr std::uint32_t kOf = (2U << rate) / 4;  // levels of a subset
  alignas(64) std::int16_t threshold[4][64] = {};
  alignas(64) std::uint16_t number[64] = {};
  alignas(64) std::int16_t level[32] = {};  // number k of subset s at 8 s + k

  constexpr Cells() {
    for (std::uint32_t s = 0; s < 4; ++s) {
      for (std::uint32_t k = 0; k < kOf; ++k)
        level[8 * s + k] = static_cast<std::int16_t>(8 * Levels<rate>::kLevel[4 * k + s]);
      for (std::int32_t cell = 0; cell < 64; ++cell) {
        const std::int32_t low = cell * 64 - kMostInput;
        std::int32_t below = 0, inside = 4000;
        for (std::uint32_t k = 1; k < kOf; ++k) {
          const std::int32_t middle =
              4 * (Levels<rate>::kLevel[4 * k + s] + Levels<rate>::kLevel[4 * k - 4 + s]);
          if (middle < low) ++below;
          if (middle >= low && middle < low + 64) inside = middle;
        }
        threshold[s][cell] = static_cast<std::int16_t>(inside * 8 + below);
        number[cell] = static_cast<std::uint16_t>(number[cell] | below << (3 * s));
      }
    }
  }
};
template <std::uint32_t rate>
constexpr Cells<rate> kCells;

// What is remembered of a channel: of each state which predecessor was taken, of each
// subset which level.
struct Column {
  alignas(64) std::uint16_t taken[kLanes], number[kLanes];
};

template <std::uint32_t rate>
SPECKV_AVX512_INLINE void measure(__m512i value, __m512i* far, __m512i& number) {
  constexpr int kDown = 4 - static_cast<int>(rate);
  const auto& cells = kCells<rate>;
  const __m512i eight = _mm512_slli_epi16(value, 3), one = _mm512_set1_epi16(1);
  const __m512i cell = _mm512_srli_epi16(
      _mm512_add_epi16(value, _mm512_set1_epi16(static_cast<short>(kMostInput))), 6);
  const __m512i level = _mm512_load_si512(cells.level);
  number = _mm512_permutex2var_epi16(_mm512_load_si512(cells.number), cell,
                                     _mm512_load_si512(cells.number + 32));
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s) {
    const __m512i found =
        _mm512_permutex2var_epi16(_mm512_load_si512(cells.threshold[s]), cell,
                                  _mm512_load_si512(cells.threshold[s] + 32));
    const __mmask32 above = _mm512_cmpgt_epi16_mask(eight, found);
    __m512i index = _mm512_ternarylogic_epi32(
        found, _mm512_set1_epi16(7), _mm512_set1_epi16(static_cast<short>(8 * s)), 0xEA);
    index = _mm512_mask_add_epi16(index, above, index, one);
    number = _mm512_mask_add_epi16(number, above, number,
                                   _mm512_set1_epi16(static_cast<short>(1 << (3 * s))));
    const __m512i off = _mm512_sub_epi16(value, _mm512_permutexvar_epi16(index, level));
    const __m512i size = _mm512_min_epu16(_mm512_srli_epi16(_mm512_abs_epi16(off), kDown),
                                          _mm512_set1_epi16(255));
    far[s] = _mm512_srli_epi16(_mm512_mullo_epi16(size, size), 5);
  }
}

template <std::uint32_t rate>
SPECKV_AVX512 void trellis(const std::int16_t (*u)[kLanes], std::uint32_t channels,
                           std::uint8_t (*packed)[rate][kLanes]) noexcept {
  Column columns[RtShape::kMostChannels];
  __m512i cost[8];
#pragma GCC unroll 8
  for (int s = 0; s < 8; ++s)
    cost[s] = s == 0 ? _mm512_setzero_si512() : _mm512_set1_epi16(8192);
  for (std::uint32_t c = 0; c < channels; ++c) {
    __m512i far[4], next[8], number, taken = _mm512_setzero_si512();
    measure<rate>(_mm512_load_si512(u[c]), far, number);
#pragma GCC unroll 8
    for (std::uint32_t s = 0; s < 8; ++s) {
      const std::uint32_t p0 = s >> 1, p1 = p0 | 4;
      const __m512i a = _mm512_add_epi16(cost[p0], far[rt::subset(p0, s & 1)]);
      const __m512i b = _mm512_add_epi16(cost[p1], far[rt::subset(p1, s & 1)]);
      taken = _mm512_mask_add_epi16(taken, _mm512_cmplt_epu16_mask(b, a), taken,
                                    _mm512_set1_epi16(static_cast<short>(1 << s)));
      next[s] = _mm512_min_epu16(a, b);
    }
    _mm512_store_si512(columns[c].taken, taken);
    _mm512_store_si512(columns[c].number, number);
#pragma GCC unroll 8
    for (int s = 0; s < 8; ++s)
      cost[s] = next[s];
    if (c % 16 != 15) continue;
    __m512i least = next[0];
#pragma GCC unroll 8
    for (int s = 1; s < 8; ++s)
      least = _mm512_min_epu16(least, next[s]);
#pragma GCC unroll 8
    for (int s = 0; s < 8; ++s)
      cost[s] = _mm512_sub_epi16(next[s], least);
  }

  // Back along the best path, from the lowest of the cheapest states.
  __m512i least = cost[0], state = _mm512_setzero_si512();
#pragma GCC unroll 8
  for (int s = 1; s < 8; ++s) {
    state = _mm512_mask_mov_epi16(state, _mm512_cmplt_epu16_mask(cost[s], least),
                                  _mm512_set1_epi16(static_cast<short>(s)));
    least = _mm512_min_epu16(least, cost[s]);
  }
  // By a state, and above it which predecessor: where the subset's level number lies.
  alignas(64) std::uint16_t shifts[32] = {};
  for (std::uint32_t i = 0; i < 16; ++i)
    shifts[i] = static_cast<std::uint16_t>(3 * rt::subset(i >> 1, i & 1));
  const __m512i shift_of = _mm512_load_si512(shifts), one = _mm512_set1_epi16(1);
  __m512i bits[rate];
  for (std::uint32_t j = 0; j < rate; ++j)
    bits[j] = _mm512_setzero_si512();
  for (std::uint32_t c = channels; c-- > 0;) {
    const __m512i second = _mm512_and_si512(
        _mm512_srlv_epi16(_mm512_load_si512(columns[c].taken), state), one);
    const __m512i path = _mm512_or_si512(state, _mm512_slli_epi16(second, 3));
    const __m512i level = _mm512_srlv_epi16(_mm512_load_si512(columns[c].number),
                                            _mm512_permutexvar_epi16(path, shift_of));
    const __m512i bit = _mm512_set1_epi16(static_cast<short>(1 << c % 8));
    bits[0] =
        _mm512_mask_add_epi16(bits[0], _mm512_test_epi16_mask(path, one), bits[0], bit);
#pragma GCC unroll 4
    for (std::uint32_t j = 1; j < rate; ++j) {
      const __mmask32 set = _mm512_test_epi16_mask(
          level, _mm512_set1_epi16(static_cast<short>(1 << (j - 1))));
      bits[j] = _mm512_mask_add_epi16(bits[j], set, bits[j], bit);
    }
    state = _mm512_srli_epi16(path, 1);
    if (c % 8 != 0) continue;
#pragma GCC unroll 4
    for (std::uint32_t j = 0; j < rate; ++j) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(packed[c / 8][j]),
                          _mm512_cvtepi16_epi8(bits[j]));
      bits[j] = _mm512_setzero_si512();
    }
  }
}

// ---- The rows ------------------------------------------------------------------------

// 16 rows' inputs to the quantiser, those of a channel side by side. `scale`: of each
// row.
SPECKV_AVX512 void quantiser_inputs(const RtShape& shape, const std::int32_t* const* rows,
                                    const rt::RowScale* scale,
                                    std::int16_t* to) noexcept {
  const __m512i apart = _mm512_load_si512(kApart);
  const __m512i most = _mm512_set1_epi32(kMostInput);
  const __m512i least = _mm512_set1_epi32(-kMostInput);
  for (std::uint32_t c = 0; c < shape.channels; c += 32) {
    const __mmask16 more = shape.channels - c > 16 ? 0xFFFF : 0;
    __m512i x[16];
#pragma GCC unroll 16
    for (std::uint32_t i = 0; i < 16; ++i) {
      const __m512i factor = _mm512_set1_epi32(scale[i].factor);
      const __m512i half = _mm512_set1_epi32(1 << (scale[i].down - 1));
      const __m128i down = _mm_cvtsi32_si128(scale[i].down);
      const __m512i a = _mm512_sra_epi32(
          _mm512_add_epi32(_mm512_mullo_epi32(at(rows[i] + c), factor), half), down);
      const __m512i b = _mm512_sra_epi32(
          _mm512_add_epi32(_mm512_mullo_epi32(
                               _mm512_maskz_loadu_epi32(more, rows[i] + c + 16), factor),
                           half),
          down);
      x[i] = lower_halves(_mm512_max_epi32(_mm512_min_epi32(a, most), least),
                          _mm512_max_epi32(_mm512_min_epi32(b, most), least));
    }
    transpose(x);
#pragma GCC unroll 16
    for (std::uint32_t i = 0; i < 16; ++i) {
      if (c + 2 * i >= shape.channels) break;
      const __m512i two = _mm512_permutexvar_epi16(apart, x[i]);
      _mm256_store_si256(reinterpret_cast<__m256i*>(to + (c + 2 * i) * kLanes),
                         _mm512_castsi512_si256(two));
      _mm256_store_si256(reinterpret_cast<__m256i*>(to + (c + 2 * i + 1) * kLanes),
                         _mm512_extracti64x4_epi64(two, 1));
    }
  }
}

// Eight bytes of each of `count` rows, from eight times a byte of each of 16.
SPECKV_AVX512_INLINE void write_bytes(const std::uint8_t* from, std::size_t step,
                                      std::byte* to, std::size_t row,
                                      std::uint32_t count) {
  __m128i x[8], y[8];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; ++i)
    x[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i * step));
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    y[2 * i] = _mm_unpacklo_epi8(x[2 * i], x[2 * i + 1]);
    y[2 * i + 1] = _mm_unpackhi_epi8(x[2 * i], x[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (std::size_t i = 0; i < 2; ++i) {
#pragma GCC unroll 2
    for (std::size_t k = 0; k < 2; ++k) {
      x[4 * i + 2 * k] = _mm_unpacklo_epi16(y[4 * i + k], y[4 * i + 2 + k]);
      x[4 * i + 2 * k + 1] = _mm_unpackhi_epi16(y[4 * i + k], y[4 * i + 2 + k]);
    }
  }
#pragma GCC unroll 4
  for (std::size_t k = 0; k < 4; ++k) {
    y[2 * k] = _mm_unpacklo_epi32(x[k], x[4 + k]);
    y[2 * k + 1] = _mm_unpackhi_epi32(x[k], x[4 + k]);
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    alignas(16) std::uint64_t two[2];
    _mm_store_si128(reinterpret_cast<__m128i*>(two), y[i / 2]);
    store_le(to + i * row, two[i % 2]);
  }
}

template <std::uint32_t rate>
SPECKV_AVX512 void encode_tokens(const RtShape& shape, const Work& work, std::int32_t top,
                                 std::uint32_t first, std::byte* unit) noexcept {
  alignas(64) std::int16_t u[RtShape::kMostChannels][kLanes];
  alignas(64) std::uint8_t packed[RtShape::kMostChannels / 8][rate][kLanes];
  const std::uint32_t count = std::min(kLanes, shape.tokens - first);
  const std::int32_t* rows[kLanes];
  rt::RowScale scale[kLanes];
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    const std::uint32_t t = first + std::min(i, count - 1);
    scale[i] = rt::row_scale<rate>(work, top, t);
    rows[i] = work.x + std::size_t{t} * shape.channels;
    if (i < count) unit[shape.gains() + t] = static_cast<std::byte>(scale[i].gain);
  }
  quantiser_inputs(shape, rows, scale, u[0]);
  quantiser_inputs(shape, rows + 16, scale + 16, u[0] + 16);
  trellis<rate>(u, shape.channels, packed);
  const std::uint32_t bytes = shape.channels / 8;
  for (std::uint32_t j = 0; j < rate; ++j) {
    std::uint32_t b = 0;
    for (; b + 8 <= bytes; b += 8) {
      for (std::uint32_t half = 0; half < count; half += 16) {
        std::byte* const to =
            unit + shape.rows() + (first + half) * shape.row_bytes() + j * bytes + b;
        write_bytes(packed[b][j] + half, sizeof packed[0], to, shape.row_bytes(),
                    std::min(count - half, 16U));
      }
    }
    for (; b < bytes; ++b) {
      for (std::uint32_t i = 0; i < count; ++i)
        unit[shape.rows() + (first + i) * shape.row_bytes() + j * bytes + b] =
            std::byte{packed[b][j][i]};
    }
  }
}

}  // namespace

template <class F>
bool prepare(const RtShape& shape, const std::byte* plain, Work& work) noexcept {
  const std::uint32_t most = largest(shape, plain);
  if (most >= F::kInfinity) return false;
  const std::uint32_t top = std::max(most >> F::kMantissa, 1U);
  if (!has_fixed_point<F>(top)) return rt::prepare_unit<F>(shape, plain, work);
  constexpr int kLift = rt::kFixedBits - (F::kMantissa + 1);
  work.exponent = static_cast<std::int32_t>(top) - 1 + F::kLeast - kLift;
  load_values<F>(shape, plain, work);
  if (shape.keys) center(shape, work);
  transform_unit(shape, work);
  return true;
}
template bool prepare<number::F16>(const RtShape&, const std::byte*, Work&) noexcept;
template bool prepare<number::Bf16>(const RtShape&, const std::byte*, Work&) noexcept;

template <std::uint32_t rate>
void write(const RtShape& shape, const Work& work, std::byte* unit) noexcept {
  rt::write_unit<rate>(shape, work, unit, [&](std::int32_t top, std::uint32_t first) {
    encode_tokens<rate>(shape, work, top, first, unit);
  });
}
template void write<2>(const RtShape&, const Work&, std::byte*) noexcept;
template void write<3>(const RtShape&, const Work&, std::byte*) noexcept;
template void write<4>(const RtShape&, const Work&, std::byte*) noexcept;

}  // namespace speckv::rt512

#endif
