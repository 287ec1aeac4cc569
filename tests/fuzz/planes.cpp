// Any two planes: nothing is read or written outside their spans, the answer is ok or
// corrupted, and the first is taken with a sound second exactly if kvq4 takes it alone.
//
// Input: byte 0 picks the layout (its lower bits), and whether what follows changes a
// good pair (bit 7: 4 bytes say where, 4 what is there) or is both planes' bytes, as far
// as they go.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "cxlspeckv/kvq4_planes.hpp"

#include "base/endian.hpp"
#include "codec/builtin.hpp"
#include "support/blocks.hpp"

namespace {

using namespace speckv;
using Block = std::vector<std::byte>;

constexpr BlockLayout kLayouts[] = {
    {1, 1, 16, 16, DType::f16},
    {1, 2, 80, 17, DType::bf16, BlockLayout::Kind::interleaved},
    {1, 1, 320, 16, DType::f16, BlockLayout::Kind::latent},
};

void require(bool holds) {
  if (!holds) std::abort();
}

struct Pair {
  Block plain, first, second;
};

Pair make_pair(const BlockLayout& layout) {
  Pair pair{test::make_block(layout, test::Fill::normal, 1), {}, {}};
  pair.first.resize(kvq4_codec().max_layer_bytes(layout));
  pair.second.resize(second_plane_bytes(layout));
  require(kvq4_codec().encode({layout}, pair.plain, pair.first).ok());
  require(encode_second_plane(layout, pair.plain, pair.first, pair.second) == Code::ok);
  return pair;
}

void put(Pair& pair, std::uint64_t at, std::byte value) {
  at %= pair.first.size() + pair.second.size();
  (at < pair.first.size() ? pair.first[at] : pair.second[at - pair.first.size()]) = value;
}

// Half of the changes go to the first plane's parameters.
void change(Pair& pair, Bytes changes) {
  for (; changes.size() >= 8; changes = changes.subspan(8)) {
    const auto where = load_le<std::uint32_t>(changes.data());
    const std::uint64_t at = where % 2 == 0 ? where / 2 % 64 : where / 2;
    for (std::uint64_t i = 0; i < 4; ++i)
      put(pair, at + i, changes[4 + i]);
  }
}

void check(const BlockLayout& layout, const Pair& pair) {
  Block coarse(layout.layer_bytes()), fine(layout.layer_bytes());
  const Code alone = kvq4_codec().decode({layout}, pair.first, coarse);
  require(alone == Code::ok || alone == Code::corrupted);
  const Block sound(pair.second.size());
  require(decode_planes(layout, pair.first, sound, fine) == alone);
  const Code both = decode_planes(layout, pair.first, pair.second, fine);
  require(both == Code::corrupted || both == alone);
  Block again(pair.second.size());
  const Code encoded = encode_second_plane(layout, pair.plain, pair.first, again);
  require(encoded == Code::ok || (encoded == Code::corrupted && alone != Code::ok));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const BlockLayout& layout = kLayouts[(data[0] & 127) % std::size(kLayouts)];
  const Bytes rest = std::as_bytes(std::span(data, size)).subspan(1);
  static const Pair sound[] = {make_pair(kLayouts[0]), make_pair(kLayouts[1]),
                               make_pair(kLayouts[2])};
  Pair pair = sound[&layout - kLayouts];
  if ((data[0] & 128) != 0) {
    change(pair, rest);
    if (rest.size() < 8) {
      Block fine(layout.layer_bytes());
      require(decode_planes(layout, pair.first, pair.second, fine) == Code::ok);
    }
  } else {
    for (std::uint64_t i = 0; i < rest.size(); ++i)
      put(pair, i, rest[i]);
  }
  check(layout, pair);
  return 0;
}
