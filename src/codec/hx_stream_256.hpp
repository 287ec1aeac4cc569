// codec/hx_stream_256.hpp -- reading the words of hx and hxp with vectors of 256 bits:
// sixteen lanes in two vectors (internal).
#pragma once

#include "codec/vector256.hpp"

#if defined(SPECKV_256)

#include <array>
#include <bit>
#include <cstring>

#include "codec/hx_reader.hpp"

namespace speckv::hx256 {

using namespace vector256;
using hx::kStep;

// Sixteen numbers of 32 bits, or as many masks.
struct Lanes {
  __m256i half[2];
};
SPECKV_256_INLINE Lanes all_lanes(std::int32_t x) {
  return {{_mm256_set1_epi32(x), _mm256_set1_epi32(x)}};
}
SPECKV_256_INLINE Lanes load_lanes(const std::int32_t* from) {
  const auto* const at = reinterpret_cast<const __m256i*>(from);
  return {{_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)}};
}
SPECKV_256_INLINE void store_lanes(std::int32_t* to, const Lanes& x) {
  auto* const at = reinterpret_cast<__m256i*>(to);
  _mm256_storeu_si256(at, x.half[0]);
  _mm256_storeu_si256(at + 1, x.half[1]);
}
SPECKV_256_INLINE std::uint32_t mask_of(__m256i x) {
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(x)));
}

// A code table: by the next 7 bits the symbol, and above it the length. Parts of 16
// entries: 0, 4, 1, 5, 2, 6, 3, 7.
struct Codes {
  alignas(32) std::uint8_t entry[hx::Table::kWindow];
  std::int32_t most, raw;
};
// Of eight lanes, which take from a queue: the place in it of what each gets.
struct Decoding {
  std::array<Codes, 16> codes;
  std::array<std::array<std::uint8_t, 8>, 256> place;
};
inline const Decoding& decoding() noexcept {
  static const Decoding made = [] {
    Decoding all{};
    for (std::size_t j = 0; j < all.codes.size(); ++j) {
      const hx::Table& table = hx::tables()[j];
      for (std::size_t i = 0; i < hx::Table::kWindow; ++i)
        all.codes[j].entry[i / 16 % 4 * 32 + i / 64 * 16 + i % 16] =
            static_cast<std::uint8_t>(table.symbol[i] | table.length[i] << 5);
      all.codes[j].most = static_cast<std::int32_t>(table.most);
      all.codes[j].raw = static_cast<std::int32_t>(table.raw);
    }
    for (std::uint32_t mask = 0; mask < all.place.size(); ++mask) {
      for (std::uint32_t i = 0; i < 8; ++i)
        all.place[mask][i] =
            static_cast<std::uint8_t>(std::popcount(mask & ((1U << i) - 1)));
    }
    return all;
  }();
  return made;
}

// What a lane has of the stream, and where that goes on.
struct Stream {
  Lanes held, count;
  const std::byte* word;
  const std::byte* escape;
};

// What the table says of each lane's next bits.
SPECKV_256_INLINE Lanes entries_of(const Codes& codes, const Lanes& held) {
  const __m256i window = _mm256_set1_epi32(hx::Table::kWindow - 1);
  const __m256i words = _mm256_packs_epi32(_mm256_and_si256(held.half[0], window),
                                           _mm256_and_si256(held.half[1], window));
  // Lanes 0 to 3, 8 to 11, 4 to 7, 12 to 15; the same above, for entries from 64.
  __m256i index = _mm256_permute4x64_epi64(_mm256_packus_epi16(words, words), 0x88);
  index = _mm256_xor_si256(
      index, _mm256_setr_epi64x(0, 0, 0x4040404040404040, 0x4040404040404040));
  __m256i found = _mm256_setzero_si256();
#pragma GCC unroll 4
  for (std::size_t part = 0; part < 4; ++part) {
    // Below 128, where it is one of this part's.
    const __m256i within = _mm256_add_epi8(
        _mm256_xor_si256(index, _mm256_set1_epi8(static_cast<char>(16 * part))),
        _mm256_set1_epi8(0x70));
    const __m256i table =
        _mm256_load_si256(reinterpret_cast<const __m256i*>(codes.entry + 32 * part));
    found = _mm256_or_si256(found, _mm256_shuffle_epi8(table, within));
  }
  const __m128i either = _mm_shuffle_epi32(
      _mm_or_si128(_mm256_castsi256_si128(found), _mm256_extracti128_si256(found, 1)),
      0xD8);
  return {
      {_mm256_cvtepu8_epi32(either), _mm256_cvtepu8_epi32(_mm_srli_si128(either, 8))}};
}

