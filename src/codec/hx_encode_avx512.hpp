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
  std::uint32_t raw;
  std::int32_t most;
};
inline constexpr std::uint16_t kEscaped = 0x8000;

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

// log_scale::log2_of() without its loop. REQUIRES: value > 0.
SPECKV_VBMI_INLINE std::int32_t log2_of(std::uint64_t value) {
  alignas(64) static constexpr std::int32_t kSteps[16] = {
      log_scale::significand(0),  log_scale::significand(1),  log_scale::significand(2),
      log_scale::significand(3),  log_scale::significand(4),  log_scale::significand(5),
      log_scale::significand(6),  log_scale::significand(7),  log_scale::significand(8),
      log_scale::significand(9),  log_scale::significand(10), log_scale::significand(11),
      log_scale::significand(12), log_scale::significand(13), log_scale::significand(14),
      log_scale::significand(15)};
  const int octave = static_cast<int>(std::bit_width(value | 1)) - 1;
  const std::uint64_t m =
      value << (63 - octave) >> (63 - log_scale::kBits);  // eleven bits
  const __mmask16 reached = _mm512_cmple_epi32_mask(
      _mm512_load_si512(kSteps), _mm512_set1_epi32(static_cast<std::int32_t>(m)));
  return octave * 16 + __builtin_popcount(reached) - 1;
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
