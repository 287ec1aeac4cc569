// hx with AVX-512 and VBMI: a token a lane, a channel a step, as the format has it. A
// channel's code table fits two registers.
#include "codec/hx_vectors.hpp"

#if defined(__x86_64__)

#include <cstdlib>
#include <cstring>

#include "codec/hx_unit.hpp"

namespace speckv {
namespace {

using namespace hx512;

constexpr std::uint32_t kStep = 32;  // channels that are finished at once
constexpr std::uint64_t kBeyond = kStep * kLanes * 2;  // bytes they can take too many

// A code table as vectors take it: by the next 7 bits the symbol, and above it the
// length.
struct Codes {
  alignas(64) std::uint8_t entry[hx::Table::kWindow];
  std::int32_t most, raw, one, low, bias;  // one: 2^raw; low: a mask of the raw bits
};
const Codes* codes() noexcept {
  static const std::array<Codes, 16> made = [] {
    std::array<Codes, 16> all;
    for (std::size_t j = 0; j < all.size(); ++j) {
      const hx::Table& table = hx::tables()[j];
      for (std::size_t i = 0; i < hx::Table::kWindow; ++i)
        all[j].entry[i] =
            static_cast<std::uint8_t>(table.symbol[i] | table.length[i] << 5);
      all[j].most = static_cast<std::int32_t>(table.most);
      all[j].raw = static_cast<std::int32_t>(table.raw);
      all[j].one = 1 << table.raw;
      all[j].low = all[j].one - 1;
      all[j].bias = std::int32_t{hx::Table::kBias} * all[j].one;
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

// One number a lane. `offset`: the channel's mean less the table's bias.
SPECKV_VBMI_INLINE __m512i next(const Codes& table, __mmask16 lanes, std::int32_t offset,
                                Stream& in) {
  const __mmask16 pull =
      _mm512_mask_cmplt_epi32_mask(lanes, in.count, _mm512_set1_epi32(table.most));
  const __m512i words = _mm512_cvtepu16_epi32(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in.word)));
  in.held = _mm512_or_si512(
      in.held, _mm512_sllv_epi32(_mm512_maskz_expand_epi32(pull, words), in.count));
  in.count = _mm512_mask_add_epi32(in.count, pull, in.count, _mm512_set1_epi32(16));
  in.word += 2 * static_cast<unsigned>(__builtin_popcount(pull));

  constexpr __mmask64 kLowBytes = 0x1111111111111111;
  const __m512i entry =
      _mm512_maskz_permutex2var_epi8(kLowBytes, _mm512_load_si512(table.entry), in.held,
                                     _mm512_load_si512(table.entry + 64));
  const __m512i length = _mm512_srli_epi32(entry, 5);
  const __m512i symbol = _mm512_and_si512(entry, _mm512_set1_epi32(31));
  const __m512i taken = _mm512_add_epi32(length, _mm512_set1_epi32(table.raw));
  const __m512i low =
      _mm512_and_si512(_mm512_srlv_epi32(in.held, length), _mm512_set1_epi32(table.low));
  in.held = _mm512_srlv_epi32(in.held, taken);
  in.count = _mm512_sub_epi32(in.count, taken);
  __m512i x = _mm512_add_epi32(_mm512_madd_epi16(symbol, _mm512_set1_epi32(table.one)),
                               _mm512_add_epi32(low, _mm512_set1_epi32(offset)));
  const __mmask16 escaped =
      _mm512_mask_cmpeq_epi32_mask(lanes, symbol, _mm512_set1_epi32(31));
  if (escaped != 0) [[unlikely]] {
    const __m512i all = _mm512_cvtepi16_epi32(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in.escape)));
    const __m512i far = _mm512_maskz_expand_epi32(escaped, all);
    const __m512i most = _mm512_set1_epi32(HxShape::kMostSteps);
    const __m512i n = _mm512_add_epi32(far, _mm512_set1_epi32(offset + table.bias));
    x = _mm512_mask_min_epi32(x, escaped, n, most);
    x = _mm512_max_epi32(x, _mm512_sub_epi32(_mm512_setzero_si512(), most));
    in.escape += 2 * static_cast<unsigned>(__builtin_popcount(escaped));
  }
  return x;
}

// `small`: no value can be too large for F.
template <class F, bool small>
SPECKV_VBMI_INLINE __m256i value_of(__m512i n, __m512 step) {
  const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(n), step);
  if constexpr (kIsF16<F> && small) return _mm512_cvtps_ph(x, kNearest);
  return narrow<F>(x);
}

