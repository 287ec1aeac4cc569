// Frames: what encode_frame() writes comes back, and nothing else is ever taken for it.
#include "codec/frame.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "support/blocks.hpp"

namespace speckv {
namespace {

using test::Fill;
using Block = std::vector<std::byte>;

constexpr BlockKey kKey{0x0123456789ABCDEF, 0xFEDCBA9876543210};
constexpr BlockLayout kSmall{
    .layers = 3, .kv_heads = 1, .head_dim = 16, .tokens = 16, .dtype = DType::f16};
// Layers of 99 x 3 x 2 x 2 bytes: not a multiple of the frame's alignment.
constexpr BlockLayout kOdd{
    .layers = 2, .kv_heads = 3, .head_dim = 3, .tokens = 33, .dtype = DType::bf16};

std::vector<Bytes> cut(const Block& block, std::size_t piece) {
  std::vector<Bytes> pieces;
  for (std::size_t at = 0; at < block.size(); at += piece) {
    pieces.push_back(Bytes(block).subspan(at, std::min(piece, block.size() - at)));
  }
  return pieces;
}

Block encode(const BlockLayout& layout, const LayerCodecs& codecs, const Block& plain,
             std::size_t piece = ~std::size_t{0}, std::uint32_t position = 640,
             bool stream = false) {
  const std::vector<Bytes> pieces = cut(plain, std::min(piece, plain.size()));
  const FrameSource source{.key = kKey, .first_position = position, .pieces = pieces};
  Block out(max_frame_bytes(layout, codecs), std::byte{0xEE});
  Block scratch(frame_scratch_bytes(layout));
  out.resize(encode_frame(layout, codecs, source, out, scratch, stream));
  return out;
}

// Reads a whole frame as a store does: header, then every layer on its own.
Code decode(const BlockLayout& layout, Bytes frame, Block& plain, BlockKey key = kKey,
            std::size_t piece = ~std::size_t{0}) {
  if (frame.size() < frame_header_bytes(layout.layers)) return Code::corrupted;
  FrameInfo info;
  Code code = read_frame_header(layout, key, frame, frame.size(), info);
  if (code != Code::ok) return code;
  plain.assign(layout.bytes(), std::byte{0});
  Block scratch(frame_scratch_bytes(layout));
  for (std::uint32_t i = 0; i < layout.layers && code == Code::ok; ++i) {
    const FrameLayer layer = frame_layer(frame, i);
    std::vector<MutableBytes> pieces;
    const MutableBytes whole =
        MutableBytes(plain).subspan(i * layout.layer_bytes(), layout.layer_bytes());
    for (std::size_t at = 0; at < whole.size();) {
      pieces.push_back(whole.subspan(at, std::min(piece, whole.size() - at)));
      at += pieces.back().size();
    }
    code = decode_layer(layout, info, i, layer, frame.subspan(layer.offset, layer.bytes),
                        {}, pieces, scratch, false);
  }
  return code;
}

const Codec& codec(std::string_view name) {
  return *find_codec(name);
}

TEST(Frame, says_what_it_holds) {
  const Block plain = test::make_block(kSmall, Fill::normal, 1);
  const Block frame = encode(kSmall, LayerCodecs(codec("raw")), plain);
  FrameInfo info;
  ASSERT_EQ(read_frame_header(kSmall, kKey, frame, frame.size(), info), Code::ok);
  EXPECT_EQ(info.key, kKey);
  EXPECT_EQ(info.layers, 3U);
  EXPECT_EQ(info.first_position, 640U);
  EXPECT_EQ(info.plain_bytes, plain.size());
  EXPECT_EQ(info.frame_bytes, frame.size());
  EXPECT_EQ(frame.size(), 128 + plain.size());
  for (std::uint32_t i = 0; i < 3; ++i) {
    const FrameLayer layer = frame_layer(frame, i);
    EXPECT_EQ(layer.offset, raw_layer_offset(kSmall, i));
    EXPECT_EQ(layer.offset % kFrameAlign, 0U);
    EXPECT_EQ(layer.bytes, kSmall.layer_bytes());
    EXPECT_EQ(layer.codec, CodecId::raw);
  }
}

TEST(Frame, raw_layers_come_back_however_the_block_is_cut) {
  for (const BlockLayout& layout : {kSmall, kOdd}) {
    const Block plain = test::make_block(layout, Fill::any_finite, 2);
    const Block whole = encode(layout, LayerCodecs(codec("raw")), plain);
    for (const std::size_t piece : {1UL, 7UL, 64UL, 333UL, 1024UL, 5000UL}) {
      for (const bool stream : {false, true}) {
        EXPECT_EQ(encode(layout, LayerCodecs(codec("raw")), plain, piece, 640, stream),
                  whole);
      }
      Block back;
      EXPECT_EQ(decode(layout, whole, back, kKey, piece), Code::ok);
      EXPECT_EQ(back, plain);
    }
  }
}

TEST(Frame, coded_layers_do_not_depend_on_how_the_block_is_cut) {
  const Block plain = test::make_block(kSmall, Fill::normal, 3);
  for (const Codec* each : builtin_codecs()) {
    const Block whole = encode(kSmall, LayerCodecs(*each), plain);
    Block first, again;
    ASSERT_EQ(decode(kSmall, whole, first), Code::ok);
    for (const std::size_t piece : {1UL, 100UL, 1024UL, 1500UL}) {
      EXPECT_EQ(encode(kSmall, LayerCodecs(*each), plain, piece), whole) << each->name();
      EXPECT_EQ(decode(kSmall, whole, again, kKey, piece), Code::ok);
      EXPECT_EQ(again, first) << each->name();
    }
  }
}

TEST(Frame, empty_pieces_are_nothing) {
  const Block plain = test::make_block(kSmall, Fill::normal, 4);
  const std::vector<Bytes> pieces = {{}, Bytes(plain).first(10),   {},
                                     {}, Bytes(plain).subspan(10), {}};
  for (const Codec* each : builtin_codecs()) {
    const LayerCodecs codecs(*each);
    Block out(max_frame_bytes(kSmall, codecs)), scratch(kSmall.layer_bytes());
    const FrameSource source{.key = kKey, .first_position = 640, .pieces = pieces};
    out.resize(encode_frame(kSmall, codecs, source, out, scratch, false));
    EXPECT_EQ(out, encode(kSmall, codecs, plain)) << each->name();
  }
}

TEST(Frame, each_layer_may_have_its_own_codec) {
  const std::vector<const Codec*> each = {&codec("int8"), &codec("raw"), &codec("kvq4")};
  const Block plain = test::make_block(kSmall, Fill::normal, 5);
  const Block frame = encode(kSmall, LayerCodecs(each), plain);
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(frame_layer(frame, i).codec, each[i]->id());
  }
  Block back;
  ASSERT_EQ(decode(kSmall, frame, back), Code::ok);
  const auto middle = static_cast<std::ptrdiff_t>(kSmall.layer_bytes());
  EXPECT_TRUE(std::equal(plain.begin() + middle, plain.begin() + 2 * middle,
                         back.begin() + middle));
  EXPECT_NE(plain, back);
}

// NaN and infinity are never silently changed.
TEST(Frame, a_layer_that_its_codec_refuses_is_written_raw) {
  for (const int pattern : {0x7C00, 0xFC00, 0x7E01, 0xFFFF}) {
    const auto odd = static_cast<std::uint16_t>(pattern);
    Block plain = test::make_block(kSmall, Fill::normal, 6);
    const std::size_t in_second = kSmall.layer_bytes() + 2 * 77;
    store_le(plain.data() + in_second, odd);
    for (const std::string_view name : {"int8", "int8_delta_rle", "kvq4"}) {
      const Block frame = encode(kSmall, LayerCodecs(codec(name)), plain);
      EXPECT_EQ(frame_layer(frame, 0).codec, codec(name).id());
      EXPECT_EQ(frame_layer(frame, 1).codec, CodecId::raw);
      Block back;
      ASSERT_EQ(decode(kSmall, frame, back), Code::ok);
      EXPECT_EQ(load_le<std::uint16_t>(back.data() + in_second), odd);
    }
  }
}

TEST(Frame, a_layout_that_its_codec_cannot_take_is_written_raw) {
  BlockLayout wide = kSmall;
  wide.dtype = DType::f32;
  const Block plain = test::make_block(wide, Fill::normal, 7);
  for (const Codec* each : builtin_codecs()) {
    const Block frame = encode(wide, LayerCodecs(*each), plain);
    EXPECT_EQ(frame_layer(frame, 0).codec, CodecId::raw);
    Block back;
    ASSERT_EQ(decode(wide, frame, back), Code::ok);
    EXPECT_EQ(back, plain);
  }
}

TEST(Frame, a_layer_never_grows) {
  BlockLayout tiny{
      .layers = 2, .kv_heads = 1, .head_dim = 1, .tokens = 1, .dtype = DType::f16};
  const Block plain = test::make_block(tiny, Fill::normal, 8);
  const Block frame = encode(tiny, LayerCodecs(codec("int8")), plain);
  EXPECT_EQ(frame_layer(frame, 0).codec, CodecId::raw);
  EXPECT_EQ(frame.size(), frame_header_bytes(2) + 2 * kFrameAlign);
}

// Flips every bit of a frame in turn; what is delivered is either refused or unharmed,
// and it may only be unharmed where the bit is padding behind a layer.
void expect_every_flip_found(const BlockLayout& layout, Block frame) {
  Block sound, back;
  ASSERT_EQ(decode(layout, frame, sound), Code::ok);
  std::vector<bool> padding(frame.size(), true);
  std::fill_n(padding.begin(), frame_header_bytes(layout.layers), false);
  for (std::uint32_t i = 0; i < layout.layers; ++i) {
    const FrameLayer layer = frame_layer(frame, i);
    std::fill_n(padding.begin() + static_cast<std::ptrdiff_t>(layer.offset), layer.bytes,
                false);
  }
  std::size_t found = 0;
  for (std::size_t bit = 0; bit < 8 * frame.size(); ++bit) {
    frame[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    const Code code = decode(layout, frame, back);
    if (padding[bit / 8]) {
      ASSERT_TRUE(code == Code::ok && back == sound) << bit;
    } else {
      ASSERT_EQ(code, Code::corrupted) << bit;
      ++found;
    }
    frame[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  }
  EXPECT_GE(found, 8 * frame_header_bytes(layout.layers));
}

TEST(Frame, every_flipped_bit_is_found_under_every_codec) {
  for (const Codec* each : builtin_codecs()) {
    SCOPED_TRACE(each->name());
    const Block plain = test::make_block(kSmall, Fill::normal, 9);
    expect_every_flip_found(kSmall, encode(kSmall, LayerCodecs(*each), plain));
  }
}

TEST(Frame, every_flipped_bit_is_found_or_is_padding_in_odd_layouts) {
  for (const std::string_view name : {"raw", "int8_delta_rle"}) {
    SCOPED_TRACE(name);
    const Block plain = test::make_block(kOdd, Fill::runs, 10);
    expect_every_flip_found(kOdd, encode(kOdd, LayerCodecs(codec(name)), plain));
  }
}

TEST(Frame, every_truncation_is_refused) {
  for (const Codec* each : builtin_codecs()) {
    const Block plain = test::make_block(kSmall, Fill::normal, 11);
    const Block frame = encode(kSmall, LayerCodecs(*each), plain);
    Block back;
    FrameInfo info;
    for (std::size_t size = 0; size < frame.size(); ++size) {
      ASSERT_EQ(decode(kSmall, Bytes(frame).first(size), back), Code::corrupted) << size;
      // The header is there, but the rest was cut.
      ASSERT_EQ(read_frame_header(kSmall, kKey, frame, size, info), Code::corrupted)
          << size;
    }
    for (std::uint32_t i = 0; i < kSmall.layers; ++i) {
      FrameLayer layer = frame_layer(frame, i);
      ASSERT_EQ(read_frame_header(kSmall, kKey, frame, frame.size(), info), Code::ok);
      Block plain_layer(kSmall.layer_bytes()), scratch(kSmall.layer_bytes());
      const MutableBytes piece = plain_layer;
      const Bytes cut_short = Bytes(frame).subspan(layer.offset, layer.bytes - 1);
      EXPECT_EQ(decode_layer(kSmall, info, i, layer, cut_short, {}, {&piece, 1}, scratch,
                             false),
                Code::corrupted);
    }
  }
}

TEST(Frame, another_key_or_layout_is_refused) {
  const Block plain = test::make_block(kSmall, Fill::normal, 12);
  const Block frame = encode(kSmall, LayerCodecs(codec("raw")), plain);
  Block back;
  for (unsigned bit = 0; bit < 64; ++bit) {
    EXPECT_EQ(decode(kSmall, frame, back, {kKey.high ^ (1ULL << bit), kKey.low}),
              Code::corrupted);
    EXPECT_EQ(decode(kSmall, frame, back, {kKey.high, kKey.low ^ (1ULL << bit)}),
              Code::corrupted);
  }
  BlockLayout other = kSmall;
  other.layers = 2;
  EXPECT_EQ(decode(other, frame, back), Code::corrupted);
  other = kSmall;
  other.tokens = 32;
  EXPECT_EQ(decode(other, frame, back), Code::corrupted);
}

// Changes a header field and makes the checksum right again: bytes that no bit flip
// makes, but an enemy or a later version could.
Block forged(Block frame, const BlockLayout& layout, std::size_t at, std::byte value) {
  frame[at] = value;
  store_le(frame.data() + 44, std::uint32_t{0});
  const Bytes header = Bytes(frame).first(frame_header_bytes(layout.layers));
  store_le(frame.data() + 44, crc32c(0, header));
  return frame;
}

TEST(Frame, a_header_that_lies_under_a_right_checksum_is_refused) {
  const Block plain = test::make_block(kSmall, Fill::normal, 13);
  const Block frame = encode(kSmall, LayerCodecs(codec("int8")), plain);
  Block back;
  ASSERT_EQ(decode(kSmall, forged(frame, kSmall, 0, frame[0]), back), Code::ok);
  // Magic, version, layers, key, plain and frame bytes; not the position, which is free.
  for (std::size_t at = 0; at < 40; ++at) {
    const Block lie = forged(frame, kSmall, at, frame[at] ^ std::byte{0x40});
    EXPECT_EQ(decode(kSmall, lie, back), Code::corrupted) << at;
  }
  // The first entry: codec unknown, reserved bits set, lengths 0 and huge, raw of int8's
  // size.
  const Block raw = encode(kSmall, LayerCodecs(codec("raw")), plain);
  for (const std::size_t at : {56UL, 57UL, 58UL, 59UL, 60UL, 61UL, 62UL, 63UL}) {
    EXPECT_EQ(decode(kSmall, forged(raw, kSmall, at, std::byte{0x80}), back),
              Code::corrupted);
    // The checksum of the units' checksums is for who reads these.
    EXPECT_EQ(decode(kSmall, forged(frame, kSmall, at, std::byte{0x80}), back),
              at < 60 ? Code::corrupted : Code::ok);
  }
  EXPECT_EQ(decode(kSmall, forged(frame, kSmall, 51, std::byte{0xFF}), back),
            Code::corrupted);
  EXPECT_EQ(decode(kSmall, forged(frame, kSmall, 48, std::byte{0x01}), back),
            Code::corrupted);
  EXPECT_EQ(decode(kSmall, forged(frame, kSmall, 56, std::byte{1}), back),
            Code::corrupted);
}

TEST(Frame, a_sealed_tail_is_the_frame_that_encoding_gives) {
  for (const BlockLayout& layout : {kSmall, kOdd}) {
    const Block plain = test::make_block(layout, Fill::normal, 14);
    const Block wanted = encode(layout, LayerCodecs(codec("raw")), plain, 100, 64);
    Block frame(raw_layer_offset(layout, layout.layers), std::byte{0xEE});
    for (std::uint32_t i = 0; i < layout.layers; ++i) {
      const auto size = static_cast<std::ptrdiff_t>(layout.layer_bytes());
      std::copy_n(
          plain.begin() + i * size, size,
          frame.begin() + static_cast<std::ptrdiff_t>(raw_layer_offset(layout, i)));
    }
    EXPECT_EQ(seal_raw_frame(layout, kKey, 64, frame), wanted.size());
    EXPECT_EQ(frame, wanted);
  }
}

TEST(Frame, stays_within_its_bound) {
  for (const Codec* each : builtin_codecs()) {
    for (const Fill fill : test::kFills) {
      const Block plain = test::make_block(kSmall, fill, 15);
      const LayerCodecs codecs(*each);
      const Block frame = encode(kSmall, codecs, plain);
      EXPECT_LE(frame.size(), max_frame_bytes(kSmall, codecs));
      EXPECT_LE(frame.size(), raw_layer_offset(kSmall, kSmall.layers));
    }
  }
}

}  // namespace
}  // namespace speckv
