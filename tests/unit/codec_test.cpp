// The codecs' arithmetic against doubles and binary32, their bytes against golden
// vectors, and what is particular to one of them.
#include <bit>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/kvq4_planes.hpp"

#include "codec/builtin.hpp"
#include "codec/frame.hpp"
#include "codec/number.hpp"
#include "support/blocks.hpp"

namespace speckv {
namespace {

using namespace number;
using Block = std::vector<std::byte>;

template <class F>
constexpr DType kDtype = F::kMantissa == 10 ? DType::f16 : DType::bf16;

double exact(Scaled s) {
  return std::ldexp(s.significand, s.exponent);
}

template <class F>
class Arithmetic : public ::testing::Test {};
using Formats = ::testing::Types<F16, Bf16>;
TYPED_TEST_SUITE(Arithmetic, Formats);

TYPED_TEST(Arithmetic, unpacks_and_packs_every_finite_number) {
  using F = TypeParam;
  for (std::uint32_t bits = 0; bits < F::kInfinity; ++bits) {
    const Scaled s = unpack<F>(bits);
    ASSERT_EQ(exact(s), test::value_of(kDtype<F>, bits));
    for (const Rounding rounding : {Rounding::nearest_even, Rounding::up}) {
      ASSERT_EQ(pack<F>(s.significand, s.exponent, rounding), bits);
    }
  }
}

// Between every two neighbours: below, at and above the middle.
TYPED_TEST(Arithmetic, packs_to_nearest_even_or_up) {
  using F = TypeParam;
  for (std::uint32_t bits = 0; bits + 1 < F::kInfinity; ++bits) {
    const Scaled s = unpack<F>(bits);
    const std::uint64_t base = std::uint64_t{s.significand} << 4;
    for (unsigned part = 1; part < 16; ++part) {
      const std::uint32_t nearest =
          part < 8 || (part == 8 && bits % 2 == 0) ? bits : bits + 1;
      ASSERT_EQ(pack<F>(base + part, s.exponent - 4, Rounding::nearest_even), nearest);
      ASSERT_EQ(pack<F>(base + part, s.exponent - 4, Rounding::up), bits + 1);
    }
    ASSERT_EQ(pack<F>(base + 8, s.exponent - 4, Rounding::nearest_even, true), bits + 1);
    ASSERT_EQ(pack<F>(base, s.exponent - 4, Rounding::up, true), bits + 1);
  }
}

TYPED_TEST(Arithmetic, saturates_instead_of_making_infinities) {
  using F = TypeParam;
  for (const Rounding rounding : {Rounding::nearest_even, Rounding::up}) {
    EXPECT_EQ(pack<F>(1, F::kBias + 1, rounding), F::kLargest);
    EXPECT_EQ(pack<F>(1, 1000, rounding), F::kLargest);
    EXPECT_EQ(pack<F>((1ULL << 61) - 1, F::kBias + 1 - 61, rounding), F::kLargest);
  }
  EXPECT_EQ(pack<F>(1, -2000, Rounding::nearest_even), 0U);
  EXPECT_EQ(pack<F>(1, -2000, Rounding::up), 1U);
}

// Hardware has the same step as one division in binary32 and one rounding; the second
// rounding never shows. (bf16's range is wider than the normal numbers of binary32 allow
// for at the bottom; there the integers are the definition.)
TYPED_TEST(Arithmetic, a_row_scale_is_the_rounded_quotient_in_binary32) {
  using F = TypeParam;
  const std::uint32_t least = F::kMantissa == 10 ? 1 : 9U << F::kMantissa;
  for (std::uint32_t amax = least; amax < F::kInfinity; ++amax) {
    const Scaled a = unpack<F>(amax);
    const auto quotient = static_cast<float>(test::value_of(kDtype<F>, amax)) / 127.0F;
    ASSERT_EQ(divide<F>(a.significand, a.exponent, 127, Rounding::nearest_even),
              test::nearest(kDtype<F>, static_cast<double>(quotient)))
        << amax;
  }
}

// Likewise the inverse: 1 / s in binary32, then to 13 bits.
TYPED_TEST(Arithmetic, an_inverse_has_thirteen_bits_and_is_the_nearest) {
  using F = TypeParam;
  for (std::uint32_t s = 1; s < F::kInfinity; ++s) {
    const Scaled inv = inverse<F>(s);
    ASSERT_GE(inv.significand, 4096U);
    ASSERT_LE(inv.significand, 8192U);
    const double scale = test::value_of(kDtype<F>, s);
    ASSERT_LE(std::abs(exact(inv) * scale - 1), std::ldexp(1.0, -13)) << s;
    if (F::kMantissa != 10) continue;
    const auto one = static_cast<double>(1.0F / static_cast<float>(scale));
    const double step = std::ldexp(1.0, std::ilogb(one) - 12);
    ASSERT_EQ(exact(inv), std::nearbyint(one / step) * step) << s;
  }
}

TYPED_TEST(Arithmetic, products_round_once_half_to_even) {
  using F = TypeParam;
  std::mt19937_64 random(1);
  for (int i = 0; i < 300000; ++i) {
    const auto scale = static_cast<std::uint32_t>(1 + random() % (F::kLargest - 1));
    const Scaled inv = inverse<F>(scale);
    const auto x = static_cast<std::uint32_t>(random() % F::kInfinity);
    const double p = test::value_of(kDtype<F>, x) * exact(inv);
    if (p >= 16384) continue;
    ASSERT_EQ(times<F>(x, inv), static_cast<std::int32_t>(std::nearbyint(p))) << x;
    ASSERT_EQ(signed_times<F>(x | kSign, inv), -times<F>(x, inv));
  }
}

TYPED_TEST(Arithmetic, levels_round_once_and_the_quick_form_gives_the_same_bits) {
  using F = TypeParam;
  std::mt19937_64 random(2);
  for (std::uint32_t bits = 1; bits < F::kInfinity; ++bits) {
    const Scaled scale = unpack<F>(bits);
    for (int i = 0; i < 12; ++i) {
      const auto n = static_cast<std::int32_t>(random() % 16383) - 8191;
      const double value = n * exact(scale);
      const std::uint16_t level = product<F>(n, scale);
      ASSERT_EQ(level, test::nearest(kDtype<F>, value)) << n << " x " << bits;
      if (bits >> F::kMantissa != 0) {
        ASSERT_EQ(normal_product<F>(n, scale), level) << n << " x " << bits;
      }
    }
  }
  EXPECT_EQ(product<F>(0, unpack<F>(F::kLargest)), 0);
  EXPECT_EQ(normal_product<F>(0, unpack<F>(F::kLargest)), 0);
}

// ---- Golden vectors (tests/vectors/README.md) ---------------------------------------

struct Vector {
  std::string file, name, codec;
  BlockLayout layout{};
  bool framed = false, old = false;  // old: of a version that is read, not written
  BlockKey key{};
  std::uint32_t layer = 0, position = kNoPosition;
  std::map<std::string, Block> bytes{};
};

std::uint64_t number_in(std::string_view text, int base = 10) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, base);
  return value;
}

