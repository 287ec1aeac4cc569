// codec/hx_encode_avx512.hpp -- what the AVX-512 encoders of hx and hxp share: values by
// channels, a token a lane, and code tables (internal).
#pragma once

#include "codec/hx_vectors.hpp"

#if defined(__x86_64__)

#include <array>

#include "codec/hx_encode.hpp"
#include "codec/hx_words.hpp"

namespace speckv::hx512 {

using hx::Table;

// Of 32 symbols, as vectors take them.
struct Costs {
  alignas(64) std::uint16_t cost[32];    // bits, of escapes all
  alignas(64) std::uint16_t length[32];  // bits in the words
  // In the words: bits 0 to 6 the code, 11 to 14 the length, 15 set for an escape.
  alignas(64) std::uint16_t code[32];
  // Of numbers that a byte has room for, shifted down by `down`: by their lowest seven
  // bits, -64 being all that are escapes.
  alignas(64) std::uint8_t near_cost[128], near_length[128];
  std::uint32_t raw, down;
  std::int32_t most;
};
inline constexpr std::uint16_t kEscaped = 0x8000;
// Tables of which numbers from -63 to 63 have all codes but escapes.
inline constexpr std::uint32_t kMostNearRaw = 2;

inline const Costs* costs() noexcept {
  static const std::array<Costs, 16> made = [] {
    std::array<Costs, 16> all;
    for (std::size_t j = 0; j < all.size(); ++j) {
      const Table& table = hx::tables()[j];
      all[j].raw = table.raw;
      all[j].most = static_cast<std::int32_t>(table.most);
      for (std::uint32_t s = 0; s < 32; ++s) {
        const bool escaped = s == Table::kEscape || table.code_length[s] == 0;
        const std::uint32_t as = escaped ? Table::kEscape : s;
        const std::uint32_t length = table.code_length[as] + table.raw;
        all[j].cost[s] = table.cost[s];
        all[j].length[s] = static_cast<std::uint16_t>(length);
        all[j].code[s] = static_cast<std::uint16_t>(
            table.code[as] | length << hx::kLengthAt | (escaped ? kEscaped : 0U));
      }
      all[j].down = table.raw <= kMostNearRaw ? 0 : table.raw;
      for (std::int32_t x = -64; x < 64; ++x) {
        const std::uint32_t s = table.symbol_of(x * (1 << all[j].down));
        all[j].near_cost[x & 127] = static_cast<std::uint8_t>(all[j].cost[s]);
        all[j].near_length[x & 127] = static_cast<std::uint8_t>(all[j].length[s]);
      }
    }
    return all;
  }();
  return made.data();
}

// Symbols of 32 numbers.
SPECKV_VBMI_INLINE __m512i symbols(__m512i x, std::uint32_t raw) {
  const __m512i upper =
      _mm512_add_epi16(_mm512_sra_epi16(x, _mm_cvtsi32_si128(static_cast<int>(raw))),
                       _mm512_set1_epi16(static_cast<short>(Table::kBias)));
  return _mm512_min_epu16(upper, _mm512_set1_epi16(static_cast<short>(Table::kEscape)));
}

// 64 numbers as bytes that near_cost knows: of a register's 16 bytes eight belong to the
// first register.
SPECKV_VBMI_INLINE __m512i near_of(__m512i low, __m512i high) {
  const __m512i bytes = _mm512_packs_epi16(low, high), least = _mm512_set1_epi8(-64);
  const __mmask64 far = _mm512_movepi8_mask(_mm512_sub_epi8(bytes, least));
  return _mm512_mask_mov_epi8(bytes, far, least);
}
SPECKV_VBMI_INLINE __m512i look_up(const std::uint8_t (&table)[128], __m512i near,
                                   __mmask64 known) {
  return _mm512_maskz_permutex2var_epi8(known, _mm512_load_si512(table), near,
                                        _mm512_load_si512(table + 64));
}

// Quarters of registers, of which a register has the sums of two.
SPECKV_VBMI_INLINE __m512i sums_of_quarters(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_shuffle_i64x2(a, b, 0x88),
                          _mm512_shuffle_i64x2(a, b, 0xDD));
}
// The sums over each of sixteen registers of 32-bit numbers, a lane each.
SPECKV_VBMI_INLINE __m512i sums_of_sixteen(const __m512i* x) {
  __m512i four[4];
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    const __m512i* const y = x + 4 * i;
    const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(y[0], y[1]),
                                       _mm512_unpackhi_epi32(y[0], y[1]));
    const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(y[2], y[3]),
                                       _mm512_unpackhi_epi32(y[2], y[3]));
    four[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
  }
  return sums_of_quarters(sums_of_quarters(four[0], four[1]),
                          sums_of_quarters(four[2], four[3]));
}
// The same of eight registers of 64-bit numbers; no sum of halves reaches 2^32.
SPECKV_VBMI_INLINE __m512i sums_of_eight(const __m512i* x) {
  __m512i two[4];
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i)
    two[i] = _mm512_add_epi64(_mm512_unpacklo_epi64(x[2 * i], x[2 * i + 1]),
                              _mm512_unpackhi_epi64(x[2 * i], x[2 * i + 1]));
  return sums_of_quarters(sums_of_quarters(two[0], two[1]),
                          sums_of_quarters(two[2], two[3]));
}

