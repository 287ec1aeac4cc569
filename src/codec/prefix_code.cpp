#include "codec/prefix_code.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

namespace speckv::prefix {
namespace {

struct Leaf {
  std::uint32_t count = 0;
  std::uint16_t symbol = 0;
};

constexpr std::size_t kMostItems = 2 * kMostSymbols;

// By count, then by symbol: `leaves` come by symbol, and digits keep their order.
void sort(std::span<Leaf> leaves) noexcept {
  std::array<Leaf, kMostSymbols> other;
  std::uint32_t all = 0;
  for (const Leaf& leaf : leaves)
    all |= leaf.count;
  for (unsigned down = 0; down < 32 && all >> down != 0; down += 8) {
    std::array<std::uint16_t, 257> place{};
    for (const Leaf& leaf : leaves)
      ++place[(leaf.count >> down & 255) + 1];
    for (std::size_t i = 1; i < place.size(); ++i)
      place[i] = static_cast<std::uint16_t>(place[i] + place[i - 1]);
    for (const Leaf& leaf : leaves)
      other[place[leaf.count >> down & 255]++] = leaf;
    std::copy_n(other.begin(), leaves.size(), leaves.begin());
  }
}

// What package-merge remembers of one length: how many of the first items are symbols.
using Level = std::array<std::uint16_t, kMostItems + 1>;

// The leaves and the pairs of `below`, by weight; `below` has room for two more. No
// branch that depends on weights: it could not be foretold.
std::size_t merge(std::span<const std::uint64_t> leaves, std::uint64_t* below,
                  std::size_t below_items, std::uint64_t* weights,
                  Level& level) noexcept {
  const std::size_t pairs = below_items / 2, items = leaves.size() - 1 + pairs;
  below[2 * pairs] = below[2 * pairs + 1] = UINT64_MAX / 2;  // never before a leaf
  std::size_t leaf = 0, pair = 0;
  for (std::size_t i = 0; i < items; ++i) {
    const std::uint64_t package = below[2 * pair] + below[2 * pair + 1];
    const std::uint64_t symbol = leaves[leaf];
    const bool is_leaf = symbol <= package;
    level[i] = static_cast<std::uint16_t>(leaf);
    weights[i] = std::min(symbol, package);
    leaf += is_leaf ? 1 : 0;
    pair += is_leaf ? 0 : 1;
  }
  level[items] = static_cast<std::uint16_t>(leaf);
  return items;
}

// The lowest `length` bits, the other way round.
std::uint16_t reversed(std::uint32_t code, unsigned length) noexcept {
  code = (code & 0x5555) << 1 | (code >> 1 & 0x5555);
  code = (code & 0x3333) << 2 | (code >> 2 & 0x3333);
  code = (code & 0x0F0F) << 4 | (code >> 4 & 0x0F0F);
  code = (code & 0x00FF) << 8 | code >> 8;
  return static_cast<std::uint16_t>(code >> (16 - length));
}

}  // namespace

void code_lengths(std::span<const std::uint32_t> counts, int most,
                  std::span<std::uint8_t> lengths) noexcept {
  std::array<Leaf, kMostSymbols> storage;
  std::size_t used = 0;
  for (std::size_t s = 0; s < counts.size(); ++s) {
    if (counts[s] != 0) storage[used++] = {counts[s], static_cast<std::uint16_t>(s)};
  }
  assert(used >= 2 && used <= std::size_t{1} << most && most <= kMostLength);
  const auto leaves = std::span(storage).first(used);
  sort(leaves);
  std::array<std::uint64_t, kMostSymbols + 1> by_count;
  for (std::size_t i = 0; i < used; ++i)
    by_count[i] = leaves[i].count;
  by_count[used] = UINT64_MAX;  // behind every package

  std::array<Level, kMostLength> levels;
  std::array<std::uint64_t, kMostItems + 2> weights[2];
  std::size_t items = 0;
  for (int i = 0; i < most; ++i) {
    items = merge(std::span(by_count).first(used + 1), weights[i % 2].data(), items,
                  weights[1 - i % 2].data(), levels[static_cast<unsigned>(i)]);
  }
  // The first 2n - 2 items of the last level are the code; every symbol among them, and
  // among what their packages consist of, gets one bit longer. These are always the first
  // symbols: it is enough to know how many.
  std::array<std::uint8_t, kMostSymbols + 1> longer{};
  std::size_t taken = 2 * used - 2;
  for (int i = most; i-- > 0;) {
    const std::size_t chosen = levels[static_cast<unsigned>(i)][taken];
    ++longer[chosen];
    taken = 2 * (taken - chosen);
  }
  std::fill(lengths.begin(), lengths.end(), std::uint8_t{0});
  std::uint8_t length = 0;
  for (std::size_t leaf = used; leaf-- > 0;) {
    length = static_cast<std::uint8_t>(length + longer[leaf + 1]);
    lengths[leaves[leaf].symbol] = length;
  }
}

namespace {

// The symbols that have a code, by length and then by value, and of each length the first
// code. False: no complete code of at most `most` bits has these lengths.
struct Canonical {
  std::array<std::uint8_t, kMostSymbols> symbol;
  std::array<std::uint32_t, 256> of_length{};