// values: [channel][lane]. Writes `channels` values of each of the first `tokens` rows.
SPECKV_VBMI_INLINE void write_rows(const std::uint16_t (*values)[kLanes],
                                   std::uint32_t channels, std::uint32_t tokens,
                                   std::uint64_t stride, std::byte* plain, bool stream) {
  const __m512i pairs = _mm512_load_si512(kInterleaved);
  __m512i x[16];
#pragma GCC unroll 16
  for (std::size_t i = 0; i < 16; ++i)
    x[i] = _mm512_permutexvar_epi16(pairs, _mm512_load_si512(values[2 * i]));
  transpose(x);
#pragma GCC unroll 16
  for (std::size_t t = 0; t < 16; ++t) {
    if (t >= tokens) break;
    std::byte* const to = plain + t * stride;
    if (channels == kStep) {
      store_line(to, x[t], stream);
    } else {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(x[t]));
    }
  }
}

// A unit whose head is sound, with its words where reading too far does no harm.
struct Reader {
  const std::byte* plain_of_unit;  // the unit itself
  std::byte* to;
  hx::Head head;
  Stream in;
  const std::byte* words_end;
  const std::byte* end;
  std::uint8_t table[HxShape::kMostChannels];
  std::int32_t offset[HxShape::kMostChannels];
  alignas(64) std::byte words[HxShape::kMostSlot + kBeyond];
};

// Whether every result but zero is a normal binary32 number and not zero in F, and only
// escapes can pass kMostSteps.
template <class F>
bool is_usual(const HxShape& shape, const std::byte* unit,
              const hx::Head& head) noexcept {
  constexpr std::int32_t kMostMean = HxShape::kMostSteps - 16 * 16;  // of raw 4
  std::int32_t least = head.log;
  for (std::uint32_t t = 0; !shape.keys && t < shape.tokens; ++t)
    least = std::min(least, hx::log_of(shape, unit, head.log, t));
  std::int32_t most = 0;
  for (std::uint32_t c = 0; head.wide && c < shape.channels; ++c)
    most = std::max(most, std::abs(hx::mean_of(shape, unit, true, c)));
  return head.log < 6400 && least >= std::max(-7200, 64 * (F::kLeast + 1)) &&
         most <= kMostMean;
}

void open(const HxShape& shape, const HxUnit& unit, Reader& reader) noexcept {
  const std::byte* const at = unit.encoded.data();
  reader.plain_of_unit = at;
  reader.to = unit.plain;
  const std::uint64_t words = 2 * reader.head.word_count,
                      escapes = 2 * reader.head.escapes;
  std::memcpy(reader.words, at + reader.head.words, words + escapes);
  std::memset(reader.words + words + escapes, 0, kBeyond);
  reader.in.word = reader.words;
  reader.in.escape = reader.words_end = reader.words + words;
  reader.end = reader.words_end + escapes;
  const Codes* const all = codes();
  for (std::uint32_t c = 0; c < shape.channels; ++c) {
    const std::uint32_t table = hx::table_of(shape, at, c);
    reader.table[c] = static_cast<std::uint8_t>(table);
    reader.offset[c] = hx::mean_of(shape, at, reader.head.wide, c) - all[table].bias;
  }
}

