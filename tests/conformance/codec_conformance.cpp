// One suite over every codec, layout and temper of data: bounds, errors, determinism, and
// nothing but `corrupted` for bytes that no encoder wrote.
#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "codec/builtin.hpp"
#include "support/blocks.hpp"

namespace speckv {
namespace {

using test::Fill;
using Block = std::vector<std::byte>;
constexpr auto kKv = BlockLayout::Kind::kv;
constexpr auto kLatent = BlockLayout::Kind::latent;

const BlockLayout kLayouts[] = {
    {1, 2, 128, 64, DType::f16, kKv},     {1, 2, 128, 64, DType::bf16, kKv},
    {1, 3, 64, 16, DType::f16, kKv},      {1, 1, 256, 256, DType::bf16, kKv},
    {1, 1, 16, 17, DType::f16, kKv},      {1, 2, 80, 33, DType::bf16, kKv},
    {1, 1, 576, 16, DType::f16, kLatent}, {1, 1, 512, 20, DType::bf16, kLatent},
    {1, 2, 48, 100, DType::f16, kLatent}, {1, 1, 1, 1, DType::f16, kKv},
    {1, 2, 7, 5, DType::f16, kKv},        {1, 1, 100, 3, DType::bf16, kLatent},
    {1, 1, 64, 16, DType::f32, kKv},      {1, 1, 64, 16, DType::f8e4m3, kKv},
};

std::string name_of(const BlockLayout& l) {
  static constexpr const char* kDtypes[] = {"f16", "bf16", "f32", "f8"};
  return std::string(kDtypes[static_cast<int>(l.dtype)]) +
         (l.kind == kKv ? "_kv_" : "_latent_") + std::to_string(l.kv_heads) + "x" +
         std::to_string(l.head_dim) + "x" + std::to_string(l.tokens);
}

struct Case {
  const Codec* codec;
  const BlockLayout* layout;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Codec* codec : builtin_codecs()) {
    for (const BlockLayout& layout : kLayouts) {
      if (codec->supports(layout)) all.push_back({codec, &layout});
    }
  }
  return all;
}

class CodecConformance : public ::testing::TestWithParam<Case> {
 protected:
  const Codec& codec() const { return *GetParam().codec; }
  const BlockLayout& layout() const { return *GetParam().layout; }

