// Layers in the order of an engine's pages: K and V side by side for every head and
// token.
#include <gtest/gtest.h>

#include "codec/builtin.hpp"
#include "support/blocks.hpp"

namespace speckv {
namespace {

using Block = std::vector<std::byte>;

Block encoded(std::string_view name, const BlockLayout& layout, const Block& plain) {
  const Codec& codec = *find_codec(name);
  Block out(codec.max_layer_bytes(layout));
  const auto used = codec.encode({layout}, plain, out);
  EXPECT_TRUE(used.ok());
  out.resize(used ? *used : 0);
  return out;
}

Block decoded(std::string_view name, const BlockLayout& layout, const Block& bytes) {
  Block out(layout.layer_bytes());
  EXPECT_EQ(find_codec(name)->decode({layout}, bytes, out), Code::ok);
  return out;
}

// A kv layer as engines keep it: per head and token a row of K, then a row of V.
Block interleave(const BlockLayout& layout, const Block& kv) {
  Block out(kv.size());
  const auto row = static_cast<std::ptrdiff_t>(layout.head_dim * bytes_of(layout.dtype));
  const auto half = static_cast<std::ptrdiff_t>(kv.size()) / 2;
  for (std::ptrdiff_t i = 0; i < half / row; ++i) {
    std::copy_n(kv.begin() + i * row, row, out.begin() + 2 * i * row);
    std::copy_n(kv.begin() + half + i * row, row, out.begin() + (2 * i + 1) * row);
  }
  return out;
}

TEST(Interleaved, is_encoded_to_the_bytes_of_the_kv_layer_with_its_values) {
  for (const std::uint32_t head_dim : {16U, 80U, 320U}) {
    BlockLayout kv{.layers = 1, .kv_heads = 3, .head_dim = head_dim, .tokens = 17};
    BlockLayout pages = kv;
    pages.kind = BlockLayout::Kind::interleaved;
    ASSERT_EQ(pages.layer_bytes(), kv.layer_bytes());
    for (const test::Fill fill : test::kFills) {
      const Block plain = test::make_block(kv, fill, 31), page = interleave(kv, plain);
      for (const Codec* codec : builtin_codecs()) {
        if (!codec->supports(pages)) continue;
        SCOPED_TRACE(std::string(codec->name()) + std::to_string(head_dim));
        const Block bytes = encoded(codec->name(), pages, page);
        if (codec->id() == CodecId::raw) {
          EXPECT_EQ(bytes, page);
          continue;
        }
        EXPECT_EQ(bytes, encoded(codec->name(), kv, plain));
        EXPECT_EQ(decoded(codec->name(), pages, bytes),
                  interleave(kv, decoded(codec->name(), kv, bytes)));
      }
    }
  }
}

}  // namespace
}  // namespace speckv
