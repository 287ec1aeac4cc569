// The profile of a model (docs/profile-format.md).
#include "codec/profile.hpp"

#include <algorithm>
#include <string>

#include "base/checksum.hpp"
#include "codec/builtin.hpp"
#include "codec/number.hpp"

namespace speckv {

// Where each field of the header lies, and what a shape makes of the parts.
struct ProfileFile {
  static constexpr std::uint64_t kMagic = 0x464F52504B565053;  // "SPVKPROF"
  static constexpr std::size_t kVersion = 8, kHeadCrc = 12, kBytes = 16, kBodyCrc = 24,
                               kLayers = 28, kKvHeads = 30, kHeadDim = 32, kPairs = 34,
                               kTargets = 36, kSizes = 38, kModelHigh = 40,
                               kModelLow = 48, kRopeBase = 56, kLossesCrc = 60;
  static constexpr std::size_t kLosses = static_cast<std::size_t>(ProfilePart::sizes);

  // Products of a valid shape's extents stay below 2^36.
  static bool is_valid(const ProfileShape& s) noexcept {
    return s.layers >= 1 && s.layers <= kMaxLayers && s.kv_heads >= 1 &&
           s.kv_heads <= 1024 && s.head_dim >= 64 && s.head_dim <= 256 &&
           s.head_dim % 16 == 0 && s.pairs <= s.head_dim / 2 &&
           s.targets <= ModelProfile::kMostTargets &&
           (s.sizes == 0 || (s.sizes >= ModelProfile::kLeastLossSizes &&
                             s.sizes <= ModelProfile::kMostLossSizes));
  }
  static std::uint32_t version_of(const ProfileShape& s) noexcept {
    return s.sizes == 0 ? ModelProfile::kVersion : ModelProfile::kVersionLosses;
  }

  // Bytes of a part, without padding. REQUIRES: is_valid(s)
  static std::uint64_t bytes_of(const ProfileShape& s, ProfilePart part) noexcept {
    const std::uint64_t heads = std::uint64_t{s.layers} * 2 * s.kv_heads;
    switch (part) {
      case ProfilePart::frequencies:
        return std::uint64_t{4} * s.pairs;
      case ProfilePart::targets:
        return std::uint64_t{2} * s.targets;
      case ProfilePart::slots:
        return 2 * heads * s.targets;
      case ProfilePart::steps:
        return heads * s.head_dim;
      case ProfilePart::means:
        return 2 * heads * s.head_dim;
      case ProfilePart::exponents:
        return heads * ModelProfile::kSizes;
      case ProfilePart::weights:
        return 2 * heads * (ModelProfile::kSizes + std::uint64_t{2} * s.head_dim);
      case ProfilePart::sizes:
        return std::uint64_t{2} * s.sizes;
      case ProfilePart::losses:
        return 2 * heads * s.sizes;
    }
    return 0;
  }

  using Firsts = std::array<std::uint64_t, kProfileParts + 1>;
  static void lay_out(const ProfileShape& s, Firsts& first) noexcept {
    std::uint64_t end = ModelProfile::kHead;
    for (std::size_t i = 0; i < kProfileParts; ++i) {
      first[i] = end;
      end += padded(bytes_of(s, static_cast<ProfilePart>(i)));
    }
    first[kProfileParts] = end;
  }

  static std::uint32_t head_crc(Bytes head) noexcept {
    constexpr std::byte kZero[4]{};
    std::uint32_t crc = crc32c(0, head.first(kHeadCrc));
    crc = crc32c(crc, kZero);
    return crc32c(crc, head.subspan(kHeadCrc + 4, ModelProfile::kHead - kHeadCrc - 4));
  }

  static std::uint32_t body_crc(Bytes file, const Firsts& first) noexcept {
    return crc32c(
        0, file.subspan(ModelProfile::kHead, first[kLosses] - ModelProfile::kHead));
  }
  static std::uint32_t losses_crc(Bytes file, const Firsts& first) noexcept {
    return crc32c(0, file.subspan(first[kLosses]));  // 0 of none
  }