BlockLayout layout_in(const std::string& text) {
  BlockLayout layout;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals), value = word.substr(equals + 1);
    const auto extent = static_cast<std::uint32_t>(number_in(value));
    if (name == "layers") layout.layers = extent;
    if (name == "heads") layout.kv_heads = extent;
    if (name == "dim") layout.head_dim = extent;
    if (name == "tokens") layout.tokens = extent;
    if (name == "dtype")
      layout.dtype = value == "f16"    ? DType::f16
                     : value == "bf16" ? DType::bf16
                     : value == "f32"  ? DType::f32
                                       : DType::f8e4m3;
    if (name == "kind" && value == "latent") layout.kind = BlockLayout::Kind::latent;
  }
  return layout;
}

std::vector<Vector> vectors_in(const std::string& file) {
  std::vector<Vector> found;
  std::ifstream text(std::string(SPECKV_TEST_VECTORS) + "/" + file);
  std::string field;
  for (std::string line; std::getline(text, line);) {
    if (line.empty() || line[0] == '#') continue;
    const std::size_t space = line.find(' ');
    const std::string word = line.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
    if (word == "case") {
      found.push_back({.file = file, .name = rest, .codec = {}});
    } else if (word == "codec") {
      found.back().codec = rest;
    } else if (word == "layout") {
      found.back().layout = layout_in(rest);
    } else if (word == "key") {
      found.back().framed = true;
      found.back().key = {number_in(rest.substr(0, 16), 16),
                          number_in(rest.substr(16), 16)};
    } else if (word == "position") {
      found.back().position = static_cast<std::uint32_t>(number_in(rest));
    } else if (word == "version") {
      found.back().old = true;
    } else if (word == "layer") {
      found.back().layer = static_cast<std::uint32_t>(number_in(rest));
    } else if (word == "profile" || word == "plain" || word == "encoded" ||
               word == "decoded") {
      field = word;
    } else {
      for (std::size_t i = 0; i + 1 < line.size(); i += 2) {
        found.back().bytes[field].push_back(
            static_cast<std::byte>(number_in(std::string_view(line).substr(i, 2), 16)));
      }
    }
  }
  return found;
}

