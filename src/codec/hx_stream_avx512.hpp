// codec/hx_stream_avx512.hpp -- reading the words of hx and hxp with AVX-512 and VBMI: a
// token a lane, a channel a step, as the format has it. A channel's code table fits two
// registers (internal).
#pragma once

#include "codec/hx_vectors.hpp"

#if defined(__x86_64__)

#include <array>

#include "codec/hx_reader.hpp"

namespace speckv::hx512 {

using hx::kStep;

// A code table as vectors take it: by the next 7 bits the symbol, and above it the
// length.
struct Codes {
  alignas(64) std::uint8_t entry[hx::Table::kWindow];
  std::int32_t most, raw, bias;
  std::int32_t low, times;  // the raw bits' mask; 2^raw
};
inline const Codes* codes() noexcept {
  static const std::array<Codes, 16> made = [] {
    std::array<Codes, 16> all;
    for (std::size_t j = 0; j < all.size(); ++j) {
      const hx::Table& table = hx::tables()[j];
      for (std::size_t i = 0; i < hx::Table::kWindow; ++i)
        all[j].entry[i] =
            static_cast<std::uint8_t>(table.symbol[i] | table.length[i] << 5);
      all[j].most = static_cast<std::int32_t>(table.most);
      all[j].raw = static_cast<std::int32_t>(table.raw);
      all[j].bias = std::int32_t{hx::Table::kBias} << table.raw;
      all[j].times = 1 << table.raw;
      all[j].low = all[j].times - 1;
    }
    return all;
  }();
  return made.data();
}

// What a lane has of the stream, and where that goes on.
struct Stream {
  __m512i held, count;
  const std::byte* word;
  const std::byte* escape;
};

constexpr __mmask64 kLowBytes = 0x1111111111111111;

// One table for all lanes.
struct OneTable {
  const Codes& codes;

  SPECKV_VBMI_INLINE __m512i most() const { return _mm512_set1_epi32(codes.most); }
  SPECKV_VBMI_INLINE __m512i raw() const { return _mm512_set1_epi32(codes.raw); }
  SPECKV_VBMI_INLINE __m512i entry(__m512i held) const {
    return _mm512_maskz_permutex2var_epi8(kLowBytes, _mm512_load_si512(codes.entry), held,
                                          _mm512_load_si512(codes.entry + 64));
  }
  // The raw bits, lowest.
  SPECKV_VBMI_INLINE __m512i low(__m512i bits) const {
    return _mm512_and_si512(bits, _mm512_set1_epi32(codes.low));
  }
  // n 2^raw
  SPECKV_VBMI_INLINE __m512i raised(__m512i n) const {
    return _mm512_madd_epi16(n, _mm512_set1_epi32(codes.times));
  }
};

// One number a lane, plus its `offset` (which takes the table's bias off, too): what is
// known to be within kMostSteps, unless it is an escape, of which lanes are `escaped`.
template <class Tables>
SPECKV_VBMI_INLINE __m512i next(const Tables& table, __mmask16 lanes, __m512i offset,
                                Stream& in, __mmask16& escaped) {
  const __mmask16 pull = _mm512_mask_cmplt_epi32_mask(lanes, in.count, table.most());
  const __m512i words = _mm512_cvtepu16_epi32(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in.word)));
  in.held = _mm512_or_si512(
      in.held, _mm512_sllv_epi32(_mm512_maskz_expand_epi32(pull, words), in.count));
  in.count = _mm512_mask_add_epi32(in.count, pull, in.count, _mm512_set1_epi32(16));
  in.word += 2 * static_cast<unsigned>(__builtin_popcount(pull));

  const __m512i raw = table.raw(), entry = table.entry(in.held);
  const __m512i length = _mm512_srli_epi32(entry, 5);
  const __m512i symbol = _mm512_and_si512(entry, _mm512_set1_epi32(31));
  const __m512i taken = _mm512_add_epi32(length, raw);
  const __m512i upper = _mm512_srlv_epi32(in.held, length);
  in.held = _mm512_srlv_epi32(in.held, taken);
  in.count = _mm512_sub_epi32(in.count, taken);
  const __m512i low = table.low(upper);
  escaped = _mm512_mask_cmpeq_epi32_mask(lanes, symbol, _mm512_set1_epi32(31));
  return _mm512_add_epi32(table.raised(symbol), _mm512_add_epi32(low, offset));
}

// The escapes of those lanes.
SPECKV_VBMI_INLINE __m512i next_escapes(__mmask16 escaped, Stream& in) {
  const __m512i all = _mm512_cvtepi16_epi32(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in.escape)));
  in.escape += 2 * static_cast<unsigned>(__builtin_popcount(escaped));
  return _mm512_maskz_expand_epi32(escaped, all);
}

// values: [channel][lane]. rows: of each lane 32 channels.
SPECKV_VBMI_INLINE void turn_rows(const std::uint16_t (*values)[kLanes], __m512i* rows) {
  const __m512i pairs = _mm512_load_si512(kInterleaved);
#pragma GCC unroll 16
  for (std::size_t i = 0; i < 16; ++i)
    rows[i] = _mm512_permutexvar_epi16(pairs, _mm512_load_si512(values[2 * i]));
  transpose(rows);
}
// The first `channels` of a row, of 32 or 16.
SPECKV_VBMI_INLINE void store_row(std::byte* to, __m512i x, std::uint32_t channels,
                                  bool stream) {
  if (channels == kStep) {
    store_line(to, x, stream);
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(x));
  }
}

// `small`: no value can be too large for F.
template <class F, bool small>
SPECKV_VBMI_INLINE __m256i value_of(__m512i n, __m512 step) {
  const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(n), step);
  if constexpr (kIsF16<F> && small) return _mm512_cvtps_ph(x, kNearest);
  return narrow<F>(x);
}

}  // namespace speckv::hx512

#endif