  static ProfileShape shape_of(const std::byte* head) noexcept {
    return {.layers = load_le<std::uint16_t>(head + kLayers),
            .kv_heads = load_le<std::uint16_t>(head + kKvHeads),
            .head_dim = load_le<std::uint16_t>(head + kHeadDim),
            .pairs = load_le<std::uint16_t>(head + kPairs),
            .targets = load_le<std::uint16_t>(head + kTargets),
            .rope_base = load_le<std::uint32_t>(head + kRopeBase),
            .sizes = load_le<std::uint16_t>(head + kSizes),
            .model = {load_le<std::uint64_t>(head + kModelHigh),
                      load_le<std::uint64_t>(head + kModelLow)}};
  }

  static bool sums_hold(const ModelProfile& p) noexcept {
    return p.checksum_ == body_crc(p.file_, p.first_) &&
           p.losses_checksum_ == losses_crc(p.file_, p.first_);
  }

  // The sentence is nullptr where all is well.
  static const char* check_numbers(const ModelProfile& p) noexcept {
    const ProfileShape& s = p.shape();
    for (std::size_t i = 0; i < kProfileParts; ++i) {
      const std::uint64_t end = p.first_[i] + bytes_of(s, static_cast<ProfilePart>(i));
      if (!all_zero(p.file_.subspan(end, p.first_[i + 1] - end)))
        return "profile: padding is not zero";
    }
    const auto is_slot = [](std::uint32_t bytes) noexcept {
      return bytes >= ModelProfile::kLeastSlot && bytes <= ModelProfile::kMostSlot;
    };
    for (std::uint32_t i = 0; i < s.targets; ++i) {
      if (!is_slot(p.target(i)) || (i > 0 && p.target(i) <= p.target(i - 1)))
        return "profile: targets out of bounds, or not in order";
    }
    const std::uint64_t slots = bytes_of(s, ProfilePart::slots) / 2;
    for (std::uint64_t i = 0; i < slots; ++i) {
      const std::uint32_t slot = p.at<std::uint16_t>(ProfilePart::slots, i);
      if (!is_slot(slot) || slot % ModelProfile::kSlotStep != 0)
        return "profile: a slot that no codec has";
    }
    for (std::uint32_t i = 0; i < s.sizes; ++i) {
      if (!is_slot(p.size(i)) || p.size(i) % ModelProfile::kSlotStep != 0 ||
          (i > 0 && p.size(i) <= p.size(i - 1)))
        return "profile: losses of slots that no codec has, or not in order";
    }
    const std::uint64_t means = bytes_of(s, ProfilePart::means) / 2;
    for (std::uint64_t i = 0; i < means; ++i) {
      const std::uint32_t mean = p.at<std::uint16_t>(ProfilePart::means, i);
      if ((mean & number::kMagnitude) >= number::F16::kInfinity)
        return "profile: a mean is not finite";
    }
    return nullptr;
  }
};

bool ModelProfile::open(Bytes file) noexcept {
  using F = ProfileFile;
  if (file.size() < kHead) return false;
  const std::byte* const head = file.data();
  if (load_le<std::uint64_t>(head) != F::kMagic ||
      load_le<std::uint32_t>(head + F::kHeadCrc) != F::head_crc(file))
    return false;
  const ProfileShape shape = F::shape_of(head);
  const auto losses_checksum = load_le<std::uint32_t>(head + F::kLossesCrc);
  if (!F::is_valid(shape) ||
      load_le<std::uint32_t>(head + F::kVersion) != F::version_of(shape) ||
      (shape.sizes == 0 && losses_checksum != 0))
    return false;
  F::Firsts first{};
  F::lay_out(shape, first);
  if (first.back() != file.size() ||
      load_le<std::uint64_t>(head + F::kBytes) != file.size())
    return false;
  file_ = file;
  shape_ = shape;
  checksum_ = load_le<std::uint32_t>(head + F::kBodyCrc);
  losses_checksum_ = losses_checksum;
  first_ = first;
  return true;
}

Result<ModelProfile> read_profile(Bytes file) {
  using F = ProfileFile;
  if (file.size() < ModelProfile::kHead)
    return Status{Code::corrupted, "profile: cut off"};
  if (load_le<std::uint64_t>(file.data()) != F::kMagic)
    return Status{Code::corrupted, "profile: not a profile"};
  const auto version = load_le<std::uint32_t>(file.data() + F::kVersion);
  // Behind a wrong checksum a version says nothing.
  if (version != ModelProfile::kVersion && version != ModelProfile::kVersionLosses &&
      load_le<std::uint32_t>(file.data() + F::kHeadCrc) == F::head_crc(file))
    return Status{Code::unsupported, "profile: version " + std::to_string(version) +
                                         "; this library reads 1 and 2"};
  ModelProfile profile;
  if (!profile.open(file))
    return Status{Code::corrupted, "profile: header damaged, or of another length"};
  if (!F::sums_hold(profile)) return Status{Code::corrupted, "profile: wrong checksum"};
  if (const char* wrong = F::check_numbers(profile); wrong != nullptr)
    return Status{Code::corrupted, wrong};
  return profile;
}

Result<std::vector<std::byte>> write_profile(
    const ProfileShape& shape, const std::array<Bytes, kProfileParts>& parts) {
  using F = ProfileFile;
  if (!F::is_valid(shape))
    return Status{Code::invalid_argument, "profile: a shape that no model has"};
  F::Firsts first{};
  F::lay_out(shape, first);
  std::vector<std::byte> file(first.back());
  for (std::size_t i = 0; i < kProfileParts; ++i) {
    const std::uint64_t size = F::bytes_of(shape, static_cast<ProfilePart>(i));
    if (parts[i].size() != size)
      return Status{Code::invalid_argument, "profile: part " + std::to_string(i) +
                                                " has " +
                                                std::to_string(parts[i].size()) +
                                                " bytes, not " + std::to_string(size)};
    std::copy(parts[i].begin(), parts[i].end(),
              file.begin() + static_cast<std::ptrdiff_t>(first[i]));
  }
  std::byte* const head = file.data();
  store_le(head, F::kMagic);
  store_le(head + F::kVersion, F::version_of(shape));
  store_le(head + F::kBytes, std::uint64_t{file.size()});
  store_le(head + F::kBodyCrc, F::body_crc(file, first));
  store_le(head + F::kLayers, static_cast<std::uint16_t>(shape.layers));
  store_le(head + F::kKvHeads, static_cast<std::uint16_t>(shape.kv_heads));
  store_le(head + F::kHeadDim, static_cast<std::uint16_t>(shape.head_dim));
  store_le(head + F::kPairs, static_cast<std::uint16_t>(shape.pairs));
  store_le(head + F::kTargets, static_cast<std::uint16_t>(shape.targets));
  store_le(head + F::kSizes, static_cast<std::uint16_t>(shape.sizes));
  store_le(head + F::kModelHigh, shape.model.high);
  store_le(head + F::kModelLow, shape.model.low);
  store_le(head + F::kRopeBase, shape.rope_base);
  store_le(head + F::kLossesCrc, F::losses_crc(file, first));
  store_le(head + F::kHeadCrc, F::head_crc(file));
  if (const auto read = read_profile(file); !read)
    return Status{Code::invalid_argument, read.error().message()};
  return file;
}

Result<ProfileShape> profile_shape(Bytes file) {
  const auto read = read_profile(file);
  if (!read) return read.error();
  return (*read).shape();
}

Result<std::array<Bytes, kProfileParts>> profile_parts(Bytes file) {
  using F = ProfileFile;
  const auto read = read_profile(file);
  if (!read) return read.error();
  const ProfileShape& shape = read->shape();
  F::Firsts first{};
  F::lay_out(shape, first);
  std::array<Bytes, kProfileParts> parts;
  for (std::size_t i = 0; i < kProfileParts; ++i)
    parts[i] = file.subspan(first[i], F::bytes_of(shape, static_cast<ProfilePart>(i)));
  return parts;
}

Status check_profile(Bytes file, std::span<const BlockLayout> layouts) {
  const auto read = read_profile(file);
  if (!read) return read.error();
  const auto fits = [&](const BlockLayout& layout) { return read->fits(layout); };
  if (std::any_of(layouts.begin(), layouts.end(), fits)) return {};
  const ProfileShape& s = read->shape();
  return {Code::invalid_argument, "profile: of a model with " + std::to_string(s.layers) +
                                      " layers, " + std::to_string(s.kv_heads) +
                                      " heads of K and " + std::to_string(s.head_dim) +
                                      " channels, which is none of the layouts"};
}

}  // namespace speckv
