// codec/hx_words_avx512.hpp -- writing the words of hx and hxp with AVX-512, from the
// last to the first (internal).
#pragma once

#include "codec/hx_encode_avx512.hpp"
#include "codec/hx_words.hpp"

#if defined(__x86_64__)

namespace speckv::hx512 {

using hx::CodedNumbers;
using hx::kLengthAt;
using hx::Numbers;

// The table of some lanes.
struct LaneTable {
  const Costs* table;
  __mmask16 lanes;
};
// Codes every number, writes the escapes, and returns what the lanes have left over.
// tables(group, channel, LaneTable*) says how many tables the lanes have, up to four.
template <class Tables>
SPECKV_VBMI __m512i code_numbers(const Numbers& n, std::byte* escape, CodedNumbers& coded,
                                 const Tables& tables) noexcept {
  __m256i count = _mm256_setzero_si256();
  std::uint32_t step = 0;
  for (std::uint32_t first = 0; first < n.places; first += kLanes) {
    const __mmask16 lanes = first_lanes(n.places - first);
    for (std::uint32_t c = 0; c < n.channels; ++c, ++step) {
      LaneTable of[4];
      const std::uint32_t different = tables(first / kLanes, c, of);
      const std::int16_t* const from = n.x + c * n.columns + first;
      const __m256i x = _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
      __m256i entry = _mm256_setzero_si256(), length = entry, bits = entry;
      __mmask16 escaped = 0, pull = 0;
      for (std::uint32_t k = 0; k < different; ++k) {
        const Costs& table = *of[k].table;
        const auto mine = static_cast<__mmask16>(lanes & of[k].lanes);
        const __m128i raw = _mm_cvtsi32_si128(static_cast<int>(table.raw));
        const __m256i symbol = _mm256_min_epu16(
            _mm256_add_epi16(_mm256_sra_epi16(x, raw),
                             _mm256_set1_epi16(static_cast<short>(Table::kBias))),
            _mm256_set1_epi16(static_cast<short>(Table::kEscape)));
        entry = _mm256_maskz_permutex2var_epi16(
            mine, _mm256_load_si256(reinterpret_cast<const __m256i*>(table.code)), symbol,
            _mm256_load_si256(reinterpret_cast<const __m256i*>(table.code + 16)));
        const __m256i taken =
            _mm256_and_si256(_mm256_srli_epi16(entry, kLengthAt), _mm256_set1_epi16(15));
        const __mmask16 far = _mm256_movepi16_mask(entry);
        const __m256i low = _mm256_and_si256(
            x, _mm256_set1_epi16(static_cast<short>((1 << table.raw) - 1)));
        const __m256i shift =
            _mm256_sub_epi16(taken, _mm256_set1_epi16(static_cast<short>(table.raw)));
        const auto plain = static_cast<__mmask16>(mine & ~far);
        bits = _mm256_or_si256(
            bits, _mm256_or_si256(entry, _mm256_maskz_sllv_epi16(plain, low, shift)));
        pull = static_cast<__mmask16>(
            pull | _mm256_mask_cmplt_epi16_mask(
                       mine, count, _mm256_set1_epi16(static_cast<short>(table.most))));
        length = _mm256_or_si256(length, taken);
        escaped = static_cast<__mmask16>(escaped | far);
      }
      _mm256_store_si256(reinterpret_cast<__m256i*>(coded.bits[step]), bits);
      coded.pulls[step] = pull;
      count = _mm256_sub_epi16(
          _mm256_mask_add_epi16(count, pull, count, _mm256_set1_epi16(16)), length);
      for (std::uint32_t rest = escaped; rest != 0; rest &= rest - 1, escape += 2)
        store_le(escape, from[std::countr_zero(rest)]);
    }
  }
  return _mm512_cvtepi16_epi32(count);
}

// Forward for what a decoder asks for, and when; then back, where each lane gives up
// what a decoder has too much. `words`: how many there are.
template <class Tables>
SPECKV_VBMI void write_words(const Numbers& n, std::byte* first, std::uint64_t words,
                             CodedNumbers& coded, const Tables& tables) noexcept {
  std::byte* word = first + 2 * words;
  __m512i count = code_numbers(n, word, coded, tables);
  __m512i held = _mm512_setzero_si512();
  for (std::uint32_t step = (n.places + kLanes - 1) / kLanes * n.channels; step-- > 0;) {
    const __m512i code = _mm512_cvtepu16_epi32(
        _mm256_load_si256(reinterpret_cast<const __m256i*>(coded.bits[step])));
    const __m512i length =
        _mm512_and_si512(_mm512_srli_epi32(code, kLengthAt), _mm512_set1_epi32(15));
    const __m512i bits = _mm512_and_si512(code, _mm512_set1_epi32((1 << kLengthAt) - 1));
    held = _mm512_or_si512(_mm512_sllv_epi32(held, length), bits);
    count = _mm512_add_epi32(count, length);
    const __mmask16 pulled = coded.pulls[step];
    const __m512i left = _mm512_sub_epi32(count, _mm512_set1_epi32(16));
    const __m512i out = _mm512_srlv_epi32(held, left);
    const __m512i kept =
        _mm512_andnot_si512(_mm512_sllv_epi32(_mm512_set1_epi32(-1), left), held);
    held = _mm512_mask_mov_epi32(held, pulled, kept);
    count = _mm512_mask_mov_epi32(count, pulled, left);
    const auto taken = static_cast<unsigned>(__builtin_popcount(pulled));
    word -= 2 * taken;
    _mm256_mask_storeu_epi16(
        word, static_cast<__mmask16>((1U << taken) - 1),
        _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(pulled, out)));
  }
}

}  // namespace speckv::hx512

#endif
