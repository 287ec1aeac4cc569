// codec/hx_words_256.hpp -- writing the words of hx and hxp with vectors of 256 bits,
// from the last to the first (internal).
#pragma once

#include "codec/hx_encode_256.hpp"

#if defined(SPECKV_256)

#include <bit>
#include <cstring>

namespace speckv::hx256 {

using hx::CodedNumbers;
using hx::kLengthAt;
using hx::Numbers;

// The table of some lanes, which have all bits set.
struct LaneTable {
  const Costs* table;
  __m256i lanes;
};

// Sixteen words that are 0 or -1, by bits.
SPECKV_256_INLINE __m256i word_lanes(std::uint32_t mask) {
  const __m256i bit = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048,
                                        4096, 8192, 16384, static_cast<short>(0x8000));
  return _mm256_cmpeq_epi16(
      _mm256_and_si256(_mm256_set1_epi16(static_cast<short>(mask)), bit), bit);
}
SPECKV_256_INLINE std::uint32_t bits_of(__m256i word_lanes) {
  return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(
      _mm256_castsi256_si128(word_lanes), _mm256_extracti128_si256(word_lanes, 1))));
}
// What a table of 32 bytes says of 16 symbols.
SPECKV_256_INLINE __m128i look_up(const std::uint8_t* table, __m128i symbol) {
  const auto* const at = reinterpret_cast<const __m128i*>(table);
  return _mm_blendv_epi8(_mm_shuffle_epi8(_mm_load_si128(at), symbol),
                         _mm_shuffle_epi8(_mm_load_si128(at + 1), symbol),
                         _mm_slli_epi16(symbol, 3));
}

// Codes every number, and writes the escapes. left: what each lane has left over.
// tables(group, channel, LaneTable*) says how many tables the lanes have, up to four.
template <class Tables>
SPECKV_256 void code_numbers(const Numbers& n, std::byte* escape, CodedNumbers& coded,
                             __m256i* left, const Tables& tables) noexcept {
  __m256i count = _mm256_setzero_si256();
  std::uint32_t step = 0;
  for (std::uint32_t first = 0; first < n.places; first += kLanes) {
    for (std::uint32_t c = 0; c < n.channels; ++c, ++step) {
      LaneTable of[4];
      const std::uint32_t different = tables(first / kLanes, c, of);
      const std::int16_t* const from = n.x + c * n.columns + first;
      const __m256i x = _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
      __m256i bits = _mm256_setzero_si256(), most = bits, escaped = bits;
      for (std::uint32_t k = 0; k < different; ++k) {
        const Costs& table = *of[k].table;
        const __m256i words = symbols(table, x);
        const __m128i symbol = _mm_packus_epi16(_mm256_castsi256_si128(words),
                                                _mm256_extracti128_si256(words, 1));
        const __m128i code = look_up(table.code, symbol),
                      above = look_up(table.above, symbol);
        const __m256i entry = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_unpacklo_epi8(code, above)),
            _mm_unpackhi_epi8(code, above), 1);
        const __m256i lift = _mm256_cvtepu8_epi16(look_up(table.lift, symbol));
        const __m256i low = _mm256_and_si256(
            x, _mm256_set1_epi16(static_cast<short>((1U << table.raw) - 1)));
        const __m256i all = _mm256_add_epi16(entry, _mm256_mullo_epi16(low, lift));
        const __m256i far = _mm256_cmpeq_epi16(lift, _mm256_setzero_si256());
        bits = _mm256_or_si256(bits, _mm256_and_si256(of[k].lanes, all));
        escaped = _mm256_or_si256(escaped, _mm256_and_si256(of[k].lanes, far));
        most = _mm256_or_si256(
            most, _mm256_and_si256(of[k].lanes,
                                   _mm256_set1_epi16(static_cast<short>(table.most))));
      }
      const __m256i pull = _mm256_cmpgt_epi16(most, count);
      _mm256_store_si256(reinterpret_cast<__m256i*>(coded.bits[step]), bits);
      coded.pulls[step] = static_cast<std::uint16_t>(bits_of(pull));
      count = _mm256_add_epi16(count, _mm256_and_si256(pull, _mm256_set1_epi16(16)));
      count = _mm256_sub_epi16(count, _mm256_srli_epi16(bits, kLengthAt));
      for (std::uint32_t rest = bits_of(escaped); rest != 0;
           rest &= rest - 1, escape += 2)
        store_le(escape, from[std::countr_zero(rest)]);
    }
  }
  left[0] = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(count));
  left[1] = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(count, 1));
}

