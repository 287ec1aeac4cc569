// Decoding hxp with vectors of 256 bits: numbers as of hx, a token a lane; means and
// steps by rows, whose channels lie side by side.
#include "codec/hx_stream_256.hpp"

#if defined(SPECKV_256)

#include "codec/hxp_256.hpp"
#include "codec/hxp_reader.hpp"

namespace speckv {
namespace {

using namespace hx256;
using namespace hxp256;

constexpr std::uint32_t kClasses = HxpShape::kClasses;

// What hxp::open() and begin() compute by vectors.
struct Rows {
  SPECKV_256 static void steps(std::int32_t log, const std::int32_t* by,
                               std::uint32_t channels, float* step,
                               float* inverse) noexcept {
    for (std::uint32_t c = 0; c < channels; c += 8) {
      const __m256i at =
          _mm256_add_epi32(_mm256_set1_epi32(log),
                           _mm256_loadu_si256(reinterpret_cast<const __m256i*>(by + c)));
      _mm256_storeu_ps(step + c, power_of(at));
      _mm256_storeu_ps(inverse + c, inverse_of(at));
    }
  }
  SPECKV_256 static void means(const std::int32_t* offset, std::uint32_t channels,
                               const float* inverse, std::int16_t* mean) noexcept {
    for (std::uint32_t c = 0; c < channels; c += 4)
      store(mean + c, steps_of(whole(offset + c), wide(inverse + c)));
  }
  // hxp::Offsets::at(), of the first `pairs` and as many more.
  SPECKV_256 static void turned_means(const Waves& waves, std::uint32_t token,
                                      const std::int32_t* offset, const float* inverse,
                                      std::int16_t* mean) noexcept {
    const std::uint32_t pairs = waves.pairs;
    for (std::uint32_t i = 0; i < pairs; i += 4) {
      const Turned both = turned(offset, waves, token, i);
      store(mean + i, steps_of(both.low, wide(inverse + i)));
      store(mean + pairs + i, steps_of(both.high, wide(inverse + pairs + i)));
    }
  }
  SPECKV_256_INLINE static void store(std::int16_t* to, __m128i x) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packs_epi32(x, x));
  }
};

using Reader = hxp::Reader<Stream>;

SPECKV_256_INLINE Lanes lanes_of(std::uint32_t mask) {
  const __m256i all = _mm256_set1_epi32(static_cast<std::int32_t>(mask));
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i upper = _mm256_slli_epi32(bit, 8);
  return {{_mm256_cmpeq_epi32(_mm256_and_si256(all, bit), bit),
           _mm256_cmpeq_epi32(_mm256_and_si256(all, upper), upper)}};
}
SPECKV_256_INLINE void choose(const Lanes& lanes, const Lanes& from, Lanes& to) {
  for (std::size_t h = 0; h < 2; ++h)
    to.half[h] =
        _mm256_or_si256(to.half[h], _mm256_and_si256(lanes.half[h], from.half[h]));
}

// A number of each lane. `alike`: all have the same class.
template <bool alike>
SPECKV_256_INLINE Lanes read(const Decoding& by, std::uint32_t c, const Lanes& lanes,
                             Reader& reader) {
  const auto codes_of = [&](std::uint32_t v) -> const Codes& {
    return by.codes[hxp::table_for(reader.table[c], reader.head.offset[v])];
  };
  Lanes most = all_lanes(0), raw = most, entry = most;
  if constexpr (alike) {
    const Codes& codes = codes_of(static_cast<std::uint32_t>(reader.class_of[0]));
    raw = all_lanes(codes.raw);
    refill(by, all_lanes(codes.most), lanes, reader.in);
    entry = entries_of(codes, reader.in.held);
  } else {
    for (std::uint32_t v = 0; v < kClasses; ++v) {
      const Lanes mine = lanes_of(reader.of_class[v]);
      choose(mine, all_lanes(codes_of(v).most), most);
      choose(mine, all_lanes(codes_of(v).raw), raw);
    }
    refill(by, most, lanes, reader.in);
    for (std::uint32_t v = 0; v < kClasses; ++v) {
      if (reader.of_class[v] != 0)
        choose(lanes_of(reader.of_class[v]), entries_of(codes_of(v), reader.in.held),
               entry);
    }
  }
  Lanes offset;
  for (std::size_t h = 0; h < 2; ++h)
    offset.half[h] = _mm256_sllv_epi32(_mm256_set1_epi32(-std::int32_t{hx::Table::kBias}),
                                       raw.half[h]);
  std::uint32_t escaped = 0;
  Lanes x = take(entry, raw, lanes, offset, reader.in, escaped);
  if (escaped != 0) [[unlikely]]
    take_escapes(escaped, 0, x, reader.in);
  return x;
}