class Golden : public ::testing::TestWithParam<const char*> {};

void expect_planes(const Vector& v) {  // encoded: the first, then the second
  const Bytes all = v.bytes.at("encoded");
  const Bytes first = all.first(kvq4_codec().max_layer_bytes(v.layout));
  Block out(second_plane_bytes(v.layout)), back(v.layout.layer_bytes());
  EXPECT_EQ(encode_second_plane(v.layout, v.bytes.at("plain"), first, out), Code::ok);
  EXPECT_TRUE(std::ranges::equal(out, all.subspan(first.size())));
  EXPECT_EQ(decode_planes(v.layout, first, out, back), Code::ok);
  EXPECT_EQ(back, v.bytes.at("decoded"));
}

void expect_layer(const Vector& v) {
  if (v.codec == "kvq4_planes") return expect_planes(v);
  const Codec* codec = find_codec(v.codec);
  ASSERT_NE(codec, nullptr);
  LayerContext context{v.layout, v.layer, v.position};
  if (v.bytes.contains("profile")) context.profile = v.bytes.at("profile");
  Block out(codec->max_layer_bytes(v.layout));
  const auto used = codec->encode(context, v.bytes.at("plain"), out);
  ASSERT_TRUE(used.ok());
  out.resize(*used);
  EXPECT_EQ(out, v.bytes.at("encoded"));
  Block back(v.layout.layer_bytes());
  EXPECT_EQ(codec->decode(context, v.bytes.at("encoded"), back), Code::ok);
  EXPECT_EQ(back, v.bytes.at("decoded"));
}

void expect_frame(const Vector& v) {
  std::vector<const Codec*> each;
  std::istringstream names(v.codec);
  for (std::string name; std::getline(names, name, ',');)
    each.push_back(find_codec(name));
  const LayerCodecs codecs{std::span<const Codec* const>(each)};
  const Bytes piece = v.bytes.at("plain"), frame = v.bytes.at("encoded");
  Block out(max_frame_bytes(v.layout, codecs)), scratch(v.layout.layer_bytes());
  const FrameSource source{
      .key = v.key, .first_position = v.position, .pieces = {&piece, 1}};
  out.resize(encode_frame(v.layout, codecs, source, out, scratch, false));
  EXPECT_EQ(std::ranges::equal(out, frame), !v.old);
  FrameInfo info;
  ASSERT_EQ(read_frame_header(v.layout, v.key, frame, frame.size(), info), Code::ok);
  EXPECT_EQ(info.first_position, v.position);
  Block back(v.layout.bytes());
  for (std::uint32_t i = 0; i < v.layout.layers; ++i) {
    const FrameLayer layer = frame_layer(frame, i);
    const std::uint64_t size = v.layout.layer_bytes();
    const MutableBytes to = MutableBytes(back).subspan(i * size, size);
    EXPECT_EQ(
        decode_layer(v.layout, info, i, layer, frame.subspan(layer.offset, layer.bytes),
                     {}, {&to, 1}, scratch, false),
        Code::ok);
  }
  EXPECT_EQ(back, v.bytes.at("decoded"));
}

