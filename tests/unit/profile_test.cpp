// The profile of a model: what is written is read, and nothing else is believed.
#include "codec/profile.hpp"

#include <string>

#include <gtest/gtest.h>

#include "cxlspeckv/open_store.hpp"

#include "support/profiles.hpp"

namespace speckv {
namespace {

constexpr BlockLayout kLayout{2, 3, 64, 16, DType::f16};

Status read(Bytes file) {
  const auto profile = read_profile(file);
  return profile ? Status{} : profile.error();
}

class ProfileOfAnyVersion : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  static ProfileShape shape_for(const BlockLayout& layout) {
    ProfileShape shape = test::shape_for(layout);
    shape.sizes = GetParam();
    return shape;
  }
  static std::vector<std::byte> random_profile(const BlockLayout& layout,
                                               std::uint64_t seed) {
    const ProfileShape shape = shape_for(layout);
    auto file = test::write_parts(shape, test::random_parts(shape, seed));
    return file ? *std::move(file) : std::vector<std::byte>{};
  }
};
INSTANTIATE_TEST_SUITE_P(Losses, ProfileOfAnyVersion, ::testing::Values(0U, 2U, 5U));

TEST_P(ProfileOfAnyVersion, comes_back_as_it_was_written) {
  const ProfileShape shape = shape_for(kLayout);
  const test::ProfileParts parts = test::random_parts(shape, 1);
  const auto file = test::write_parts(shape, parts);
  ASSERT_TRUE(file.ok()) << file.error().message();
  const auto opened = read_profile(*file);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  const ModelProfile profile = *opened;
  EXPECT_EQ(profile.shape(), shape);
  EXPECT_EQ(load_le<std::uint32_t>(file->data() + 8), GetParam() == 0 ? 1U : 2U);
  EXPECT_TRUE(profile.fits(kLayout));
  const auto views = profile_parts(*file);
  ASSERT_TRUE(views.ok());
  for (std::size_t i = 0; i < kProfileParts; ++i)
    EXPECT_TRUE(std::equal(parts[i].begin(), parts[i].end(), (*views)[i].begin(),
                           (*views)[i].end()));
  const auto part = [&](ProfilePart p) {
    return parts[static_cast<std::size_t>(p)].data();
  };
  for (std::uint32_t i = 0; i < shape.pairs; ++i)
    EXPECT_EQ(profile.frequency(i),
              load_le<std::uint32_t>(part(ProfilePart::frequencies) + 4 * i));
  for (std::uint32_t i = 0; i < shape.sizes; ++i)
    EXPECT_EQ(profile.size(i), load_le<std::uint16_t>(part(ProfilePart::sizes) + 2 * i));
  std::size_t head = 0;
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (const bool value : {false, true}) {
      for (std::uint32_t h = 0; h < shape.kv_heads; ++h, ++head) {
        const ModelProfile::Head at{layer, value, h};
        for (std::uint32_t i = 0; i < shape.targets; ++i) {
          const std::size_t all = std::size_t{shape.layers} * 2 * shape.kv_heads;
          EXPECT_EQ(profile.slot(i, at), load_le<std::uint16_t>(part(ProfilePart::slots) +
                                                                2 * (i * all + head)));
        }
        for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
          const std::size_t i = head * shape.head_dim + c;
          EXPECT_EQ(profile.step(at, c),
                    load_le<std::int8_t>(part(ProfilePart::steps) + i));
          EXPECT_EQ(profile.mean(at, c),
                    load_le<std::uint16_t>(part(ProfilePart::means) + 2 * i));
        }
        for (std::uint32_t i = 0; i < 4; ++i)
          EXPECT_EQ(profile.exponent(at, i),
                    load_le<std::int8_t>(part(ProfilePart::exponents) + head * 4 + i));
        ASSERT_EQ(profile.index(at), head);
        for (std::uint32_t i = 0; i < shape.sizes; ++i)
          EXPECT_EQ(profile.loss(head, i),
                    load_le<std::int16_t>(part(ProfilePart::losses) +
                                          2 * (head * shape.sizes + i)));
        const std::uint32_t weights = 4 + 2 * shape.head_dim;
        for (std::uint32_t i = 0; i < weights; ++i)
          EXPECT_EQ(profile.weight(at, i),
                    load_le<std::int16_t>(part(ProfilePart::weights) +
                                          2 * (head * weights + i)));
      }
    }
  }
}

TEST_P(ProfileOfAnyVersion, every_truncation_is_refused) {
  const auto file = random_profile(kLayout, 2);
  ASSERT_TRUE(read(file).ok());
  for (std::size_t size = 0; size < file.size(); ++size) {
    const Status status = read(Bytes(file).first(size));
    ASSERT_EQ(status.code(), Code::corrupted) << size;
    ASSERT_FALSE(status.message().empty());
  }
  auto longer = file;
  longer.resize(file.size() + 64);
  EXPECT_EQ(read(longer).code(), Code::corrupted);
}

TEST_P(ProfileOfAnyVersion, every_flipped_bit_is_refused) {
  auto file = random_profile({1, 1, 64, 16, DType::f16}, 3);
  ASSERT_TRUE(read(file).ok());
  for (std::size_t i = 0; i < 8 * file.size(); ++i) {
    const auto bit = static_cast<std::byte>(1U << i % 8);
    file[i / 8] ^= bit;
    ASSERT_EQ(read(file).code(), Code::corrupted) << i;
    file[i / 8] ^= bit;
  }
  EXPECT_TRUE(read(file).ok());
}

struct Change {
  const char* what;
  std::size_t at;
  std::uint16_t value;
  Code code;
};

