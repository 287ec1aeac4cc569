// codec/hx_unit.hpp -- what an hx unit says of itself, checked (internal).
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/endian.hpp"
#include "codec/hx.hpp"
#include "codec/log_scale.hpp"
#include "codec/number.hpp"

namespace speckv::hx {

struct Head {
  bool wide;
  std::int32_t log;  // the step is 2^(log / 64)
  std::uint64_t words, word_count, escapes;
};

// False: no encoder wrote it.
inline bool read_head(const HxShape& shape, Bytes unit, Head& head) noexcept {
  if (unit.size() < shape.words(true)) return false;
  const std::byte* const at = unit.data();
  const auto flags = std::to_integer<std::uint8_t>(at[5]);
  head.wide = (flags & HxShape::kWideMeans) != 0;
  head.log = load_le<std::int16_t>(at + 6);
  head.word_count = load_le<std::uint16_t>(at + 8);
  head.escapes = load_le<std::uint16_t>(at + 10);
  head.words = shape.words(head.wide);
  const std::uint64_t end = head.words + 2 * (head.word_count + head.escapes);
  return std::to_integer<std::uint8_t>(at[4]) == HxShape::kVersion &&
         flags <= (shape.keys ? HxShape::kWideMeans : 0) &&
         head.log <= HxShape::kMostLog && head.log >= -HxShape::kMostLog &&
         load_le<std::uint32_t>(at + 12) == 0 && end <= unit.size() &&
         all_zero(unit.subspan(end)) &&
         (shape.keys || shape.tokens % 2 == 0 ||
          at[shape.means() + shape.tokens] == std::byte{0});
}

// Which table a channel has, its mean in steps, and a token's step. REQUIRES: read_head()
// was true.
inline std::uint32_t table_of(const HxShape& shape, const std::byte* unit,
                              std::uint32_t c) noexcept {
  return std::to_integer<std::uint32_t>(unit[shape.tables() + c / 2]) >> c % 2 * 4 & 15;
}
inline std::int32_t mean_of(const HxShape& shape, const std::byte* unit, bool wide,
                            std::uint32_t c) noexcept {
  if (!shape.keys) return 0;
  const std::byte* const means = unit + shape.means();
  return wide ? load_le<std::int16_t>(means + 2 * c) : load_le<std::int8_t>(means + c);
}
// In 64ths of an octave.
inline std::int32_t log_of(const HxShape& shape, const std::byte* unit, std::int32_t log,
                           std::uint32_t t) noexcept {
  if (shape.keys) return log;
  return log - 4 * std::to_integer<std::int32_t>(unit[shape.means() + t]);
}

}  // namespace speckv::hx
