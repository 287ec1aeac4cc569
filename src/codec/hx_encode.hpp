// codec/hx_encode.hpp -- what every encoder of hx does with the sums over a unit, and how
// it looks for the finest step that fits (internal). docs/block-format.md, "hx".
#pragma once

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstdint>

#include "base/endian.hpp"
#include "codec/hx.hpp"
#include "codec/log_scale.hpp"

namespace speckv::hx {

// Of a unit as fixed-point numbers (docs/block-format.md, "Powers"); one is 2^exponent.
struct Sums {
  std::int32_t exponent = 0;
  std::int32_t channel_logs =
      0;  // log2 of a channel's mean square, summed; K's less means
  std::uint32_t most[HxShape::kMostTokens];    // a token's largest magnitude
  std::uint64_t energy[HxShape::kMostTokens];  // and its sum of squares; not for K
};

// A token's step shrinks with the square root of its size, in sixteenths of an octave.
inline void choose_gains(const HxShape& shape, const Sums& sums,
                         std::uint8_t* gain) noexcept {
  std::fill_n(gain, shape.tokens, std::uint8_t{0});
  if (shape.keys) return;
  std::int32_t rms[HxShape::kMostTokens], most = 0;
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    rms[t] = log_scale::log2_of(sums.energy[t]) / 2;
    most = std::max(most, rms[t]);
  }
  for (std::uint32_t t = 0; t < shape.tokens; ++t)
    gain[t] = static_cast<std::uint8_t>(std::min((most - rms[t]) / 2, 255));
}

// No number of steps, a mean's neither, may pass what a decoder takes.
inline std::int32_t least_log(const HxShape& shape, const Sums& sums,
                              const std::uint8_t* gain) noexcept {
  std::int32_t least = -HxShape::kMostLog;
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const std::int32_t above =
        static_cast<int>(std::bit_width(sums.most[t])) + sums.exponent;
    least = std::max(least, 64 * (above - 13) + 1 + 4 * std::int32_t{gain[t]});
  }
  return least;
}

// From the deviations of the channels: a normal number takes log2(deviation / step)
// + 2.05 bits.
inline std::int32_t first_guess(const HxShape& shape, const Sums& sums,
                                const std::uint8_t* gain) noexcept {
  std::int32_t gains = 0;
  for (std::uint32_t t = 0; t < shape.tokens; ++t)
    gains += gain[t];
  const auto channels = static_cast<std::int32_t>(shape.channels);
  const auto tokens = static_cast<std::int32_t>(shape.tokens);
  assert(channels > 0 && tokens > 0);
  const auto room = static_cast<std::int32_t>(shape.slot - shape.words(false));
  return 2 * (sums.channel_logs / channels) + 64 * sums.exponent + 4 * gains / tokens +
         141 - room * 64 / tokens * 8 / channels;
}

// Halves the distance between a step that fits and a finer one that does not. fits(log)
// quantises by it; again(log) does so with a step that fitted, the last that did, if
// another was tried since. False: there is none.
template <class Fits, class Again>
bool search(std::int32_t guess, std::int32_t least, Fits&& fits, Again&& again) noexcept {
  std::int32_t log = std::max(guess, least), stride = 4;
  std::int32_t good = log, bad = least - 1, last = log;
  const auto tries = [&](std::int32_t at) noexcept {
    last = at;
    return fits(at);
  };
  if (tries(log)) {
    for (; good > least; stride *= 2) {
      const std::int32_t finer = std::max(good - stride, least);
      if (!tries(finer)) {
        bad = finer;
        break;
      }
      good = finer;
    }
  } else {
    do {
      if (log >= HxShape::kMostLog) return false;
      bad = log;
      log = std::min(log + stride, HxShape::kMostLog);
      stride *= 2;
    } while (!tries(log));
    good = log;
  }
  while (good - bad > 1) {
    const std::int32_t middle = bad + (good - bad) / 2;
    (tries(middle) ? good : bad) = middle;
  }
  return last == good || again(good);
}

// What stands before the words, all but the checksum.
struct Parameters {
  std::int32_t log;
  bool wide;
  std::uint64_t words, escapes;
  const std::uint8_t* table;  // of channels
  const std::int16_t* mean;   // of channels; K
  const std::uint8_t* gain;   // of tokens; V
};
inline void write_parameters(const HxShape& shape, const Parameters& p,
                             MutableBytes unit) noexcept {
  std::byte* const at = unit.data();
  at[4] = std::byte{HxShape::kVersion};
  at[5] = std::byte{p.wide ? HxShape::kWideMeans : std::uint8_t{0}};
  store_le(at + 6, static_cast<std::int16_t>(p.log));
  store_le(at + 8, static_cast<std::uint16_t>(p.words));
  store_le(at + 10, static_cast<std::uint16_t>(p.escapes));
  for (std::uint32_t c = 0; c < shape.channels; c += 2)
    at[shape.tables() + c / 2] = static_cast<std::byte>(p.table[c] | p.table[c + 1] << 4);
  std::byte* const means = at + shape.means();
  for (std::uint32_t t = 0; !shape.keys && t < shape.tokens; ++t)
    means[t] = std::byte{p.gain[t]};
  for (std::uint32_t c = 0; shape.keys && c < shape.channels; ++c) {
    if (p.wide) {
      store_le(means + 2 * c, p.mean[c]);
    } else {
      means[c] = static_cast<std::byte>(p.mean[c]);
    }
  }
}

}  // namespace speckv::hx
