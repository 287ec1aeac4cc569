// Tokens appended to an encoded layer: the bytes of the whole, whatever the steps, and by
// every kernel.
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "codec/append.hpp"
#include "codec/builtin.hpp"
#include "codec/kernels.hpp"
#include "support/blocks.hpp"

namespace speckv {
namespace {

using test::Fill;
using Block = std::vector<std::byte>;
using Kind = BlockLayout::Kind;

const BlockLayout kLayouts[] = {
    {1, 2, 128, 64, DType::f16, Kind::kv},
    {1, 3, 64, 16, DType::bf16, Kind::kv},
    {1, 2, 80, 19, DType::f16, Kind::interleaved},
    {1, 1, 576, 16, DType::f16, Kind::latent},
    {1, 2, 112, 33, DType::bf16, Kind::latent},
    {1, 1, 1024, 20, DType::bf16, Kind::latent},
    {1, 2, 7, 5, DType::f16, Kind::kv},
    {1, 1, 64, 16, DType::f32, Kind::kv},
    {1, 2, 48, 9, DType::f8e4m3, Kind::kv},
};

class Appending : public ::testing::TestWithParam<BlockLayout> {
 protected:
  const BlockLayout& layout() const { return GetParam(); }
  LayerContext context() const { return {layout()}; }

  Block encoded(const Codec& codec, const Block& plain) const {
    Block out(codec.max_layer_bytes(layout()), std::byte{0xA5});
    const auto used = codec.encode(context(), plain, out);
    EXPECT_TRUE(used.ok());
    EXPECT_EQ(used ? *used : 0, out.size());
    return out;
  }
  // The layer with zeros from a token on.
  Block until(Block plain, std::uint32_t token) const {
    const std::uint64_t row = std::uint64_t{layout().head_dim} * bytes_of(layout().dtype);
    for (std::uint64_t u = 0; u < layer_units(layout()); ++u) {
      const UnitRows rows = unit_rows(layout(), u);
      for (std::uint32_t t = token; t < layout().tokens; ++t)
        std::memset(plain.data() + rows.first + t * rows.stride, 0, row);
    }
    return plain;
  }
  Block make(std::uint64_t seed) const {
    if (has_16_bit_rows(layout()))
      return test::make_block(layout(), test::kFills[seed % std::size(test::kFills)],
                              seed);
    Block plain(layout().layer_bytes());
    std::mt19937 random(static_cast<std::uint32_t>(seed));
    for (std::byte& b : plain)
      b = static_cast<std::byte>(random());
    return plain;
  }
  Code append(const Codec& codec, std::uint32_t first, std::uint32_t count,
              const Block& plain, Block& bytes) const {
    return append_tokens(codec, context(), first, count, plain, bytes);
  }
};

TEST_P(Appending, gives_the_bytes_of_the_whole_after_every_step) {
  for (const CodecKernel& kernel : codec_kernels()) {
    if (!set_codec_kernel(kernel.name)) continue;
    for (const Codec* codec : builtin_codecs()) {
      if (!can_append(*codec, layout())) continue;
      SCOPED_TRACE(std::string(codec->name()) + " " + std::string(kernel.name));
      for (std::uint64_t seed = 0; seed < 12; ++seed) {
        std::mt19937_64 random(seed);
        const Block plain = make(seed);
        auto size = static_cast<std::uint32_t>(random() % (layout().tokens + 1));
        Block bytes = encoded(*codec, until(plain, size));
        while (size < layout().tokens) {
          const auto more =
              static_cast<std::uint32_t>(1 + random() % (layout().tokens - size));
          ASSERT_EQ(append(*codec, size, more, plain, bytes), Code::ok);
          size += more;
          ASSERT_TRUE(bytes == encoded(*codec, until(plain, size))) << size << " tokens";
        }
      }
    }
  }
  set_codec_kernel("");
}

TEST_P(Appending, is_refused_where_a_token_would_change_its_neighbours) {
  const Block plain = make(1);
  for (const Codec* codec : builtin_codecs()) {
    const bool apart = codec->id() == CodecId::raw || codec->id() == CodecId::int8 ||
                       (codec->id() == CodecId::kvq4 && layout().kind == Kind::latent);
    ASSERT_EQ(can_append(*codec, layout()), apart && codec->supports(layout()))
        << codec->name();
    if (can_append(*codec, layout())) continue;
    Block bytes(64, std::byte{0xA5});
    EXPECT_EQ(append(*codec, 0, 1, plain, bytes), Code::unsupported) << codec->name();
    EXPECT_EQ(bytes, Block(64, std::byte{0xA5}));
  }
}

TEST_P(Appending, changes_nothing_where_it_is_refused) {
  for (const Codec* codec : builtin_codecs()) {
    if (!can_append(*codec, layout())) continue;
    SCOPED_TRACE(codec->name());
    Block plain = make(2);
    const Block before = encoded(*codec, until(plain, 1));
    Block bytes = before;
    const std::uint32_t tokens = layout().tokens;
    EXPECT_EQ(append(*codec, 1, tokens, plain, bytes), Code::invalid_argument);
    EXPECT_EQ(append(*codec, tokens + 1, 0, plain, bytes), Code::invalid_argument);
    EXPECT_EQ(append(*codec, UINT32_MAX, 2, plain, bytes), Code::invalid_argument);
    Block shorter(bytes.begin(), bytes.end() - 1), less(plain.begin(), plain.end() - 1);
    EXPECT_EQ(append(*codec, 1, 1, plain, shorter), Code::invalid_argument);
    EXPECT_EQ(append(*codec, 1, 1, less, bytes), Code::invalid_argument);
    EXPECT_EQ(append(*codec, tokens, 0, plain, bytes), Code::ok) << "none are fine";
    EXPECT_EQ(bytes, before);
    if (codec->id() == CodecId::raw) continue;
    // An infinity in the very last value: the tokens before it are not written either.
    const auto infinity =
        static_cast<std::uint16_t>(test::format_of(layout().dtype).infinity());
    std::memcpy(plain.data() + plain.size() - 2, &infinity, 2);
    EXPECT_EQ(append(*codec, 1, tokens - 1, plain, bytes), Code::unsupported);
    EXPECT_EQ(bytes, before);
    EXPECT_EQ(append(*codec, 1, tokens - 2, plain, bytes), Code::ok) << "all but that";
  }
}

INSTANTIATE_TEST_SUITE_P(Every, Appending, ::testing::ValuesIn(kLayouts));

}  // namespace
}  // namespace speckv
