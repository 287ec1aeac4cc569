// codec/hxp_unit.hpp -- what an hxp unit says of itself, checked (internal).
#pragma once

#include <cstdint>

#include "base/endian.hpp"
#include "codec/hxp.hpp"

namespace speckv::hxp {

// What a unit says of itself, checked.
struct Head {
  std::int32_t log = 0;
  std::uint64_t words = 0, escapes = 0;
  std::int32_t offset[HxpShape::kClasses] = {};
  std::uint8_t gain[HxShape::kMostTokens] = {};
  std::uint8_t rank[HxShape::kMostTokens] = {};  // K: the gain; V: the class

  // Of the token `t` at a place of the order.
  std::uint32_t class_of(const HxpShape& shape, std::uint32_t at,
                         std::uint32_t t) const noexcept {
    return shape.keys ? class_of_place(at, shape.tokens) : rank[t];
  }
};
inline std::uint32_t table_of(const HxpShape& shape, const std::byte* unit,
                              std::uint32_t c) noexcept {
  return std::to_integer<std::uint32_t>(unit[shape.tables() + c / 2]) >> c % 2 * 4 & 15;
}

// False: no encoder wrote it, or not for that place.
inline bool read_head(const HxpShape& shape, const HxpPlace& place, Bytes unit,
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

}  // namespace speckv::hxp
