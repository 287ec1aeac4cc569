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
  // Version 2 has losses, behind what is version 1.
  static constexpr std::uint32_t kVersion = 1, kVersionLosses = 2, kMostTargets = 8,
                                 kSizes = 4;
  static constexpr std::uint32_t kLeastLossSizes = 2, kMostLossSizes = 16;
  // Of slots: bytes of 8192 values.
  static constexpr std::uint32_t kLeastSlot = 2048, kMostSlot = 7680, kSlotStep = 128;

  // Checks the header and the length alone, in constant time. False: no profile.
  bool open(Bytes file) noexcept;

  const ProfileShape& shape() const noexcept { return shape_; }
  // Of what blocks are bound to: everything behind the header but the losses.
  std::uint32_t checksum() const noexcept { return checksum_; }
  std::uint32_t losses_checksum() const noexcept { return losses_checksum_; }
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
  // Its place in tables [layer][K, V][head], which have `heads()` numbers.
  std::uint64_t index(const Head& head) const noexcept {
    return (std::uint64_t{head.layer} * 2 + (head.value ? 1 : 0)) * shape_.kv_heads +
           head.head;
  }
  std::uint64_t heads() const noexcept {
    return std::uint64_t{shape_.layers} * 2 * shape_.kv_heads;
  }
  std::uint32_t frequency(std::uint32_t pair) const noexcept {
    return at<std::uint32_t>(ProfilePart::frequencies, pair);
  }
  std::uint32_t target(std::uint32_t i) const noexcept {
    return at<std::uint16_t>(ProfilePart::targets, i);
  }
  std::uint32_t slot(std::uint32_t target, const Head& head) const noexcept {
    return slot(target, index(head));
  }
  std::uint32_t slot(std::uint32_t target, std::uint64_t index) const noexcept {
    return at<std::uint16_t>(ProfilePart::slots, target * heads() + index);
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
  std::uint32_t size(std::uint32_t i) const noexcept {
    return at<std::uint16_t>(ProfilePart::sizes, i);
  }
  // At slots of size(i), of a head by its index(): 256ths of an octave over KIVI-4's.
  std::int32_t loss(std::uint64_t index, std::uint32_t i) const noexcept {
    return at<std::int16_t>(ProfilePart::losses, index * shape_.sizes + i);
  }

 private:
  friend struct ProfileFile;
  template <class T>
  T at(ProfilePart part, std::uint64_t i) const noexcept {
    return load_le<T>(file_.data() + first_[static_cast<std::size_t>(part)] +
                      i * sizeof(T));
  }

  Bytes file_{};
  ProfileShape shape_{};
  std::uint32_t checksum_ = 0, losses_checksum_ = 0;
  std::array<std::uint64_t, kProfileParts + 1> first_{};  // of each part; and the end
};

// Checks every byte. corrupted: not a profile, or damaged. unsupported: of another
// version. `file` must outlive the profile.
Result<ModelProfile> read_profile(Bytes file);

}  // namespace speckv
