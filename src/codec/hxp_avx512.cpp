// Decoding hxp with AVX-512 and VBMI: numbers as of hx, a token a lane; means and steps
// by rows, whose channels lie side by side.
#include "codec/hxp_avx512.hpp"

#if defined(__x86_64__)

#include "codec/hx_stream_avx512.hpp"
#include "codec/hxp_reader.hpp"

namespace speckv {
namespace {

using namespace hxp512;

constexpr std::uint32_t kClasses = HxpShape::kClasses;

// Tables of lanes whose tokens have several classes.
class ClassTables {
 public:
  // which: of each lane the table. of: the tables of the classes, and whose they are.
  SPECKV_VBMI_INLINE ClassTables(const Codes* all, __m512i which, const std::uint8_t* of,
                                 const __mmask16* lanes)
      : all_(all), of_(of), lanes_(lanes) {
    alignas(64) std::int32_t most[16], raw[16];
    for (std::size_t j = 0; j < 16; ++j) {
      most[j] = all[j].most;
      raw[j] = all[j].raw;
    }
    most_ = _mm512_permutexvar_epi32(which, _mm512_load_si512(most));
    raw_ = _mm512_permutexvar_epi32(which, _mm512_load_si512(raw));
  }
  SPECKV_VBMI_INLINE __m512i most() const { return most_; }
  SPECKV_VBMI_INLINE __m512i raw() const { return raw_; }
  SPECKV_VBMI_INLINE __m512i entry(__m512i held) const {
    __m512i entry = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (std::uint32_t v = 0; v < kClasses; ++v) {
      const std::uint8_t* const table = all_[of_[v]].entry;
      const __m512i found = _mm512_permutex2var_epi8(_mm512_load_si512(table), held,
                                                     _mm512_load_si512(table + 64));
      entry = _mm512_mask_and_epi32(entry, lanes_[v], found, _mm512_set1_epi32(0xFF));
    }
    return entry;
  }
  SPECKV_VBMI_INLINE __m512i low(__m512i bits) const {
    return _mm512_andnot_si512(_mm512_sllv_epi32(_mm512_set1_epi32(-1), raw_), bits);
  }
  SPECKV_VBMI_INLINE __m512i raised(__m512i n) const {
    return _mm512_sllv_epi32(n, raw_);
  }

 private:
  const Codes* all_;
  const std::uint8_t* of_;
  const __mmask16* lanes_;
  __m512i most_, raw_;
};

// What hxp::open() and begin() compute by vectors.
struct Rows {
  SPECKV_VBMI static void steps(std::int32_t log, const std::int32_t* by,
                                std::uint32_t channels, float* step,
                                float* inverse) noexcept {
    for (std::uint32_t c = 0; c < channels; c += kLanes) {
      const __m512i at =
          _mm512_add_epi32(_mm512_set1_epi32(log), _mm512_loadu_si512(by + c));
      _mm512_storeu_ps(step + c, power_of(at));
      _mm512_storeu_ps(inverse + c, inverse_of(at));
    }
  }
  SPECKV_VBMI static void means(const std::int32_t* offset, std::uint32_t channels,
                                const float* inverse, std::int16_t* mean) noexcept {
    for (std::uint32_t c = 0; c < channels; c += 8)
      store(mean + c, steps_of(whole(offset + c), wide(inverse + c)));
  }
  // Of the first `pairs` and as many more.
  SPECKV_VBMI static void turned_means(const Waves& waves, std::uint32_t token,
                                       const std::int32_t* offset, const float* inverse,
                                       std::int16_t* mean) noexcept {
    for (std::uint32_t i = 0; i < waves.pairs; i += 8) {
      const Turned at = turned(offset, waves, token, i);
      store(mean + i, steps_of(at.low, wide(inverse + i)));
      store(mean + waves.pairs + i, steps_of(at.high, wide(inverse + waves.pairs + i)));
    }
  }
  SPECKV_VBMI_INLINE static void store(std::int16_t* to, __m256i x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtepi32_epi16(x));
  }
};
using Reader = hxp::Reader<Stream>;

// A number of each lane. `alike`: all have the same class.
template <bool alike>
SPECKV_VBMI_INLINE __m512i read(const Codes* all, std::uint32_t c, __mmask16 lanes,
                                const Reader& reader, Stream& in) {
  const std::uint32_t table = reader.table[c];
  const std::int32_t* const offset = reader.head.offset;
  __mmask16 escaped = 0;
  __m512i x;
  if constexpr (alike) {
    const Codes& one = all[hxp::table_for(table, offset[reader.class_of[0]])];
    x = next(OneTable{one}, lanes, _mm512_set1_epi32(-one.bias), in, escaped);
  } else {
    std::uint8_t of[kClasses];
    for (std::uint32_t v = 0; v < kClasses; ++v)
      of[v] = static_cast<std::uint8_t>(hxp::table_for(table, offset[v]));
    const __m512i which = _mm512_permutexvar_epi32(
        _mm512_load_si512(reader.class_of),
        _mm512_zextsi128_si512(_mm_setr_epi32(of[0], of[1], of[2], of[3])));
    const ClassTables tables(all, which, of, reader.of_class);
    const __m512i bias = tables.raised(_mm512_set1_epi32(hx::Table::kBias));
    x = next(tables, lanes, _mm512_sub_epi32(_mm512_setzero_si512(), bias), in, escaped);
  }
  if (escaped != 0) [[unlikely]]
    x = _mm512_mask_mov_epi32(x, escaped, next_escapes(escaped, in));
  return x;
}

template <class F, bool small>
SPECKV_VBMI_INLINE __m512i finish(__m512i x, const std::int16_t* mean,
                                  const float* step) {
  const __m512i most = _mm512_set1_epi16(HxShape::kMostSteps);
  x = _mm512_adds_epi16(x, _mm512_loadu_si512(mean));
  x = _mm512_min_epi16(x, most);
  x = _mm512_max_epi16(x, _mm512_sub_epi16(_mm512_setzero_si512(), most));
  const __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(x));
  const __m512i high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(x, 1));
  const __m256i first = value_of<F, small>(low, _mm512_loadu_ps(step));
  const __m256i second = value_of<F, small>(high, _mm512_loadu_ps(step + kLanes));
  return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}

