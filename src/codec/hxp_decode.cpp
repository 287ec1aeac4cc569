// Decoding an hxp unit: the definition.
#include "base/checksum.hpp"
#include "codec/hx_lanes.hpp"
#include "codec/hxp.hpp"
#include "codec/hxp_offsets.hpp"
#include "codec/log_scale.hpp"

namespace speckv::hxp {
namespace {

constexpr std::uint32_t kLanes = HxShape::kLanes;

// What a unit says of itself, checked.
struct Head {
  std::int32_t log = 0;
  std::uint64_t words = 0, escapes = 0;
  std::int32_t offset[HxpShape::kClasses] = {};
  std::uint8_t gain[HxShape::kMostTokens] = {};
  std::uint8_t rank[HxShape::kMostTokens] = {};  // K: the gain; V: the class
};

bool read_head(const HxpShape& shape, const HxpPlace& place, Bytes unit,
               Head& head) noexcept {
  if (unit.size() < shape.words()) return false;
  const std::byte* const at = unit.data();
  head.log = load_le<std::int16_t>(at + 6);
  head.words = load_le<std::uint16_t>(at + 8);
  head.escapes = load_le<std::uint16_t>(at + 10);
  const std::uint64_t end = shape.words() + 2 * (head.words + head.escapes);
  if (std::to_integer<std::uint8_t>(at[4]) != HxpShape::kVersion ||
      std::to_integer<std::uint8_t>(at[5]) != HxpShape::kProfiled ||
      head.log > HxShape::kMostLog || head.log < -HxShape::kMostLog ||
      load_le<std::uint32_t>(at + 12) != binding(place) || end > unit.size() ||
      !all_zero(unit.subspan(end)))
    return false;
  for (std::uint32_t i = 0; i < HxpShape::kClasses; ++i) {
    const auto both = std::to_integer<std::int32_t>(at[shape.offsets() + i / 2]);
    head.offset[i] = ((both >> i % 2 * 4 & 15) ^ 8) - 8;
  }
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const auto gains = std::to_integer<std::uint32_t>(at[shape.gains() + t / 2]);
    head.gain[t] = static_cast<std::uint8_t>(gains >> t % 2 * 4 & 15);
    head.rank[t] = head.gain[t];
    if (shape.keys) continue;
    const auto classes = std::to_integer<std::uint32_t>(at[shape.classes() + t / 4]);
    head.rank[t] = static_cast<std::uint8_t>(classes >> t % 4 * 2 & 3);
  }
  return true;
}

}  // namespace

std::uint32_t binding(const HxpPlace& place) noexcept {
  std::byte where[16];
  store_le(where, place.profile.checksum());
  store_le(where + 4, place.head.layer);
  store_le(where + 8, place.head.head * 2 + (place.head.value ? 1 : 0));
  store_le(where + 12, place.first_position);
  return crc32c(0, where);
}

template <class F>
bool decode_unit(const HxpShape& shape, const HxpPlace& place, Bytes unit,
                 std::byte* plain) noexcept {
  constexpr std::int32_t kMost = HxShape::kMostSteps;
  Head head;
  if (!read_head(shape, place, unit, head)) return false;
  std::uint16_t order[HxShape::kMostTokens] = {};
  sort_tokens(std::span(head.rank).first(shape.tokens), HxpShape::kGains, order);
  const Offsets offsets(place.profile, place.head);
  const std::byte* const words = unit.data() + shape.words();
  hx::Stream stream(words, head.words, head.escapes);
  std::int32_t mean[kLanes][256];
  for (std::uint32_t first = 0; first < shape.tokens; first += kLanes) {
    const std::uint32_t lanes = std::min(kLanes, shape.tokens - first);
    for (std::uint32_t i = 0; i < lanes; ++i)
      offsets.at(place.first_position + order[first + i], mean[i]);
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      const auto tables =
          std::to_integer<std::uint32_t>(unit[shape.tables() + c / 2]) >> c % 2 * 4 & 15;
      const std::int32_t step = place.profile.step(place.head, c);
      for (std::uint32_t i = 0; i < lanes; ++i) {
        const std::uint32_t t = order[first + i];
        const std::uint32_t which =
            shape.keys ? class_of_place(first + i, shape.tokens) : head.rank[t];
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
template bool decode_unit<number::F16>(const HxpShape&, const HxpPlace&, Bytes,
                                       std::byte*) noexcept;
template bool decode_unit<number::Bf16>(const HxpShape&, const HxpPlace&, Bytes,
                                        std::byte*) noexcept;

}  // namespace speckv::hxp