// log_scale::log2_of(), 0 for 0. REQUIRES: numbers below 2^24.
SPECKV_VBMI_INLINE __m512i log2_of(__m512i x) {
  using log_scale::kBits, log_scale::kStepBits, log_scale::kSteps;
  const __m512i bits = _mm512_castps_si512(_mm512_cvtepi32_ps(x));
  const __m512i octave =
      _mm512_sub_epi32(_mm512_srli_epi32(bits, 23), _mm512_set1_epi32(127));
  const __m512i m = _mm512_and_si512(_mm512_srli_epi32(bits, 23 - kBits),
                                     _mm512_set1_epi32((1 << kBits) - 1));
  const __m512i entry = _mm512_maskz_permutexvar_epi16(
      0x55555555, _mm512_srli_epi32(m, 5), _mm512_load_si512(log_scale::kStepsOf.part));
  const __m512i last = _mm512_set1_epi32(kSteps - 1);
  const __mmask16 beyond = _mm512_cmpge_epi32_mask(
      _mm512_or_si512(_mm512_slli_epi32(m, kStepBits), last), entry);
  const __m512i step = _mm512_and_si512(entry, last);
  const __m512i log = _mm512_add_epi32(_mm512_slli_epi32(octave, kStepBits), step);
  return _mm512_maskz_add_epi32(_mm512_test_epi32_mask(x, x), log,
                                _mm512_maskz_set1_epi32(beyond, 1));
}

// The plain values by channels, a token a lane, zeros behind the last. bits:
// [channel][columns], columns being the tokens, to a multiple of 32. row(i): the i-th
// token's values. Returns the largest magnitude.
template <class Row>
SPECKV_VBMI std::uint32_t turn_values(std::uint32_t tokens, std::uint32_t channels,
                                      std::uint32_t columns, std::uint16_t* bits,
                                      const Row& row) noexcept {
  const __m512i apart = _mm512_load_si512(kApart);
  __m512i most = _mm512_setzero_si512();
  for (std::uint32_t first = 0; first < columns; first += kLanes) {
    const std::uint32_t count = first < tokens ? std::min(kLanes, tokens - first) : 0;
    for (std::uint32_t c = 0; c < channels; c += 32) {
      const __mmask32 words = channels - c < 32 ? kHalfWords : kAllWords;
      __m512i x[16];
#pragma GCC unroll 16
      for (std::uint32_t t = 0; t < 16; ++t) {
        x[t] = _mm512_setzero_si512();
        if (t < count) x[t] = _mm512_maskz_loadu_epi16(words, row(first + t) + 2 * c);
        most = _mm512_max_epu16(
            most, _mm512_and_si512(x[t], _mm512_set1_epi16(number::kMagnitude)));
      }
      transpose(x);
#pragma GCC unroll 16
      for (std::uint32_t i = 0; i < 16; ++i) {
        if (c + 2 * i >= channels) break;
        const __m512i two = _mm512_permutexvar_epi16(apart, x[i]);
        std::uint16_t* const to = bits + (c + 2 * i) * columns + first;
        _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(two));
        _mm256_store_si256(reinterpret_cast<__m256i*>(to + columns),
                           _mm512_extracti64x4_epi64(two, 1));
      }
    }
  }
  const __m512i low = _mm512_and_si512(most, _mm512_set1_epi32(0xFFFF));
  return static_cast<std::uint32_t>(
      _mm512_reduce_max_epi32(_mm512_max_epi32(low, _mm512_srli_epi32(most, 16))));
}

}  // namespace speckv::hx512

#endif
