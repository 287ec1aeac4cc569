// support/sequence_rows.hpp -- the rows of a sequence's tokens, so that a test can write
// them through tail() and knows what every view must show.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "cxlspeckv/sequence.hpp"

namespace speckv::test {

// The byte of a row: of everything that names the row, so that a misplaced one shows.
inline std::byte row_byte(std::uint32_t position, std::uint32_t token,
                          std::uint32_t layer, std::uint32_t row, std::uint64_t at) {
  std::uint64_t x = (std::uint64_t{position} << 32 | token) * 0x9E3779B97F4A7C15;
  x ^= (std::uint64_t{layer} << 40) + (std::uint64_t{row} << 20) + at;
  x *= 0xBF58476D1CE4E5B9;
  return static_cast<std::byte>(x >> 56);
}

// Calls `visit(offset in the layer, byte)` for what token `token` at `position` has
// there.
template <class Visit>
void for_row_bytes(const BlockLayout& layout, std::uint32_t layer, std::uint32_t position,
                   std::uint32_t token, Visit&& visit) {
  const std::uint64_t bytes = layout.head_dim * bytes_of(layout.dtype);
  for (std::uint32_t row = 0; row < 2 * layout.kv_heads; ++row) {  // K's heads, then V's
    const std::uint64_t at =
        (std::uint64_t{row} * layout.tokens + position % layout.tokens) * bytes;
    for (std::uint64_t i = 0; i < bytes; ++i)
      visit(at + i, row_byte(position, token, layer, row, i));
  }
}

// Appends tokens and writes their rows.
inline Status append_rows(Sequence& sequence, const BlockLayout& layout,
                          std::span<const std::uint32_t> tokens) {
  while (!tokens.empty()) {
    const std::uint32_t first = sequence.size();
    const auto taken = sequence.append(tokens);
    if (!taken) return taken.error();
    for (std::uint32_t layer = 0; layer < layout.layers; ++layer) {
      const MutableBytes tail = sequence.tail(layer);
      for (std::uint32_t i = 0; i < *taken; ++i)
        for_row_bytes(layout, layer, first + i, tokens[i],
                      [&](std::uint64_t at, std::byte b) { tail[at] = b; });
    }
    tokens = tokens.subspan(*taken);
  }
  return {};
}

// "" or where the view shows something else than `tokens` (the whole sequence's).
inline std::string wrong_rows(const View& view, const BlockLayout& layout,
                              std::span<const std::uint32_t> tokens) {
  for (std::uint32_t i = 0; i < view.tokens(); ++i) {
    const std::uint32_t position = view.first_token() + i;
    for (std::uint32_t layer = 0; layer < layout.layers; ++layer) {
      const Bytes bytes = view.layer(i / layout.tokens, layer);
      bool right = true;
      for_row_bytes(layout, layer, position, tokens[position],
                    [&](std::uint64_t at, std::byte b) { right &= bytes[at] == b; });
      if (!right)
        return "token " + std::to_string(position) + " layer " + std::to_string(layer);
    }
  }
  return {};
}

}  // namespace speckv::test
