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
#include "support/codec_promise.hpp"
#include "support/sample.hpp"

namespace speckv {
namespace {

using test::Fill;
using test::is_exact;
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

// Only for the tests of units: the others think of K and V as apart.
const BlockLayout kPages{1, 3, 64, 16, DType::f16, BlockLayout::Kind::interleaved};

std::string name_of(const BlockLayout& l) {
  static constexpr const char* kDtypes[] = {"f16", "bf16", "f32", "f8"};
  static constexpr const char* kKinds[] = {"_kv_", "_latent_", "_interleaved_"};
  return std::string(kDtypes[static_cast<int>(l.dtype)]) +
         kKinds[static_cast<int>(l.kind)] + std::to_string(l.kv_heads) + "x" +
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
    if (is_exact(codec())) {
      ASSERT_EQ(back, plain);
    } else if (test::is_bounded(codec())) {
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
  if (is_exact(codec())) {
    EXPECT_EQ(twice, once);
  } else if (test::is_bounded(codec())) {
    expect_within_bound(codec().id(), layout(), once, twice);
  }
}

TEST_P(CodecConformance, infinities_and_nans_are_refused_or_kept_wherever_they_are) {
  const Block sound = test::make_block(layout(), Fill::normal, 24);
  // In f32 and f8, which only exact codecs take, these are bytes like any others.
  const std::uint32_t infinity = test::format_of(layout().dtype).infinity();
  std::mt19937 random(9);
  for (const std::uint32_t bits :
       {infinity, infinity | 0x8000, infinity + 1, 0x7FFFU, 0xFFFFU}) {
    for (std::uint64_t i = 0; i < test::sampled(20); ++i) {
      Block plain = sound;
      const std::size_t at = i == 0   ? 0
                             : i == 1 ? plain.size() / 2 - 1
                                      : random() % (plain.size() / 2);
      plain[2 * at] = static_cast<std::byte>(bits);
      plain[2 * at + 1] = static_cast<std::byte>(bits >> 8);
      Block out(codec().max_layer_bytes(layout()));
      const auto used = codec().encode({layout()}, plain, out);
      if (is_exact(codec())) {
        ASSERT_TRUE(used.ok());
        out.resize(*used);
        Block back;
        ASSERT_EQ(decode(out, back), Code::ok);
        ASSERT_EQ(back, plain);
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
  const std::size_t step = std::max<std::size_t>(1, sound.size() / test::sampled(500));
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
  const std::uint64_t mutants = test::sampled(300);
  for (std::uint64_t i = 0; i < mutants; ++i) {
    Block bytes = sound;
    const std::size_t changes = i < mutants / 3 ? bytes.size() : 1 + random() % 8;
    for (std::size_t c = 0; c < changes; ++c) {
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    }
    const Code code = decode(bytes, back);
    ASSERT_TRUE(code == Code::ok || code == Code::corrupted);
  }
}

// ---- Codecs whose units can be read alone
// ----------------------------------------------

class CodecUnits : public CodecConformance {};

TEST_P(CodecUnits, a_unit_read_alone_is_that_of_the_layer) {
  const Block plain = test::make_block(layout(), Fill::normal, 27);
  const Block encoded = encode(plain);
  Block whole;
  ASSERT_EQ(decode(encoded, whole), Code::ok);
  const Bytes directory = Bytes(encoded).first(codec().directory_bytes(layout()));
  std::uint64_t end = directory.size();
  for (std::uint64_t unit = 0; unit < layer_units(layout()); ++unit) {
    const auto found = codec().unit_at(layout(), directory, unit);
    ASSERT_TRUE(found.ok());
    const UnitSpan at = *found;
    ASSERT_EQ(at.first, end) << "units lie one after the other";
    end += at.bytes;
    const Bytes alone = Bytes(encoded).subspan(at.first, at.bytes);
    const UnitRows rows = unit_rows(layout(), unit);
    Block part(whole.size(), std::byte{0x11});
    const UnitTarget to{MutableBytes(part).subspan(rows.first), rows.stride};
    ASSERT_EQ(codec().decode_unit({layout()}, unit, alone, directory, to), Code::ok);
    const std::uint64_t row = std::uint64_t{layout().head_dim} * bytes_of(layout().dtype);
    for (std::uint64_t i = 0; i < part.size(); ++i) {
      const bool in_unit = i >= rows.first &&
                           (i - rows.first) / rows.stride < layout().tokens &&
                           (i - rows.first) % rows.stride < row;
      ASSERT_EQ(part[i], in_unit ? whole[i] : std::byte{0x11}) << i;
    }
  }
  EXPECT_EQ(end, encoded.size());
}

TEST_P(CodecUnits, every_flipped_bit_is_found) {
  Block bytes = encode(test::make_block(layout(), Fill::offset, 28));
  std::mt19937 random(11);
  Block back;
  for (std::size_t i = 0; i < bytes.size(); i += 1 + bytes.size() / test::sampled(600)) {
    const auto bit = static_cast<std::byte>(1U << random() % 8);
    bytes[i] ^= bit;
    ASSERT_EQ(decode(bytes, back), Code::corrupted) << "byte " << i;
    bytes[i] ^= bit;
  }
  ASSERT_EQ(decode(bytes, back), Code::ok);
}

std::vector<Case> unit_cases() {
  std::vector<Case> some, all = cases();
  for (const Codec* codec : builtin_codecs())
    all.push_back({codec, &kPages});
  for (const Case& each : all) {
    Block directory(each.codec->directory_bytes(*each.layout));
    const auto unit = each.codec->unit_at(*each.layout, directory, 0);
    if (unit || unit.error().code() != Code::unsupported) some.push_back(each);
  }
  return some;
}

std::string name_of(const testing::TestParamInfo<Case>& tested) {
  return std::string(tested.param.codec->name()) + "_" + name_of(*tested.param.layout);
}

INSTANTIATE_TEST_SUITE_P(Every, CodecUnits, ::testing::ValuesIn(unit_cases()),
                         [](const auto& tested) { return name_of(tested); });
INSTANTIATE_TEST_SUITE_P(Every, CodecConformance, ::testing::ValuesIn(cases()),
                         [](const auto& tested) { return name_of(tested); });

// ---- Codecs that bound the energy of the error ---------------------------------------

// The error's energy over that of the values; of K's, less their channels' means.
double share_of_error(const Codec& codec, const BlockLayout& layout, Fill fill) {
  const Block plain = test::make_block(layout, fill, 31);
  Block encoded(codec.max_layer_bytes(layout)), back(plain.size());
  const auto used = codec.encode({layout}, plain, encoded);
  EXPECT_TRUE(used.ok());
  encoded.resize(used ? *used : 0);
  EXPECT_EQ(codec.decode({layout}, encoded, back), Code::ok);
  double energy = 0, error = 0;
  for (std::uint64_t u = 0; u < layer_units(layout); ++u) {
    const std::uint64_t first = u * layout.tokens * layout.head_dim;
    for (std::uint32_t c = 0; c < layout.head_dim; ++c) {
      const auto at = [&](const Block& block, std::uint32_t t) {
        const std::uint64_t i = first + std::uint64_t{t} * layout.head_dim + c;
        return test::value_of(layout.dtype, test::bits_at(block, i));
      };
      double mean = 0;
      for (std::uint32_t t = 0; u < layout.kv_heads && t < layout.tokens; ++t)
        mean += at(plain, t) / layout.tokens;
      for (std::uint32_t t = 0; t < layout.tokens; ++t) {
        energy += std::pow(at(plain, t) - mean, 2);
        error += std::pow(at(plain, t) - at(back, t), 2);
      }
    }
  }
  return error / energy;
}

TEST(Codecs, the_error_has_the_energy_that_the_rate_allows) {
  const std::pair<const char*, double> kMost[] = {
      {"rt44", 0.009},    {"rt43", 0.022},     {"rt33", 0.03},      {"rt32", 0.075},
      {"hx5120", 0.0017}, {"hx4608", 0.0033},  {"hx4096", 0.0066},  {"hx3584", 0.0135},
      {"hx3072", 0.027},  {"hxp5120", 0.0017}, {"hxp4096", 0.0066}, {"hxp3360", 0.02}};
  for (const auto& [name, most] : kMost) {
    for (const BlockLayout& layout : {BlockLayout{1, 2, 128, 64, DType::f16, kKv},
                                      BlockLayout{1, 2, 128, 64, DType::bf16, kKv},
                                      BlockLayout{1, 1, 64, 64, DType::f16, kKv},
                                      BlockLayout{1, 1, 256, 64, DType::f16, kKv}}) {
      const double share = share_of_error(*find_codec(name), layout, Fill::normal);
      EXPECT_LT(share, most) << name << " " << name_of(layout);
      EXPECT_GT(share, most / 4) << name << ": better than it can be";
    }
  }
}

// ---- Claims about all of them -------------------------------------------------------

TEST(Codecs, are_found_by_name_and_by_number) {
  EXPECT_EQ(builtin_codecs().size(), 17U);
  for (const Codec* codec : builtin_codecs()) {
    EXPECT_EQ(find_codec(codec->name()), codec);
    EXPECT_EQ(find_codec(codec->id()), codec);
  }
  EXPECT_EQ(find_codec("raw")->id(), CodecId{1});
  EXPECT_EQ(find_codec("int8")->id(), CodecId{2});
  EXPECT_EQ(find_codec("int8_delta_rle")->id(), CodecId{3});
  EXPECT_EQ(find_codec("kvq4")->id(), CodecId{4});
  EXPECT_EQ(find_codec("lossless")->id(), CodecId{5});
  EXPECT_EQ(find_codec("rt44")->id(), CodecId{6});
  EXPECT_EQ(find_codec("rt43")->id(), CodecId{7});
  EXPECT_EQ(find_codec("rt33")->id(), CodecId{8});
  EXPECT_EQ(find_codec("rt32")->id(), CodecId{9});
  EXPECT_EQ(find_codec("hx5120")->id(), CodecId{10});
  EXPECT_EQ(find_codec("hx4608")->id(), CodecId{11});
  EXPECT_EQ(find_codec("hx4096")->id(), CodecId{12});
  EXPECT_EQ(find_codec("hx3584")->id(), CodecId{13});
  EXPECT_EQ(find_codec("hx3072")->id(), CodecId{14});
  EXPECT_EQ(find_codec("hxp5120")->id(), CodecId::hxp5120);
  EXPECT_EQ(find_codec("hxp4096")->id(), CodecId::hxp4096);
  EXPECT_EQ(find_codec("hxp3360")->id(), CodecId::hxp3360);
  EXPECT_EQ(find_codec("RAW"), nullptr);
  EXPECT_EQ(find_codec(""), nullptr);
  EXPECT_EQ(find_codec(CodecId{0}), nullptr);
  EXPECT_EQ(find_codec(CodecId{0x7FFF}), nullptr);
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
  EXPECT_NEAR(ratio("rt44"), 3.737, 0.001);
  EXPECT_NEAR(ratio("rt43"), 4.231, 0.001);
  EXPECT_NEAR(ratio("rt33"), 4.876, 0.001);
  EXPECT_NEAR(ratio("rt32"), 5.753, 0.001);
  EXPECT_EQ(ratio("hx5120"), 3.2);
  EXPECT_EQ(ratio("hx4096"), 4.0);
}

}  // namespace
}  // namespace speckv