template <class F, bool small, std::uint32_t units>
SPECKV_VBMI bool decode_side_by_side(const HxShape& shape, Reader* readers,
                                     bool stream) noexcept {
  alignas(64) std::uint16_t values[units][kStep][kLanes];
  const Codes* const all = codes();
#pragma GCC unroll 4
  for (std::uint32_t u = 0; u < units; ++u)
    readers[u].in.held = readers[u].in.count = _mm512_setzero_si512();
  for (std::uint32_t first = 0; first < shape.tokens; first += kLanes) {
    const std::uint32_t tokens = std::min(kLanes, shape.tokens - first);
    const __mmask16 lanes = first_lanes(tokens);
    __m512 step[units];
#pragma GCC unroll 4
    for (std::uint32_t u = 0; u < units; ++u) {
      alignas(64) float steps[kLanes] = {};
      for (std::uint32_t i = 0; i < tokens; ++i)
        steps[i] = as_float(log_scale::power64(
            hx::log_of(shape, readers[u].plain_of_unit, readers[u].head.log, first + i)));
      step[u] = _mm512_load_ps(steps);
    }
    for (std::uint32_t c = 0; c < shape.channels; c += kStep) {
      const std::uint32_t channels = std::min(kStep, shape.channels - c);
      Stream in[units];
#pragma GCC unroll 4
      for (std::uint32_t u = 0; u < units; ++u)
        in[u] = readers[u].in;
      for (std::uint32_t k = 0; k < channels; ++k) {
#pragma GCC unroll 4
        for (std::uint32_t u = 0; u < units; ++u) {
          const __m512i n =
              next(all[readers[u].table[c + k]], lanes, readers[u].offset[c + k], in[u]);
          _mm256_store_si256(reinterpret_cast<__m256i*>(values[u][k]),
                             value_of<F, small>(n, step[u]));
        }
      }
#pragma GCC unroll 4
      for (std::uint32_t u = 0; u < units; ++u) {
        readers[u].in = in[u];
        if (in[u].word > readers[u].words_end || in[u].escape > readers[u].end)
          return false;
        write_rows(values[u], channels, tokens, shape.stride,
                   readers[u].to + first * shape.stride + 2 * c, stream);
      }
    }
  }
  return std::all_of(readers, readers + units, [](const Reader& reader) {
    return reader.in.word == reader.words_end && reader.in.escape == reader.end;
  });
}

template <class F, bool small>
bool decode_all(const HxShape& shape, std::span<Reader> readers, bool stream) noexcept {
  if (readers.size() == 4)
    return decode_side_by_side<F, small, 4>(shape, readers.data(), stream);
  for (Reader& reader : readers) {
    if (!decode_side_by_side<F, small, 1>(shape, &reader, stream)) return false;
  }
  return true;
}

template <class F>
bool decode(const HxShape& shape, std::span<const HxUnit> units, bool stream) noexcept {
  // NOLINTNEXTLINE(clang-analyzer-optin.*): open() fills what is read
  Reader readers[HxLoops::kMostUnits];
  bool usual = is_usable();
  for (std::size_t u = 0; u < units.size(); ++u) {
    const HxUnit& unit = units[u];
    if (!hx::read_head(shape, unit.encoded, readers[u].head)) return false;
    usual = usual && is_usual<F>(shape, unit.encoded.data(), readers[u].head);
  }
  if (!usual) return hx::decode_units<F>(shape, units, stream);
  for (std::size_t u = 0; u < units.size(); ++u) {
    open(shape, units[u], readers[u]);
    stream = may_stream(stream, units[u].plain, shape.stride);
  }
  constexpr std::int32_t kSmall = 64 * 3;  // 2^13 * 2^3 is beyond F16
  const bool small = std::all_of(readers, readers + units.size(),
                                 [](const Reader& r) { return r.head.log < kSmall; });
  const std::span<Reader> all(readers, units.size());
  return small ? decode_all<F, true>(shape, all, stream)
               : decode_all<F, !kIsF16<F>>(shape, all, stream);
}

}  // namespace

namespace codec_detail {
const HxLoops kHxAvx512F16{hx512::encode<number::F16>, decode<number::F16>};
const HxLoops kHxAvx512Bf16{hx512::encode<number::Bf16>, decode<number::Bf16>};
}  // namespace codec_detail

}  // namespace speckv

#endif
