// hxp under a profile: bounds, bindings, determinism, and slots as the profile has them.
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "codec/builtin.hpp"
#include "codec/hxp_offsets.hpp"
#include "support/blocks.hpp"
#include "support/profiles.hpp"

namespace speckv {
namespace {

using test::Fill;
using Block = std::vector<std::byte>;
constexpr auto kInterleaved = BlockLayout::Kind::interleaved;

const BlockLayout kLayouts[] = {
    {2, 3, 64, 64, DType::f16},   {2, 3, 64, 64, DType::f16, kInterleaved},
    {1, 2, 128, 64, DType::f16},  {2, 1, 128, 64, DType::bf16},
    {1, 1, 80, 33, DType::f16},   {1, 1, 64, 16, DType::bf16},
    {1, 1, 64, 256, DType::f16},  {1, 2, 256, 17, DType::bf16},
    {1, 1, 256, 256, DType::f16},
};

class HxpConformance : public ::testing::TestWithParam<BlockLayout> {
 protected:
  HxpConformance() : profile_(test::random_profile(layout(), 1)) {}
  const BlockLayout& layout() const { return GetParam(); }
  LayerContext context(std::uint32_t position = 1000) const {
    return {layout(), layout().layers - 1, position, profile_};
  }
  Block make_layer(Fill fill, std::uint64_t seed) const {
    BlockLayout one = layout();
    one.layers = 1;
    return test::make_block(one, fill, seed);
  }
  static Block encode(const Codec& codec, const LayerContext& context,
                      const Block& plain) {
    Block out(codec.max_layer_bytes(context.layout), std::byte{0xCD});
    const auto used = codec.encode(context, plain, out);
    EXPECT_TRUE(used.ok());
    out.resize(used ? *used : 0);
    return out;
  }
  // Into memory of its own size, for AddressSanitizer.
  static Code decode(const Codec& codec, const LayerContext& context,
                     const Block& encoded, Block& plain) {
    plain.assign(context.layout.layer_bytes(), std::byte{0xAB});
    return codec.decode(context, encoded, plain);
  }
  double share_of_error(const Block& plain, const Block& back) const {
    double energy = 0, error = 0;
    for (std::uint64_t i = 0; i < plain.size() / 2; ++i) {
      const double x = test::value_of(layout().dtype, test::bits_at(plain, i));
      const double y = test::value_of(layout().dtype, test::bits_at(back, i));
      energy += x * x;
      error += (x - y) * (x - y);
    }
    return error / energy;
  }