TEST_P(Golden, bytes_are_those_of_the_vectors) {
  const std::vector<Vector> vectors = vectors_in(GetParam());
  ASSERT_GE(vectors.size(), 2U) << "no vectors in " << GetParam();
  for (const Vector& v : vectors) {
    SCOPED_TRACE(v.name);
    ASSERT_EQ(v.bytes.size() - v.bytes.count("profile"), 3U);
    // A whole block, or one layer of several.
    ASSERT_EQ(v.bytes.at("plain").size(),
              v.framed ? v.layout.bytes() : v.layout.layer_bytes());
    if (v.framed) {
      expect_frame(v);
    } else {
      expect_layer(v);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Golden,
                         ::testing::Values("codec_int8.txt", "codec_int8_delta_rle.txt",
                                           "codec_kvq4.txt", "codec_kvq4_planes.txt",
                                           "codec_lossless.txt", "codec_rt.txt",
                                           "codec_hx.txt", "codec_hxp.txt",
                                           "codec_frame.txt"));

// ---- Particulars --------------------------------------------------------------------

Block encoded(std::string_view name, const BlockLayout& layout, const Block& plain) {
  const Codec& codec = *find_codec(name);
  Block out(codec.max_layer_bytes(layout));
  const auto used = codec.encode({layout}, plain, out);
  EXPECT_TRUE(used.ok());
  out.resize(used ? *used : 0);
  return out;
}
Code decoded(std::string_view name, const BlockLayout& layout, const Block& bytes,
             Block& plain) {
  plain.assign(layout.layer_bytes(), std::byte{0});
  return find_codec(name)->decode({layout}, bytes, plain);
}

constexpr BlockLayout kSmall{
    .layers = 1, .kv_heads = 1, .head_dim = 16, .tokens = 16, .dtype = DType::f16};

// The published quantiser let 127.5 wrap to -128 and differences overflow.
TEST(Int8, the_largest_values_of_a_row_never_wrap) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    BlockLayout layout{.layers = 1,
                       .kv_heads = 1,
                       .head_dim = 2,
                       .tokens = 1,
                       .dtype = dtype,
                       .kind = BlockLayout::Kind::latent};
    const std::uint32_t infinity = test::format_of(dtype).infinity();
    for (std::uint32_t amax = 1; amax < infinity; ++amax) {
      Block plain(4), back;
      store_le(plain.data(), static_cast<std::uint16_t>(amax));
      store_le(plain.data() + 2, static_cast<std::uint16_t>(amax | 0x8000));
      for (const std::string_view name : {"int8", "int8_delta_rle"}) {
        ASSERT_EQ(decoded(name, layout, encoded(name, layout, plain), back), Code::ok);
        const double x = test::value_of(dtype, amax);
        const double y = test::value_of(dtype, test::bits_at(back, 0));
        ASSERT_LE(std::abs(x - y), x / 100 + test::format_of(dtype).unit()) << amax;
        ASSERT_EQ(test::bits_at(back, 1), test::bits_at(back, 0) | 0x8000) << amax;
      }
    }
  }
}

TEST(Int8, refuses_what_no_encoder_writes) {
  const Block plain = test::make_block(kSmall, test::Fill::normal, 1);
  const Block sound = encoded("int8", kSmall, plain);
  Block back;
  const auto code = [&](std::size_t at, int value) {
    Block bytes = sound;
    bytes[at] = static_cast<std::byte>(value);
    return decoded("int8", kSmall, bytes, back);
  };
  EXPECT_EQ(code(1, std::to_integer<int>(sound[1])), Code::ok);
  EXPECT_EQ(code(1, 0x7C), Code::corrupted);   // an infinite scale
  EXPECT_EQ(code(1, 0x80), Code::corrupted);   // a negative one
  EXPECT_EQ(code(40, 0x01), Code::corrupted);  // padding
  EXPECT_EQ(code(64, 0x80), Code::corrupted);  // -128
}

