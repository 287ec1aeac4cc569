// Decoding hx with AVX-512 and VBMI.
#include "codec/hx_stream_avx512.hpp"

#if defined(__x86_64__)

namespace speckv {
namespace {

using namespace hx512;

using Reader = hx::Reader<Stream>;

// The next number of each lane plus the channel's mean, within kMostSteps. `offset`: the
// mean less the table's bias.
SPECKV_VBMI_INLINE __m512i next_within(const Codes& table, __mmask16 lanes,
                                       std::int32_t offset, Stream& in) {
  __mmask16 escaped = 0;
  __m512i x = next(OneTable{table}, lanes, _mm512_set1_epi32(offset), in, escaped);
  if (escaped != 0) [[unlikely]] {
    const __m512i most = _mm512_set1_epi32(HxShape::kMostSteps);
    const __m512i n = _mm512_add_epi32(next_escapes(escaped, in),
                                       _mm512_set1_epi32(offset + table.bias));
    x = _mm512_mask_min_epi32(x, escaped, n, most);
    x = _mm512_max_epi32(x, _mm512_sub_epi32(_mm512_setzero_si512(), most));
  }
  return x;
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
            hx::log_of(shape, readers[u].encoded, readers[u].head.log, first + i)));
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
          const __m512i n = next_within(all[readers[u].table[c + k]], lanes,
                                        readers[u].offset[c + k], in[u]);
          _mm256_store_si256(reinterpret_cast<__m256i*>(values[u][k]),
                             value_of<F, small>(n, step[u]));
        }
      }
#pragma GCC unroll 4
      for (std::uint32_t u = 0; u < units; ++u) {
        readers[u].in = in[u];
        if (!hx::is_within(readers[u])) return false;
        __m512i rows[kLanes];
        turn_rows(values[u], rows);
#pragma GCC unroll 16
        for (std::uint32_t t = 0; t < kLanes; ++t) {
          if (t >= tokens) break;
          store_row(readers[u].to + (first + t) * shape.stride + 2 * c, rows[t], channels,
                    stream);
        }
      }
    }
  }
  return std::all_of(readers, readers + units, hx::is_at_end<Reader>);
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
    usual = usual && hx::is_usual<F>(shape, unit.encoded.data(), readers[u].head);
  }
  if (!usual) return hx::decode_units<F>(shape, units, stream);
  for (std::size_t u = 0; u < units.size(); ++u) {
    hx::open(shape, units[u], readers[u]);
    stream = may_stream(stream, units[u].plain, shape.stride);
  }
  const bool small = std::all_of(readers, readers + units.size(), [](const Reader& r) {
    return r.head.log < hx::kSmallSteps;
  });
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