  const Codec& codec_ = *find_codec("hxp4096");
  Block profile_;
};

TEST_P(HxpConformance, every_temper_of_values_comes_back_close) {
  for (const Codec* codec : hxp_codecs()) {
    for (const Fill fill : test::kFills) {
      SCOPED_TRACE(std::string(codec->name()) + " " +
                   std::to_string(static_cast<int>(fill)));
      const Block plain = make_layer(fill, 41);
      Block out(codec->max_layer_bytes(layout())), back;
      const auto used = codec->encode(context(), plain, out);
      if (!used) {  // one slot is too small for them: a store would write them raw
        ASSERT_EQ(used.error().code(), Code::unsupported);
        ASSERT_NE(fill, Fill::normal);
        continue;
      }
      out.resize(*used);
      ASSERT_EQ(decode(*codec, context(), out, back), Code::ok);
      ASSERT_EQ(encode(*codec, context(), plain), out) << "the same bytes once more";
      if (fill == Fill::normal && layout().tokens * layout().head_dim >= 4096) {
        EXPECT_LT(share_of_error(plain, back), 0.1);
        EXPECT_GT(share_of_error(plain, back), 1e-5);
      }
    }
  }
}

TEST_P(HxpConformance, slots_are_those_of_the_profile) {
  const Block encoded = encode(codec_, context(), make_layer(Fill::normal, 42));
  ModelProfile profile;
  ASSERT_TRUE(profile.open(profile_));
  ASSERT_EQ(profile.target(0), 4096U);
  const std::uint64_t values = std::uint64_t{layout().tokens} * layout().head_dim;
  const std::uint64_t directory = codec_.directory_bytes(layout());
  std::uint64_t end = 0;
  for (std::uint32_t u = 0; u < layer_units(layout()); ++u) {
    const ModelProfile::Head head{layout().layers - 1, u >= layout().kv_heads,
                                  u % layout().kv_heads};
    const std::uint64_t slot = values * profile.slot(0, head) / 8192 / 64 * 64;
    const auto found = codec_.unit_at(layout(), Bytes(encoded).first(directory), u);
    ASSERT_TRUE(found.ok());
    const UnitSpan at = *found;
    EXPECT_EQ(at.first, u == 0 ? directory : end);
    end += slot;
    EXPECT_EQ(at.first + at.bytes, end);
    EXPECT_EQ(encoded[at.first + 5], std::byte{2}) << "the profile serves";
  }
  EXPECT_EQ(end, encoded.size());
}

// What is written for a budget is an hxp4096 layer like any other to whoever reads it.
TEST_P(HxpConformance, slots_for_a_target_are_those_of_its_plan) {
  const Block plain = make_layer(Fill::normal, 49);
  const std::uint64_t values = std::uint64_t{layout().tokens} * layout().head_dim;
  const std::uint64_t token = 2ULL * layout().layers * layout().kv_heads *
                              layout().head_dim;  // values of all its heads
  const std::string names[] = {
      "hxp?slot=3456", "hxp?loss=2",
      "hxp?bytes_per_token=" + std::to_string(token * 3500 / 8192),
      "hxp?bytes_per_token=" + std::to_string(token * 5000 / 8192)};
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const Codec& codec = *find_codec(name);
    const auto plan = profile_plan(profile_, name);
    ASSERT_TRUE(plan.ok()) << plan.error().message();
    const Block encoded = encode(codec, context(), plain);
    const Bytes directory = Bytes(encoded).first(codec_.directory_bytes(layout()));
    const std::size_t units = layer_units(layout());
    std::uint64_t end = 0;
    for (std::size_t u = 0; u < units; ++u) {
      const std::uint64_t slot =
          values * plan->slots[(layout().layers - 1) * units + u] / 8192 / 64 * 64;
      const auto found = codec_.unit_at(layout(), directory, u);
      ASSERT_TRUE(found.ok());
      end += slot;
      EXPECT_EQ((*found).first + (*found).bytes, end);
    }
    EXPECT_EQ(end, encoded.size());
    Block back;
    ASSERT_EQ(decode(*find_codec(codec.id()), context(), encoded, back), Code::ok);
    if (values >= 4096) {
      EXPECT_LT(share_of_error(plain, back), 0.2);
    }
    EXPECT_EQ(encode(codec, context(), plain), encoded) << "the same bytes once more";
  }
}

TEST_P(HxpConformance, any_losses_behind_a_right_header_are_safe) {
  const Block plain = make_layer(Fill::normal, 50);
  ModelProfile profile;
  ASSERT_TRUE(profile.open(profile_));
  // Sizes take 64 bytes at the end of the file, before the losses.
  const std::size_t losses =
      (profile.heads() * 2 * profile.shape().sizes + 63) / 64 * 64 + 64;
  std::mt19937 random(6);
  for (int i = 0; i < 8; ++i) {
    Block noise = profile_;
    for (std::size_t at = noise.size() - losses; at < noise.size(); ++at)
      noise[at] = static_cast<std::byte>(i == 0 ? 0 : random());
    // Plans are remembered by the header: it is another one for each.
    store_le(noise.data() + 60, static_cast<std::uint32_t>(random()));
    store_le(noise.data() + 12, std::uint32_t{0});
    store_le(noise.data() + 12, crc32c(0, Bytes(noise).first(64)));
    LayerContext other = context();
    other.profile = noise;
    for (const char* name : {"hxp?loss=0.36", "hxp?bytes_per_token=700"}) {
      const Codec& codec = *find_codec(name);
      Block out(codec.max_layer_bytes(layout())), back;
      const auto used = codec.encode(other, plain, out);
      if (!used) continue;
      out.resize(*used);
      EXPECT_EQ(decode(codec, other, out, back), Code::ok);
    }
  }
}

TEST_P(HxpConformance, a_unit_read_alone_is_that_of_the_layer) {
  const Block encoded = encode(codec_, context(), make_layer(Fill::normal, 43));
  Block whole;
  ASSERT_EQ(decode(codec_, context(), encoded, whole), Code::ok);
  const Bytes directory = Bytes(encoded).first(codec_.directory_bytes(layout()));
  Block parts(whole.size());
  for (std::uint64_t u = 0; u < layer_units(layout()); ++u) {
    const auto at = codec_.unit_at(layout(), directory, u);
    ASSERT_TRUE(at.ok());
    const UnitSpan span = *at;
    const Block alone(
        encoded.begin() + static_cast<std::ptrdiff_t>(span.first),
        encoded.begin() + static_cast<std::ptrdiff_t>(span.first + span.bytes));
    const UnitRows rows = unit_rows(layout(), u);
    ASSERT_EQ(codec_.decode_unit(context(), u, alone, directory,
                                 {MutableBytes(parts).subspan(rows.first), rows.stride}),
              Code::ok);
    Block elsewhere(whole.size());
    if (layer_units(layout()) > 1) {
      const std::uint64_t other = (u + 1) % layer_units(layout());
      const UnitRows place = unit_rows(layout(), other);
      ASSERT_EQ(codec_.decode_unit(
                    context(), other, alone, directory,
                    {MutableBytes(elsewhere).subspan(place.first), place.stride}),
                Code::corrupted)
          << "in another's place";
    }
  }
  EXPECT_EQ(parts, whole);
}

TEST_P(HxpConformance, every_flipped_bit_and_other_length_is_refused) {
  Block bytes = encode(codec_, context(), make_layer(Fill::normal, 44));
  std::mt19937 random(11);
  Block back;
  for (std::size_t i = 0; i < bytes.size(); i += 1 + bytes.size() / 300) {
    const auto bit = static_cast<std::byte>(1U << random() % 8);
    bytes[i] ^= bit;
    ASSERT_EQ(decode(codec_, context(), bytes, back), Code::corrupted) << i;
    bytes[i] ^= bit;
    const Block cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(i));
    ASSERT_EQ(decode(codec_, context(), cut, back), Code::corrupted) << i;
  }
  ASSERT_EQ(decode(codec_, context(), bytes, back), Code::ok);
}