template <class F>
SPECKV_256_INLINE void finish(__m128i x, const std::int16_t* mean, const float* step,
                              std::byte* to) {
  x = _mm_adds_epi16(x, load16(reinterpret_cast<const std::byte*>(mean)));
  x = _mm_min_epi16(x, _mm_set1_epi16(HxShape::kMostSteps));
  x = _mm_max_epi16(x, _mm_set1_epi16(-HxShape::kMostSteps));
  const __m256 n = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(x));
  store16(to, narrow<F>(_mm256_mul_ps(n, _mm256_loadu_ps(step))));
}

// The next tokens of each unit. False: a unit has no more.
template <class F, bool alike, std::uint32_t units>
SPECKV_256 bool decode_tokens(const HxpShape& shape, Reader* readers, std::uint32_t first,
                              std::uint32_t tokens) noexcept {
  alignas(32) std::uint16_t numbers[units][kStep][kLanes];
  const Decoding& by = decoding();
  const Lanes lanes = first_lanes(tokens);
  for (std::uint32_t c = 0; c < shape.channels; c += kStep) {
    const std::uint32_t channels = std::min(kStep, shape.channels - c);
    for (std::uint32_t k = 0; k < channels; ++k) {
#pragma GCC unroll 4
      for (std::uint32_t u = 0; u < units; ++u) {
        const Lanes x = read<alike>(by, c + k, lanes, readers[u]);
        _mm256_store_si256(reinterpret_cast<__m256i*>(numbers[u][k]),
                           words(x.half[0], x.half[1]));
      }
    }
    for (std::uint32_t u = 0; u < units; ++u) {
      const Reader& reader = readers[u];
      if (!hx::is_within(reader)) return false;
      const auto write = [&](std::uint32_t i, std::uint32_t k, __m128i x) SPECKV_256 {
        if (i >= tokens) return;
        const std::uint32_t t = reader.order[first + i], gain = reader.head.gain[t];
        const std::int16_t* const mean =
            shape.keys ? reader.mean_of[i] : reader.mean[gain];
        finish<F>(x, mean + c + k, reader.step[gain] + c + k,
                  reader.to + t * shape.stride + 2ULL * (c + k));
      };
      for (std::uint32_t k = 0; k < channels; k += 8) {
        __m256i rows[8];
        turn_rows(numbers[u] + k, rows);
#pragma GCC unroll 8
        for (std::uint32_t i = 0; i < 8; ++i) {
          write(i, k, _mm256_castsi256_si128(rows[i]));
          write(8 + i, k, _mm256_extracti128_si256(rows[i], 1));
        }
      }
    }
  }
  return true;
}

template <class F, std::uint32_t units>
bool decode_side_by_side(const HxpShape& shape, Reader* readers,
                         const Waves& waves) noexcept {
  for (std::uint32_t first = 0; first < shape.tokens; first += kLanes) {
    const std::uint32_t tokens = std::min(kLanes, shape.tokens - first);
    bool alike = true;
    for (std::uint32_t u = 0; u < units; ++u) {
      hxp::begin<Rows>(shape, waves, first, tokens, readers[u]);
      alike = alike && readers[u].alike;
    }
    const auto decode =
        alike ? decode_tokens<F, true, units> : decode_tokens<F, false, units>;
    if (!decode(shape, readers, first, tokens)) return false;
  }
  return std::all_of(readers, readers + units, hx::is_at_end<Reader>);
}

template <class F>
bool decode(const HxpShape& shape, const HxpBlock& block, std::span<const HxpUnit> units,
            bool stream) noexcept {
  // NOLINTNEXTLINE(clang-analyzer-optin.*): open() fills what is read
  Reader readers[HxpLoops::kMostUnits];
  const hxp::Heads heads = hxp::read_heads<F>(shape, block, units, readers);
  if (!heads.sound) return false;
  if (!heads.usual) return hxp::decode_units<F>(shape, block, units, stream);
  Waves waves;
  if (shape.keys) fill(block, shape.tokens, waves);
  for (std::size_t u = 0; u < units.size(); ++u) {
    hxp::open<Rows>(shape, {block, units[u].head}, units[u], readers[u]);
    std::memset(&readers[u].in.held, 0, sizeof readers[u].in.held);
    std::memset(&readers[u].in.count, 0, sizeof readers[u].in.count);
  }
  if (units.size() == 4) return decode_side_by_side<F, 4>(shape, readers, waves);
  return std::all_of(readers, readers + units.size(), [&](Reader& reader) {
    return decode_side_by_side<F, 1>(shape, &reader, waves);
  });
}

}  // namespace

namespace codec_detail {
const HxpLoops kHxp256F16{hxp256::encode<number::F16>, decode<number::F16>};
const HxpLoops kHxp256Bf16{hxp256::encode<number::Bf16>, decode<number::Bf16>};
}  // namespace codec_detail

}  // namespace speckv

#endif
