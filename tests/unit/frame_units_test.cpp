// One unit of a frame's layer, read alone: what the whole layer says, or nothing.
#include "codec/frame_units.hpp"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "codec/builtin.hpp"
#include "support/blocks.hpp"
#include "support/sample.hpp"

namespace speckv {
namespace {

using test::Fill;
using Block = std::vector<std::byte>;
using Kind = BlockLayout::Kind;

constexpr BlockKey kKey{1, 2};
constexpr BlockLayout kLayouts[] = {
    {2, 2, 64, 32, DType::f16},
    {2, 3, 64, 17, DType::bf16, Kind::interleaved},
    {2, 1, 128, 16, DType::f16, Kind::latent},
    {2, 1, 64, 32, DType::f16, Kind::tiled},
};

// A frame whose layers all have one codec, and its parts.
struct Frame {
  Frame(const BlockLayout& of, const Codec& codec) : layout(of) {
    const Block plain = test::make_block(layout, Fill::normal, 41);
    const Bytes piece = plain;
    const LayerCodecs codecs(codec);
    bytes.resize(max_frame_bytes(layout, codecs));
    Block scratch(frame_scratch_bytes(layout));
    bytes.resize(
        encode_frame(layout, codecs, {kKey, 0, {&piece, 1}, {}}, bytes, scratch, false));
    EXPECT_EQ(read_frame_header(layout, kKey, bytes, bytes.size(), info), Code::ok);
    layer = frame_layer(bytes, 1);
  }
  Bytes part(std::uint64_t first, std::uint64_t size) const {
    return Bytes(bytes).subspan(first, size);
  }
  Bytes directory() const {
    const Codec& codec = *find_codec(layer.codec);
    return part(layer.offset, codec.directory_bytes(coded_layout(layout)));
  }
  Bytes checks() const { return part(layer.checks_offset(), layer.checks_bytes()); }

  // Reads a unit of the second layer into rows that lie `stride` apart.
  Code read(std::uint64_t unit, Block& rows, std::uint64_t stride) const {
    const auto at = frame_unit(layout, layer, directory(), unit);
    if (!at) return at.error().code();
    return decode_unit(layout, info, 1, layer, unit,
                       {part(at->first, at->bytes), directory(), checks()}, {},
                       {rows, stride});
  }

