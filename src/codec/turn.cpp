#include "codec/turn.hpp"

#include <algorithm>
#include <cstring>

namespace speckv {
namespace {

// Vectors that both compilers have on every machine.
using Lanes [[gnu::vector_size(16)]] = std::uint16_t;
constexpr std::uint32_t kTile = 8;

struct Matrix {
  std::uint32_t rows, columns;
};

// Shuffling rows i and i + 4 into each other, three times over, transposes eight.
void turn_tile(const std::byte* from, std::size_t from_row, std::byte* to,
               std::size_t to_row) noexcept {
  Lanes row[kTile], next[kTile];
  for (std::uint32_t i = 0; i < kTile; ++i)
    std::memcpy(&row[i], from + i * from_row, sizeof row[i]);
  for (int round = 0; round < 3; ++round) {
    for (std::uint32_t i = 0; i < kTile / 2; ++i) {
      const Lanes low = row[i], high = row[i + kTile / 2];
      next[2 * i] = __builtin_shufflevector(low, high, 0, 8, 1, 9, 2, 10, 3, 11);
      next[2 * i + 1] = __builtin_shufflevector(low, high, 4, 12, 5, 13, 6, 14, 7, 15);
    }
    std::copy_n(next, kTile, row);
  }
  for (std::uint32_t i = 0; i < kTile; ++i)
    std::memcpy(to + i * to_row, &row[i], sizeof row[i]);
}

// The part of a matrix from (row, column) on, up to `end`, value by value.
template <std::size_t bytes>
void turn_part(Matrix whole, Matrix begin, Matrix end, const std::byte* from,
               std::byte* to) noexcept {
  for (std::uint32_t r = begin.rows; r < end.rows; ++r) {
    for (std::uint32_t c = begin.columns; c < end.columns; ++c) {
      std::memcpy(to + (std::size_t{c} * whole.rows + r) * bytes,
                  from + (std::size_t{r} * whole.columns + c) * bytes, bytes);
    }
  }
}

void turn_16_bit(Matrix m, const std::byte* from, std::byte* to) noexcept {
  constexpr std::size_t kBytes = sizeof(std::uint16_t);
  const Matrix tiled{m.rows / kTile * kTile, m.columns / kTile * kTile};
  for (std::uint32_t r = 0; r < tiled.rows; r += kTile) {
    for (std::uint32_t c = 0; c < tiled.columns; c += kTile) {
      turn_tile(from + (std::size_t{r} * m.columns + c) * kBytes, m.columns * kBytes,
                to + (std::size_t{c} * m.rows + r) * kBytes, m.rows * kBytes);
    }
  }
  turn_part<kBytes>(m, {0, tiled.columns}, m, from, to);
  turn_part<kBytes>(m, {tiled.rows, 0}, {m.rows, tiled.columns}, from, to);
}

void turn(std::size_t bytes, Matrix m, const std::byte* from, std::byte* to) noexcept {
  switch (bytes) {
    case 1:
      return turn_part<1>(m, {0, 0}, m, from, to);
    case 2:
      return turn_16_bit(m, from, to);
    default:
      return turn_part<4>(m, {0, 0}, m, from, to);
  }
}

// AMX multiplies by tiles of 16 columns, in each of which two numbers of a column lie
// side by side: for QK^T two channels of a token, for PV two tokens of a channel.
constexpr std::uint32_t kColumns = 16, kPairBytes = 4;

// K: of 16 tokens each a matrix of pairs, transposed.
void tile_keys(const BlockLayout& layout, bool to_tiles, const std::byte* from,
               std::byte* to) noexcept {
  const Matrix rows{kColumns, layout.head_dim / 2}, tile{rows.columns, rows.rows};
  const std::size_t bytes = std::size_t{rows.rows} * rows.columns * kPairBytes;
  for (std::size_t at = 0; at < layout.tokens / kColumns * bytes; at += bytes)
    turn(kPairBytes, to_tiles ? rows : tile, from + at, to + at);
}

// V: of 16 channels and two tokens each a matrix of numbers, transposed.
void tile_values(const BlockLayout& layout, bool to_tiles, const std::byte* from,
                 std::byte* to) noexcept {
  constexpr std::size_t kBytes = 2;
  const std::size_t row = layout.head_dim * kBytes;
  std::size_t tile = 0;
  for (std::uint32_t c = 0; c < layout.head_dim; c += kColumns) {
    for (std::uint32_t t = 0; t < layout.tokens; t += 2) {
      for (std::uint32_t i = 0; i < 2 * kColumns; ++i, tile += kBytes) {
        const std::size_t plain = (t + i % 2) * row + (c + i / 2) * kBytes;
        std::memcpy(to + (to_tiles ? tile : plain), from + (to_tiles ? plain : tile),
                    kBytes);
      }
    }
  }
}

// One head's K or V, from the plain layer into rows or back.
void turn_unit(const BlockLayout& layout, bool keys, bool into_rows,
               const std::byte* from, std::byte* to) noexcept {
  const Matrix rows{layout.tokens, layout.head_dim};
  if (layout.kind == BlockLayout::Kind::tiled) {
    (keys ? tile_keys : tile_values)(layout, !into_rows, from, to);
  } else if (keys) {
    turn(bytes_of(layout.dtype), into_rows ? Matrix{rows.columns, rows.rows} : rows, from,
         to);
  } else {
    std::memcpy(to, from, std::size_t{rows.rows} * rows.columns * bytes_of(layout.dtype));
  }
}

void turn_layer(const BlockLayout& layout, bool into_rows, Bytes from,
                MutableBytes to) noexcept {
  const std::uint64_t units = std::uint64_t{2} * layout.kv_heads;
  const std::uint64_t unit = layout.layer_bytes() / units;
  for (std::uint64_t u = 0; u < units; ++u) {
    const std::uint64_t head = u / 2, value = u % 2;
    const std::uint64_t plain = u * unit;  // by head; the rows' K comes first
    const std::uint64_t rows = (value * layout.kv_heads + head) * unit;
    turn_unit(layout, value == 0, into_rows, from.data() + (into_rows ? plain : rows),
              to.data() + (into_rows ? rows : plain));
  }
}

}  // namespace

void to_rows(const BlockLayout& layout, Bytes plain, MutableBytes rows) noexcept {
  turn_layer(layout, true, plain, rows);
}

void from_rows(const BlockLayout& layout, Bytes rows, MutableBytes plain) noexcept {
  turn_layer(layout, false, rows, plain);
}

}  // namespace speckv
