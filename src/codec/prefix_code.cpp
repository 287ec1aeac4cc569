#include "codec/prefix_code.hpp"

#include <algorithm>
#include <array>
#include <cassert>

namespace speckv::prefix {
namespace {

struct Leaf {
  std::uint32_t count = 0;
  std::uint16_t symbol = 0;
};

constexpr std::size_t kMostItems = 2 * kMostSymbols;

// What package-merge remembers of one length: the items in order, symbol or package.
struct Level {
  std::array<bool, kMostItems> is_leaf;
  std::size_t items = 0;
};

// The leaves and the pairs of `below`, by weight.
std::size_t merge(std::span<const Leaf> leaves, std::span<const std::uint64_t> below,
                  std::span<std::uint64_t> weights, Level& level) noexcept {
  const std::size_t pairs = below.size() / 2;
  std::size_t leaf = 0, pair = 0, items = 0;
  for (; leaf < leaves.size() || pair < pairs; ++items) {
    const std::uint64_t package =
        pair < pairs ? below[2 * pair] + below[2 * pair + 1] : UINT64_MAX;
    const bool is_leaf = leaf < leaves.size() && leaves[leaf].count <= package;
    level.is_leaf[items] = is_leaf;
    weights[items] = is_leaf ? leaves[leaf++].count : package;
    if (!is_leaf) ++pair;
  }
  level.items = items;
  return items;
}

std::uint16_t reversed(std::uint32_t code, unsigned length) noexcept {
  std::uint32_t bits = 0;
  for (unsigned i = 0; i < length; ++i)
    bits |= (code >> i & 1) << (length - 1 - i);
  return static_cast<std::uint16_t>(bits);
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
  std::sort(leaves.begin(), leaves.end(), [](const Leaf& a, const Leaf& b) {
    return a.count != b.count ? a.count < b.count : a.symbol < b.symbol;
  });

  std::array<Level, kMostLength> levels;
  std::array<std::uint64_t, kMostItems> weights[2];
  std::size_t items = 0;
  for (int i = 0; i < most; ++i) {
    const std::span below = std::span(weights[i % 2]).first(items);
    items = merge(leaves, below, weights[1 - i % 2], levels[static_cast<unsigned>(i)]);
  }
  // The first 2n - 2 items of the last level are the code; every symbol among them, and
  // among what their packages consist of, gets one bit longer.
  std::fill(lengths.begin(), lengths.end(), std::uint8_t{0});
  std::size_t taken = 2 * used - 2;
  for (int i = most; i-- > 0;) {
    const Level& level = levels[static_cast<unsigned>(i)];
    const auto first = level.is_leaf.begin();
    const auto chosen = static_cast<std::size_t>(
        std::count(first, first + static_cast<std::ptrdiff_t>(taken), true));
    for (std::size_t leaf = 0; leaf < chosen; ++leaf)
      ++lengths[leaves[leaf].symbol];
    taken = 2 * (taken - chosen);
  }
}

bool assign_codes(std::span<const std::uint8_t> lengths, int most,
                  std::span<Code> codes) noexcept {
  std::array<std::uint32_t, kMostLength + 1> symbols{};
  for (const std::uint8_t length : lengths) {
    if (length > most) return false;
    ++symbols[length];
  }
  std::array<std::uint32_t, kMostLength + 1> next{};
  std::uint32_t code = 0;
  for (int length = 1; length <= most; ++length) {
    next[static_cast<unsigned>(length)] = code;
    code = (code + symbols[static_cast<unsigned>(length)]) * 2;
  }
  if (code != 2U << most) return false;  // more than fit, or codes without a symbol
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    const std::uint8_t length = lengths[s];
    codes[s] = {length == 0 ? std::uint16_t{0} : reversed(next[length]++, length),
                length};
  }
  return true;
}

void fill_table(std::span<const Code> codes, std::span<std::uint16_t> table) noexcept {
  for (std::size_t s = 0; s < codes.size(); ++s) {
    const Code code = codes[s];
    if (code.length == 0) continue;
    const auto entry = static_cast<std::uint16_t>(s | std::size_t{code.length} << 8);
    for (std::size_t i = code.bits; i < table.size(); i += std::size_t{1} << code.length)
      table[i] = entry;
  }
}

}  // namespace speckv::prefix
