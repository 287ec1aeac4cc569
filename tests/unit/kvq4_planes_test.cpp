#include "cxlspeckv/kvq4_planes.hpp"

#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "codec/builtin.hpp"
#include "codec/kernels.hpp"
#include "codec/kvq4_group.hpp"
#include "support/blocks.hpp"

namespace speckv {
namespace {

using test::Fill;
using Block = std::vector<std::byte>;
using Kind = BlockLayout::Kind;

const BlockLayout kLayouts[] = {
    {1, 2, 128, 64, DType::f16, Kind::kv},
    {1, 1, 80, 33, DType::bf16, Kind::kv},
    {1, 3, 16, 17, DType::f16, Kind::interleaved},
    {1, 1, 576, 16, DType::f16, Kind::latent},
    {1, 2, 64, 19, DType::bf16, Kind::latent},
};

class Kvq4Planes : public ::testing::TestWithParam<BlockLayout> {
 protected:
  const BlockLayout& layout() const { return GetParam(); }
  // Memory of their own sizes, for AddressSanitizer.
  Block first_of(const Block& plain) const {
    const Codec& codec = kvq4_codec();
    Block out(codec.max_layer_bytes(layout()));
    EXPECT_TRUE(codec.encode({layout()}, plain, out).ok());
    return out;
  }
  Block second_of(const Block& plain, const Block& first) const {
    Block out(second_plane_bytes(layout()), std::byte{0xCD});
    EXPECT_EQ(encode_second_plane(layout(), plain, first, out), Code::ok);
    return out;
  }
  Code decode(const Block& first, const Block& second, Block& plain) const {
    plain.assign(layout().layer_bytes(), std::byte{0xAB});
    return decode_planes(layout(), first, second, plain);
  }
  // With scales and zeros of any size that a decoder takes.
  Block any_first(const Block& sound, std::mt19937_64& random) const {
    Block first = sound;
    const std::uint32_t infinity = test::format_of(layout().dtype).infinity();
    for_parameters(first, [&](std::uint64_t at) {
      if (random() % 2 == 0) return;
      kvq4::put(first.data() + at,
                {static_cast<std::uint32_t>(1 + random() % (infinity - 1)),
                 static_cast<std::int32_t>(random() % 16353) - 8176});
    });
    return first;
  }
  // Calls visit(where) for every group's parameters.
  template <class Visit>
  void for_parameters(const Block& first, Visit&& visit) const {
    const std::uint32_t d = layout().head_dim, width = d <= 256 ? d : 64;
    const std::uint64_t keys = layout().kind == Kind::latent ? 0 : layout().kv_heads;
    std::uint64_t at = 0;
    for (std::uint64_t u = 0; u < layer_units(layout()); ++u) {
      const std::uint64_t groups =
          u < keys ? d : std::uint64_t{layout().tokens} * (d / width);
      for (std::uint64_t g = 0; g < groups; ++g)
        visit(at + 4 * g);
      at += padded(4 * groups) + padded(std::uint64_t{layout().tokens} * d / 2);
    }
    EXPECT_EQ(at, first.size());
  }
  double value(const Block& plain, std::uint64_t i) const {
    return test::value_of(layout().dtype, test::bits_at(plain, i));
  }
  double energy(const Block& a, const Block& b) const {
    double sum = 0;
    for (std::uint64_t i = 0; i < a.size() / 2; ++i)
      sum += (value(a, i) - value(b, i)) * (value(a, i) - value(b, i));
    return sum;
  }
  // Calls visit(scale, place of a value) for all.
  template <class Visit>
  void for_scales(const Block& first, Visit&& visit) const {
    const std::uint32_t d = layout().head_dim, width = d <= 256 ? d : 64;
    const std::uint64_t keys = layout().kind == Kind::latent ? 0 : layout().kv_heads;
    std::uint64_t at = 0;
    for (std::uint64_t u = 0; u < layer_units(layout()); ++u) {
      const UnitRows rows = unit_rows(layout(), u);
      const std::uint64_t groups =
          u < keys ? d : std::uint64_t{layout().tokens} * (d / width);
      for (std::uint32_t t = 0; t < layout().tokens; ++t) {
        for (std::uint32_t c = 0; c < d; ++c) {
          const std::uint64_t g = u < keys ? c : t * (d / width) + c / width;
          visit(
              test::value_of(layout().dtype, kvq4::get(first.data() + at + 4 * g).scale),
              (rows.first + t * rows.stride) / 2 + c);
        }
      }
      at += padded(4 * groups) + padded(std::uint64_t{layout().tokens} * d / 2);
    }
  }
};

TEST_P(Kvq4Planes, values_come_back_within_a_sixteenth_of_a_step) {
  for (const Fill fill : test::kFills) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      const Block plain = test::make_block(layout(), fill, seed);
      const Block first = first_of(plain), second = second_of(plain, first);
      Block back;
      ASSERT_EQ(decode(first, second, back), Code::ok);
      for_scales(first, [&](double scale, std::uint64_t i) {
        const double x = value(plain, i), y = value(back, i);
        const double most = std::max(std::abs(x), std::abs(y));
        ASSERT_LE(std::abs(x - y), 1.04 * scale / 16 + std::abs(x) / 8192 +
                                       test::spacing(layout().dtype, most) / 2)
            << "fill " << static_cast<int>(fill) << " value " << i;
      });
    }
  }
}

