// Any block of any shape through every codec: within the bound of bytes and, where a
// codec has one, of error, and the same bytes twice.
//
// Input: six bytes of shape (see layout_from), then the plain bytes, repeated to fill the
// layer.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "cxlspeckv/codec.hpp"

#include "support/blocks.hpp"
#include "support/codec_promise.hpp"

namespace {

using namespace speckv;
using Block = std::vector<std::byte>;

void expect(bool condition) {
  if (!condition) std::abort();
}

BlockLayout layout_from(std::span<const std::uint8_t> shape) {
  BlockLayout layout;
  layout.layers = 1;
  layout.kv_heads = 1 + shape[0] % 3;
  layout.dtype = DType{static_cast<std::uint8_t>(shape[1] % 4)};
  layout.kind = shape[2] % 4 == 0 ? BlockLayout::Kind::latent : BlockLayout::Kind::kv;
  layout.tokens = 1 + shape[3] % 40;
  // Half of the shapes have channels that every codec takes.
  layout.head_dim = shape[4] % 2 == 0 ? 16U * (1 + shape[5] % 8) : 1U + shape[5];
  return layout;
}

Block fill_from(Bytes seed, std::size_t size) {
  Block block(size);
  for (std::size_t i = 0; i < size && !seed.empty(); ++i)
    block[i] = seed[i % seed.size()];
  return block;
}

bool all_finite(DType dtype, const Block& plain) {
  for (std::size_t i = 0; i < plain.size() / 2; ++i) {
    const std::uint32_t magnitude = test::bits_at(plain, i) & 0x7FFF;
    if (magnitude >= test::format_of(dtype).infinity()) return false;
  }
  return true;
}

// The bound of the layer as a whole: looser than that of each group, which the
// conformance tests check, but true for every lossy codec.
void expect_close(const BlockLayout& layout, const Block& plain, const Block& back) {
  const DType dtype = layout.dtype;
  double low = 0, high = 0;
  for (std::size_t i = 0; i < plain.size() / 2; ++i) {
    const double x = test::value_of(dtype, test::bits_at(plain, i));
    low = std::min(low, x);
    high = std::max(high, x);
  }
  const double scale = std::max((high - low) / 15, std::max(-low, high) / 127);
  const double slack = std::max(-low, high) * 0.01 + test::format_of(dtype).unit();
  for (std::size_t i = 0; i < plain.size() / 2; ++i) {
    const double x = test::value_of(dtype, test::bits_at(plain, i));
    const double y = test::value_of(dtype, test::bits_at(back, i));
    expect(std::abs(x - y) <= 0.52 * scale + slack);
  }
}

void round_trip(const Codec& codec, const BlockLayout& layout, const Block& plain) {
  const bool exact = test::is_exact(codec);
  Block out(codec.max_layer_bytes(layout), std::byte{0xCD});
  const auto used = codec.encode({layout}, plain, out);
  expect(used.ok() == (exact || all_finite(layout.dtype, plain)));
  if (!used) {
    expect(used.error().code() == Code::unsupported);
    return;
  }
  expect(*used <= out.size());
  Block again(out.size(), std::byte{0xEF});
  expect(*codec.encode({layout}, plain, again) == *used);
  out.resize(*used);
  again.resize(*used);
  expect(out == again);

  Block back(plain.size());
  expect(codec.decode({layout}, out, back) == Code::ok);
  if (exact) {
    expect(back == plain);
  } else if (test::is_bounded(codec)) {
    expect_close(layout, plain, back);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kShape = 6;
  if (size < kShape) return 0;
  const BlockLayout layout = layout_from({data, kShape});
  expect(layout.validate().ok());
  const Bytes seed = std::as_bytes(std::span(data + kShape, size - kShape));
  const Block plain = fill_from(seed, layout.layer_bytes());
  for (const Codec* codec : builtin_codecs()) {
    if (codec->supports(layout)) round_trip(*codec, layout, plain);
  }
  return 0;
}
