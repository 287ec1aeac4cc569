// support/profiles.hpp -- profiles of models that do not exist, by seed.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "base/checksum.hpp"
#include "codec/profile.hpp"

namespace speckv::test {

using ProfileParts = std::array<std::vector<std::byte>, kProfileParts>;

inline ProfileShape shape_for(const BlockLayout& layout) {
  return {.layers = layout.layers,
          .kv_heads = layout.kv_heads,
          .head_dim = layout.head_dim,
          .pairs = layout.head_dim / 2,
          .targets = 2,
          .rope_base = 10000,
          .sizes = 4,
          .model = {1, 2}};
}

// Steps within an octave, means of the size of values, gains that differ by octaves,
// slots of 3072 to 5120 bytes, of which heads have different ones, and losses that halve
// with some hundred bytes, all together 1 at 4096 bytes or so.
inline ProfileParts random_parts(const ProfileShape& shape, std::uint64_t seed) {
  std::mt19937 random(static_cast<std::uint32_t>(seed));
  const std::size_t heads = std::size_t{shape.layers} * 2 * shape.kv_heads;
  ProfileParts parts;
  const auto put = [&](ProfilePart part, auto value) {
    auto& to = parts[static_cast<std::size_t>(part)];
    to.resize(to.size() + sizeof value);
    store_le(to.data() + to.size() - sizeof value, value);
  };
  for (std::uint32_t i = 0; i < shape.pairs; ++i)
    put(ProfilePart::frequencies, std::uint32_t{683565276U >> (i / 8)});
  for (std::uint32_t i = 0; i < shape.targets; ++i)
    put(ProfilePart::targets, static_cast<std::uint16_t>(4096 + 1024 * i));
  for (std::size_t i = 0; i < heads * shape.targets; ++i)
    put(ProfilePart::slots, static_cast<std::uint16_t>(3072 + 128 * (random() % 17)));
  for (std::size_t i = 0; i < heads * shape.head_dim; ++i) {
    put(ProfilePart::steps, static_cast<std::int8_t>(random() % 17 - 8));
    // Up to 2 in size, either sign.
    put(ProfilePart::means,
        static_cast<std::uint16_t>(0x3000 + random() % 0x1000 + (random() & 1) * 0x8000));
  }
  for (std::size_t i = 0; i < heads; ++i) {
    const std::int8_t exponents[] = {-6, -14, -8, -8};
    for (const std::int8_t exponent : exponents)
      put(ProfilePart::exponents, exponent);
    for (std::size_t w = 0; w < ModelProfile::kSizes + 2 * std::size_t{shape.head_dim};
         ++w)
      put(ProfilePart::weights, static_cast<std::int16_t>(random() % 2001 - 1000));
  }
  for (std::uint32_t i = 0; i < shape.sizes; ++i)
    put(ProfilePart::sizes, static_cast<std::uint16_t>(2048 + 1024 * i));
  const auto share = static_cast<int>(-256 * std::log2(heads));
  for (std::size_t i = 0; i < heads && shape.sizes != 0; ++i) {
    int loss = share + 512 + static_cast<int>(random() % 512);
    for (std::uint32_t j = 0; j < shape.sizes; ++j) {
      put(ProfilePart::losses, static_cast<std::int16_t>(loss));
      loss -= 256 + static_cast<int>(random() % 384);
    }
  }
  return parts;
}

// Makes the checksums of a changed file right again, as far as its header can be
// believed.
inline void seal_profile(std::vector<std::byte>& file) {
  // The losses lie at the end: 2 bytes a size, then 2 a size and head, each padded to 64.
  const auto field = [&](std::size_t at) {
    return std::size_t{load_le<std::uint16_t>(file.data() + at)};
  };
  const auto whole = [](std::size_t bytes) { return (bytes + 63) / 64 * 64; };
  const std::size_t sizes = field(38);
  const std::size_t losses =
      whole(2 * sizes) + whole(2 * sizes * field(28) * 2 * field(30));
  const std::size_t body = losses <= file.size() - 64 ? file.size() - losses : 64;
  store_le(file.data() + 24, crc32c(0, Bytes(file).subspan(64, body - 64)));
  store_le(file.data() + 60, crc32c(0, Bytes(file).subspan(body)));
  store_le(file.data() + 12, std::uint32_t{0});
  store_le(file.data() + 12, crc32c(0, Bytes(file).first(64)));
}

inline Result<std::vector<std::byte>> write_parts(const ProfileShape& shape,
                                                  const ProfileParts& parts) {
  std::array<Bytes, kProfileParts> views;
  std::copy(parts.begin(), parts.end(), views.begin());
  return write_profile(shape, views);
}

inline std::vector<std::byte> random_profile(const BlockLayout& layout,
                                             std::uint64_t seed) {
  const ProfileShape shape = shape_for(layout);
  auto file = write_parts(shape, random_parts(shape, seed));
  return file ? *std::move(file) : std::vector<std::byte>{};
}

}  // namespace speckv::test