// Of eight lanes those of a mask, to the end of a register.
using Ends = std::array<std::array<std::uint8_t, 8>, 256>;
inline const Ends& ends() noexcept {
  static const Ends made = [] {
    Ends all{};
    for (std::uint32_t mask = 0; mask < all.size(); ++mask) {
      std::size_t at = 8 - static_cast<std::size_t>(std::popcount(mask));
      for (std::uint8_t i = 0; i < 8; ++i) {
        if ((mask >> i & 1) != 0) all[mask][at++] = i;
      }
    }
    return all;
  }();
  return made;
}

// Forward for what a decoder asks for, and when; then back, where each lane gives up
// what a decoder has too much. `words`: how many there are. REQUIRES: 16 bytes of the
// unit before the first.
template <class Tables>
SPECKV_256 void write_words(const Numbers& n, std::byte* first, std::uint64_t words,
                            CodedNumbers& coded, const Tables& tables) noexcept {
  const Ends& by = ends();
  std::byte* word = first + 2 * words;
  __m256i count[2];
  code_numbers(n, word, coded, count, tables);
  __m256i held[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  std::byte before[16];  // words are stored eight at once, the foremost of them too early
  std::memcpy(before, first - sizeof before, sizeof before);
  for (std::uint32_t step = (n.places + kLanes - 1) / kLanes * n.channels; step-- > 0;) {
#pragma GCC unroll 2
    for (std::size_t back = 0; back < 2; ++back) {
      const std::size_t h = 1 - back;
      const __m256i code = _mm256_cvtepu16_epi32(
          _mm_load_si128(reinterpret_cast<const __m128i*>(coded.bits[step] + 8 * h)));
      const __m256i length = _mm256_srli_epi32(code, kLengthAt);
      const __m256i bits =
          _mm256_and_si256(code, _mm256_set1_epi32((1 << kLengthAt) - 1));
      held[h] = _mm256_or_si256(_mm256_sllv_epi32(held[h], length), bits);
      count[h] = _mm256_add_epi32(count[h], length);
      const std::uint32_t mask = coded.pulls[step] >> 8 * h & 0xFF;
      const __m256i pulled = _mm256_cmpeq_epi32(
          _mm256_and_si256(_mm256_set1_epi32(static_cast<std::int32_t>(mask)), bit), bit);
      const __m256i left = _mm256_sub_epi32(count[h], _mm256_set1_epi32(16));
      const __m256i out = _mm256_srlv_epi32(held[h], left);
      const __m256i kept =
          _mm256_andnot_si256(_mm256_sllv_epi32(_mm256_set1_epi32(-1), left), held[h]);
      held[h] = _mm256_blendv_epi8(held[h], kept, pulled);
      count[h] = _mm256_blendv_epi8(count[h], left, pulled);
      const __m256i place = _mm256_cvtepu8_epi32(
          load8(reinterpret_cast<const std::byte*>(by[mask].data())));
      const __m256i last = _mm256_permutevar8x32_epi32(out, place);
      store16(word - 16, _mm_packus_epi32(_mm256_castsi256_si128(last),
                                          _mm256_extracti128_si256(last, 1)));
      word -= 2 * static_cast<unsigned>(std::popcount(mask));
    }
  }
  std::memcpy(first - sizeof before, before, sizeof before);
}

}  // namespace speckv::hx256

#endif