TEST_P(HxpConformance, another_profile_place_or_layer_is_refused) {
  const Block plain = make_layer(Fill::normal, 45);
  const Block bytes = encode(codec_, context(), plain);
  Block back;
  EXPECT_EQ(decode(codec_, context(1001), bytes, back), Code::corrupted);
  EXPECT_EQ(decode(codec_, context(kNoPosition), bytes, back), Code::corrupted);
  LayerContext first = context();
  first.layer = 0;
  EXPECT_EQ(decode(codec_, first, bytes, back),
            layout().layers == 1 ? Code::ok : Code::corrupted);
  LayerContext other = context();
  const Block another = test::random_profile(layout(), 2);
  other.profile = another;
  EXPECT_EQ(decode(codec_, other, bytes, back), Code::corrupted);
  other.profile = {};
  EXPECT_EQ(decode(codec_, other, bytes, back), Code::corrupted);
}

TEST_P(HxpConformance, without_a_profile_or_a_position_blocks_need_none) {
  const Block plain = make_layer(Fill::normal, 46);
  LayerContext bare = context();
  bare.profile = {};
  const Block bytes = encode(codec_, bare, plain);
  EXPECT_EQ(encode(codec_, context(kNoPosition), plain), bytes);
  EXPECT_EQ(encode(codec_, context(kNoPosition - 1), plain), bytes) << "past all places";
  Block with, without;
  ASSERT_EQ(decode(codec_, context(), bytes, with), Code::ok);
  ASSERT_EQ(decode(codec_, bare, bytes, without), Code::ok);
  EXPECT_EQ(with, without);
}

TEST_P(HxpConformance, any_profile_behind_a_right_header_is_safe) {
  const Block plain = make_layer(Fill::offset, 47);
  Block noise = profile_;
  std::mt19937 random(5);
  for (int i = 0; i < 8; ++i) {
    // A codec believes the header's checksum, and looks at nothing behind it.
    for (std::size_t at = ModelProfile::kHead; at < noise.size(); ++at)
      noise[at] = static_cast<std::byte>(random());
    LayerContext other = context();
    other.profile = noise;
    Block out(codec_.max_layer_bytes(layout())), back;
    const auto used = codec_.encode(other, plain, out);
    if (!used) continue;
    out.resize(*used);
    EXPECT_EQ(decode(codec_, other, out, back), Code::ok);
  }
}

TEST_P(HxpConformance, infinities_and_nans_are_refused_wherever_they_are) {
  const Block sound = make_layer(Fill::normal, 48);
  const std::uint32_t infinity = test::format_of(layout().dtype).infinity();
  std::mt19937 random(9);
  for (const std::uint32_t bits : {infinity, infinity | 0x8000, infinity + 1, 0xFFFFU}) {
    for (int i = 0; i < 5; ++i) {
      Block plain = sound;
      store_le(plain.data() + 2 * (random() % (plain.size() / 2)),
               static_cast<std::uint16_t>(bits));
      Block out(codec_.max_layer_bytes(layout()));
      const auto used = codec_.encode(context(), plain, out);
      ASSERT_FALSE(used.ok());
      ASSERT_EQ(used.error().code(), Code::unsupported);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, HxpConformance, ::testing::ValuesIn(kLayouts),
                         [](const auto& tested) {
                           const BlockLayout& l = tested.param;
                           return std::string(l.dtype == DType::f16 ? "f16" : "bf16") +
                                  (l.kind == kInterleaved ? "_pages_" : "_kv_") +
                                  std::to_string(l.kv_heads) + "x" +
                                  std::to_string(l.head_dim) + "x" +
                                  std::to_string(l.tokens);
                         });

// Against the C library's sine, which is exact to far more bits.
TEST(HxpOffsets, sines_are_those_of_the_angle) {
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    const auto phase = static_cast<std::uint32_t>(random());
    const double angle = 6.283185307179586 * std::ldexp(phase, -32);
    ASSERT_NEAR(hxp::sine(phase), 32768 * std::sin(angle), 1.2) << phase;
    ASSERT_NEAR(hxp::cosine(phase), 32768 * std::cos(angle), 1.2) << phase;
  }
  EXPECT_EQ(hxp::sine(1U << 30), 32768);
  EXPECT_EQ(hxp::sine(0), 0);
  EXPECT_EQ(hxp::cosine(1U << 31), -32768);
}

}  // namespace
}  // namespace speckv
