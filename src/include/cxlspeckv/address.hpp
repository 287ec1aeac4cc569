// cxlspeckv/address.hpp -- the packed address of one token's K or V (R-ADR).
//
// One injective encoding of (request, layer, head, position, kind): 89 bits in a 128-bit
// word, position lowest, so that the words of a run of tokens are consecutive:
//
//   bit  0..31 position   32 kind   33..40 head   41..56 layer   57..88 request
//
// The fields are stated in this table only; C calls speckv_address_pack().
#pragma once

#include <cstdint>
#include <optional>

namespace speckv {

enum class KvKind : std::uint8_t { key = 0, value = 1 };

struct KvAddress {
  std::uint32_t request = 0;
  std::uint16_t layer = 0;
  std::uint8_t head = 0;
  std::uint32_t position = 0;
  KvKind kind = KvKind::key;
  bool operator==(const KvAddress&) const = default;
};

struct PackedAddress {
  std::uint64_t high = 0;  // bits 64..88
  std::uint64_t low = 0;
  bool operator==(const PackedAddress&) const = default;
};

namespace address_bits {
inline constexpr unsigned kKind = 32, kHead = 33, kLayer = 41, kRequest = 57, kWidth = 89;
}

constexpr PackedAddress pack(const KvAddress& a) noexcept {
  using namespace address_bits;
  const std::uint64_t request = a.request;
  return {request >> (64 - kRequest),
          (request << kRequest) | (std::uint64_t{a.layer} << kLayer) |
              (std::uint64_t{a.head} << kHead) |
              (static_cast<std::uint64_t>(a.kind) << kKind) | a.position};
}

// Nothing for a word with any bit set beyond the 89.
constexpr std::optional<KvAddress> unpack(const PackedAddress& p) noexcept {
  using namespace address_bits;
  if (p.high >> (kWidth - 64) != 0) return std::nullopt;
  return KvAddress{
      static_cast<std::uint32_t>((p.high << (64 - kRequest)) | (p.low >> kRequest)),
      static_cast<std::uint16_t>(p.low >> kLayer),
      static_cast<std::uint8_t>(p.low >> kHead), static_cast<std::uint32_t>(p.low),
      static_cast<KvKind>((p.low >> kKind) & 1)};
}

}  // namespace speckv