// Lanes with fewer bits than the longest code take a word each.
SPECKV_256_INLINE void refill(const Decoding& by, const Lanes& most, const Lanes& lanes,
                              Stream& in) {
#pragma GCC unroll 2
  for (std::size_t h = 0; h < 2; ++h) {
    const __m256i pull = _mm256_and_si256(
        lanes.half[h], _mm256_cmpgt_epi32(most.half[h], in.count.half[h]));
    const std::uint32_t mask = mask_of(pull);
    const __m256i words = _mm256_cvtepu16_epi32(load16(in.word));
    const __m256i place = _mm256_cvtepu8_epi32(
        load8(reinterpret_cast<const std::byte*>(by.place[mask].data())));
    const __m256i mine =
        _mm256_and_si256(pull, _mm256_permutevar8x32_epi32(words, place));
    in.held.half[h] =
        _mm256_or_si256(in.held.half[h], _mm256_sllv_epi32(mine, in.count.half[h]));
    in.count.half[h] =
        _mm256_add_epi32(in.count.half[h], _mm256_and_si256(pull, _mm256_set1_epi32(16)));
    in.word += 2 * static_cast<unsigned>(std::popcount(mask));
  }
}

// Takes a code off each lane. Returns the numbers plus their `offset` (which takes the
// table's bias off, too), and of which lanes they are escapes.
SPECKV_256_INLINE Lanes take(const Lanes& entry, const Lanes& raw, const Lanes& lanes,
                             const Lanes& offset, Stream& in, std::uint32_t& escaped) {
  Lanes x;
  escaped = 0;
#pragma GCC unroll 2
  for (std::size_t h = 0; h < 2; ++h) {
    __m256i& held = in.held.half[h];
    const __m256i ones = _mm256_set1_epi32(-1), far = _mm256_set1_epi32(31);
    const __m256i length = _mm256_srli_epi32(entry.half[h], 5);
    const __m256i symbol = _mm256_and_si256(entry.half[h], far);
    held = _mm256_srlv_epi32(held, length);
    const __m256i low = _mm256_andnot_si256(_mm256_sllv_epi32(ones, raw.half[h]), held);
    held = _mm256_srlv_epi32(held, raw.half[h]);
    in.count.half[h] =
        _mm256_sub_epi32(in.count.half[h], _mm256_add_epi32(length, raw.half[h]));
    x.half[h] = _mm256_add_epi32(_mm256_sllv_epi32(symbol, raw.half[h]),
                                 _mm256_add_epi32(low, offset.half[h]));
    escaped |= mask_of(_mm256_and_si256(lanes.half[h], _mm256_cmpeq_epi32(symbol, far)))
               << (8 * h);
  }
  return x;
}

// Puts the escapes of those lanes in their place, plus `offset`.
SPECKV_256_INLINE void take_escapes(std::uint32_t escaped, std::int32_t offset, Lanes& x,
                                    Stream& in) {
  std::int32_t all[kLanes];
  store_lanes(all, x);
  for (; escaped != 0; escaped &= escaped - 1, in.escape += 2)
    all[std::countr_zero(escaped)] = load_le<std::int16_t>(in.escape) + offset;
  x = load_lanes(all);
}

// values: eight channels, [channel][lane]. rows: two lanes each, i and 8 + i, of the
// eight channels.
SPECKV_256_INLINE void turn_rows(const std::uint16_t (*values)[kLanes], __m256i* rows) {
  __m256i x[8];
#pragma GCC unroll 8
  for (std::size_t k = 0; k < 8; ++k)
    x[k] = _mm256_load_si256(reinterpret_cast<const __m256i*>(values[k]));
  transpose(x, rows);
}

// Lanes that have a token.
SPECKV_256_INLINE Lanes first_lanes(std::uint32_t tokens) {
  const __m256i count = _mm256_set1_epi32(static_cast<std::int32_t>(tokens));
  return {{_mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
           _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))}};
}

}  // namespace speckv::hx256

#endif
