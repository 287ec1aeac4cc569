// codec/hxp_encode.hpp -- what every encoder of hxp does with the sums over a unit
// (internal). docs/block-format.md, "hxp".
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/endian.hpp"
#include "codec/hxp.hpp"
#include "codec/log_scale.hpp"

namespace speckv::hxp {

// The order in which tokens are coded, and their classes.
struct Order {
  std::uint16_t token[HxShape::kMostTokens] = {};    // of a place
  std::uint8_t class_of[HxShape::kMostTokens] = {};  // of a token
  std::uint32_t tokens_of[HxpShape::kClasses] = {};  // of a class
};

// What V's tokens are sorted by: the size of what will be coded.
inline std::int32_t size_of(std::uint64_t energy, std::uint32_t gain) noexcept {
  return log_scale::log2_of(energy) +
         HxpShape::kGainStep / 2 * static_cast<std::int32_t>(gain);
}

// size: of each token; K's are the gains.
inline void choose_order(const HxpShape& shape, const std::int32_t* size,
                         Order& order) noexcept {
  std::uint16_t sorted[HxShape::kMostTokens] = {};
  for (std::uint32_t t = 0; t < shape.tokens; ++t)
    sorted[t] = static_cast<std::uint16_t>(t);
  std::sort(sorted, sorted + shape.tokens, [&](std::uint16_t a, std::uint16_t b) {
    return size[a] != size[b] ? size[a] < size[b] : a < b;
  });
  for (std::uint32_t i = 0; i < shape.tokens; ++i)
    order.class_of[sorted[i]] =
        static_cast<std::uint8_t>(class_of_place(i, shape.tokens));
  sort_tokens(std::span(order.class_of).first(shape.tokens), HxpShape::kClasses,
              order.token);
  if (shape.keys) std::copy_n(sorted, shape.tokens, order.token);
  for (std::uint32_t t = 0; t < shape.tokens; ++t)
    ++order.tokens_of[order.class_of[t]];
}

// The offsets of the classes' tables, and a first guess of the step. log: of each class,
// the logarithms of the channels' mean squares, summed; steps: the sum of the profile's.
inline std::int32_t compare_classes(const HxpShape& shape, const std::int64_t* log,
                                    std::int64_t steps, std::int32_t exponent,
                                    std::uint64_t slot, std::int32_t* offset) noexcept {
  const auto floor_div = [](std::int64_t a, std::int64_t b) noexcept {
    return a / b - (a % b < 0 ? 1 : 0);
  };
  const std::int64_t d = shape.channels;
  const std::int64_t mean = floor_div(log[0] + log[1] + log[2] + log[3], 4);
  for (std::uint32_t v = 0; v < HxpShape::kClasses; ++v)
    offset[v] = static_cast<std::int32_t>(std::clamp<std::int64_t>(
        floor_div(10 * (log[v] - mean) + 64 * d, 128 * d), -8, 7));
  const auto room = static_cast<std::int64_t>(slot - shape.words());
  const std::int64_t guess = floor_div(2 * mean - 4 * steps, d) +
                             std::int64_t{64} * exponent + 141 -
                             room * 512 / (d * shape.tokens);
  return static_cast<std::int32_t>(guess);
}

// Around which table the cheapest of a channel is looked for. log(v): of a class the
// logarithm of the mean size, 0 where all are 0.
template <class Log>
std::int32_t middle_table(const std::int32_t* offset, Log&& log) noexcept {
  std::int32_t sum = 128;
  for (std::uint32_t v = 0; v < HxpShape::kClasses; ++v)
    sum += 10 * log(v) - 64 * offset[v];
  return std::clamp(sum >> 8, 0, 15);
}
// As in hx: log2(1.2533 mean / 0.35) / 0.4, from sixteenths.
constexpr std::int32_t kMeanToTable = 29;

// What stands before the words, all but the checksum.
struct Parameters {
  std::int32_t log;
  std::uint64_t words, escapes;
  const std::uint8_t* table;   // of channels
  const std::int32_t* offset;  // of classes
  const std::uint8_t* gain;    // of tokens
  const std::uint8_t* class_of;
};
inline void write_parameters(const HxpShape& shape, const HxpPlace& place,
                             const Parameters& p, std::byte* to) noexcept {
  to[4] = std::byte{HxpShape::kVersion};
  to[5] = std::byte{HxpShape::kProfiled};
  store_le(to + 6, static_cast<std::int16_t>(p.log));
  store_le(to + 8, static_cast<std::uint16_t>(p.words));
  store_le(to + 10, static_cast<std::uint16_t>(p.escapes));
  store_le(to + 12, binding(place));
  const auto put = [to](std::uint64_t first, std::uint32_t i, std::uint32_t bits,
                        std::uint32_t value) noexcept {
    const std::uint32_t each = 8 / bits;
    to[first + i / each] |= static_cast<std::byte>(value << i % each * bits);
  };
  for (std::uint32_t c = 0; c < shape.channels; ++c)
    put(shape.tables(), c, 4, p.table[c]);
  for (std::uint32_t v = 0; v < HxpShape::kClasses; ++v)
    put(shape.offsets(), v, 4, static_cast<std::uint32_t>(p.offset[v]) & 15);
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    put(shape.gains(), t, 4, p.gain[t]);
    if (!shape.keys) put(shape.classes(), t, 2, p.class_of[t]);
  }
}

}  // namespace speckv::hxp