  bool sort(std::span<const std::uint8_t> lengths, int most) noexcept {
    std::array<std::uint8_t, kMostSymbols + 1> used;
    std::size_t n = 0;
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      used[n] = static_cast<std::uint8_t>(s);
      n += lengths[s] != 0 ? 1U : 0U;
    }
    for (std::size_t i = 0; i < n; ++i)
      ++of_length[lengths[used[i]]];
    std::array<std::uint32_t, kMostLength + 2> place{};
    std::uint32_t room = 0;
    for (int length = 1; length <= most; ++length) {
      const auto l = static_cast<unsigned>(length);
      place[l + 1] = place[l] + of_length[l];
      room += of_length[l] << (most - length);
    }
    // More than fit, or codes without a symbol, or longer ones than there may be.
    if (room != 1U << most || place[static_cast<unsigned>(most) + 1] != n) return false;
    for (std::size_t i = 0; i < n; ++i)
      symbol[place[lengths[used[i]]]++] = used[i];
    return true;
  }

  // Calls work(symbol, bits, length) for the codes of one length. `code` is the first
  // before, and that of the next length behind.
  template <class Work>
  void for_codes(unsigned length, std::uint32_t& code, std::size_t& at,
                 Work&& work) const noexcept {
    for (const std::size_t end = at + of_length[length]; at < end; ++at)
      work(symbol[at], reversed(code++, length), length);
    code *= 2;
  }
};

}  // namespace

bool assign_codes(std::span<const std::uint8_t> lengths, int most,
                  std::span<Code> codes) noexcept {
  Canonical sorted;
  if (!sorted.sort(lengths, most)) return false;
  std::fill(codes.begin(), codes.end(), Code{});
  std::uint32_t code = 0;
  std::size_t at = 0;
  for (unsigned length = 1; length <= static_cast<unsigned>(most); ++length) {
    sorted.for_codes(length, code, at,
                     [&](std::size_t symbol, std::uint16_t bits, unsigned of) {
                       codes[symbol] = {bits, static_cast<std::uint8_t>(of)};
                     });
  }
  return true;
}

bool fill_table(std::span<const std::uint8_t> lengths, int most,
                std::span<std::uint16_t> table) noexcept {
  Canonical sorted;
  if (!sorted.sort(lengths, most)) return false;
  // The table for codes of at most l bits, twice, is that for l + 1, but for the codes of
  // that length.
  table[0] = 0;
  std::uint32_t code = 0;
  std::size_t at = 0, size = 1;
  for (unsigned length = 1; length <= static_cast<unsigned>(most); ++length, size *= 2) {
    std::memcpy(table.data() + size, table.data(), size * sizeof table[0]);
    sorted.for_codes(length, code, at,
                     [&](std::uint32_t symbol, std::uint16_t bits, unsigned of) {
                       table[bits] = static_cast<std::uint16_t>(symbol | of << 8);
                     });
  }
  return true;
}

}  // namespace speckv::prefix