// The next tokens of each unit. False: a unit has no more.
template <class F, bool small, bool alike, std::uint32_t units>
SPECKV_VBMI bool decode_tokens(const HxpShape& shape, Reader* readers,
                               std::uint32_t first, std::uint32_t tokens,
                               bool stream) noexcept {
  alignas(64) std::uint16_t numbers[units][kStep][kLanes];
  const Codes* const all = codes();
  const __mmask16 lanes = first_lanes(tokens);
  for (std::uint32_t c = 0; c < shape.channels; c += kStep) {
    const std::uint32_t channels = std::min(kStep, shape.channels - c);
    Stream in[units];
#pragma GCC unroll 4
    for (std::uint32_t u = 0; u < units; ++u)
      in[u] = readers[u].in;
    for (std::uint32_t k = 0; k < channels; ++k) {
#pragma GCC unroll 4
      for (std::uint32_t u = 0; u < units; ++u) {
        const __m512i x = read<alike>(all, c + k, lanes, readers[u], in[u]);
        _mm256_store_si256(reinterpret_cast<__m256i*>(numbers[u][k]),
                           _mm512_cvtepi32_epi16(x));
      }
    }
#pragma GCC unroll 4
    for (std::uint32_t u = 0; u < units; ++u) {
      Reader& reader = readers[u];
      reader.in = in[u];
      if (!hx::is_within(reader)) return false;
      __m512i rows[kLanes];
      turn_rows(numbers[u], rows);
#pragma GCC unroll 16
      for (std::uint32_t i = 0; i < kLanes; ++i) {
        if (i >= tokens) break;
        const std::uint32_t t = reader.order[first + i], gain = reader.head.gain[t];
        const std::int16_t* const mean =
            shape.keys ? reader.mean_of[i] : reader.mean[gain];
        store_row(reader.to + t * shape.stride + 2 * c,
                  finish<F, small>(rows[i], mean + c, reader.step[gain] + c), channels,
                  stream);
      }
    }
  }
  return true;
}

template <class F, bool small, std::uint32_t units>
SPECKV_VBMI bool decode_side_by_side(const HxpShape& shape, Reader* readers,
                                     const Waves& waves, bool stream) noexcept {
  for (std::uint32_t u = 0; u < units; ++u)
    readers[u].in.held = readers[u].in.count = _mm512_setzero_si512();
  for (std::uint32_t first = 0; first < shape.tokens; first += kLanes) {
    const std::uint32_t tokens = std::min(kLanes, shape.tokens - first);
    bool alike = true;
    for (std::uint32_t u = 0; u < units; ++u) {
      hxp::begin<Rows>(shape, waves, first, tokens, readers[u]);
      alike = alike && readers[u].alike;
    }
    const auto decode = alike ? decode_tokens<F, small, true, units>
                              : decode_tokens<F, small, false, units>;
    if (!decode(shape, readers, first, tokens, stream)) return false;
  }
  return std::all_of(readers, readers + units, hx::is_at_end<Reader>);
}

template <class F, bool small>
bool decode_all(const HxpShape& shape, std::span<Reader> readers, const Waves& waves,
                bool stream) noexcept {
  if (readers.size() == 4)
    return decode_side_by_side<F, small, 4>(shape, readers.data(), waves, stream);
  for (Reader& reader : readers) {
    if (!decode_side_by_side<F, small, 1>(shape, &reader, waves, stream)) return false;
  }
  return true;
}

template <class F>
bool decode(const HxpShape& shape, const HxpBlock& block, std::span<const HxpUnit> units,
            bool stream) noexcept {
  // NOLINTNEXTLINE(clang-analyzer-optin.*): open() fills what is read
  Reader readers[HxpLoops::kMostUnits];
  const hxp::Heads heads = hxp::read_heads<F>(shape, block, units, readers);
  if (!heads.sound) return false;
  if (!heads.usual || !is_usable())
    return hxp::decode_units<F>(shape, block, units, stream);
  Waves waves;
  if (shape.keys) fill(block, shape.tokens, waves);
  for (std::size_t u = 0; u < units.size(); ++u) {
    hxp::open<Rows>(shape, {block, units[u].head}, units[u], readers[u]);
    stream = may_stream(stream, units[u].plain, shape.stride);
  }
  const std::span<Reader> all(readers, units.size());
  return heads.most < hx::kSmallSteps
             ? decode_all<F, true>(shape, all, waves, stream)
             : decode_all<F, !kIsF16<F>>(shape, all, waves, stream);
}

}  // namespace

namespace codec_detail {
const HxpLoops kHxpAvx512F16{hxp512::encode<number::F16>, decode<number::F16>};
const HxpLoops kHxpAvx512Bf16{hxp512::encode<number::Bf16>, decode<number::Bf16>};
}  // namespace codec_detail

}  // namespace speckv

#endif
