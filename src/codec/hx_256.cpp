// Decoding hx with vectors of 256 bits.
#include "codec/hx_stream_256.hpp"

#if defined(SPECKV_256)

#include "codec/hx_encode_256.hpp"

namespace speckv {
namespace {

using namespace hx256;

using Reader = hx::Reader<Stream>;

// The next number of each lane plus the channel's mean, within kMostSteps. `offset`: the
// mean less the table's bias.
SPECKV_256_INLINE Lanes next_within(const Decoding& by, std::uint32_t table,
                                    const Lanes& lanes, std::int32_t offset, Stream& in) {
  const Codes& codes = by.codes[table];
  const Lanes raw = all_lanes(codes.raw);
  refill(by, all_lanes(codes.most), lanes, in);
  std::uint32_t escaped = 0;
  Lanes x = take(entries_of(codes, in.held), raw, lanes, all_lanes(offset), in, escaped);
  if (escaped != 0) [[unlikely]] {
    const std::int32_t mean = offset + (std::int32_t{hx::Table::kBias} << codes.raw);
    take_escapes(escaped, mean, x, in);
    for (__m256i& half : x.half) {
      half = _mm256_min_epi32(half, _mm256_set1_epi32(HxShape::kMostSteps));
      half = _mm256_max_epi32(half, _mm256_set1_epi32(-HxShape::kMostSteps));
    }
  }
  return x;
}

template <class F, std::uint32_t units>
SPECKV_256 bool decode_side_by_side(const HxShape& shape, Reader* readers) noexcept {
  alignas(32) std::uint16_t values[units][kStep][kLanes];
  const Decoding& by = decoding();
  for (std::uint32_t u = 0; u < units; ++u)
    readers[u].in.held = readers[u].in.count = all_lanes(0);
  for (std::uint32_t first = 0; first < shape.tokens; first += kLanes) {
    const std::uint32_t tokens = std::min(kLanes, shape.tokens - first);
    const Lanes lanes = first_lanes(tokens);
    alignas(32) float step[units][kLanes] = {};
    for (std::uint32_t u = 0; u < units; ++u) {
      for (std::uint32_t i = 0; i < tokens; ++i)
        step[u][i] = as_float(log_scale::power64(
            hx::log_of(shape, readers[u].encoded, readers[u].head.log, first + i)));
    }
    for (std::uint32_t c = 0; c < shape.channels; c += kStep) {
      const std::uint32_t channels = std::min(kStep, shape.channels - c);
      for (std::uint32_t k = 0; k < channels; ++k) {
#pragma GCC unroll 4
        for (std::uint32_t u = 0; u < units; ++u) {
          Reader& reader = readers[u];
          const Lanes n = next_within(by, reader.table[c + k], lanes,
                                      reader.offset[c + k], reader.in);
          auto* const to = reinterpret_cast<std::byte*>(values[u][k]);
#pragma GCC unroll 2
          for (std::size_t h = 0; h < 2; ++h) {
            const __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(n.half[h]),
                                           _mm256_load_ps(step[u] + 8 * h));
            store16(to + 16 * h, narrow<F>(x));
          }
        }
      }
      for (std::uint32_t u = 0; u < units; ++u) {
        if (!hx::is_within(readers[u])) return false;
        std::byte* const to = readers[u].to + first * shape.stride + 2 * c;
        for (std::uint32_t k = 0; k < channels; k += 8) {
          __m256i rows[8];
          turn_rows(values[u] + k, rows);
#pragma GCC unroll 8
          for (std::uint32_t i = 0; i < 8; ++i) {
            if (i < tokens)
              store16(to + i * shape.stride + 2 * k, _mm256_castsi256_si128(rows[i]));
            if (8 + i < tokens)
              store16(to + (8 + i) * shape.stride + 2 * k,
                      _mm256_extracti128_si256(rows[i], 1));
          }
        }
      }
    }
  }
  return std::all_of(readers, readers + units, hx::is_at_end<Reader>);
}

template <class F>
bool decode(const HxShape& shape, std::span<const HxUnit> units, bool stream) noexcept {
  // NOLINTNEXTLINE(clang-analyzer-optin.*): open() fills what is read
  Reader readers[HxLoops::kMostUnits];
  bool usual = true;
  for (std::size_t u = 0; u < units.size(); ++u) {
    const HxUnit& unit = units[u];
    if (!hx::read_head(shape, unit.encoded, readers[u].head)) return false;
    usual = usual && hx::is_usual<F>(shape, unit.encoded.data(), readers[u].head);
  }
  if (!usual) return hx::decode_units<F>(shape, units, stream);
  for (std::size_t u = 0; u < units.size(); ++u)
    hx::open(shape, units[u], readers[u]);
  if (units.size() == 4) return decode_side_by_side<F, 4>(shape, readers);
  return std::all_of(readers, readers + units.size(), [&](Reader& reader) {
    return decode_side_by_side<F, 1>(shape, &reader);
  });
}

}  // namespace

namespace codec_detail {
const HxLoops kHx256F16{hx256::encode<number::F16>, decode<number::F16>};
const HxLoops kHx256Bf16{hx256::encode<number::Bf16>, decode<number::Bf16>};
}  // namespace codec_detail

}  // namespace speckv

#endif
