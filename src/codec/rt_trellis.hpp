// codec/rt_trellis.hpp -- the search for the best trellis path, 32 tokens side by side
// (internal). Compiled once for each instruction set, like fixed_unit.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "codec/fixed_unit.hpp"

namespace speckv::rt {

inline constexpr std::uint32_t kLanes = RtShape::kLanes;

// Finds the trellis path of 32 tokens with the least weighed squares. u: [channel][lane],
// in eighths of a level; packed: [channel / 8][plane][lane], a bit a channel.
template <std::uint32_t rate>
SPECKV_LANES void trellis(const std::int16_t (*u)[kLanes], std::uint32_t channels,
                          std::uint8_t (*packed)[rate][kLanes]) noexcept {
  using L = Levels<rate>;
  constexpr std::uint32_t kOf = (2U << rate) / 4;  // levels of a subset
  constexpr int kDown = 4 - static_cast<int>(rate);
  constexpr std::uint16_t kStart = 8192;
  alignas(64) std::uint8_t taken[RtShape::kMostChannels][kLanes];
  alignas(64) std::uint16_t number[RtShape::kMostChannels][kLanes];
  alignas(64) std::uint16_t cost[8][kLanes], next[8][kLanes], far[4][kLanes];
  for (std::uint32_t s = 0; s < 8; ++s) {
    for (std::uint32_t i = 0; i < kLanes; ++i)
      cost[s][i] = s == 0 ? 0 : kStart;
  }
  for (std::uint32_t c = 0; c < channels; ++c) {
    std::memset(number[c], 0, sizeof number[c]);
    std::memset(taken[c], 0, sizeof taken[c]);
#pragma GCC unroll 4
    for (std::uint32_t s = 0; s < 4; ++s) {
      for (std::uint32_t i = 0; i < kLanes; ++i) {
        const std::int16_t value = u[c][i];
        std::int16_t best = 8 * L::kLevel[s];
        std::uint16_t f = 0;
#pragma GCC unroll 8
        for (std::uint32_t k = 1; k < kOf; ++k) {
          const auto middle = static_cast<std::int16_t>(
              4 * (L::kLevel[4 * k + s] + L::kLevel[4 * k - 4 + s]));
          const bool above = value > middle;
          best = above ? static_cast<std::int16_t>(8 * L::kLevel[4 * k + s]) : best;
          f = above ? static_cast<std::uint16_t>(k) : f;
        }
        const auto off = static_cast<std::int16_t>(value - best);
        const auto size = static_cast<std::uint16_t>(off < 0 ? -off : off);
        const auto e =
            std::min<std::uint16_t>(static_cast<std::uint16_t>(size >> kDown), 255);
        far[s][i] = static_cast<std::uint16_t>(static_cast<std::uint16_t>(e * e) >> 5);
        number[c][i] = static_cast<std::uint16_t>(number[c][i] | f << (3 * s));
      }
    }
#pragma GCC unroll 8
    for (std::uint32_t s = 0; s < 8; ++s) {
      const std::uint32_t p0 = s >> 1, p1 = p0 | 4;
      const std::uint16_t* const d0 = far[subset(p0, s & 1)];
      const std::uint16_t* const d1 = far[subset(p1, s & 1)];
      for (std::uint32_t i = 0; i < kLanes; ++i) {
        const auto a = static_cast<std::uint16_t>(cost[p0][i] + d0[i]);
        const auto b = static_cast<std::uint16_t>(cost[p1][i] + d1[i]);
        const bool second = b < a;
        next[s][i] = second ? b : a;
        taken[c][i] = static_cast<std::uint8_t>(taken[c][i] | (second ? 1U << s : 0U));
      }
    }
    std::memcpy(cost, next, sizeof cost);
    if (c % 16 != 15) continue;
    for (std::uint32_t i = 0; i < kLanes; ++i) {
      std::uint16_t least = cost[0][i];
      for (std::uint32_t s = 1; s < 8; ++s)
        least = std::min(least, cost[s][i]);
      for (std::uint32_t s = 0; s < 8; ++s)
        cost[s][i] = static_cast<std::uint16_t>(cost[s][i] - least);
    }
  }
  // Back along the best path, from the lowest of the cheapest states.
  alignas(64) std::uint32_t state[kLanes];
  alignas(64) std::uint32_t bits[rate][kLanes] = {};
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    std::uint16_t least = cost[0][i];
    std::uint32_t at = 0;
    for (std::uint32_t s = 1; s < 8; ++s) {
      at = cost[s][i] < least ? s : at;
      least = std::min(least, cost[s][i]);
    }
    state[i] = at;
  }
  for (std::uint32_t c = channels; c-- > 0;) {
    for (std::uint32_t i = 0; i < kLanes; ++i) {
      const std::uint32_t s = state[i], now = s & 1;
      const std::uint32_t second = std::uint32_t{taken[c][i]} >> s & 1;
      const std::uint32_t before = s >> 1 | second << 2;
      const std::uint32_t f =
          std::uint32_t{number[c][i]} >> (3 * subset(before, now)) & 7;
      const std::uint32_t code = f << 1 | now;
#pragma GCC unroll 4
      for (std::uint32_t j = 0; j < rate; ++j)
        bits[j][i] = bits[j][i] << 1 | (code >> j & 1);
      state[i] = before;
    }
    if (c % 8 != 0) continue;
    for (std::uint32_t j = 0; j < rate; ++j) {
      for (std::uint32_t i = 0; i < kLanes; ++i)
        packed[c / 8][j][i] = static_cast<std::uint8_t>(bits[j][i]);
    }
  }
}

}  // namespace speckv::rt
