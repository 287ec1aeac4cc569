// Blocks without rows: their frames are those of the kv blocks with their values.
#include "codec/turn.hpp"

#include <gtest/gtest.h>

#include "codec/frame.hpp"
#include "support/blocks.hpp"

namespace speckv {
namespace {

using test::Fill;
using Block = std::vector<std::byte>;

constexpr BlockKey kKey{1, 2};

using Kind = BlockLayout::Kind;

// Where a value lies in one head's K or V: the definitions, value by value.
std::size_t place(const BlockLayout& l, bool is_value, std::size_t t, std::size_t c) {
  const std::size_t tokens = l.tokens, channels = l.head_dim;
  if (l.kind == Kind::transposed) return is_value ? t * channels + c : c * tokens + t;
  if (is_value) return ((c / 16 * (tokens / 2) + t / 2) * 16 + c % 16) * 2 + t % 2;
  return ((t / 16 * (channels / 2) + c / 2) * 16 + t % 16) * 2 + c % 2;
}

// A kv block in the order of `pages`.
Block turned(const BlockLayout& pages, const Block& plain) {
  Block out(plain.size());
  const std::size_t width = bytes_of(pages.dtype);
  const std::size_t unit = std::size_t{pages.tokens} * pages.head_dim;
  for (std::size_t i = 0; i < plain.size() / width; ++i) {
    const std::size_t channel = i % pages.head_dim;
    const std::size_t token = i / pages.head_dim % pages.tokens;
    const std::size_t head = i / unit % pages.kv_heads;
    const std::size_t value = i / unit / pages.kv_heads % 2;
    const std::size_t layer = i / unit / pages.kv_heads / 2;
    const std::size_t to = ((layer * pages.kv_heads + head) * 2 + value) * unit +
                           place(pages, value != 0, token, channel);
    std::memcpy(out.data() + to * width, plain.data() + i * width, width);
  }
  return out;
}

template <class Span, class Whole>
std::vector<Span> cut(Whole whole, std::size_t piece) {
  std::vector<Span> pieces;
  for (std::size_t at = 0; at < whole.size(); at += piece)
    pieces.push_back(whole.subspan(at, std::min(piece, whole.size() - at)));
  return pieces;
}

Block encode(const BlockLayout& layout, const Codec& codec, const Block& plain,
             std::size_t piece) {
  const auto pieces = cut<Bytes>(Bytes(plain), piece);
  const FrameSource source{.key = kKey, .pieces = pieces};
  const LayerCodecs codecs(codec);
  Block out(max_frame_bytes(layout, codecs)), scratch(frame_scratch_bytes(layout));
  out.resize(encode_frame(layout, codecs, source, out, scratch, false));
  return out;
}

Block decode(const BlockLayout& layout, const Block& frame, std::size_t piece) {
  FrameInfo info;
  EXPECT_EQ(read_frame_header(layout, kKey, frame, frame.size(), info), Code::ok);
  Block plain(layout.bytes()), scratch(frame_scratch_bytes(layout));
  for (std::uint32_t i = 0; i < layout.layers; ++i) {
    const FrameLayer layer = frame_layer(frame, i);
    const auto pieces = cut<MutableBytes>(
        MutableBytes(plain).subspan(i * layout.layer_bytes(), layout.layer_bytes()),
        piece);
    for (const bool stream : {false, true}) {
      EXPECT_EQ(decode_layer(layout, info, i, layer,
                             Bytes(frame).subspan(layer.offset, layer.bytes), {}, pieces,
                             scratch, stream),
                Code::ok);
    }
  }
  return plain;
}

constexpr BlockLayout kLayouts[] = {{2, 3, 64, 64, DType::bf16, Kind::transposed},
                                    {1, 2, 80, 16, DType::f16, Kind::transposed},
                                    {2, 1, 128, 20, DType::bf16, Kind::transposed},
                                    {1, 2, 7, 5, DType::f16, Kind::transposed},
                                    {1, 1, 9, 24, DType::bf16, Kind::transposed},
                                    {1, 2, 64, 16, DType::f32, Kind::transposed},
                                    {1, 3, 11, 8, DType::f32, Kind::transposed},
                                    {1, 2, 64, 17, DType::f8e4m3, Kind::transposed},
                                    {2, 3, 64, 64, DType::bf16, Kind::tiled},
                                    {1, 2, 80, 16, DType::f16, Kind::tiled},
                                    {1, 1, 16, 48, DType::bf16, Kind::tiled}};

TEST(Turn, rows_are_those_of_the_kv_layer_and_turn_back) {
  for (BlockLayout pages : kLayouts) {
    pages.layers = 1;
    const Block rows = test::make_block(coded_layout(pages), Fill::any_finite, 3);
    const Block plain = turned(pages, rows);
    Block there(rows.size()), back(rows.size());
    to_rows(pages, plain, there);
    EXPECT_EQ(there, rows) << pages.head_dim << " x " << pages.tokens;
    from_rows(pages, rows, back);
    EXPECT_EQ(back, plain) << pages.head_dim << " x " << pages.tokens;
  }
}

TEST(Turn, a_block_without_rows_is_coded_as_the_kv_block_of_its_values) {
  for (const BlockLayout& pages : kLayouts) {
    const BlockLayout kv = coded_layout(pages);
    const Block plain = test::make_block(kv, Fill::offset, 5);
    const Block page = turned(pages, plain);
    for (const Codec* codec : builtin_codecs()) {
      SCOPED_TRACE(std::string(codec->name()) + " " + std::to_string(kv.head_dim));
      const Block wanted = encode(kv, *codec, plain, ~std::size_t{0});
      for (const std::size_t piece : {std::size_t{100}, ~std::size_t{0}}) {
        const Block frame = encode(pages, *codec, page, piece);
        if (frame_layer(wanted, 0).codec != CodecId::raw) {
          EXPECT_EQ(frame, wanted);
        }
        EXPECT_EQ(decode(pages, frame, piece), turned(pages, decode(kv, wanted, piece)));
      }
    }
  }
}

TEST(Turn, a_layer_that_is_refused_stays_as_it_was) {
  const BlockLayout& pages = kLayouts[0];
  Block page = turned(pages, test::make_block(coded_layout(pages), Fill::normal, 7));
  const std::uint16_t infinity = 0x7F80;
  std::memcpy(page.data() + pages.layer_bytes() + 2 * 77, &infinity, sizeof infinity);
  const Block frame = encode(pages, *find_codec("kvq4"), page, 1000);
  EXPECT_EQ(frame_layer(frame, 0).codec, CodecId::kvq4);
  EXPECT_EQ(frame_layer(frame, 1).codec, CodecId::raw);
  const auto second = static_cast<std::ptrdiff_t>(pages.layer_bytes());
  const Block back = decode(pages, frame, 1000);
  EXPECT_TRUE(std::equal(page.begin() + second, page.end(), back.begin() + second));
}

TEST(Turn, codecs_take_the_coded_layout_only) {
  BlockLayout pages = kLayouts[0];
  for (const Kind kind : {Kind::transposed, Kind::tiled}) {
    pages.kind = kind;
    for (const Codec* codec : builtin_codecs()) {
      EXPECT_EQ(codec->supports(pages), codec->id() == CodecId::raw);
      EXPECT_TRUE(codec->supports(coded_layout(pages)));
    }
  }
}

}  // namespace
}  // namespace speckv
