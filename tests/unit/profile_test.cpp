// The profile of a model: what is written is read, and nothing else is believed.
#include "codec/profile.hpp"

#include <string>

#include <gtest/gtest.h>

#include "cxlspeckv/open_store.hpp"

#include "base/checksum.hpp"
#include "support/profiles.hpp"

namespace speckv {
namespace {

constexpr BlockLayout kLayout{2, 3, 64, 16, DType::f16};

// Makes the checksums of a changed file right again.
void seal(std::vector<std::byte>& file) {
  store_le(file.data() + 24, crc32c(0, Bytes(file).subspan(64)));
  store_le(file.data() + 12, std::uint32_t{0});
  store_le(file.data() + 12, crc32c(0, Bytes(file).first(64)));
}

Status read(Bytes file) {
  const auto profile = read_profile(file);
  return profile ? Status{} : profile.error();
}

TEST(Profile, comes_back_as_it_was_written) {
  const ProfileShape shape = test::shape_for(kLayout);
  const test::ProfileParts parts = test::random_parts(shape, 1);
  const auto file = test::write_parts(shape, parts);
  ASSERT_TRUE(file.ok()) << file.error().message();
  const auto opened = read_profile(*file);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  const ModelProfile profile = *opened;
  EXPECT_EQ(profile.shape(), shape);
  EXPECT_TRUE(profile.fits(kLayout));
  const auto part = [&](ProfilePart p) {
    return parts[static_cast<std::size_t>(p)].data();
  };
  for (std::uint32_t i = 0; i < shape.pairs; ++i)
    EXPECT_EQ(profile.frequency(i),
              load_le<std::uint32_t>(part(ProfilePart::frequencies) + 4 * i));
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
        const std::uint32_t weights = 4 + 2 * shape.head_dim;
        for (std::uint32_t i = 0; i < weights; ++i)
          EXPECT_EQ(profile.weight(at, i),
                    load_le<std::int16_t>(part(ProfilePart::weights) +
                                          2 * (head * weights + i)));
      }
    }
  }
}

TEST(Profile, every_truncation_is_refused) {
  const auto file = test::random_profile(kLayout, 2);
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

TEST(Profile, every_flipped_bit_is_refused) {
  auto file = test::random_profile({1, 1, 64, 16, DType::f16}, 3);
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
  // Header, 32 frequencies, 2 targets; 24 slots; 12 heads of 64 steps; means.
  const std::size_t targets = 64 + 128, slots = targets + 64, steps = slots + 64,
                    means = steps + std::size_t{12} * 64;
  const Change changes[] = {
      {"another version", 8, 2, Code::unsupported},
      {"no layer", 28, 0, Code::corrupted},
      {"too many layers", 28, 1025, Code::corrupted},
      {"no head", 30, 0, Code::corrupted},
      {"more heads", 30, 1024, Code::corrupted},
      {"an odd width", 32, 72, Code::corrupted},
      {"too many pairs", 34, 33, Code::corrupted},
      {"too many targets", 36, 9, Code::corrupted},
      {"a reserved field", 38, 1, Code::corrupted},
      {"another reserved field", 60, 1, Code::corrupted},
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
    seal(file);
    const Status status = read(file);
    EXPECT_EQ(status.code(), change.code) << change.what;
    EXPECT_FALSE(status.message().empty());
  }
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
