// codec/profile.hpp -- what calibration found out about a model, for the hxp codecs
// (internal). docs/profile-format.md has every byte.
//
// The file is untrusted. read_profile() checks all of it, once; after that, and in any
// bytes whose header ModelProfile::open() accepts, every number may be used as it is:
// codecs clamp what they make of them.
#pragma once

#include <array>
#include <cstdint>

#include "cxlspeckv/profile.hpp"

#include "base/endian.hpp"

namespace speckv {

// A view of a profile. Copyable; the bytes must outlive it.
class ModelProfile {
 public:
  static constexpr std::uint64_t kHead = 64;
  static constexpr std::uint32_t kVersion = 1, kMostTargets = 8, kSizes = 4;
  // Of slots: bytes of 8192 values.
  static constexpr std::uint32_t kLeastSlot = 2048, kMostSlot = 7680, kSlotStep = 128;

  // Checks the header and the length alone, in constant time. False: no profile.
  bool open(Bytes file) noexcept;

  const ProfileShape& shape() const noexcept { return shape_; }
  // Of everything behind the header.
  std::uint32_t checksum() const noexcept { return checksum_; }
  bool fits(const BlockLayout& layout) const noexcept {
    return layout.layers == shape_.layers && layout.kv_heads == shape_.kv_heads &&
           layout.head_dim == shape_.head_dim && layout.kind != BlockLayout::Kind::latent;
  }

  // One head's K (or V) of one layer.
  struct Head {
    std::uint32_t layer;
    bool value;
    std::uint32_t head;
  };
  std::uint32_t frequency(std::uint32_t pair) const noexcept {
    return at<std::uint32_t>(ProfilePart::frequencies, pair);
  }
  std::uint32_t target(std::uint32_t i) const noexcept {
    return at<std::uint16_t>(ProfilePart::targets, i);
  }
  std::uint32_t slot(std::uint32_t target, const Head& head) const noexcept {
    return at<std::uint16_t>(
        ProfilePart::slots,
        std::uint64_t{target} * shape_.layers * 2 * shape_.kv_heads + index(head));
  }
  // Sixteenths of an octave.
  std::int32_t step(const Head& head, std::uint32_t c) const noexcept {
    return at<std::int8_t>(ProfilePart::steps, index(head) * shape_.head_dim + c);
  }
  // The bits of an f16.
  std::uint32_t mean(const Head& head, std::uint32_t c) const noexcept {
    return at<std::uint16_t>(ProfilePart::means, index(head) * shape_.head_dim + c);
  }
  std::int32_t exponent(const Head& head, std::uint32_t i) const noexcept {
    return at<std::int8_t>(ProfilePart::exponents, index(head) * kSizes + i);
  }
  std::int32_t weight(const Head& head, std::uint32_t i) const noexcept {
    return at<std::int16_t>(ProfilePart::weights,
                            index(head) * (kSizes + 2 * shape_.head_dim) + i);
  }

 private:
  friend struct ProfileFile;
  std::uint64_t index(const Head& head) const noexcept {
    return (std::uint64_t{head.layer} * 2 + (head.value ? 1 : 0)) * shape_.kv_heads +
           head.head;
  }
  template <class T>
  T at(ProfilePart part, std::uint64_t i) const noexcept {
    return load_le<T>(file_.data() + first_[static_cast<std::size_t>(part)] +
                      i * sizeof(T));
  }

  Bytes file_{};
  ProfileShape shape_{};
  std::uint32_t checksum_ = 0;
  std::array<std::uint64_t, kProfileParts + 1> first_{};  // of each part; and the end
};

// Checks every byte. corrupted: not a profile, or damaged. unsupported: of another
// version. `file` must outlive the profile.
Result<ModelProfile> read_profile(Bytes file);

}  // namespace speckv