TEST(Int8DeltaRle, holds_exactly_the_values_of_int8) {
  for (const test::Fill fill : test::kFills) {
    const Block plain = test::make_block(kSmall, fill, 2);
    Block one, other;
    ASSERT_EQ(decoded("int8", kSmall, encoded("int8", kSmall, plain), one), Code::ok);
    ASSERT_EQ(decoded("int8_delta_rle", kSmall, encoded("int8_delta_rle", kSmall, plain),
                      other),
              Code::ok);
    EXPECT_EQ(one, other);
  }
}

TEST(Int8DeltaRle, runs_become_pairs_and_the_rest_never_grows) {
  BlockLayout layout = kSmall;
  layout.head_dim = 1000;
  Block plain(layout.layer_bytes());
  for (std::size_t i = 0; i < plain.size() / 2; ++i)
    store_le<std::uint16_t>(&plain[2 * i], 0x3C00);
  // A row: a scale, a length, and 1 + ceil(999 / 255) pairs.
  EXPECT_EQ(encoded("int8_delta_rle", layout, plain).size(),
            64 + 2 * padded(16 * (4 + 10)));
  const Block noise = test::make_block(layout, test::Fill::any_finite, 3);
  EXPECT_LE(encoded("int8_delta_rle", layout, noise).size(),
            64 + 2 * padded(16 * (4 + 1000)));
}

TEST(Int8DeltaRle, refuses_lengths_and_counts_that_do_not_add_up) {
  const BlockLayout layout{.layers = 1,
                           .kv_heads = 1,
                           .head_dim = 100,
                           .tokens = 2,
                           .dtype = DType::f16,
                           .kind = BlockLayout::Kind::latent};
  Block plain(layout.layer_bytes()), back;
  for (std::size_t i = 0; i < 200; ++i)
    store_le<std::uint16_t>(&plain[2 * i], 0x3C00);
  // Directory (64), scales (4), lengths (4), then (127, 1) (0, 99) twice.
  const Block sound = encoded("int8_delta_rle", layout, plain);
  ASSERT_EQ(sound.size(), 128U);
  ASSERT_EQ(sound[68], std::byte{4});
  ASSERT_EQ(sound[75], std::byte{99});
  const auto code = [&](std::size_t at, int value) {
    Block bytes = sound;
    bytes[at] = static_cast<std::byte>(value);
    return decoded("int8_delta_rle", layout, bytes, back);
  };
  EXPECT_EQ(code(75, 99), Code::ok);
  for (const int count : {0, 98, 100, 255})
    EXPECT_EQ(code(75, count), Code::corrupted) << count;
  for (const int length : {0, 2, 3, 5, 6, 100, 101}) {
    EXPECT_EQ(code(68, length), Code::corrupted) << length;
  }
  EXPECT_EQ(code(69, 0xFF), Code::corrupted);
  for (const int unit : {0, 63, 65, 128})
    EXPECT_EQ(code(0, unit), Code::corrupted) << unit;
  EXPECT_EQ(code(4, 1), Code::corrupted);      // directory padding
  EXPECT_EQ(code(127, 1), Code::corrupted);    // unit padding
  EXPECT_EQ(code(72, 0x80), Code::corrupted);  // a value of -128
}

TEST(Kvq4, constant_groups_come_back_exactly) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    BlockLayout layout = kSmall;
    layout.dtype = dtype;
    layout.head_dim = 1024;
    const std::uint32_t infinity = test::format_of(dtype).infinity();
    for (std::uint32_t first = 0; first < infinity; first += 1024) {
      Block plain(layout.layer_bytes()), back;
      for (std::uint32_t i = 0; i < plain.size() / 2; ++i) {
        // K: one value a channel; V: one a token.
        const bool key = i < plain.size() / 4;
        const std::uint32_t place = key ? i % 1024 : i / 1024 * 64;
        const std::uint32_t bits = std::min(first + place, infinity - 1) | (place % 2)
                                                                               << 15;
        store_le(plain.data() + 2 * i, static_cast<std::uint16_t>(bits));
      }
      ASSERT_EQ(decoded("kvq4", layout, encoded("kvq4", layout, plain), back), Code::ok);
      ASSERT_EQ(back, plain) << first;
    }
  }
}