// The first plane is kvq4's own layer: a reader of that alone has all that kvq4 gives.
TEST_P(Kvq4Planes, the_second_plane_takes_most_of_the_first_ones_error_away) {
  const Block plain = test::make_block(layout(), Fill::normal, 7);
  const Block first = first_of(plain), second = second_of(plain, first);
  Block coarse(layout().layer_bytes()), fine;
  ASSERT_EQ(kvq4_codec().decode({layout()}, first, coarse), Code::ok);
  ASSERT_EQ(decode(first, second, fine), Code::ok);
  // 256 times less, but for what sixteenths at +8 lose, and the format's own precision.
  const double most = layout().dtype == DType::f16 ? 150 : 40;
  EXPECT_GT(energy(plain, coarse), most * energy(plain, fine));
  EXPECT_EQ(second, second_of(plain, first)) << "the same bytes once more";
}

TEST_P(Kvq4Planes, what_no_encoder_writes_is_refused_or_harmless) {
  const Block plain = test::make_block(layout(), Fill::normal, 8);
  const Block first = first_of(plain), second = second_of(plain, first);
  Block back;
  for (Block bytes : {Block(), Block(first.begin(), first.end() - 1)}) {
    EXPECT_EQ(decode(bytes, second, back), Code::corrupted);
    Block out(second.size());
    EXPECT_EQ(encode_second_plane(layout(), plain, bytes, out), Code::corrupted);
  }
  EXPECT_EQ(decode(first, Block(second.begin(), second.end() - 1), back),
            Code::corrupted);
  Block less(plain.begin(), plain.end() - 2), out(second.size()),
      small(second.size() - 1);
  EXPECT_EQ(encode_second_plane(layout(), less, first, out), Code::invalid_argument);
  EXPECT_EQ(encode_second_plane(layout(), plain, first, small), Code::invalid_argument);
  EXPECT_EQ(decode_planes(layout(), first, second, less), Code::invalid_argument);
  const std::uint64_t nibbles = std::uint64_t{layout().tokens} * layout().head_dim / 2;
  if (padded(nibbles) != nibbles) {
    Block bytes = second;
    bytes[nibbles] = std::byte{1};  // padding
    EXPECT_EQ(decode(first, bytes, back), Code::corrupted);
  }
  std::mt19937_64 random(9);
  for (int i = 0; i < 40; ++i) {
    Block a = first, b = second;
    for (int k = 0; k < 40; ++k) {
      a[random() % (k % 2 == 0 ? 64 : a.size())] = static_cast<std::byte>(random());
      b[random() % b.size()] = static_cast<std::byte>(random());
    }
    Block coarse(layout().layer_bytes());
    const Code alone = kvq4_codec().decode({layout()}, a, coarse);
    if (alone != Code::ok) {
      EXPECT_EQ(decode(a, second, back), alone) << "the same parameters are refused";
    }
    (void)decode(a, b, back);
    (void)encode_second_plane(layout(), plain, a, out);
  }
}

// Against the definition, also of parameters and values that no encoder pairs.
TEST_P(Kvq4Planes, every_instruction_set_gives_the_same_bits) {
  std::mt19937_64 random(10);
  for (int i = 0; i < 60; ++i) {
    const Fill fill = test::kFills[static_cast<std::size_t>(i) % std::size(test::kFills)];
    Block plain = test::make_block(layout(), fill, random());
    Block first = first_of(plain);
    if (i % 3 == 1) plain = test::make_block(layout(), Fill::any_finite, random());
    if (i % 3 == 2) {
      for (int k = 0; k < 50; ++k)  // infinities and NaNs among them
        store_le(plain.data() + 2 * (random() % (plain.size() / 2)),
                 static_cast<std::uint16_t>(random()));
      first = any_first(first, random);
    }
    Block noise(second_plane_bytes(layout()));
    const std::uint64_t nibbles = std::uint64_t{layout().tokens} * layout().head_dim / 2;
    for (std::uint64_t at = 0; at < noise.size(); ++at)
      if (at % padded(nibbles) < nibbles) noise[at] = static_cast<std::byte>(random());
    ASSERT_TRUE(set_codec_kernel("scalar"));
    const Block second = second_of(plain, first);
    Block back, others;
    ASSERT_EQ(decode(first, second, back), Code::ok);
    ASSERT_EQ(decode(first, noise, others), Code::ok);
    for (const CodecKernel& kernel : codec_kernels()) {
      if (!set_codec_kernel(kernel.name)) continue;
      SCOPED_TRACE(std::string(kernel.name) + " " + std::to_string(i));
      ASSERT_EQ(second_of(plain, first), second);
      Block again;
      ASSERT_EQ(decode(first, second, again), Code::ok);
      ASSERT_EQ(again, back);
      ASSERT_EQ(decode(first, noise, again), Code::ok);
      ASSERT_EQ(again, others);
    }
    set_codec_kernel("");
  }
}

TEST(Kvq4PlanesOf, layouts_that_kvq4_does_not_take_are_refused) {
  for (const BlockLayout& layout :
       {BlockLayout{1, 1, 128, 64, DType::f32}, BlockLayout{1, 1, 24, 64, DType::f16},
        BlockLayout{1, 1, 128, 8, DType::f16}, BlockLayout{1, 0, 128, 64, DType::f16},
        BlockLayout{1, 1, 0, 64, DType::f16}}) {
    Block plain(layout.layer_bytes()), none;
    EXPECT_EQ(second_plane_bytes(layout), 0U);
    EXPECT_EQ(encode_second_plane(layout, plain, none, none), Code::unsupported);
    EXPECT_EQ(decode_planes(layout, none, none, plain), Code::unsupported);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, Kvq4Planes, ::testing::ValuesIn(kLayouts));

}  // namespace
}  // namespace speckv
