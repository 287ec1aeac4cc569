// codec/hxp_costs_avx512.hpp -- what numbers of hxp cost under a table, 64 places at a
// time, whose classes have different ones (internal).
#pragma once

#include "codec/hx_encode_avx512.hpp"
#include "codec/hxp.hpp"

#if defined(__x86_64__)

namespace speckv::hxp512 {

using namespace hx512;

inline constexpr std::uint32_t kTables = 16, kBlock = 64;

// Under a channel's table, the symbols' bits: of the four classes, one after the other.
struct ClassCosts {
  alignas(64) std::uint8_t cost[HxpShape::kClasses * 32];    // of escapes all
  alignas(64) std::uint8_t length[HxpShape::kClasses * 32];  // in the words
  alignas(64) std::uint16_t raw[32] = {};                    // of a class
};

// Of all tables, as the classes' offsets make them.
inline void find_costs(const std::int32_t* offset, const Costs* all,
                       ClassCosts* costs) noexcept {
  for (std::uint32_t j = 0; j < kTables; ++j) {
    for (std::uint32_t v = 0; v < HxpShape::kClasses; ++v) {
      const Costs& table = all[hxp::table_for(j, offset[v])];
      costs[j].raw[v] = static_cast<std::uint16_t>(table.raw);
      for (std::uint32_t s = 0; s < 32; ++s) {
        costs[j].cost[32 * v + s] = static_cast<std::uint8_t>(table.cost[s]);
        costs[j].length[32 * v + s] = static_cast<std::uint8_t>(table.length[s]);
      }
    }
  }
}

// The classes of places, and which have a token, by bits.
struct Places {
  alignas(64) std::uint16_t class_at[HxShape::kMostTokens] = {};
  __mmask32 known[HxShape::kMostTokens / 32] = {};

  // Symbols of 64 numbers with their classes. Of a register's 16 bytes eight belong to
  // the first 32 places, eight to the others.
  SPECKV_VBMI_INLINE __m512i symbols(const ClassCosts& table, const std::int16_t* numbers,
                                     std::uint32_t first) const {
    const __m512i raws = _mm512_load_si512(table.raw);
    __m512i symbol[2];
#pragma GCC unroll 2
    for (std::uint32_t h = 0; h < 2; ++h) {
      const __m512i classes = _mm512_load_si512(class_at + first + 32 * h);
      const __m512i x = _mm512_load_si512(numbers + first + 32 * h);
      const __m512i upper =
          _mm512_add_epi16(_mm512_srav_epi16(x, _mm512_permutexvar_epi16(classes, raws)),
                           _mm512_set1_epi16(static_cast<short>(Table::kBias)));
      const __m512i cut =
          _mm512_min_epu16(upper, _mm512_set1_epi16(static_cast<short>(Table::kEscape)));
      symbol[h] = _mm512_or_si512(cut, _mm512_slli_epi16(classes, 5));
    }
    return _mm512_packus_epi16(symbol[0], symbol[1]);
  }
  // What `bytes`, costs or lengths of the table, say of them; 0 where there is no token.
  SPECKV_VBMI_INLINE __m512i look_up(const std::uint8_t* bytes, const ClassCosts& table,
                                     const std::int16_t* numbers,
                                     std::uint32_t first) const {
    const __m512i found =
        _mm512_permutex2var_epi8(_mm512_load_si512(bytes), symbols(table, numbers, first),
                                 _mm512_load_si512(bytes + 64));
    const __m512i one = _mm512_set1_epi16(0xFF);
    return _mm512_and_si512(
        found, _mm512_packus_epi16(_mm512_maskz_mov_epi16(known[first / 32], one),
                                   _mm512_maskz_mov_epi16(known[first / 32 + 1], one)));
  }
};

}  // namespace speckv::hxp512

#endif
