// codec/hx_encode_256.hpp -- what the 256-bit encoders of hx and hxp share: values by
// channels, a token a lane, and code tables (internal).
#pragma once

#include "codec/vector256.hpp"

#if defined(SPECKV_256)

#include <array>

#include "codec/hx_encode.hpp"
#include "codec/hx_words.hpp"

namespace speckv::hx256 {

using namespace vector256;
using hx::Table;

// As HxLoops::encode.
template <class F>
bool encode(const HxShape& shape, const std::byte* plain, MutableBytes unit) noexcept;

// Of 32 symbols, as vectors take them.
struct Costs {
  alignas(32) std::uint8_t cost[32];    // bits, of escapes all
  alignas(32) std::uint8_t length[32];  // bits in the words
  alignas(32) std::uint8_t code[32];    // in the words, without raw bits
  // The length, to stand above a code and its raw bits; and 1 at the place of the lowest
  // of these, or 0 for an escape, which has none.
  alignas(32) std::uint8_t above[32], lift[32];
  std::uint32_t raw;
  std::int32_t most;
};

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
        all[j].length[s] = static_cast<std::uint8_t>(length);
        all[j].code[s] = table.code[as];
        all[j].above[s] = static_cast<std::uint8_t>(length << (hx::kLengthAt - 8));
        all[j].lift[s] =
            static_cast<std::uint8_t>(escaped ? 0U : 1U << table.code_length[as]);
      }
    }
    return all;
  }();
  return made.data();
}

// Symbols of 16 numbers.
SPECKV_256_INLINE __m256i symbols(const Costs& table, __m256i x) {
  const __m128i raw = _mm_cvtsi32_si128(static_cast<int>(table.raw));
  const __m256i upper = _mm256_add_epi16(
      _mm256_sra_epi16(x, raw), _mm256_set1_epi16(static_cast<short>(Table::kBias)));
  return _mm256_min_epu16(upper, _mm256_set1_epi16(static_cast<short>(Table::kEscape)));
}
// Of 32, in bytes: the first 16 have one table, the others another.
SPECKV_256_INLINE __m256i symbols(const Costs& low, const Costs& high,
                                  const std::int16_t* x) {
  const auto* const at = reinterpret_cast<const __m256i*>(x);
  const __m256i bytes = _mm256_packus_epi16(symbols(low, _mm256_load_si256(at)),
                                            symbols(high, _mm256_load_si256(at + 1)));
  return _mm256_permute4x64_epi64(bytes, 0xD8);
}
// What tables of 32 bytes say of symbols.
SPECKV_256_INLINE __m256i look_up(const std::uint8_t* low, const std::uint8_t* high,
                                  __m256i symbol) {
  const auto both = [&](std::size_t first) SPECKV_256 {
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(
            _mm_load_si128(reinterpret_cast<const __m128i*>(low + first))),
        _mm_load_si128(reinterpret_cast<const __m128i*>(high + first)), 1);
  };
  return _mm256_blendv_epi8(_mm256_shuffle_epi8(both(0), symbol),
                            _mm256_shuffle_epi8(both(16), symbol),
                            _mm256_slli_epi16(symbol, 3));
}

// Eight 16-bit values as whole numbers of 2^exponent, rounded half away from zero, for
// the scale 2^-exponent. No value is 2^22 of them.
template <class F>
SPECKV_256_INLINE __m256i fixed_point(__m128i bits, __m256 scale) {
  const __m256 x = widen<F>(bits);
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MAX));
  const __m256 size = _mm256_mul_ps(_mm256_and_ps(x, magnitude), scale);
  const __m256i n = _mm256_cvttps_epi32(_mm256_add_ps(size, _mm256_set1_ps(0.5F)));
  return _mm256_sign_epi32(n, _mm256_castps_si256(x));
}

// The plain values by channels, a token a lane, zeros behind the last. bits:
// [channel][columns], columns being the tokens, to a multiple of 32. row(i): the i-th
// token's values. Returns the largest magnitude.
template <class Row>
SPECKV_256 std::uint32_t turn_values(std::uint32_t tokens, std::uint32_t channels,
                                     std::uint32_t columns, std::uint16_t* bits,
                                     const Row& row) noexcept {
  __m256i most = _mm256_setzero_si256();
  for (std::uint32_t first = 0; first < columns; first += kLanes) {
    const auto part = [&](std::uint32_t t, std::uint32_t c) SPECKV_256 {
      return t < tokens ? load16(row(t) + 2 * c) : _mm_setzero_si128();
    };
    for (std::uint32_t c = 0; c < channels; c += 8) {
      __m256i x[8], turned[8];
#pragma GCC unroll 8
      for (std::uint32_t i = 0; i < 8; ++i) {
        x[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(part(first + i, c)),
                                       part(first + 8 + i, c), 1);
        most = _mm256_max_epu16(
            most, _mm256_and_si256(x[i], _mm256_set1_epi16(number::kMagnitude)));
      }
      transpose(x, turned);
#pragma GCC unroll 8
      for (std::uint32_t i = 0; i < 8; ++i)
        _mm256_store_si256(reinterpret_cast<__m256i*>(bits + (c + i) * columns + first),
                           turned[i]);
    }
  }
  return largest(most);
}

}  // namespace speckv::hx256

#endif
