// Decoding an hxp unit: the definition.
#include "base/checksum.hpp"
#include "codec/hx_lanes.hpp"
#include "codec/hxp_offsets.hpp"
#include "codec/hxp_unit.hpp"
#include "codec/log_scale.hpp"

namespace speckv::hxp {
std::uint32_t binding(const HxpPlace& place) noexcept {
  std::byte where[16];
  store_le(where, place.block.profile.checksum());
  store_le(where + 4, place.head.layer);
  store_le(where + 8, place.head.head * 2 + (place.head.value ? 1 : 0));
  store_le(where + 12, place.block.first_position);
  return crc32c(0, where);
}

namespace {

template <class F>
bool decode_unit(const HxpShape& shape, const HxpPlace& place, Bytes unit,
                 std::byte* plain) noexcept {
  constexpr std::uint32_t kLanes = HxShape::kLanes;
  constexpr std::int32_t kMost = HxShape::kMostSteps;
  Head head;
  if (!read_head(shape, place, unit, head)) return false;
  std::uint16_t order[HxShape::kMostTokens] = {};
  sort_tokens(std::span(head.rank).first(shape.tokens), HxpShape::kGains, order);
  const Offsets offsets(place.block.profile, place.head);
  const std::byte* const words = unit.data() + shape.words();
  hx::Stream stream(words, head.words, head.escapes);
  std::int32_t mean[kLanes][256];
  for (std::uint32_t first = 0; first < shape.tokens; first += kLanes) {
    const std::uint32_t lanes = std::min(kLanes, shape.tokens - first);
    for (std::uint32_t i = 0; i < lanes; ++i)
      offsets.at(place.block.first_position + order[first + i], mean[i]);
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      const std::uint32_t tables = table_of(shape, unit.data(), c);
      const std::int32_t step = place.block.profile.step(place.head, c);
      for (std::uint32_t i = 0; i < lanes; ++i) {
        const std::uint32_t t = order[first + i];
        const std::uint32_t which = head.class_of(shape, first + i, t);
        const hx::Table& table = hx::tables()[table_for(tables, head.offset[which])];
        std::int32_t x = 0;
        if (!stream.next(table, i, x)) return false;
        const std::int32_t log = log_of(head.log, step, head.gain[t]);
        const std::int32_t m = steps_of(mean[i][c], log_scale::inverse64(log));
        store_le(plain + t * shape.stride + 2 * c,
                 number::product<F>(std::clamp(x + m, -kMost, kMost),
                                    log_scale::power64(log)));
      }
    }
  }
  return stream.at_end();
}

}  // namespace

template <class F>
bool decode_units(const HxpShape& shape, const HxpBlock& block,
                  std::span<const HxpUnit> units, bool /*stream*/) noexcept {
  return std::all_of(units.begin(), units.end(), [&](const HxpUnit& unit) {
    return decode_unit<F>(shape, {block, unit.head}, unit.encoded, unit.plain);
  });
}
template bool decode_units<number::F16>(const HxpShape&, const HxpBlock&,
                                        std::span<const HxpUnit>, bool) noexcept;
template bool decode_units<number::Bf16>(const HxpShape&, const HxpBlock&,
                                         std::span<const HxpUnit>, bool) noexcept;

}  // namespace speckv::hxp