  // Into memory of exactly the promised size, so that AddressSanitizer guards its end.
  Block encode(const Block& plain) const {
    Block out(codec().max_layer_bytes(layout()), std::byte{0xCD});
    const auto used = codec().encode({layout()}, plain, out);
    EXPECT_TRUE(used.ok());
    out.resize(used ? *used : 0);
    return out;
  }
  Code decode(const Block& encoded, Block& plain) const {
    plain.assign(layout().layer_bytes(), std::byte{0xAB});
    return codec().decode({layout()}, encoded, plain);
  }
};

// ---- The stated error bounds (docs/block-format.md) ---------------------------------

// Groups of values that share a scale, by index of their first value, stride and count.
struct Group {
  std::uint64_t first, stride, count;
};
std::vector<Group> groups_of(const BlockLayout& l, bool kvq4) {
  std::vector<Group> groups;
  const std::uint64_t unit = std::uint64_t{l.tokens} * l.head_dim;
  const std::uint64_t units = l.layer_rows() / l.tokens;
  for (std::uint64_t u = 0; u < units; ++u) {
    const bool keys = kvq4 && l.kind == kKv && u < l.kv_heads;
    const std::uint64_t width = kvq4 && l.head_dim > 256 ? 64 : l.head_dim;
    if (keys) {
      for (std::uint64_t c = 0; c < l.head_dim; ++c) {
        groups.push_back({u * unit + c, l.head_dim, l.tokens});
      }
    } else {
      for (std::uint64_t i = 0; i < unit; i += width)
        groups.push_back({u * unit + i, 1, width});
    }
  }
  return groups;
}

double bound(CodecId id, DType dtype, double low, double high, double x, double y) {
  const test::Format f = test::format_of(dtype);
  const double amax = std::max(std::abs(low), std::abs(high));
  const double rounding = test::spacing(dtype, std::max(std::abs(x), std::abs(y))) / 2;
  if (id == CodecId::kvq4) {
    const double fifteenth = (high - low) / 15 * (1 + std::ldexp(1.0, -f.mantissa));
    const double scale = std::max(fifteenth + f.unit(), test::spacing(dtype, amax));
    return 0.502 * scale + std::abs(x) / 8192 + rounding;
  }
  const double scale = amax / 127 * (1 + std::ldexp(1.0, -f.mantissa - 1)) + f.unit();
  return 0.516 * scale + rounding;
}

void expect_within_bound(CodecId id, const BlockLayout& layout, const Block& plain,
                         const Block& back) {
  for (const Group& g : groups_of(layout, id == CodecId::kvq4)) {
    double low = INFINITY, high = -INFINITY;
    for (std::uint64_t i = 0; i < g.count; ++i) {
      const double x =
          test::value_of(layout.dtype, test::bits_at(plain, g.first + i * g.stride));
      low = std::min(low, x);
      high = std::max(high, x);
    }
    for (std::uint64_t i = 0; i < g.count; ++i) {
      const std::uint64_t at = g.first + i * g.stride;
      const std::uint32_t bits = test::bits_at(back, at);
      ASSERT_LT(bits & 0x7FFF, test::format_of(layout.dtype).infinity()) << at;
      const double x = test::value_of(layout.dtype, test::bits_at(plain, at));
      const double y = test::value_of(layout.dtype, bits);
      ASSERT_LE(std::abs(x - y), bound(id, layout.dtype, low, high, x, y))
          << "value " << at << ": " << x << " came back as " << y;
    }
  }
}

TEST_P(CodecConformance, round_trip_stays_within_the_stated_error) {
  for (const Fill fill : test::kFills) {
    SCOPED_TRACE(static_cast<int>(fill));
    const Block plain = test::make_block(layout(), fill, 21);
    Block back;
    ASSERT_EQ(decode(encode(plain), back), Code::ok);
    if (codec().id() == CodecId::raw) {
      ASSERT_EQ(back, plain);
    } else {
      ASSERT_NO_FATAL_FAILURE(expect_within_bound(codec().id(), layout(), plain, back));
    }
  }
}

TEST_P(CodecConformance, the_same_block_gives_the_same_bytes_within_the_bound) {
  for (const Fill fill : test::kFills) {
    const Block plain = test::make_block(layout(), fill, 22);
    const Block first = encode(plain);
    EXPECT_EQ(first, encode(plain));
    EXPECT_LE(first.size(), codec().max_layer_bytes(layout()));
  }
}

// What was decoded once is not made worse by going through the codec again. (kvq4's grid
// may shift by the rounding of its levels, so for it only the bound holds.)
TEST_P(CodecConformance, decoded_values_survive_another_round) {
  const Block plain = test::make_block(layout(), Fill::normal, 23);
  Block once, twice;
  ASSERT_EQ(decode(encode(plain), once), Code::ok);
  ASSERT_EQ(decode(encode(once), twice), Code::ok);
  if (codec().id() == CodecId::raw) {
    EXPECT_EQ(twice, once);
  } else {
    expect_within_bound(codec().id(), layout(), once, twice);
  }
}

TEST_P(CodecConformance, infinities_and_nans_are_refused_or_kept_wherever_they_are) {
  const Block sound = test::make_block(layout(), Fill::normal, 24);
  // In f32 and f8, which only raw takes, these are bytes like any others.
  const std::uint32_t infinity = test::format_of(layout().dtype).infinity();
  std::mt19937 random(9);
  for (const std::uint32_t bits :
       {infinity, infinity | 0x8000, infinity + 1, 0x7FFFU, 0xFFFFU}) {
    for (int i = 0; i < 20; ++i) {
      Block plain = sound;
      const std::size_t at = i == 0   ? 0
                             : i == 1 ? plain.size() / 2 - 1
                                      : random() % (plain.size() / 2);
      plain[2 * at] = static_cast<std::byte>(bits);
      plain[2 * at + 1] = static_cast<std::byte>(bits >> 8);
      Block out(codec().max_layer_bytes(layout()));
      const auto used = codec().encode({layout()}, plain, out);
      if (codec().id() == CodecId::raw) {
        ASSERT_TRUE(used.ok());
        ASSERT_EQ(out, plain);
      } else {
        ASSERT_FALSE(used.ok());
        ASSERT_EQ(used.error().code(), Code::unsupported);
      }
    }
  }
}

TEST_P(CodecConformance, every_other_length_is_refused) {
  const Block sound = encode(test::make_block(layout(), Fill::runs, 25));
  Block back;
  const std::size_t step = std::max<std::size_t>(1, sound.size() / 500);
  for (std::size_t size = 0; size < sound.size(); size += step) {
    const Block cut(sound.begin(), sound.begin() + static_cast<std::ptrdiff_t>(size));
    ASSERT_EQ(decode(cut, back), Code::corrupted) << size;
  }
  for (const std::size_t more : {1UL, 63UL, 64UL, 4096UL}) {
    Block longer(sound.size() + more);
    std::copy(sound.begin(), sound.end(), longer.begin());
    ASSERT_EQ(decode(longer, back), Code::corrupted) << more;
  }
}

TEST_P(CodecConformance, no_bytes_crash_the_decoder) {
  const Block sound = encode(test::make_block(layout(), Fill::runs, 26));
  std::mt19937 random(3);
  Block back;
  for (int i = 0; i < 300; ++i) {
    Block bytes = sound;
    const std::size_t changes = i < 100 ? bytes.size() : 1 + random() % 8;
    for (std::size_t c = 0; c < changes; ++c) {
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    }
    const Code code = decode(bytes, back);
    ASSERT_TRUE(code == Code::ok || code == Code::corrupted);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, CodecConformance, ::testing::ValuesIn(cases()),
                         [](const auto& tested) {
                           return std::string(tested.param.codec->name()) + "_" +
                                  name_of(*tested.param.layout);
                         });

// ---- Claims about all of them -------------------------------------------------------

TEST(Codecs, are_found_by_name_and_by_number) {
  EXPECT_EQ(builtin_codecs().size(), 4U);
  for (const Codec* codec : builtin_codecs()) {
    EXPECT_EQ(find_codec(codec->name()), codec);
    EXPECT_EQ(find_codec(codec->id()), codec);
  }
  EXPECT_EQ(find_codec("raw")->id(), CodecId{1});
  EXPECT_EQ(find_codec("int8")->id(), CodecId{2});
  EXPECT_EQ(find_codec("int8_delta_rle")->id(), CodecId{3});
  EXPECT_EQ(find_codec("kvq4")->id(), CodecId{4});
  EXPECT_EQ(find_codec("RAW"), nullptr);
  EXPECT_EQ(find_codec(""), nullptr);
  EXPECT_EQ(find_codec(CodecId{0}), nullptr);
  EXPECT_EQ(find_codec(CodecId{5}), nullptr);
  EXPECT_EQ(find_codec(CodecId{0xFFFF}), nullptr);
}

// The frame may ask for the bound of any valid layout, supported or not.
TEST(Codecs, bounds_of_valid_layouts_never_overflow) {
  for (const BlockLayout& layout : {BlockLayout{1, 1 << 26, 1, 1, DType::f16, kKv},
                                    BlockLayout{1, 1, 1 << 26, 1, DType::bf16},
                                    BlockLayout{1, 1, 1, 1 << 26, DType::f16},
                                    BlockLayout{1024, 1, 2048, 32, DType::f16}}) {
    ASSERT_TRUE(layout.validate().ok());
    for (const Codec* codec : builtin_codecs()) {
      EXPECT_GE(codec->max_layer_bytes(layout), layout.layer_bytes() / 8)
          << codec->name();
      EXPECT_LE(codec->max_layer_bytes(layout), std::uint64_t{1} << 40) << codec->name();
    }
  }
}

// All metadata counted.
TEST(Codecs, ratios_are_those_of_the_documentation) {
  const BlockLayout& layout = kLayouts[0];
  const auto plain = static_cast<double>(layout.layer_bytes());
  const auto ratio = [&](std::string_view name) {
    return plain / static_cast<double>(find_codec(name)->max_layer_bytes(layout));
  };
  EXPECT_NEAR(ratio("int8"), 1.969, 0.001);
  EXPECT_NEAR(ratio("kvq4"), 3.657, 0.001);
  EXPECT_NEAR(ratio("int8_delta_rle"), 1.936, 0.004);  // at worst
}

}  // namespace
}  // namespace speckv
