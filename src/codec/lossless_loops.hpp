// codec/lossless_loops.hpp -- the inner loops of `lossless`: planes and values, four
// streams side by side (internal).
//
// The functions here are the definition; each instruction set compiles them again, with
// its own shifts, and has its own way between planes and values.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/endian.hpp"
#include "codec/lossless.hpp"

#define SPECKV_STREAMS __attribute__((always_inline)) inline

namespace speckv::lossless {

// Which bits of a rotated value belong to plane `plane`; the first is the highest.
template <class W>
constexpr int shift_of(std::uint32_t plane) noexcept {
  return static_cast<int>(8 * (sizeof(W) - 1 - plane));
}

// Values from `first` on, by the definition.
template <class W>
SPECKV_STREAMS void split_values(const std::byte* row, std::size_t first, std::size_t n,
                                 std::uint8_t* const* planes) noexcept {
  for (std::size_t c = first; c < n; ++c) {
    const W value = std::rotl(load_le<W>(row + sizeof(W) * c), 1);
    for (std::uint32_t p = 0; p < sizeof(W); ++p)
      planes[p][c] = static_cast<std::uint8_t>(value >> shift_of<W>(p));
  }
}
template <class W>
SPECKV_STREAMS void merge_values(const std::uint8_t* const* planes, std::size_t first,
                                 std::size_t n, std::byte* row) noexcept {
  for (std::size_t c = first; c < n; ++c) {
    W value = 0;
    for (std::uint32_t p = 0; p < sizeof(W); ++p)
      value = static_cast<W>(value | W{planes[p][c]} << shift_of<W>(p));
    store_le(row + sizeof(W) * c, std::rotr(value, 1));
  }
}

template <class W>
void split(const std::byte* row, std::size_t n, std::uint8_t* const* planes) noexcept {
  split_values<W>(row, 0, n, planes);
}
template <class W>
void merge(const std::uint8_t* const* planes, std::size_t n, std::byte* row) noexcept {
  merge_values<W>(planes, 0, n, row);
}

// ---- Decoding ------------------------------------------------------------------------

// The next symbol of the stream, which is longer than its last byte only by zeros.
SPECKV_STREAMS std::uint8_t read_one(const DecodeTable& table, InStream& in) noexcept {
  const std::uint64_t byte = in.at / 8;
  std::uint64_t bits = 0;
  for (std::uint64_t i = 0; i < 3 && byte + i < in.size; ++i)
    bits |= std::to_integer<std::uint64_t>(in.first[byte + i]) << (8 * i);
  const std::uint16_t entry = table[bits >> in.at % 8 & (table.size() - 1)];
  in.at += entry >> 8;
  return static_cast<std::uint8_t>(entry);
}

// While 8 bytes of every stream are left, `kAtOnce` symbols of each are taken from one
// read. The highest bit of what was read marks how far the rest has been shifted down.
template <std::uint32_t planes>
SPECKV_STREAMS void read_streams(const Source (&from)[planes], std::size_t n) noexcept {
  constexpr std::size_t kAtOnce = 5;     // 55 bits at most
  constexpr std::uint64_t kAdvance = 7;  // bytes, by them
  constexpr std::uint64_t kMark = 1ULL << 63;
  constexpr std::uint32_t kAll = planes * kStreams;
  constexpr std::size_t kIndex = (1U << kMost) - 1;
  const std::uint16_t* table[planes];
  std::uint8_t* to[planes];
  for (std::uint32_t p = 0; p < planes; ++p) {
    table[p] = from[p].table->data();
    to[p] = from[p].to[0];
  }
  std::size_t c = 0;
  const std::byte* at[kAll];
  std::uint64_t down[kAll];
  const auto take = [&](std::size_t symbols) __attribute__((always_inline)) {
    std::uint64_t bits[kAll];
#pragma GCC unroll 8
    for (std::uint32_t i = 0; i < kAll; ++i)
      bits[i] = (load_le<std::uint64_t>(at[i]) | kMark) >> down[i];
#pragma GCC unroll 5
    for (std::size_t s = 0; s < symbols; ++s) {
#pragma GCC unroll 8
      for (std::uint32_t i = 0; i < kAll; ++i) {
        const std::uint16_t entry = table[i / kStreams][bits[i] & kIndex];
        bits[i] >>= entry >> 8 & 63;
        to[i / kStreams][i % kStreams * kStrip + c + s] =
            static_cast<std::uint8_t>(entry);
      }
    }
#pragma GCC unroll 8
    for (std::uint32_t i = 0; i < kAll; ++i) {
      const auto taken = static_cast<std::uint64_t>(std::countl_zero(bits[i]));
      at[i] += taken / 8;
      down[i] = taken % 8;
    }
    c += symbols;
  };
  // NOLINTNEXTLINE(bugprone-infinite-loop): take() moves c
  while (c < n) {
    std::uint64_t possible = UINT64_MAX;
    for (std::uint32_t i = 0; i < kAll; ++i) {
      const InStream& in = from[i / kStreams].in[i % kStreams];
      const std::uint64_t byte = std::min(in.size, in.at / 8), left = in.size - byte;
      possible = std::min(possible, left < 8 ? 0 : (left - 8) / kAdvance + 1);
      at[i] = in.first + byte;
      down[i] = in.at % 8;
    }
    if (possible == 0) break;
    const std::uint64_t rounds = std::min((n - c) / kAtOnce, possible);
    for (std::uint64_t round = 0; round < rounds; ++round)
      take(kAtOnce);
    if (rounds < possible) take(n - c);  // what no whole round is left for
    for (std::uint32_t i = 0; i < kAll; ++i) {
      InStream& in = from[i / kStreams].in[i % kStreams];
      in.at = 8 * static_cast<std::uint64_t>(at[i] - in.first) + down[i];
    }
  }
  for (; c < n; ++c) {
    for (std::uint32_t i = 0; i < kAll; ++i)
      from[i / kStreams].to[i % kStreams][c] =
          read_one(*from[i / kStreams].table, from[i / kStreams].in[i % kStreams]);
  }
}

// ---- Encoding ------------------------------------------------------------------------

SPECKV_STREAMS void write_one(const EncodeTable& table, std::uint8_t symbol,
                              OutStream& out) noexcept {
  const std::uint64_t entry = table[symbol];
  const auto length = static_cast<unsigned>(entry & 15);
  out.held |= entry >> (64 - length) << out.count;
  for (out.count += length; out.count >= 8; out.count -= 8, out.held >>= 8)
    *out.at++ = static_cast<std::byte>(out.held);
}

// Codes enter a register at its top. What lies below them are remains of lengths, which
// the shift before a store takes away.
SPECKV_STREAMS void write_streams(const EncodeTable& table,
                                  const std::uint8_t (*from)[kStrip], std::size_t n,
                                  OutStream* out) noexcept {
  constexpr std::size_t kAtOnce = 4;     // 44 bits at most, behind 7
  constexpr std::uint64_t kAdvance = 6;  // bytes, by them
  const std::uint64_t* const of = table.data();
  std::size_t c = 0;
  while (n - c >= kAtOnce) {
    std::uint64_t rounds = (n - c) / kAtOnce;
    std::byte* at[kStreams];
    std::uint64_t held[kStreams], count[kStreams];
    for (std::uint32_t i = 0; i < kStreams; ++i) {
      const auto left = static_cast<std::uint64_t>(out[i].end - out[i].at);
      rounds = std::min(rounds, left < 8 ? 0 : (left - 8) / kAdvance + 1);
      at[i] = out[i].at;
      count[i] = out[i].count;
      held[i] = count[i] == 0 ? 0 : out[i].held << (64 - count[i]);
    }
    if (rounds == 0) break;
    for (; rounds > 0; --rounds) {
#pragma GCC unroll 4
      for (std::size_t s = 0; s < kAtOnce; ++s) {
#pragma GCC unroll 4
        for (std::uint32_t i = 0; i < kStreams; ++i) {
          const std::uint64_t entry = of[from[i][c + s]];
          held[i] = held[i] >> (entry & 63) | entry;
          count[i] += entry;  // the length is below all of the code
        }
      }
#pragma GCC unroll 4
      for (std::uint32_t i = 0; i < kStreams; ++i) {
        const std::uint64_t bits = count[i] & 63;
        store_le(at[i], held[i] >> (64 - bits));
        at[i] += bits / 8;
        count[i] = bits % 8;
      }
      c += kAtOnce;
    }
    for (std::uint32_t i = 0; i < kStreams; ++i) {
      out[i].at = at[i];
      out[i].count = static_cast<unsigned>(count[i]);
      out[i].held = count[i] == 0 ? 0 : held[i] >> (64 - count[i]);
    }
  }
  for (; c < n; ++c) {
    for (std::uint32_t i = 0; i < kStreams; ++i)
      write_one(table, from[i][c], out[i]);
  }
}

}  // namespace speckv::lossless