  BlockLayout layout;
  Block bytes{};
  FrameInfo info{};
  FrameLayer layer{};
};

TEST(FrameUnits, each_is_that_of_the_layer_under_every_codec) {
  for (const BlockLayout& layout : kLayouts) {
    const BlockLayout coded = coded_layout(layout);
    for (const Codec* codec : builtin_codecs()) {
      SCOPED_TRACE(codec->name());
      const Frame frame(layout, *codec);
      if (frame.layer.codec == CodecId::raw) continue;  // not of this layout
      Block whole(coded.layer_bytes());
      ASSERT_EQ(codec->decode({coded, 1, 0},
                              frame.part(frame.layer.offset, frame.layer.bytes), whole),
                Code::ok);
      const std::uint64_t row = coded.head_dim * bytes_of(coded.dtype), stride = row + 64;
      for (std::uint64_t u = 0; u < layer_units(coded); ++u) {
        Block rows(coded.tokens * stride, std::byte{0x11});
        ASSERT_EQ(frame.read(u, rows, stride), Code::ok) << u;
        const UnitRows at = unit_rows(coded, u);
        for (std::uint64_t t = 0; t < coded.tokens; ++t) {
          const Bytes got = Bytes(rows).subspan(t * stride, stride);
          ASSERT_TRUE(std::ranges::equal(
              got.first(row), Bytes(whole).subspan(at.first + t * at.stride, row)))
              << "unit " << u << ", token " << t;
          ASSERT_TRUE(std::ranges::all_of(
              got.subspan(row), [](std::byte b) { return b == std::byte{0x11}; }));
        }
      }
    }
  }
}

TEST(FrameUnits, every_flipped_bit_is_found_and_hurts_no_other_unit) {
  const BlockLayout& layout = kLayouts[0];
  for (const char* name : {"int8", "int8_delta_rle", "kvq4"}) {
    SCOPED_TRACE(name);
    Frame frame(layout, *find_codec(name));
    ASSERT_EQ(frame.layer.check_lines, 1U);
    const std::uint64_t stride = layout.head_dim * 2;
    Block rows(layout.tokens * stride);
    const UnitSpan second = *frame_unit(layout, frame.layer, frame.directory(), 1);
    const std::size_t step = 1 + second.bytes / test::sampled(400);
    for (std::uint64_t i = 0; i < second.bytes; i += step) {
      std::byte& flipped = frame.bytes[second.first + i];
      flipped ^= std::byte{1} << (i % 8);
      ASSERT_EQ(frame.read(1, rows, stride), Code::corrupted) << "byte " << i;
      ASSERT_EQ(frame.read(0, rows, stride), Code::ok);
      flipped ^= std::byte{1} << (i % 8);
    }
    for (std::uint64_t bit = 0; bit < 8 * frame.layer.checks_bytes(); ++bit) {
      std::byte& flipped = frame.bytes[frame.layer.checks_offset() + bit / 8];
      flipped ^= std::byte{1} << (bit % 8);
      ASSERT_EQ(frame.read(0, rows, stride), Code::corrupted) << "bit " << bit;
      flipped ^= std::byte{1} << (bit % 8);
    }
  }
}

TEST(FrameUnits, one_in_the_place_of_another_is_refused) {
  const BlockLayout& layout = kLayouts[0];
  for (const char* name : {"int8", "int8_delta_rle", "kvq4"}) {
    const Frame frame(layout, *find_codec(name));
    const UnitSpan first = *frame_unit(layout, frame.layer, frame.directory(), 0);
    Block rows(layout.tokens * layout.head_dim * 2);
    const EncodedUnit wrong{frame.part(first.first, first.bytes), frame.directory(),
                            frame.checks()};
    EXPECT_EQ(decode_unit(layout, frame.info, 1, frame.layer, 1, wrong, {},
                          {rows, layout.head_dim * 2UL}),
              Code::corrupted);
    const EncodedUnit without{wrong.bytes, wrong.directory, {}};
    EXPECT_EQ(decode_unit(layout, frame.info, 1, frame.layer, 0, without, {},
                          {rows, layout.head_dim * 2UL}),
              Code::corrupted);
  }
}

// What the first version wrote: no lines behind layers.
Block first_version(const Frame& frame) {
  Block old(frame.bytes.begin(),
            frame.bytes.begin() +
                static_cast<std::ptrdiff_t>(frame_header_bytes(frame.layout.layers)));
  for (std::uint32_t i = 0; i < frame.layout.layers; ++i) {
    const FrameLayer layer = frame_layer(frame.bytes, i);
    const Bytes kept = frame.part(layer.offset, layer.checks_offset() - layer.offset);
    old.insert(old.end(), kept.begin(), kept.end());
    std::fill_n(old.begin() + static_cast<std::ptrdiff_t>(58 + 16 * i), 6, std::byte{0});
  }
  store_le(old.data() + 4, std::uint16_t{1});
  store_le(old.data() + 32, std::uint64_t{old.size()});
  return old;
}

Code seal(Frame& frame) {
  store_le(frame.bytes.data() + 44, std::uint32_t{0});
  const Bytes header = Bytes(frame.bytes).first(frame_header_bytes(frame.layout.layers));
  store_le(frame.bytes.data() + 44, crc32c(0, header));
  return read_frame_header(frame.layout, kKey, frame.bytes, frame.bytes.size(),
                           frame.info);
}

TEST(FrameUnits, frames_of_the_first_version_are_read_as_whole_layers) {
  for (const char* name : {"int8", "int8_delta_rle", "kvq4"}) {
    Frame frame(kLayouts[0], *find_codec(name));
    Block rows(frame.layout.layer_bytes()), back(frame.layout.layer_bytes());
    const auto whole = [&](Block& to) {
      const MutableBytes piece = to;
      return decode_layer(frame.layout, frame.info, 1, frame.layer,
                          frame.part(frame.layer.offset, frame.layer.bytes), {},
                          {&piece, 1}, {}, false);
    };
    ASSERT_EQ(whole(rows), Code::ok);
    frame.bytes = first_version(frame);
    ASSERT_EQ(seal(frame), Code::ok) << name;
    frame.layer = frame_layer(frame.bytes, 1);
    ASSERT_EQ(whole(back), Code::ok);
    EXPECT_EQ(back, rows);
    EXPECT_EQ(frame.read(0, back, frame.layout.head_dim * 2), Code::unsupported);
  }
  const Frame raw(kLayouts[0], *find_codec("raw"));
  EXPECT_EQ(load_le<std::uint16_t>(raw.bytes.data() + 4), 1);
  EXPECT_EQ(frame_unit(raw.layout, raw.layer, {}, 0).error().code(), Code::unsupported);
}

TEST(FrameUnits, a_header_that_lies_about_checksums_is_refused) {
  const Frame sound(kLayouts[0], *find_codec("kvq4"));
  const auto with = [&](std::size_t at, unsigned value) {
    Frame lie = sound;
    lie.bytes[at] = std::byte(value);
    return seal(lie);
  };
  EXPECT_EQ(with(4, 2), Code::ok) << "as it was";
  EXPECT_EQ(with(4, 1), Code::corrupted) << "the first version has none";
  EXPECT_EQ(with(4, 3), Code::corrupted);
  EXPECT_EQ(with(58, 0), Code::corrupted) << "fewer lines than units need";
  EXPECT_EQ(with(58, 2), Code::corrupted) << "more";
  EXPECT_EQ(with(56, 10), Code::corrupted) << "hx5120 has its own";
  Frame none = sound;
  none.bytes = first_version(sound);
  none.bytes[4] = std::byte{2};
  EXPECT_EQ(seal(none), Code::corrupted) << "a second version without a reason";
}

}  // namespace
}  // namespace speckv