// K has one pair of parameters a channel, so that an outlier channel hurts no other.
TEST(Kvq4, a_large_key_channel_leaves_the_others_alone) {
  const BlockLayout layout{
      .layers = 1, .kv_heads = 1, .head_dim = 64, .tokens = 64, .dtype = DType::f16};
  Block plain = test::make_block(layout, test::Fill::normal, 4), back, again;
  ASSERT_EQ(decoded("kvq4", layout, encoded("kvq4", layout, plain), back), Code::ok);
  for (std::uint32_t t = 0; t < 64; ++t) {
    store_le<std::uint16_t>(plain.data() + 2 * (t * 64 + 5),
                            t % 2 == 0 ? 0x7BFF : 0xFBFF);
  }
  ASSERT_EQ(decoded("kvq4", layout, encoded("kvq4", layout, plain), again), Code::ok);
  for (std::uint64_t i = 0; i < plain.size() / 2; ++i) {
    if (i < 64 * 64 && i % 64 == 5) continue;
    ASSERT_EQ(test::bits_at(again, i), test::bits_at(back, i)) << i;
  }
}

TEST(Kvq4, refuses_what_no_encoder_writes) {
  const Block sound =
      encoded("kvq4", kSmall, test::make_block(kSmall, test::Fill::normal, 5));
  Block back;
  const auto code = [&](std::size_t at, int low, int high) {
    Block bytes = sound;
    bytes[at] = static_cast<std::byte>(low);
    bytes[at + 1] = static_cast<std::byte>(high);
    return decoded("kvq4", kSmall, bytes, back);
  };
  const std::size_t values = 64 + 128;  // the first V unit
  for (const std::size_t unit : {std::size_t{0}, values}) {
    EXPECT_EQ(code(unit, 0x00, 0x3C), Code::ok);
    EXPECT_EQ(code(unit, 0x00, 0x00), Code::corrupted);      // a scale of zero
    EXPECT_EQ(code(unit, 0x00, 0x7C), Code::corrupted);      // an infinite one
    EXPECT_EQ(code(unit, 0x01, 0x7C), Code::corrupted);      // not a number
    EXPECT_EQ(code(unit, 0x00, 0xBC), Code::corrupted);      // a negative one
    EXPECT_EQ(code(unit + 2, 0xF0, 0x1F), Code::ok);         // 8176
    EXPECT_EQ(code(unit + 2, 0xF1, 0x1F), Code::corrupted);  // 8177
    EXPECT_EQ(code(unit + 2, 0x10, 0xE0), Code::ok);         // -8176
    EXPECT_EQ(code(unit + 2, 0x0F, 0xE0), Code::corrupted);  // -8177
  }
}

TEST(Kvq4, takes_the_layouts_it_says) {
  const Codec& kvq4 = *find_codec("kvq4");
  const auto takes = [&](std::uint32_t channels, std::uint32_t tokens) {
    return kvq4.supports({1, 1, channels, tokens, DType::f16});
  };
  EXPECT_TRUE(takes(16, 16));
  EXPECT_TRUE(takes(256, 256));
  EXPECT_TRUE(takes(576, 64));
  EXPECT_TRUE(takes(1024, 16));
  EXPECT_FALSE(takes(128, 15));
  EXPECT_FALSE(takes(128, 257));
  EXPECT_FALSE(takes(24, 64));
  EXPECT_FALSE(takes(272, 64));
  EXPECT_FALSE(takes(1088, 64));
  EXPECT_FALSE(kvq4.supports({1, 1, 128, 64, DType::f32}));
  EXPECT_FALSE(kvq4.supports({1, 1, 128, 64, DType::f8e4m3}));
}

}  // namespace
}  // namespace speckv