TEST(Profile, numbers_that_no_writer_writes_are_refused_behind_right_checksums) {
  const auto sound = test::random_profile(kLayout, 4);
  // Header, 32 frequencies, 2 targets; 24 slots; 12 heads of 64 steps; means. At the end
  // 4 sizes and their losses of 12 heads.
  const std::size_t targets = 64 + 128, slots = targets + 64, steps = slots + 64,
                    means = steps + std::size_t{12} * 64, losses = sound.size() - 128,
                    sizes = losses - 64;
  const Change changes[] = {
      {"another version", 8, 3, Code::unsupported},
      {"the version that has no losses", 8, 1, Code::corrupted},
      {"no layer", 28, 0, Code::corrupted},
      {"too many layers", 28, 1025, Code::corrupted},
      {"no head", 30, 0, Code::corrupted},
      {"more heads", 30, 1024, Code::corrupted},
      {"an odd width", 32, 72, Code::corrupted},
      {"too many pairs", 34, 33, Code::corrupted},
      {"too many targets", 36, 9, Code::corrupted},
      {"one size", 38, 1, Code::corrupted},
      {"too many sizes", 38, 17, Code::corrupted},
      {"a size below all slots", sizes, 1920, Code::corrupted},
      {"a size that is no slot's", sizes, 2049, Code::corrupted},
      {"a size too large", sizes + 6, 7808, Code::corrupted},
      {"sizes out of order", sizes + 2, 2048, Code::corrupted},
      {"padding behind the sizes", sizes + 8, 1, Code::corrupted},
      {"padding behind the losses", losses + 96, 1, Code::corrupted},
      {"a target below all slots", targets, 2047, Code::corrupted},
      {"targets out of order", targets + 2, 4096, Code::corrupted},
      {"padding", targets + 4, 1, Code::corrupted},
      {"a slot that is too small", slots, 1920, Code::corrupted},
      {"a slot that is too large", slots, 7808, Code::corrupted},
      {"a slot of odd size", slots + 2, 4095, Code::corrupted},
      {"an infinite mean", means, 0x7C00, Code::corrupted},
      {"no number for a mean", means + 2, 0xFE01, Code::corrupted},
  };
  for (const Change& change : changes) {
    auto file = sound;
    store_le(file.data() + change.at, change.value);
    test::seal_profile(file);
    const Status status = read(file);
    EXPECT_EQ(status.code(), change.code) << change.what;
    EXPECT_FALSE(status.message().empty());
  }
}

// The reserved fields of version 1.
TEST(Profile, of_version_1_that_says_something_of_losses_is_refused) {
  ProfileShape shape = test::shape_for(kLayout);
  shape.sizes = 0;
  auto file = *test::write_parts(shape, test::random_parts(shape, 4));
  for (const std::size_t at : {std::size_t{38}, std::size_t{60}}) {
    auto changed = file;
    store_le(changed.data() + at, std::uint16_t{1});
    store_le(changed.data() + 12, std::uint32_t{0});
    store_le(changed.data() + 12, crc32c(0, Bytes(changed).first(64)));
    EXPECT_EQ(read(changed).code(), Code::corrupted) << at;
  }
}

// So that what was coded under the one is read under the other.
TEST(Profile, losses_are_nothing_that_blocks_are_bound_to) {
  ProfileShape shape = test::shape_for(kLayout);
  test::ProfileParts parts = test::random_parts(shape, 7);
  const auto with = *test::write_parts(shape, parts);
  shape.sizes = 0;
  parts[7].clear();
  parts[8].clear();
  const auto without = *test::write_parts(shape, parts);
  EXPECT_EQ(read_profile(with)->checksum(), read_profile(without)->checksum());
  EXPECT_NE(read_profile(with)->losses_checksum(), 0U);
  EXPECT_EQ(read_profile(without)->losses_checksum(), 0U);
}

TEST(Profile, what_cannot_be_read_is_not_written) {
  ProfileShape shape = test::shape_for(kLayout);
  test::ProfileParts parts = test::random_parts(shape, 5);
  parts[3].pop_back();
  EXPECT_EQ(test::write_parts(shape, parts).error().code(), Code::invalid_argument);
  parts = test::random_parts(shape, 5);
  store_le(parts[2].data(), std::uint16_t{4095});
  EXPECT_EQ(test::write_parts(shape, parts).error().code(), Code::invalid_argument);
  shape.head_dim = 63;
  EXPECT_EQ(test::write_parts(shape, test::random_parts(shape, 5)).error().code(),
            Code::invalid_argument);
}

TEST(Profile, names_its_model_and_tokenizer) {
  const std::byte a[1]{}, b[1]{std::byte{1}};
  EXPECT_EQ(profile_model("m", a), profile_model("m", a));
  EXPECT_NE(profile_model("m", a), profile_model("m", b));
  EXPECT_NE(profile_model("m", a), profile_model("n", a));
}

TEST(Profile, a_store_refuses_one_that_is_damaged_or_of_another_model) {
  StoreConfig config;
  config.layouts = {kLayout, {4, 1, 128, 16, DType::f16}};
  config.tiers.emplace_back().device = "dram:1M";
  const auto code_with = [&](const std::vector<std::byte>& profile) {
    config.profile = profile;
    const auto store = open_store(config);
    return store ? Code::ok : store.error().code();
  };
  auto profile = test::random_profile(kLayout, 6);
  EXPECT_EQ(code_with({}), Code::ok);
  EXPECT_EQ(code_with(profile), Code::ok);
  profile.back() ^= std::byte{1};
  EXPECT_EQ(code_with(profile), Code::corrupted);
  EXPECT_EQ(code_with(std::vector<std::byte>(1)), Code::corrupted);
  EXPECT_EQ(code_with(test::random_profile({2, 4, 64, 16, DType::f16}, 6)),
            Code::invalid_argument);
}

}  // namespace
}  // namespace speckv
