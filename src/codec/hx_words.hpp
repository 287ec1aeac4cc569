// codec/hx_words.hpp -- what the vector encoders of hx and hxp know of the words before
// they write them (internal).
#pragma once

#include <algorithm>
#include <cstdint>

#include "codec/hx.hpp"

namespace speckv::hx {

// Numbers of steps by channels, a place a lane: [channel][columns]
struct Numbers {
  std::uint32_t places, channels, columns;
  const std::int16_t* x;
};

// Room for each group's numbers as they go into the words, and which lanes take a word. A
// number: the bits of its code with those that follow it raw, and their count above them.
struct CodedNumbers {
  static constexpr std::size_t kMost = HxShape::kMostValues / 16 + HxShape::kMostChannels;
  alignas(64) std::uint16_t bits[kMost][HxShape::kLanes];
  std::uint16_t pulls[kMost];
};
inline constexpr int kLengthAt = 11;

template <class Costs>
std::uint32_t symbol_at(const Costs& table, std::int32_t x) noexcept {
  const auto upper =
      static_cast<std::uint32_t>((x >> table.raw) + std::int32_t{Table::kBias});
  return std::min(upper, Table::kEscape);
}

// Of a lane's last numbers so many decide what it needs: more than a code has bits.
inline constexpr std::uint32_t kDeciding = 12;

// Whether words must be counted to know if they fit the slot, or numbers of `cost` bits
// do in any case: a lane takes less than 16 + 10 bits more than its codes have, to fill a
// word, and for what a decoder reads ahead.
inline bool is_in_doubt(std::uint64_t cost, std::uint64_t first,
                        std::uint64_t slot) noexcept {
  return first + (cost + 26 * HxShape::kLanes) / 8 > slot;
}

// What quantising by a step comes to. words, escapes: where they are counted.
struct Trial {
  bool counted = false;
  std::uint64_t cost = 0, words = 0, escapes = 0;  // cost: in bits
  std::uint8_t table[HxShape::kMostChannels] = {};
};

// How many words the lanes take as a decoder asks for them, and the bits in those: before
// a number it needs as many as hold what is taken and the table's longest code. Each
// number takes a bit at least, so that the last few decide. lengths: bits of each place;
// table_at(channel, place): what its number was coded with.
struct Taken {
  std::uint64_t words = 0, bits = 0;
};
template <class TableAt>
Taken count_words(const Numbers& n, const std::uint16_t* lengths,
                  const TableAt& table_at) noexcept {
  Taken taken;
  for (std::uint32_t lane = 0; lane < std::min(HxShape::kLanes, n.places); ++lane) {
    std::int32_t total = 0;
    std::uint32_t last = lane;
    for (std::uint32_t at = lane; at < n.places; at += HxShape::kLanes) {
      total += lengths[at];
      last = at;
    }
    taken.bits += static_cast<std::uint32_t>(total);
    std::int32_t need = 0;
    for (std::uint32_t c = n.channels; c-- > n.channels - kDeciding;) {
      const auto& table = table_at(c, last);
      total -= table.length[symbol_at(table, n.x[c * n.columns + last])];
      need = std::max(need, total + table.most);
    }
    taken.words += static_cast<std::uint32_t>(need + 15) / 16;
  }
  return taken;
}

}  // namespace speckv::hx
