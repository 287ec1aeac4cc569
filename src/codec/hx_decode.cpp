// Decoding an hx unit: the definition.
#include "base/endian.hpp"
#include "codec/hx.hpp"
#include "codec/hx_lanes.hpp"
#include "codec/hx_unit.hpp"

namespace speckv::hx {
namespace {

constexpr std::uint32_t kLanes = HxShape::kLanes;

template <class F>
bool decode_one(const HxShape& shape, Bytes unit, std::byte* plain) noexcept {
  constexpr std::int32_t kMost = HxShape::kMostSteps;
  Head head;
  if (!read_head(shape, unit, head)) return false;
  const std::byte* const at = unit.data();
  Stream stream(at + head.words, head.word_count, head.escapes);
  number::Scaled step[kLanes];
  for (std::uint32_t first = 0; first < shape.tokens; first += kLanes) {
    const std::uint32_t lanes = std::min(kLanes, shape.tokens - first);
    for (std::uint32_t i = 0; i < lanes; ++i)
      step[i] = log_scale::power64(log_of(shape, at, head.log, first + i));
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      const Table& table = tables()[table_of(shape, at, c)];
      const std::int32_t mean = mean_of(shape, at, head.wide, c);
      for (std::uint32_t i = 0; i < lanes; ++i) {
        std::int32_t x = 0;
        if (!stream.next(table, i, x)) return false;
        const std::int32_t n = std::clamp(x + mean, -kMost, kMost);
        store_le(plain + (first + i) * shape.stride + 2 * c,
                 number::product<F>(n, step[i]));
      }
    }
  }
  return stream.at_end();
}

}  // namespace

template <class F>
bool decode_units(const HxShape& shape, std::span<const HxUnit> units,
                  bool /*stream*/) noexcept {
  return std::all_of(units.begin(), units.end(), [&](const HxUnit& unit) {
    return decode_one<F>(shape, unit.encoded, unit.plain);
  });
}
template bool decode_units<number::F16>(const HxShape&, std::span<const HxUnit>,
                                        bool) noexcept;
template bool decode_units<number::Bf16>(const HxShape&, std::span<const HxUnit>,
                                         bool) noexcept;

}  // namespace speckv::hx
