// codec/hx_lanes.hpp -- numbers of steps as prefix codes in sixteen lanes: the
// definition, for hx and hxp (internal). docs/block-format.md, "hx".
//
// Numbers come by place: all channels of the first sixteen places, lane i having place i,
// then of the next sixteen.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/endian.hpp"
#include "codec/hx.hpp"

namespace speckv::hx {

struct Coded {
  std::uint32_t bits, length;
  bool escaped;
};
inline Coded code_of(const Table& table, std::int32_t x) noexcept {
  std::uint32_t symbol = table.symbol_of(x);
  const bool escaped = symbol == Table::kEscape || table.code_length[symbol] == 0;
  if (escaped) symbol = Table::kEscape;
  const std::uint32_t low =
      escaped ? 0 : static_cast<std::uint32_t>(x) & ((1U << table.raw) - 1);
  const std::uint32_t length = table.code_length[symbol];
  return {table.code[symbol] | low << length, length + table.raw, escaped};
}

// A number and the table that it is coded with.
struct Number {
  const Table& table;
  std::int16_t x;
};

struct StreamSize {
  std::uint64_t words = 0, escapes = 0;
};

// How many words and escapes the lanes take as a decoder asks for them. number(c, place)
// is a Number.
template <class At>
StreamSize stream_size(std::uint32_t places, std::uint32_t channels,
                       At&& number) noexcept {
  std::int32_t count[HxShape::kLanes] = {};
  StreamSize size;
  for (std::uint32_t first = 0; first < places; first += HxShape::kLanes) {
    const std::uint32_t lanes = std::min(HxShape::kLanes, places - first);
    for (std::uint32_t c = 0; c < channels; ++c) {
      for (std::uint32_t i = 0; i < lanes; ++i) {
        const Number n = number(c, first + i);
        const Coded coded = code_of(n.table, n.x);
        const bool pull = count[i] < static_cast<std::int32_t>(n.table.most);
        size.words += pull ? 1 : 0;
        count[i] += (pull ? 16 : 0) - static_cast<std::int32_t>(coded.length);
        size.escapes += coded.escaped ? 1 : 0;
      }
    }
  }
  return size;
}

// A word's place is where the decoder asks for it; its bits come later.
template <class At>
void write_stream(std::uint32_t places, std::uint32_t channels, std::byte* word,
                  std::byte* escape, At&& number) noexcept {
  struct Lane {
    std::uint64_t held = 0;             // bits that have no word yet
    std::uint32_t count = 0;            // of them
    std::int32_t ahead = 0;             // bits that a decoder has and has not used
    std::uint32_t first = 0, last = 0;  // of its places that are still empty
    std::byte* place[4] = {};
  };
  Lane lanes[HxShape::kLanes];
  for (std::uint32_t first = 0; first < places; first += HxShape::kLanes) {
    const std::uint32_t active = std::min(HxShape::kLanes, places - first);
    for (std::uint32_t c = 0; c < channels; ++c) {
      for (std::uint32_t i = 0; i < active; ++i) {
        const Number n = number(c, first + i);
        Lane& lane = lanes[i];
        if (lane.ahead < static_cast<std::int32_t>(n.table.most)) {
          lane.place[lane.last++ % 4] = word;
          word += 2;
          lane.ahead += 16;
        }
        const Coded coded = code_of(n.table, n.x);
        lane.held |= std::uint64_t{coded.bits} << lane.count;
        lane.count += coded.length;
        lane.ahead -= static_cast<std::int32_t>(coded.length);
        if (lane.count >= 16) {
          store_le(lane.place[lane.first++ % 4], static_cast<std::uint16_t>(lane.held));
          lane.held >>= 16;
          lane.count -= 16;
        }
        if (coded.escaped) {
          store_le(escape, n.x);
          escape += 2;
        }
      }
    }
  }
  for (Lane& lane : lanes) {
    if (lane.first != lane.last)
      store_le(lane.place[lane.first % 4], static_cast<std::uint16_t>(lane.held));
  }
}

// The words and escapes of a unit, lane by lane.
class Stream {
 public:
  Stream(const std::byte* words, std::uint64_t count, std::uint64_t escapes) noexcept
      : word_(words),
        escape_(words + 2 * count),
        words_end_(escape_),
        end_(escape_ + 2 * escapes) {}

  // The next number of a lane. False: nothing is left.
  bool next(const Table& table, std::uint32_t lane, std::int32_t& x) noexcept {
    std::uint32_t& held = held_[lane];
    std::uint32_t& count = count_[lane];
    if (count < table.most) {
      if (word_ == words_end_) return false;
      held |= std::uint32_t{load_le<std::uint16_t>(word_)} << count;
      word_ += 2;
      count += 16;
    }
    const std::uint32_t symbol = table.symbol[held % Table::kWindow];
    const std::uint32_t length = table.length[held % Table::kWindow];
    held >>= length;
    const std::uint32_t low = held & ((1U << table.raw) - 1);
    held >>= table.raw;
    count -= length + table.raw;
    if (symbol == Table::kEscape) {
      if (escape_ == end_) return false;
      x = load_le<std::int16_t>(escape_);
      escape_ += 2;
      return true;
    }
    const auto upper = static_cast<std::int32_t>(symbol) - std::int32_t{Table::kBias};
    x = upper * (1 << table.raw) + static_cast<std::int32_t>(low);
    return true;
  }
  bool at_end() const noexcept { return word_ == words_end_ && escape_ == end_; }

 private:
  const std::byte* word_;
  const std::byte* escape_;
  const std::byte* words_end_;
  const std::byte* end_;
  std::uint32_t held_[HxShape::kLanes] = {}, count_[HxShape::kLanes] = {};
};

}  // namespace speckv::hx
